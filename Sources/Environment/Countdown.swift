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

extension World {
    /// Runs `body` with each number below `count`, in tasks of this world, at most so many at once; returns when all have ended.
    public func together(_ count: Int, atOnce most: Int = .max, _ body: @escaping (Int) async -> Void) async {
        let tasks = min(count, most)
        if tasks == 0 { return }
        let countdown = Countdown(tasks)
        var next = 0
        for _ in 0..<tasks {
            spawn {
                while next < count {
                    let index = next
                    next += 1
                    await body(index)
                }
                countdown.done()
            }
        }
        await countdown.wait()
    }
}
