import Base
import PartStore
import Wire

/// What only members of a cluster's volume are asked.
extension OSTEngine {
    /// Entries in doubt looked at for one answer: about 100 µs of this thread.
    static let doubtsPerReplyMax = 4096

    /// What earlier generations left in doubt, for the writer that has to make the members equal.
    mutating func doubts(_ slot: UInt32) {
        let status = admit(slot, .writes)
        guard status == .ok else { return answer(slot, status) }
        guard takeBuffer(slot, blockCount: 1) else { return answer(slot, Failure(.overloaded, "no memory for a list now; try again")) }
        let (ranges, next) = store.orphans(
            of: requests[slot].pointee.object, from: requests[slot].pointee.header.argument, rangesMax: DoubtsReply.rangesMax,
            entriesMax: OSTEngine.doubtsPerReplyMax)
        if !ranges.isEmpty { hit(.doubtsListed) }
        answerFromBuffer(slot, body: DoubtsReply(ranges: ranges).encoded, argument: next)
    }

    /// A new map number: whoever sends a smaller one from the answer on, on whichever handle, hears that the map has changed. What was
    /// admitted before goes on. It does not wait for other changes of the object: the log has an order.
    mutating func stamp(_ slot: UInt32) {
        let status = admit(slot, .writes)
        guard status == .ok else { return answer(slot, status) }
        let (object, map) = (requests[slot].pointee.object, requests[slot].pointee.header.map)
        guard store.record(of: object).map > 0 else {
            return answer(slot, Failure(.invalidArgument, "the object belongs to no cluster and has no map"))
        }
        hit(.mapStamped)
        controls[slot] = .stamp(map: map)
        submittedControl(slot, nil, store.stamp(tag: slot, object, map: map), "stamping map \(map)")
    }
}
