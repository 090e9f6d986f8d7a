import Base

/// When the store makes what is applied durable.
struct BarrierState {
    var isWanted = false
    var isUnderWay = false
    /// The record up to which the flush under way covers.
    var covers: UInt64 = 0
    /// When the store flushes by itself.
    var due = Instant.never
    /// The last record applied that is not a note, and what the newest batch says is durable. An idle store brings the two together.
    var lastChange: UInt64 = 0
    var noted: UInt64 = 0
    var noteDue = Instant.never
    /// The store is about to be closed: nothing waits for its time.
    var isHurried = false
    /// When marks get records of their own.
    var marksDue = Instant.never
    var bytesSince = 0
    var covered: ContiguousArray<(object: ObjectNumber, version: Version)> = []
}

extension PartStore {
    /// Everything finished before this call is on stable media when it finishes. Carries the writer's mark.
    public mutating func flush(tag: UInt32, _ object: ObjectNumber, generation: UInt64, mark: UInt64) -> Status {
        if hasFailed { return .diskFailed }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        noteMark(object, generation: generation, mark: mark)
        slots[index].pointee.hasRecord = false
        slots[index].pointee.isDurable = true
        slots[index].pointee.recordNumber = appliedRecord
        slots.append(index, to: &toBeDurable)
        return .ok
    }

    /// Begins a flush when somebody waits for one, or when enough was written or enough time has passed.
    mutating func continueBarrier() {
        finishDurable()
        while !barrier.isUnderWay {
            if appliedRecord > durableRecord, barrier.due == .never || barrier.isHurried {
                barrier.due = barrier.isHurried ? now : now + Limits.barrierInterval
            }
            let isPressed = state.doubts.count + admittedDoubts > doubtsMax / 2
            let wantsRecords =
                appliedRecord > durableRecord
                && (barrier.isWanted || !toBeDurable.isEmpty || isPressed || now >= barrier.due
                    || barrier.bytesSince >= options.barrierBytes)
            guard wantsRecords || snapshotWantsFlush else {
                barrier.isWanted = false
                return
            }
            if wantsRecords {
                if isPressed { ownMarks.hit(.barrierForDoubts) }
                if now >= barrier.due { ownMarks.hit(.barrierForTime) }
                if barrier.bytesSince >= options.barrierBytes { ownMarks.hit(.barrierForBytes) }
            }
            barrier.isWanted = false
            barrier.isUnderWay = true
            barrier.covers = appliedRecord
            barrier.due = .never
            barrier.bytesSince = 0
            barrier.covered.removeAll(keepingCapacity: true)
            state.beginBarrier(&barrier.covered)
            snapshotFlushBegins()
            guard isVolatile, !mutated(.forgetsFlush) else {
                flushDone()
                continue
            }
            operationsUnderWay += 1
            counters.diskFlushes += 1
            effects.append(.diskFlush(token: DiskToken.flush.rawValue))
        }
    }

    mutating func flushDone() {
        barrier.isUnderWay = false
        durableRecord = barrier.covers
        state.endBarrier(barrier.covered)
        state.freed.release(upTo: durableRecord, to: &allocator)
        finishDurable()
        snapshotFlushEnds()
        if barrier.noted < barrier.lastChange { barrier.noteDue = now + Limits.barrierInterval }
    }

    /// The store is about to be closed: what it would do in a second it does now. Quiet afterwards means that nothing is left to do.
    public mutating func hurry() { barrier.isHurried = true }

    /// Nothing was written since a barrier: what is durable is said in the log, where a restart looks for it.
    mutating func logNote() {
        guard let index = slots.take(tag: PartStore.noTag) else { return }
        let record = LogRecord(.note, ObjectNumber(0))
        record.encode(to: slots.record(index), bytes: LogRecord.headBytes)
        slots[index].pointee.recordBytes = LogRecord.headBytes
        slots.append(index, to: &toLog)
        barrier.noteDue = .never
    }

    private mutating func finishDurable() {
        while toBeDurable.first != noIndex, slots[toBeDurable.first].pointee.recordNumber <= durableRecord {
            guard let index = slots.popFirst(from: &toBeDurable) else { return }
            finish(index, .ok)
        }
    }
}
