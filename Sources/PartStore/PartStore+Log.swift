import Base

/// The log: batches of records, acknowledged in their order.
extension PartStore {
    /// Writes what waits for the log, unless a batch is under way: what comes meanwhile goes together.
    mutating func continueLog() {
        guard !log.isWriting else { return }
        passDrains()
        let isPressed = !waiting.isEmpty || !waitingRewrites.isEmpty || state.doubts.count + admittedDoubts > doubtsMax / 2
        if !objectsWithMark.isEmpty, !toLog.isEmpty || isPressed || now >= barrier.marksDue || barrier.isHurried { logMarks() }
        if toLog.isEmpty, barrier.noteDue != .never, now >= barrier.noteDue || barrier.isHurried { logNote() }
        guard !toLog.isEmpty, !snapshotStallsLog else { return }
        log.begin()
        while toLog.first != noIndex {
            let slot = slots[toLog.first]
            if slot.pointee.hasRecord, !log.fits(slot.pointee.recordBytes, halfBytes: superblock.geometry.halfBytes) { break }
            guard let index = slots.popFirst(from: &toLog) else { break }
            slot.pointee.recordNumber =
                slot.pointee.hasRecord ? log.add(slots.record(index), slot.pointee.recordBytes) : log.nextRecord - 1
            slots.append(index, to: &toApply)
        }
        // Where the next record does not fit what is left of this half, it goes into the other one.
        let moves = wantsSnapshot || log.isEmpty && mayBeginSnapshot
        let target = snapshotReserve
        if moves { addSwitch(target) }
        let half = log.half
        guard
            let write = log.seal(
                store: superblock.store, mountCounter: superblock.mountCounter, durableRecord: durableRecord, appliedRecord: appliedRecord)
        else { return }
        barrier.noted = durableRecord
        if barrier.noted >= barrier.lastChange { barrier.noteDue = .never }
        let firstVector = vectorList.count
        vectorList.append(write.memory, write.bytes)
        emitWrite(
            .log, 0, offset: superblock.geometry.halfStart(half) + UInt64(write.offset), firstVector: firstVector, bytes: write.bytes)
        if moves {
            ownMarks.hit(.halfSwitched)
            log.move(to: target)
            beginSnapshot()
        }
    }

    /// A drain at the front has nothing before it that is not in the log.
    private mutating func passDrains() {
        while toLog.first != noIndex, !slots[toLog.first].pointee.hasRecord {
            guard let index = slots.popFirst(from: &toLog) else { return }
            slots[index].pointee.recordNumber = log.nextRecord - 1
            slots.append(index, to: &toApply)
        }
    }

    /// The last record of this half.
    private mutating func addSwitch(_ target: Int) {
        guard let index = slots.take(tag: PartStore.noTag) else { unreachable("wantsSnapshot asks for a free slot") }
        var record = LogRecord(.switchHalf, ObjectNumber(0))
        record.argument = UInt64(target)
        record.encode(to: slots.record(index), bytes: LogRecord.headBytes)
        slots[index].pointee.recordBytes = LogRecord.headBytes
        slots[index].pointee.recordNumber = log.add(slots.record(index), LogRecord.headBytes)
        slots.append(index, to: &toApply)
    }

    mutating func logDone() { log.written() }

    /// Applies, in the order of the log, what is on the disk with its data.
    mutating func applyFinished() {
        while toApply.first != noIndex {
            let slot = slots[toApply.first]
            guard slot.pointee.recordNumber <= log.loggedRecord, slot.pointee.dataPending == 0 else { return }
            guard let index = slots.popFirst(from: &toApply) else { return }
            if slot.pointee.hasRecord { apply(index) }
            if slot.pointee.isDurable {
                slots.append(index, to: &toBeDurable)
            } else {
                finish(index, .ok)
            }
        }
    }

    private mutating func apply(_ index: UInt32) {
        let slot = slots[index].pointee
        let source = UnsafeRawPointer(slots.record(index))
        guard let (record, _) = LogRecord.decode(source, available: slot.recordBytes, geometry: superblock.geometry) else {
            unreachable("a record of our own cannot be read")
        }
        if record.kind == .create, let object = ObjectCodec.decodeCreation(source) { pendingNames.removeAll { $0 == object.name } }
        invariant(state.apply(record, source, number: slot.recordNumber), "record \(slot.recordNumber) does not fit the state")
        appliedRecord = slot.recordNumber
        if record.kind != .note { barrier.lastChange = appliedRecord }
        admittedBlocks -= slot.blocks
        admittedDoubts -= slot.doubts
        if record.kind == .stamp, slot.recordBytes > LogRecord.headBytes { admittedVolumeBytes -= UInt64(slot.recordBytes) }
        if mutated(.reusesBlockEarly) {
            state.freed.release(upTo: .max, to: &allocator)
            allocator.rewind()
        }
    }
}
