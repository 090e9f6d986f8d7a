import Base
import PartStore
import Wire

/// What only members of a cluster's volume are asked: by their writer, and by a recovery, which has a handle of its own kind because it is
/// another client than the writer. It neither fences nor is fenced: what it may not do any more the MDT and the map number say.
extension OSTEngine {
    /// Entries in doubt looked at for one answer: about 100 µs of this thread.
    static let doubtsPerReplyMax = 4096
    /// Pages of the store, of whatever object.
    static let pagesPerReplyMax = 8192

    /// What earlier generations left in doubt, for the writer that has to make the members equal.
    mutating func doubts(_ slot: UInt32) {
        let status = admit(slot, .asksMember)
        guard status == .ok else { return answer(slot, status) }
        guard takeBuffer(slot, blockCount: 1) else { return answer(slot, Failure(.overloaded, "no memory for a list now; try again")) }
        let (ranges, next) = store.orphans(
            of: requests[slot].pointee.object, from: requests[slot].pointee.header.argument, rangesMax: DoubtsReply.rangesMax,
            entriesMax: OSTEngine.doubtsPerReplyMax)
        if !ranges.isEmpty { hit(.doubtsListed) }
        answerFromBuffer(slot, body: DoubtsReply(ranges: ranges).encoded, argument: next)
    }

    /// A new map number with its record: whoever sends a smaller one from the answer on, on whichever handle, hears that the map has
    /// changed. What was admitted before goes on. It does not wait for other changes of the object: the log has an order.
    mutating func stamp(_ slot: UInt32, _ meta: UnsafeRawBufferPointer) {
        let message: StampRequest
        do throws(Failure) {
            message = try StampRequest(decoding: meta)
        } catch {
            return refuseConnection(requests[slot].pointee.connection, error, slot: slot)
        }
        let status = admit(slot, .asksMember)
        guard status == .ok else { return answer(slot, status) }
        do throws(Failure) { try checkIncarnation(slot) } catch { return answer(slot, error) }
        let (object, map) = (requests[slot].pointee.object, requests[slot].pointee.header.map)
        guard store.record(of: object).map > 0 else {
            return answer(slot, Failure(.invalidArgument, "the object belongs to no cluster and has no map"))
        }
        // Of the writer it was compared; a recovery that knows an older one has been overtaken by an open.
        guard requests[slot].pointee.header.generation >= store.record(of: object).generation else { return answer(slot, .fenced) }
        hit(.mapStamped)
        controls[slot] = .stamp(map: map)
        submittedControl(slot, nil, store.stamp(tag: slot, object, map: map, volume: message.record), "stamping map \(map)")
    }

    // The catalogue that the store belongs to

    static func rebuilt(_ incarnation: UInt64) -> String {
        "the catalogue of this cluster was rebuilt: its incarnation is \(incarnation) here, ask its metadata server for the newest map; "
            + "yours is"
    }

    /// Whoever changes what a catalogue decides (who writes, who counts) must come from the one that the store belongs to.
    func checkIncarnation(_ slot: UInt32) throws(Failure) {
        let known = connections[requests[slot].pointee.connection].incarnation
        if known < store.incarnation { throw Failure(.staleMap, "\(OSTEngine.rebuilt(store.incarnation)) \(known)") }
        if known > store.incarnation {
            throw Failure(
                .overloaded,
                "this OST has not heard of incarnation \(known) of its catalogue yet; it will when it registers at the metadata server")
        }
    }

    /// Raises the incarnation from the one that the asker has seen; two who rebuild the catalogue cannot both.
    mutating func adopt(_ slot: UInt32) throws(Failure) {
        let header = requests[slot].pointee.header
        let (old, new) = (header.sequence, header.argument)
        guard new > old else { throw Failure(.invalidArgument, "incarnation \(new) is not above \(old)") }
        controls[slot] = .adopt
        submittedControl(slot, nil, store.adopt(tag: slot, from: old, to: new), "raising the incarnation from \(old) to \(new)")
    }

    mutating func adopted(_ slot: UInt32) {
        hit(.incarnationRaised)
        log(.info, "the store belongs to a newer catalogue", ["incarnation": "\(store.incarnation)"])
        answer(slot, .ok)
    }

    mutating func volumeRecord(_ slot: UInt32, _ message: NameRequest) throws(Failure) {
        let (map, record) = store.volume(of: try find(message.name))
        let reply = VolumeRecordReply(resizes: store.resizes(of: try find(message.name)), record: record).encoded
        guard takeBuffer(slot, blockCount: UInt32(Block.count(covering: UInt64(reply.count)))) else {
            throw Failure(.overloaded, "no memory for a volume record now; try again")
        }
        answerFromBuffer(slot, body: reply, map: map)
    }

    /// Pages written since a version.
    mutating func changed(_ slot: UInt32, _ meta: UnsafeRawBufferPointer) {
        let message: ChangedRequest
        do throws(Failure) {
            message = try ChangedRequest(decoding: meta)
        } catch {
            return refuseConnection(requests[slot].pointee.connection, error, slot: slot)
        }
        let status = admit(slot, .asksMember)
        guard status == .ok else { return answer(slot, status) }
        guard takeBuffer(slot, blockCount: 1) else { return answer(slot, Failure(.overloaded, "no memory for a list now; try again")) }
        let (pages, next) = store.changedPages(
            of: requests[slot].pointee.object, above: message.above, from: requests[slot].pointee.header.argument,
            pagesMax: ChangedReply.pagesMax, lookedMax: OSTEngine.pagesPerReplyMax)
        if !pages.isEmpty { hit(.changesListed) }
        answerFromBuffer(slot, body: ChangedReply(pages: pages).encoded, argument: next)
    }

    /// What blocks of one page are.
    mutating func checks(_ slot: UInt32) {
        var status = admit(slot, .asksMember)
        if status == .ok { status = checkRange(slot) }
        let header = requests[slot].pointee.header
        let end = UInt64(header.firstBlock % UInt32(Block.perPage)) + UInt64(header.blockCount)
        if status == .ok, end > UInt64(Block.perPage) { status = .invalidArgument }
        guard status == .ok else { return answer(slot, status) }
        guard takeBuffer(slot, blockCount: 2) else { return answer(slot, Failure(.overloaded, "no memory for checks now; try again")) }
        hit(.checksListed)
        let object = requests[slot].pointee.object
        let (highest, blocks) = store.checks(of: object, header.part, firstBlock: header.firstBlock, blockCount: header.blockCount)
        answerFromBuffer(slot, body: ChecksReply(highest: highest, mark: store.mark(of: object), blocks: blocks).encoded)
    }
}
