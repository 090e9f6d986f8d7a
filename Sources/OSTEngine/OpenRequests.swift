import Base
import PartStore
import Wire

/// Opening an object (P2). For writing there are two ways in:
///
/// - A *fresh* open, generation 0: the store raises the generation, which finishes or refuses everything older, and the reply carries the
///   new one. Refused while another connection writes, unless forced. The nonce of the last raise makes it idempotent.
/// - A writer that *returns* names its generation and a newer session. Nothing is raised; what its old connection had given to the store
///   is drained first, what it had not is refused, so that nothing old is applied after the reply.
extension OSTEngine {
    mutating func open(_ slot: UInt32, _ message: OpenRequest) throws(Failure) {
        let object = try find(message.name)
        let header = requests[slot].pointee.header
        let index = requests[slot].pointee.connection
        requests[slot].pointee.object = object
        guard hasFreeHandle(index) else {
            hit(.handleLimit)
            throw Failure(.overloaded, "this connection has \(Limits.handlesPerConnectionMax) volumes open, the most it can have")
        }
        guard message.flags.contains(.write) else {
            if objects[object]?.isChanging == true { return waitForChange(slot, object, .open(message)) }
            return answerOpen(slot, object, writes: false)
        }
        if objects[object]?.isChanging == true { return waitForChange(slot, object, .open(message)) }
        let generation = store.record(of: object).generation
        let known = objects[object] ?? OpenObject()
        if header.generation == 0 {
            if message.nonce != .zero, message.nonce == known.nonce {
                hit(.nonceRepeated)
                // The answer may have been lost, so the same session may ask again; an older one is a straggler.
                guard header.session >= known.session else {
                    throw Failure(.staleSession, "session \(header.session) of '\(message.name)' is older than \(known.session)")
                }
                return takeOver(slot, object, message)
            }
            try raise(slot, object, message, to: generation + 1, writer: known.writer)
        } else {
            guard header.generation >= generation else {
                throw Failure(.fenced, "'\(message.name)' was opened for writing by another client since; open it anew")
            }
            guard header.generation == generation else {
                throw Failure(.invalidArgument, "generation \(header.generation) of '\(message.name)' is not known, it is at \(generation)")
            }
            guard header.session > known.session else {
                hit(.staleSession)
                throw Failure(.staleSession, "session \(header.session) of '\(message.name)' is not newer than \(known.session)")
            }
            hit(.writerReturned)
            takeOver(slot, object, message)
        }
    }

    private mutating func raise(
        _ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest, to generation: UInt64, writer: HandleReference?
    ) throws(Failure) {
        if let writer {
            guard message.flags.contains(.force) else {
                hit(.busyRefused)
                throw Failure(
                    .busy,
                    "'\(message.name)' is open for writing by \(connections[writer.connection].peer); close it there, "
                        + "or use thread=1 or one volume per job with fio, or --force")
            }
            hit(.openForced)
        }
        controls[slot] = .raise(message, generation: generation)
        submittedControl(
            slot, object,
            store.fence(
                tag: slot, object, generation: generation, map: store.record(of: object).map, settles: message.flags.contains(.settle)),
            "opening '\(message.name)'")
        // From here on nothing of the old writer is taken, whatever becomes of the new one.
        if let writer, requests[slot].pointee.state == .store {
            hit(.writerFenced)
            setHandle(writer, .fenced)
            refuseUnsubmitted(writer, .fenced)
        }
    }

    /// The generation is raised, durably, and everything older is finished or refused.
    mutating func raised(_ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest, _ generation: UInt64) {
        invariant(
            store.record(of: object).generation == generation,
            "'\(message.name)' was raised to \(generation) and is at \(store.record(of: object).generation)")
        objects[object, default: OpenObject()].nonce = message.nonce
        objects[object]?.session = requests[slot].pointee.header.session
        for index in 0..<connectionsMade where connections[index].takesFrames {
            for position in 0..<Limits.handlesPerConnectionMax {
                let handle = connections[index].handles + position
                guard handle.pointee.state == .fenced, handle.pointee.object == object, handle.pointee.generation + 1 == generation else {
                    continue
                }
                post(.fenced, to: HandleReference(connection: index, index: position))
            }
        }
        finishOpen(slot, object, writes: true)
    }

    private mutating func takeOver(_ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest) {
        if let old = objects[object]?.writer {
            setHandle(old, .replaced)
            refuseUnsubmitted(old, .staleSession)
        }
        objects[object, default: OpenObject()].session = requests[slot].pointee.header.session
        controls[slot] = .takeOver(message)
        submittedControl(slot, object, store.drain(tag: slot, object), "opening '\(message.name)'")
    }

    mutating func tookOver(_ slot: UInt32, _ object: ObjectNumber) {
        finishOpen(slot, object, writes: true)
    }

    mutating func answerOpen(_ slot: UInt32, _ object: ObjectNumber, writes: Bool) {
        let request = requests[slot]
        let index = request.pointee.connection
        guard connections[index].state == .ready else { return answer(slot, .closed) }
        guard let reference = makeHandle(index, object, writes: writes, session: request.pointee.header.session) else {
            hit(.handleLimit)
            return answer(slot, .overloaded)
        }
        request.pointee.handleIndex = reference.index
        let record = store.record(of: object)
        let doubts = UInt32(clamping: store.doubtCount(of: object))
        let reply = OpenReply(object: record, highest: store.highest(of: object), doubts: doubts)
        answer(
            slot, .ok, body: reply.encoded, handle: connections[index].handles[reference.index].number, object: record)
    }
}
