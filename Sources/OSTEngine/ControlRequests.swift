import Base
import PartStore
import Wire

/// Requests about objects and the store, all but opening: rare, so plain code with allocations.
extension OSTEngine {
    /// Objects in one answer to `list`: so many fit a small buffer whatever their names are.
    static let listCount = 32

    /// A body that cannot be read closes the connection; anything else wrong is an answer.
    mutating func control(_ slot: UInt32, _ meta: UnsafeRawBufferPointer) {
        do throws(Failure) {
            switch requests[slot].pointee.opcode {
            case .create: try create(slot, try CreateRequest(decoding: meta))
            case .open: try open(slot, try OpenRequest(decoding: meta))
            case .close: close(slot)
            case .stat: try stat(slot, try NameRequest(decoding: meta))
            case .list: try list(slot, try NameRequest(decoding: meta))
            case .remove: try remove(slot, try NameRequest(decoding: meta))
            case .resize: try resize(slot, try ResizeRequest(decoding: meta))
            case .statistics: answer(slot, .ok, body: statisticsReply.encoded)
            case .volumeRecord: try volumeRecord(slot, try NameRequest(decoding: meta))
            case .adopt: try adopt(slot)
            case .hello, .ping, .read, .write, .flush, .writeZeroes, .discard, .mark, .doubts, .stamp, .changed, .checks,
                .fillBegin, .fillEnd, .fillPage, .event, .volumeCreate,
                .volumeOpen, .volumeExclude, .volumeMap, .volumeList, .volumeRemove, .volumeResize, .volumeClose, .volumeFill,
                .volumeInSync, .volumeSet, .volumeHealth, .volumeReplace, .volumeSettle,
                .ostRegister, .ostList, .ostRemove, .ostDrain, .mdtRegister, .mdtList:
                unreachable("\(requests[slot].pointee.opcode) is no control request")
            }
        } catch {
            if error.status == .malformed {
                refuseConnection(requests[slot].pointee.connection, error, slot: slot)
            } else {
                answer(slot, error)
            }
        }
    }

    func find(_ name: String) throws(Failure) -> ObjectNumber {
        try ObjectRecord.check(name: name)
        guard let object = store.find(name: name) else { throw Failure(.notFound, "there is no volume '\(name)' on this OST") }
        return object
    }

    private mutating func create(_ slot: UInt32, _ message: CreateRequest) throws(Failure) {
        var record = message.object
        let map = message.record.isEmpty ? 0 : requests[slot].pointee.header.map
        if map > 0 { try checkIncarnation(slot) }
        try ObjectRecord.check(name: record.name)
        try ObjectRecord.check(bytes: record.bytes)
        try record.layout.check()
        guard record.id != .zero else { throw Failure(.invalidArgument, "volume '\(record.name)' comes without an id") }
        guard record.chunkCount <= UInt64(UInt32.max) else {
            throw Failure(
                .invalidArgument, "\(record.bytes) bytes are too many chunks of \(record.layout.chunkBytes); choose larger chunks")
        }
        if let object = store.find(name: record.name) {
            // The client that asked before and did not get the answer.
            if store.record(of: object).id == record.id {
                guard map > 0 else { return answer(slot, .ok) }
                controls[slot] = .create(name: record.name)
                return submittedControl(
                    slot, nil, store.stamp(tag: slot, object, map: map, volume: message.record), "creating '\(record.name)'")
            }
            throw Failure(.alreadyExists, "a volume '\(record.name)' exists already; remove it first or choose another name")
        }
        guard store.objectCount < Limits.objectsMax else {
            throw Failure(.overloaded, "this OST has \(Limits.objectsMax) volumes, the most it can have")
        }
        // The map number stays: not 0, it says that the object belongs to a cluster, before its first writer does.
        record.generation = 0
        controls[slot] = .create(name: record.name)
        submittedControl(slot, nil, store.create(tag: slot, record, map: map, volume: message.record), "creating '\(record.name)'")
    }

    private mutating func close(_ slot: UInt32) {
        let status = admit(slot, .reads)
        let request = requests[slot]
        // What was fenced or replaced may be closed as well: the client is done with it.
        guard status == .ok || status == .fenced || status == .staleSession else { return answer(slot, status) }
        let reference = HandleReference(connection: request.pointee.connection, index: request.pointee.handleIndex)
        let handle = connections[reference.connection].handles + reference.index
        if status == .ok, handle.pointee.writes {
            store.mark(handle.pointee.object, generation: handle.pointee.generation, mark: request.pointee.header.mark)
        }
        refuseUnsubmitted(reference, .closed)
        closeHandle(reference)
        answer(slot, .ok)
    }

    private func statReply(_ object: ObjectNumber) -> StatReply {
        StatReply(
            object: store.record(of: object), mappedBlocks: store.mappedBlocks(of: object), hasWriter: objects[object]?.writer != nil)
    }

    private mutating func stat(_ slot: UInt32, _ message: NameRequest) throws(Failure) {
        answer(slot, .ok, body: statReply(try find(message.name)).encoded)
    }

    private mutating func list(_ slot: UInt32, _ message: NameRequest) throws(Failure) {
        if !message.name.isEmpty { try ObjectRecord.check(name: message.name) }
        guard takeBuffer(slot, blockCount: 1) else { throw Failure(.overloaded, "no memory for a list now; try again") }
        let reply = ListReply(objects: store.objects(after: message.name, count: OSTEngine.listCount).map { statReply($0) })
        answerFromBuffer(slot, body: reply.encoded)
    }

    mutating func remove(_ slot: UInt32, _ message: NameRequest) throws(Failure) {
        let object = try find(message.name)
        if objects[object]?.isChanging == true { return waitForChange(slot, object, .remove(message)) }
        if let reference = openHandles(of: object).first {
            hit(.removeRefused)
            throw Failure(.busy, "'\(message.name)' is open by \(connections[reference.connection].peer); close it there first")
        }
        controls[slot] = .remove(name: message.name)
        submittedControl(slot, object, store.remove(tag: slot, object), "removing '\(message.name)'")
    }

    mutating func resize(_ slot: UInt32, _ message: ResizeRequest) throws(Failure) {
        let object = try find(message.name)
        let header = requests[slot].pointee.header
        let record = store.record(of: object)
        if objects[object]?.isChanging == true { return waitForChange(slot, object, .resize(message)) }
        try ObjectRecord.check(bytes: header.argument)
        // Of a volume of a cluster this may be what it never was for its users.
        if record.map == 0 { try ObjectRecord.check(cutTo: header.argument, from: record.bytes) }
        guard header.argument / record.layout.chunkBytes < UInt64(UInt32.max) else {
            throw Failure(.invalidArgument, "\(header.argument) bytes are too many chunks of \(record.layout.chunkBytes)")
        }
        if header.generation != 0, header.generation < record.generation { throw Failure(.fenced) }
        if !message.record.isEmpty {
            try checkIncarnation(slot)
            // Of a server that was slow: another has resized the volume since.
            guard header.sequence >= store.resizes(of: object) else {
                throw Failure(.staleMap, "resize \(store.resizes(of: object)) of '\(message.name)' came after \(header.sequence)")
            }
        }
        controls[slot] = .resize(bytes: header.argument)
        submittedControl(
            slot, object,
            store.resize(
                tag: slot, object, bytes: header.argument, number: header.sequence, map: message.record.isEmpty ? 0 : header.map,
                volume: message.record), "resizing '\(message.name)' to \(header.argument) bytes")
    }

    private var statisticsReply: StatisticsReply {
        let statistics = store.statistics
        return StatisticsReply(
            capacityBytes: statistics.capacityBytes, freeBytes: statistics.freeBytes, usedBytes: statistics.usedBytes,
            objects: UInt64(store.objectCount), diskReads: statistics.diskReads, diskWrites: statistics.diskWrites,
            diskWrittenBytes: statistics.diskWrittenBytes, diskFlushes: statistics.diskFlushes, damagedReads: statistics.damagedReads,
            damagedBlocks: statistics.damagedBlocks)
    }

    // One change of an object at a time

    /// The store was asked for a change; `object` stays closed to other changes until it ends.
    mutating func submittedControl(_ slot: UInt32, _ object: ObjectNumber?, _ status: Status, _ what: String) {
        guard status == .ok else {
            controls[slot] = nil
            return answer(slot, Failure(status, "\(what): \(status.sentence)"))
        }
        if let object {
            requests[slot].pointee.object = object
            objects[object, default: OpenObject()].isChanging = true
        }
        submitted(slot, .ok)
    }

    mutating func waitForChange(_ slot: UInt32, _ object: ObjectNumber, _ message: WaitingControl.Message) {
        hit(.controlWaited)
        waitingControls.append(WaitingControl(slot: slot, object: object, message: message))
    }

    /// The change under way has ended: the next request for this object has its turn.
    mutating func changeEnded(_ object: ObjectNumber) {
        objects[object]?.isChanging = false
        while objects[object]?.isChanging != true, let position = waitingControls.firstIndex(where: { $0.object == object }) {
            let waiting = waitingControls.remove(at: position)
            let state = connections[requests[waiting.slot].pointee.connection].state
            if state == .draining || state == .closed {
                release(waiting.slot)
                continue
            }
            do throws(Failure) {
                switch waiting.message {
                case .open(let message): try open(waiting.slot, message)
                case .remove(let message): try remove(waiting.slot, message)
                case .resize(let message): try resize(waiting.slot, message)
                case .fillBegin: fillBegin(waiting.slot)
                }
            } catch {
                answer(waiting.slot, error)
            }
        }
    }

    /// A control request ended in the store.
    mutating func finishControl(_ slot: UInt32, _ status: Status) {
        guard let control = controls.removeValue(forKey: slot) else { unreachable("request slot \(slot) ended twice") }
        let object = requests[slot].pointee.object
        var failure = Failure(status)
        switch control {
        case .create(let name): failure.detail = "creating '\(name)': \(status.sentence)"
        case .raise(let message, let old, let new):
            if status == .ok { return raised(slot, object, message, from: old, to: new) }
            failure.detail = "opening '\(message.name)': \(status.sentence)"
        case .takeOver(let message):
            if status == .ok { return tookOver(slot, object) }
            failure.detail = "opening '\(message.name)': \(status.sentence)"
        case .remove(let name):
            if status == .ok { objects[object] = nil }
            failure.detail = "removing '\(name)': \(status.sentence)"
        case .resize(let bytes):
            if status == .ok {
                raiseMaps(object)
                resized(slot, object, bytes)
            }
            failure.detail = "resizing to \(bytes) bytes: \(status.sentence)"
        case .stamp(let map):
            // It may have been removed by a request behind this one.
            if status == .ok, store.exists(object) { raiseMaps(object) }
            failure.detail = "stamping map \(map): \(status.sentence)"
        case .fillBegin(let number, let raises):
            if status == .ok { return fillBegan(slot, object, raises: raises) }
            failure.detail = "beginning fill \(number): \(status.sentence)"
        case .fillEnd(let number): failure.detail = "ending fill \(number): \(status.sentence)"
        case .adopt:
            if status == .ok { return adopted(slot) }
            failure.detail = "raising the incarnation: \(status.sentence)"
        }
        if status == .ok { answer(slot, .ok) } else { answer(slot, failure) }
        switch control {
        case .create, .stamp, .fillEnd, .adopt: break
        case .raise, .takeOver, .remove, .resize, .fillBegin: changeEnded(object)
        }
    }

    /// Handles of the object learn the size, and everyone but who asked is told.
    private mutating func resized(_ slot: UInt32, _ object: ObjectNumber, _ bytes: UInt64) {
        let asker = requests[slot].pointee.connection
        let handle = requests[slot].pointee.header.handle
        for reference in openHandles(of: object) {
            let other = connections[reference.connection].handles + reference.index
            other.pointee.bytes = bytes
            if reference.connection == asker, other.pointee.number == handle { continue }
            hit(.sizeChanged)
            post(.sizeChanged, to: reference)
        }
    }

    /// Ends an open that was in the store, whether or not its handle could be made.
    mutating func finishOpen(_ slot: UInt32, _ object: ObjectNumber, _ kind: HandleKind) {
        answerOpen(slot, object, kind)
        changeEnded(object)
    }
}
