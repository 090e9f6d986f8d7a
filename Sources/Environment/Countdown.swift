import Base

/// Waits until so many tasks of one world have said that they are done.
public final class Countdown {
    private var remaining: Int
    private var waiter: UnsafeContinuation<Void, Never>?

    public init(_ count: Int) { remaining = count }

    public func done() {
        remaining -= 1
        invariant(remaining >= 0, "more tasks are done than were begun")
        if remaining == 0, let waiter {
            self.waiter = nil
            waiter.resume()
        }
    }

    /// One waiter at a time.
    public func wait() async {
        await suspend(while: { remaining > 0 }) { waiter = $0 }
    }
}
