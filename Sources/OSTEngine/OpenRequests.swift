import Base
import PartStore
import Wire

/// Opening an object (P2). For writing there are three ways in:
///
/// - A *fresh* open, generation 0: the store raises the generation, which finishes or refuses everything older, and the reply carries the
///   new one. Refused while another connection writes, unless forced. The nonce of the last raise makes it idempotent.
/// - A writer that *returns* names its generation and a newer session. Nothing is raised; what its old connection had given to the store
///   is drained first, what it had not is refused, so that nothing old is applied after the reply.
/// - A *fence*: the MDT has raised the generation of a cluster's volume and said under which map; this member follows. A generation above
///   the object's is raised to, whoever has it open; an equal one is the writer that returns, perhaps with a newer map. It says whether the
///   member is being filled, and must be right. One that names its generation as *known* here is refused where it would be raised to.
///
/// An object with a map number belongs to a cluster, and only fences open it for writing: whoever raised its generation here would have
/// the MDT's next one, and there would be two writers of one generation. A map number never goes back, and what an open has said of it is
/// durable.
extension OSTEngine {
    mutating func open(_ slot: UInt32, _ message: OpenRequest) throws(Failure) {
        let object = try find(message.name)
        requests[slot].pointee.object = object
        try check(message, requests[slot].pointee.header)
        guard hasFreeHandle(requests[slot].pointee.connection) else {
            hit(.handleLimit)
            throw Failure(.overloaded, "this connection has \(Limits.handlesPerConnectionMax) volumes open, the most it can have")
        }
        if objects[object]?.isChanging == true { return waitForChange(slot, object, .open(message)) }
        if message.flags.contains(.fence) {
            try fence(slot, object, message)
        } else if message.flags.contains(.write) {
            try openForWriting(slot, object, message)
        } else if message.flags.contains(.recover) {
            try recover(slot, object, message)
        } else {
            answerOpen(slot, object, .reads)
        }
    }

    private func check(_ message: OpenRequest, _ header: FrameHeader) throws(Failure) {
        guard !message.flags.contains(.recover) || message.flags == .recover && header.map > 0 else {
            throw Failure(.invalidArgument, "recovering '\(message.name)' is no open for writing, and names a map")
        }
        guard message.flags.contains(.fence) else { return }
        guard message.flags.contains(.write), !message.flags.contains(.settle), header.generation > 0, header.map > 0 else {
            throw Failure(
                .invalidArgument, "fencing '\(message.name)' is an open for writing that settles nothing and names generation and map")
        }
    }

    private mutating func openForWriting(_ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest) throws(Failure) {
        let header = requests[slot].pointee.header
        let record = store.record(of: object)
        if header.generation != 0, header.generation < record.generation { throw fenced(message) }
        guard record.map == 0 else {
            hit(.clusterRefused)
            throw Failure(
                .permissionDenied,
                "'\(message.name)' belongs to a volume of a cluster; write to that volume through the cluster's metadata server "
                    + "(reading it here is possible)")
        }
        if header.generation == 0 {
            if let known = objects[object], message.nonce != .zero, message.nonce == known.nonce {
                hit(.nonceRepeated)
                // The answer may have been lost, so the same session may ask again; an older one is a straggler.
                guard header.session >= known.session else { throw staleSession(message, header, known) }
                return takeOver(slot, object, message)
            }
            try refuseBusy(object, message)
            raise(slot, object, message, to: record.generation + 1, map: 0)
        } else {
            guard header.generation == record.generation else {
                throw Failure(
                    .invalidArgument, "generation \(header.generation) of '\(message.name)' is not known, it is at \(record.generation)")
            }
            try comeBack(slot, object, message)
        }
    }

    /// Of a member of a cluster's volume.
    private mutating func fence(_ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest) throws(Failure) {
        try checkIncarnation(slot)
        let header = requests[slot].pointee.header
        let record = store.record(of: object)
        if header.generation > record.generation {
            try refuseOldCopy(message, header, record)
            try refuseOtherFill(object, message, header.argument)
            hit(.fencedByNumber)
            return raise(slot, object, message, to: header.generation, map: header.map)
        }
        // Of an object without a map the generations were raised here: an equal one is not this writer's.
        guard header.generation == record.generation, record.map > 0 else { throw fenced(message) }
        try refuseStaleMap(message, header, record)
        try refuseOtherFill(object, message, header.argument)
        try comeBack(slot, object, message)
    }

    /// What this writer's fence had made durable here is gone, and so is whatever was written between the copy and that fence. To raise
    /// the generation once more would hide it: the mark would then be one of the new generation, and say that nothing older is missing.
    private mutating func refuseOldCopy(_ message: OpenRequest, _ header: FrameHeader, _ record: ObjectRecord) throws(Failure) {
        guard message.flags.contains(.known), !mutated(.fencesOldCopies) else { return }
        hit(.oldCopyRefused)
        throw Failure(
            .wrongStore,
            "'\(message.name)' has been at generation \(header.generation) here, and is at \(record.generation): the disk is an old copy "
                + "or damaged; serve the newest one, or make an empty store in its place")
    }

    /// A writer must know of a member whether it is being filled: it may neither read one that is not complete, nor write to one whose fill
    /// has died, since that has forgotten what was written.
    private mutating func refuseOtherFill(_ object: ObjectNumber, _ message: OpenRequest, _ number: UInt64) throws(Failure) {
        let fill = store.fill(of: object)
        let isKnown: Bool
        if number == 0 {
            isKnown = !fill.isOpen
        } else {
            // The fill may have ended well before its writer heard of that.
            isKnown = number == store.fillUnderWay(of: object) || number == fill.number && !fill.isOpen
        }
        guard !isKnown else { return }
        hit(.fillRefused)
        let what = fill.isOpen ? "was begun to be filled, with number \(fill.number), and is not complete" : "is not being filled"
        throw Failure(.staleMap, "'\(message.name)' \(what); ask the metadata server for the newest map")
    }

    /// Raises nothing and waits for nothing. One at a time: the newest is the one that the MDT has asked for.
    private mutating func recover(_ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest) throws(Failure) {
        let record = store.record(of: object)
        guard record.map > 0 else {
            throw Failure(.invalidArgument, "'\(message.name)' belongs to no cluster; there is nothing to recover it from")
        }
        try checkIncarnation(slot)
        try refuseStaleMap(message, requests[slot].pointee.header, record)
        hit(.recoveryOpened)
        if let old = objects[object]?.recoverer {
            hit(.recoveryReplaced)
            setHandle(old, .replaced)
            refuseUnsubmitted(old, .staleSession)
        }
        answerOpen(slot, object, .recovers)
    }

    /// The writer of the current generation, on another connection.
    private mutating func comeBack(_ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest) throws(Failure) {
        let header = requests[slot].pointee.header
        let known = objects[object] ?? OpenObject()
        // The same fence asked again, because its answer was lost.
        let isRepeated = message.flags.contains(.fence) && message.nonce != .zero && message.nonce == known.nonce
        guard header.session > known.session || isRepeated && header.session == known.session else {
            hit(.staleSession)
            throw staleSession(message, header, known)
        }
        hit(isRepeated ? .nonceRepeated : .writerReturned)
        takeOver(slot, object, message)
    }

    private func fenced(_ message: OpenRequest) -> Failure {
        Failure(.fenced, "'\(message.name)' was opened for writing by another client since; open it anew")
    }

    private mutating func refuseStaleMap(_ message: OpenRequest, _ header: FrameHeader, _ record: ObjectRecord) throws(Failure) {
        guard header.map < record.map else { return }
        hit(.staleMap)
        throw Failure(
            .staleMap, "map \(header.map) of '\(message.name)' is older than \(record.map); ask the metadata server for the newest")
    }

    private func staleSession(_ message: OpenRequest, _ header: FrameHeader, _ known: OpenObject) -> Failure {
        Failure(.staleSession, "session \(header.session) of '\(message.name)' is not newer than \(known.session)")
    }

    private mutating func refuseBusy(_ object: ObjectNumber, _ message: OpenRequest) throws(Failure) {
        guard let writer = objects[object]?.writer else { return }
        guard message.flags.contains(.force) else {
            hit(.busyRefused)
            throw Failure(
                .busy,
                "'\(message.name)' is open for writing by \(connections[writer.connection].peer); close it there, "
                    + "or use thread=1 or one volume per job with fio, or --force")
        }
        hit(.openForced)
    }

    private mutating func raise(_ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest, to generation: UInt64, map: UInt64) {
        controls[slot] = .raise(message, from: store.record(of: object).generation, to: generation)
        submittedControl(
            slot, object,
            store.fence(
                tag: slot, object, generation: generation, map: map, volume: map > 0 ? message.record : [],
                settles: message.flags.contains(.settle)),
            "opening '\(message.name)'")
        // From here on nothing of the old writer is taken, whatever becomes of the new one.
        if let writer = objects[object]?.writer, requests[slot].pointee.state == .store {
            hit(.writerFenced)
            if mutated(.ignoresFences) {
                objects[object]?.writer = nil
                return
            }
            setHandle(writer, .fenced)
            refuseUnsubmitted(writer, .fenced)
        }
    }

    /// The generation is raised, durably, and everything older is finished or refused.
    mutating func raised(_ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest, from old: UInt64, to generation: UInt64) {
        invariant(
            store.record(of: object).generation == generation,
            "'\(message.name)' was raised to \(generation) and is at \(store.record(of: object).generation)")
        objects[object, default: OpenObject()].nonce = message.nonce
        objects[object]?.session = requests[slot].pointee.header.session
        for index in 0..<connectionsMade where connections[index].takesFrames {
            for position in 0..<Limits.handlesPerConnectionMax {
                let handle = connections[index].handles + position
                // Those fenced by an earlier raise were told then.
                guard handle.pointee.state == .fenced, handle.pointee.object == object, handle.pointee.generation == old else { continue }
                post(.fenced, to: HandleReference(connection: index, index: position))
            }
        }
        raiseMaps(object)
        finishOpen(slot, object, .writes)
    }

    private mutating func takeOver(_ slot: UInt32, _ object: ObjectNumber, _ message: OpenRequest) {
        if let old = objects[object]?.writer {
            setHandle(old, .replaced)
            refuseUnsubmitted(old, .staleSession)
        }
        objects[object, default: OpenObject()].session = requests[slot].pointee.header.session
        controls[slot] = .takeOver(message)
        let map = message.flags.contains(.fence) ? requests[slot].pointee.header.map : 0
        submittedControl(
            slot, object, store.drain(tag: slot, object, map: map, volume: map > 0 ? message.record : []), "opening '\(message.name)'")
    }

    mutating func tookOver(_ slot: UInt32, _ object: ObjectNumber) {
        raiseMaps(object)
        finishOpen(slot, object, .writes)
    }

    mutating func answerOpen(_ slot: UInt32, _ object: ObjectNumber, _ kind: HandleKind) {
        let request = requests[slot]
        let index = request.pointee.connection
        guard connections[index].state == .ready else { return answer(slot, .closed) }
        guard let reference = makeHandle(index, object, kind, session: request.pointee.header.session) else {
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
