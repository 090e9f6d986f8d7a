import Base
import PartStore
import Wire

/// What the part store says: ended requests become replies, disk operations are passed on, a failure ends everything.
extension OSTEngine {
    mutating func takeStoreEffects() {
        while storeCursor < store.effects.count {
            let effect = store.effects[storeCursor]
            storeCursor += 1
            switch effect {
            case .finished(let tag, let status): finished(tag, status)
            case .diskRead, .diskWrite, .diskFlush: emit(.store(effect))
            case .damaged(let object, let part, let block): damaged(object, part, block)
            case .failed(let reason): failed(reason)
            }
        }
    }

    private mutating func finished(_ slot: UInt32, _ status: Status) {
        let request = requests[slot]
        invariant(request.pointee.state == .store, "the store ended request slot \(slot), which it does not have")
        request.pointee.state = .waiting
        connections[request.pointee.connection].inStore -= 1
        switch request.pointee.opcode {
        case .read where status == .ok: answerRead(slot)
        case .read, .write, .writeZeroes, .discard, .flush, .fillPage: answer(slot, status)
        case .create, .open, .remove, .resize, .stamp, .fillBegin, .fillEnd, .adopt: finishControl(slot, status)
        case .hello, .close, .stat, .list, .statistics, .ping, .volumeRecord, .mark, .doubts, .changed, .checks, .event, .volumeCreate,
            .volumeOpen, .volumeExclude, .volumeMap, .volumeList, .volumeRemove, .volumeResize, .volumeClose, .volumeFill, .volumeInSync,
            .volumeSet, .volumeHealth, .volumeReplace, .volumeSettle,
            .ostRegister, .ostList, .ostRemove, .ostDrain, .mdtRegister, .mdtList:
            unreachable("the store ended a \(request.pointee.opcode), which it never gets")
        }
    }

    private mutating func damaged(_ object: ObjectNumber, _ part: PartAddress, _ block: UInt32) {
        hit(.damagedRead)
        // A read may outlive the removal of its object.
        guard store.exists(object) else { return }
        let record = store.record(of: object)
        let offset = UInt64(part.chunk) * record.layout.chunkBytes + UInt64(block) * UInt64(Block.bytes)
        log(
            .error, "a stored block is damaged; reads of it fail until it is overwritten",
            ["volume": record.name, "offset": "\(offset)", "part": "\(part)", "block": "\(block)"])
    }

    /// Nothing the store still holds will be acknowledged. Clients get the reason, then their connections end; they come back to a
    /// store that was loaded anew, see its boot identity, and replay.
    private mutating func failed(_ reason: String) {
        guard storeFailure == nil else { return }
        hit(.storeFailed)
        counters.storeFailures += 1
        storeFailure = reason
        log(.error, "the store failed and is loaded anew: \(reason)")
        let failure = Failure(.diskFailed, "the disk failed: \(reason)")
        for waiting in waitingControls { answer(waiting.slot, failure) }
        waitingControls.removeAll(keepingCapacity: true)
        for index in 0..<connectionsMade { startClosing(index, failure) }
        emit(.reload(reason))
    }

    /// The store was loaded anew. Only while the old one is quiet.
    public mutating func replaceStore(_ replacement: consuming PartStore) {
        invariant(storeFailure != nil && isStoreQuiet, "a store is replaced that has not failed, or has operations under way")
        invariant(controls.isEmpty && waitingControls.isEmpty, "a store is replaced while requests are in it")
        hit(.storeReplaced)
        for index in 0..<connectionsMade {
            invariant(connections[index].inStore == 0, "a store is replaced while connection \(index) has requests in it")
            // Numbers of objects mean nothing in the new store. Connections that still are there are about to end.
            closeHandles(index)
        }
        objects.removeAll()
        pastStoreMarks = storeMarks
        store = replacement
        storeCursor = 0
        storeFailure = nil
        log(.info, "the store is back", ["boot": "\(store.boot)", "mount": "\(store.mountCounter)"])
    }

    /// Stops serving: nobody is accepted, clients are told, what is under way ends, then their connections do.
    public mutating func stop() {
        guard !isStopping else { return }
        hit(.stopped)
        isStopping = true
        store.hurry()
        for index in 0..<connectionsMade where connections[index].takesFrames {
            for position in 0..<Limits.handlesPerConnectionMax where connections[index].handles[position].state != .free {
                post(.closed, to: HandleReference(connection: index, index: position))
            }
            startClosing(index, Failure(.closed, "the daemon stops"))
        }
    }
}
