import Base

/// When the store makes what is applied durable.
struct BarrierState {
    var isWanted = false
    var isUnderWay = false
    /// The record up to which the flush under way covers.
    var covers: UInt64 = 0
    /// When the store flushes by itself.
    var due = Instant.never
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
            if appliedRecord > durableRecord, barrier.due == .never { barrier.due = now + Limits.barrierInterval }
            let isPressed = state.doubts.count + admittedBlocks > doubtsMax / 2
            let wantsRecords =
                appliedRecord > durableRecord
                && (barrier.isWanted || !toBeDurable.isEmpty || isPressed || now >= barrier.due
                    || barrier.bytesSince >= options.barrierBytes)
            guard wantsRecords || snapshotWantsFlush else {
                barrier.isWanted = false
                return
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
    }

    private mutating func finishDurable() {
        while toBeDurable.first != noIndex, slots[toBeDurable.first].pointee.recordNumber <= durableRecord {
            guard let index = slots.popFirst(from: &toBeDurable) else { return }
            finish(index, .ok)
        }
    }
}
