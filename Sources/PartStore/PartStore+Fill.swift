import Base

/// Filling a member that was away or is new. Recovery copies to it what it lacks, while the writer, if there is one, writes to it too.
///
/// - A fill has a number, above all before, and lives as long as the process (rules `fill_id`, `fill_boot` of the model): one that a
///   restart ended is never taken up again, since nobody knows which of its writes the restart took. Another begins instead.
/// - When it begins, everything older is cut off: what was admitted is in the log before it, what waited is refused, and nothing is in
///   doubt any more. A write that was on its way would otherwise pass for one since the fill began.
/// - A fill write is no write of a writer: it has the version that the source's block has, raises no durable sequence, and never covers a
///   block written since the fill began (`fill_live`). One in doubt at its source is in doubt here (`fill_doubt`), so that a reconcile
///   finds it wherever it is.
/// - The state remembers that the member is not complete, and up to which version it was (`FillState.base`), until a fill has ended well.
///   The end is durable, and with it everything that the fill has brought (`fill_flush`).
extension PartStore {
    public func fill(of object: ObjectNumber) -> FillState { state.objects[object].fill }

    /// The fill under way in this process; 0: none.
    public func fillUnderWay(of object: ObjectNumber) -> UInt64 { state.objects[object].admitted.fill }

    /// A fill begins, with the generation and map that the MDT has: neither goes back. Writers must come back on newer sessions.
    public mutating func beginFill(tag: UInt32, _ object: ObjectNumber, number: UInt64, generation: UInt64, map: UInt64) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard generation >= state.objects[object].admitted.generation else { return .fenced }
        guard number > max(state.objects[object].fill.number, state.objects[object].admitted.fill) else { return .staleMap }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        var record = LogRecord(.fillBegin, object)
        record.version.generation = generation
        record.argument = map
        let base = state.objects[object].fill.isOpen ? state.objects[object].fill.base : completeUpTo(object)
        refuseWaiting(object, .staleSession)
        state.objects[object].admitted.generation = generation
        forgetFill(object)
        state.objects[object].admitted.fill = number
        fillsUnderWay += 1
        record.encodeFill(number, base: base, to: slots.record(index))
        slots[index].pointee.recordBytes = LogRecord.fillBeginBytes
        enqueue(index, object)
        return .ok
    }

    /// Everything was copied. When it finishes that is durable, and the member complete.
    public mutating func endFill(tag: UInt32, _ object: ObjectNumber, number: UInt64) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard number > 0 else { return .invalidArgument }
        let isUnderWay = state.objects[object].admitted.fill == number
        let hasEnded = state.objects[object].fill.number == number && !state.objects[object].fill.isOpen
        guard isUnderWay || hasEnded else { return .staleMap }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        guard isUnderWay else {
            // Asked again, because the answer was lost; what was answered is durable, or will be when this is.
            slots[index].pointee.hasRecord = false
            slots[index].pointee.isDurable = true
            slots.append(index, to: &toLog)
            return .ok
        }
        forgetFill(object)
        var record = LogRecord(.fillEnd, object)
        record.argument = number
        record.encode(to: slots.record(index), bytes: LogRecord.headBytes)
        slots[index].pointee.recordBytes = LogRecord.headBytes
        enqueue(index, object)
        if mutated(.fillEndsUnflushed) { slots[index].pointee.isDurable = false }
        return .ok
    }

    /// Whether there is no such page yet, and none can be made.
    mutating func lacksRoomForPage(_ target: WriteTarget) -> Bool {
        let key = BlockMap.Key(object: target.object, part: target.part, page: target.firstBlock / UInt32(Block.perPage))
        guard state.map.find(key) == nil else { return false }
        return !imageHasRoom(for: UInt64(SnapshotWriter.pageBytes)) || mapIsFull(after: 1)
    }

    /// What an object that is in sync has for certain: everything up to the writer's mark, since that speaks of all members. An orphan may
    /// be here alone, and no mark has passed it: then only what is older is certain.
    private mutating func completeUpTo(_ object: ObjectNumber) -> Version {
        let mark = Version(generation: state.objects[object].record.generation, sequence: state.objects[object].mark)
        let first = state.objects[object].orphans.first
        guard first != noIndex else { return mark }
        return min(mark, state.doubts.entry(first).version.previous)
    }

    mutating func forgetFill(_ object: ObjectNumber) {
        guard state.objects[object].admitted.fill > 0 else { return }
        state.objects[object].admitted.fill = 0
        fillsUnderWay -= 1
        live.forget(object)
    }

    /// Before a write or a fill write enters the log: the one is noted, the other told what it may not cover.
    mutating func noteFill(_ index: UInt32) {
        let (object, target) = (slots[index].pointee.object, slots[index].pointee.target)
        guard target.fill > 0 else {
            if state.objects[object].admitted.fill > 0 {
                live.add(object, target.part, firstBlock: target.firstBlock, count: target.blockCount)
            }
            return
        }
        let mask = slots.record(index) + slots[index].pointee.recordBytes
        let bytes = LogRecord.maskBytes(target.blockCount)
        UnsafeMutableRawBufferPointer(start: mask, count: bytes).initializeMemory(as: UInt8.self, repeating: 0)
        for position in 0..<target.blockCount where live.contains(object, target.part, target.firstBlock + position) {
            if mutated(.fillCoversLive) { continue }
            ownMarks.hit(.fillLost)
            mask.store(mask.load(UInt8.self, at: Int(position / 8)) | 1 << UInt8(position % 8), at: Int(position / 8))
        }
        slots[index].pointee.recordBytes += bytes
    }
}

extension Version {
    /// The highest one below; zero has none.
    fileprivate var previous: Version {
        if sequence > 0 { return Version(generation: generation, sequence: sequence - 1) }
        return generation > 0 ? Version(generation: generation - 1, sequence: .max) : .zero
    }
}
