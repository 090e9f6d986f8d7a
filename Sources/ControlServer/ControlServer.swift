import Base
import Environment
import Wire

/// The end of a daemon at which control requests come in (MDT, MGS): it listens, takes connections, and ends them when the daemon stops.
/// What a request means is its service's.
///
/// Invariants: a stream is closed only by its own task, when nothing is under way on it; a service hears of no request after `stop` has
/// returned in time.
///
/// Server and service hold each other until the end of `stop`; a process that is killed leaves nothing to free.
public final class ControlServer {
    static let acceptRetryDelay = Interval.milliseconds(100)

    let world: any World
    let operations: Operations
    /// Of the daemon, as its refusals have it: "a metadata server".
    let noun: String
    private(set) var service: (any ControlService)?
    private let connectionsMax: Int
    public internal(set) var counters = ControlCounters()
    private var listeners: [ListenerID] = []
    private var connections: [ServedConnection] = []
    public private(set) var isStopped = false
    private var drainWaiter: UnsafeContinuation<Void, Never>?
    /// The time for ending well is over.
    private var isOverdue = false
    /// Tasks of the service that do not end with a connection.
    private var backgroundTasks = 0

    public init(_ world: any World, noun: String, connectionsMax: Int = Limits.serverConnectionsMax) {
        self.world = world
        self.noun = noun
        self.connectionsMax = connectionsMax
        operations = Operations(world)
    }

    /// Before the first `listen`.
    public func serve(_ service: any ControlService) { self.service = service }

    public var connectionCount: Int { connections.count }

    /// Where it listens: the port chosen, if port 0 was asked for.
    @discardableResult
    public func listen(on endpoint: Endpoint) throws(Failure) -> Endpoint {
        let id = try world.listen(on: endpoint)
        let chosen = world.endpoint(of: id)
        listeners.append(id)
        world.log(.info, "listening", [LogField("address", chosen)])
        world.spawn { await self.acceptAll(id) }
        return chosen
    }

    /// Work that goes on by itself until `isStopped`; the end waits for it.
    public func spawn(_ body: @escaping () async -> Void) {
        backgroundTasks += 1
        world.spawn {
            await body()
            self.backgroundTasks -= 1
            self.resumeDrainWaiter()
        }
    }

    private func acceptAll(_ listener: ListenerID) async {
        while !isStopped {
            switch await operations.accept(listener) {
            case .success(let stream):
                guard !isStopped, connections.count < connectionsMax else {
                    counters.connectionsRefused += 1
                    if !isStopped {
                        world.log(.warning, "a connection is refused: the limit is reached", [LogField("limit", connectionsMax)])
                    }
                    world.close(stream)
                    continue
                }
                counters.connectionsAccepted += 1
                let connection = ServedConnection(self, stream, number: counters.connectionsAccepted)
                connections.append(connection)
                world.spawn { await self.serve(connection) }
            case .failure(let error):
                if isStopped { return }
                world.log(.warning, "accepting a connection failed", [LogField("errno", error.code)])
                await operations.sleep(ControlServer.acceptRetryDelay)
            }
        }
    }

    private func serve(_ connection: ServedConnection) async {
        let reason = await connection.serve()
        connections.removeAll { $0 === connection }
        service?.connectionEnded(connection)
        world.log(.debug, "connection ended", [LogField("connection", connection.number), LogField("reason", reason)])
        resumeDrainWaiter()
    }

    // The end

    /// Takes no more connections and requests, and returns when those under way have ended, within `Limits.stopDeadline`; whether they
    /// have. `noticed` is called first, when `isStopped` can be seen.
    public func stop(_ noticed: () -> Void = {}) async -> Bool {
        invariant(!isStopped, "a server is stopped once")
        isStopped = true
        world.log(.info, "stopping", [LogField("connections", connections.count)])
        for listener in listeners { world.closeListener(listener) }
        for connection in connections { connection.stop() }
        noticed()
        let deadline = Alarm(world, at: world.now + Limits.stopDeadline) { [unowned self] in
            for connection in connections { connection.end("the daemon stops") }
            isOverdue = true
            resumeDrainWaiter()
        }
        await suspend(while: { !isDrained }) { drainWaiter = $0 }
        deadline.close()
        service = nil
        return !isOverdue
    }

    private var isDrained: Bool { isOverdue || (connections.isEmpty && backgroundTasks == 0) }

    private func resumeDrainWaiter() {
        guard isDrained, let waiter = drainWaiter else { return }
        drainWaiter = nil
        waiter.resume()
    }
}

/// What a daemon does with the frames that come in.
public protocol ControlService: AnyObject {
    /// The answer to a hello; or why the peer is refused.
    func welcome(_ peer: Hello) throws(Failure) -> Hello
    func perform(_ header: FrameHeader, _ body: [UInt8], _ connection: ServedConnection) async throws(Failure) -> ControlAnswer
    /// Some request has ended in an error.
    func requestFailed()
    /// Nobody is there any more. Told at once, and again behind a request that was being carried out then.
    func connectionEnded(_ connection: ServedConnection)
}

/// Calls once at an instant, unless it was closed before.
private final class Alarm: CompletionSink {
    private let world: any World
    private let body: () -> Void
    private var sink = SinkID(0)
    private var timer: TimerID?

    init(_ world: any World, at instant: Instant, _ body: @escaping () -> Void) {
        self.world = world
        self.body = body
        sink = world.attach(self)
        timer = world.wake(at: instant, Ticket(sink, 0))
    }

    func close() {
        if let timer { world.cancel(timer) }
        world.detach(sink)
    }

    func completed(_ token: UInt32, result: Int32) {
        timer = nil
        body()
    }

    func batchEnded() {}
}
