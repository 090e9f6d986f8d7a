import Base
import PartStore
import Wire

/// The fill of a member, as a recovery asks for it. What it means the part store knows (`PartStore+Fill.swift`); here is who else has the
/// object open.
///
/// When a fill begins the writer's handle ends: with the session it has, if it is the writer of the MDT's generation, else for good. It
/// comes back with a fence that names the fill. So every write since is one that the writer sent to a member that it knows to be filling.
extension OSTEngine {
    mutating func fillBegin(_ slot: UInt32) {
        let status = admit(slot, .fills)
        guard status == .ok else { return answer(slot, status) }
        let (object, header) = (requests[slot].pointee.object, requests[slot].pointee.header)
        guard header.argument > 0 else { return answer(slot, Failure(.invalidArgument, "a fill has a number above 0")) }
        if objects[object]?.isChanging == true { return waitForChange(slot, object, .fillBegin) }
        // Asked again, because the answer was lost: what was written since it began stays known.
        if header.argument == store.fillUnderWay(of: object) { return answerFill(slot, object) }
        let generation = store.record(of: object).generation
        let raises = header.generation > generation
        controls[slot] = .fillBegin(number: header.argument, raises: raises)
        submittedControl(
            slot, object,
            store.beginFill(tag: slot, object, number: header.argument, generation: header.generation, map: header.map),
            "beginning fill \(header.argument)")
        guard requests[slot].pointee.state == .store else { return hit(.fillRefused) }
        hit(.fillBegun)
        guard let writer = objects[object]?.writer, !mutated(.fillKeepsWriters) else { return }
        setHandle(writer, raises ? .fenced : .replaced)
        refuseUnsubmitted(writer, raises ? .fenced : .staleSession)
        if raises { post(.fenced, to: writer) }
    }

    /// Durably.
    mutating func fillBegan(_ slot: UInt32, _ object: ObjectNumber, raises: Bool) {
        if raises {
            // No session or nonce of this generation has been here.
            objects[object]?.session = 0
            objects[object]?.nonce = .zero
        }
        raiseMaps(object)
        answerFill(slot, object)
        changeEnded(object)
    }

    private mutating func answerFill(_ slot: UInt32, _ object: ObjectNumber) {
        answer(slot, .ok, body: FillReply(base: store.fill(of: object).base).encoded)
    }

    mutating func fillEnd(_ slot: UInt32) {
        let status = admit(slot, .fills)
        guard status == .ok else { return answer(slot, status) }
        let (object, number) = (requests[slot].pointee.object, requests[slot].pointee.header.argument)
        controls[slot] = .fillEnd(number: number)
        submittedControl(slot, nil, store.endFill(tag: slot, object, number: number), "ending fill \(number)")
        hit(requests[slot].pointee.state == .store ? .fillEnded : .fillRefused)
    }

    mutating func fillPage(_ slot: UInt32) {
        requests[slot].pointee.header.blockCount = 1
        var status = admit(slot, .fills)
        if status == .ok { status = checkRange(slot) }
        guard status == .ok else { return answer(slot, status) }
        var target = writeTarget(slot)
        target.fill = requests[slot].pointee.header.argument
        target.blockCount = 0
        submitted(slot, target.fill > 0 ? store.zero(tag: slot, target) : .invalidArgument)
    }
}
