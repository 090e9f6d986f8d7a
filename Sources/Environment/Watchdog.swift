import Base

/// Breaks a stream at a deadline, so that whoever waits on it is woken. One deadline at a time.
public final class Watchdog: CompletionSink {
    private let world: any World
    private let stream: StreamID
    private var sink = SinkID(0)
    private var timer: TimerID?
    private var deadline = Instant.never
    public private(set) var hasBarked = false

    public init(_ world: any World, _ stream: StreamID) {
        self.world = world
        self.stream = stream
        sink = world.attach(self)
    }

    public func arm(_ deadline: Instant) {
        disarm()
        self.deadline = deadline
        timer = world.wake(at: deadline, Ticket(sink, 0))
    }

    /// If it waits for a later one.
    public func hurry(_ sooner: Instant) {
        if timer != nil, sooner < deadline { arm(sooner) }
    }

    public func disarm() {
        if let timer { world.cancel(timer) }
        timer = nil
    }

    /// Before the stream is closed.
    public func close() {
        disarm()
        world.detach(sink)
    }

    public func completed(_ token: UInt32, result: Int32) {
        timer = nil
        hasBarked = true
        world.shutdown(stream)
    }

    public func batchEnded() {}
}
