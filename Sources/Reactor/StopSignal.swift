import Base
import Environment

/// SIGTERM or SIGINT, as something to wait for. For daemons; to be made first of all, so that a signal that comes early waits for its turn.
public final class StopSignal: CompletionSink {
    private var number: Int32?
    private var waiter: UnsafeContinuation<Void, Never>?

    public init(_ reactor: Reactor) throws(Failure) {
        try reactor.onSignal([2, 15], Ticket(reactor.attach(self), 0))
    }

    public var hasCome: Bool { number != nil }

    /// As if one had come.
    public func give() { completed(0, result: 0) }

    public func completed(_ token: UInt32, result: Int32) {
        number = result
        waiter?.resume()
        waiter = nil
    }

    public func batchEnded() {}

    /// The number of the signal. One waiter.
    public func wait() async -> Int32 {
        await suspend(while: { number == nil }) { waiter = $0 }
        return number ?? 0
    }
}
