import Base
import Environment

/// The calls of a store that are under way: how many there may be, and that closing waits for them. For those who implement one.
public final class MetaCalls {
    private var underWay = 0
    private var isClosed = false
    private var waiting: [UnsafeContinuation<Void, Never>] = []

    public init() {}

    public func begin() throws(Failure) {
        if isClosed { throw Failure(.closed, "the catalogue is closed") }
        if underWay >= Limits.metaCallsMax {
            throw Failure(.overloaded, "\(underWay) calls of the catalogue are under way, which is the most; try again later")
        }
        underWay += 1
    }

    /// Something that outlives the call that began it; closing waits for it too.
    func join() { underWay += 1 }

    public func end() {
        underWay -= 1
        invariant(underWay >= 0, "more calls of a store have ended than were begun")
        guard underWay == 0 else { return }
        let resumed = waiting
        waiting = []
        for continuation in resumed { continuation.resume() }
    }

    /// Takes no more calls, and waits for the last. True for the first who closes: the rest of the work is its.
    public func close() async -> Bool {
        let isFirst = !isClosed
        isClosed = true
        await suspend(while: { underWay > 0 }) { waiting.append($0) }
        return isFirst
    }
}
