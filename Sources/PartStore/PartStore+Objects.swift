import Base

/// Objects, fences and marks. Every change is a record and ends when that is durable.
extension PartStore {
    public mutating func create(tag: UInt32, _ record: ObjectRecord) -> Status {
        if hasFailed { return .diskFailed }
        guard state.objects.find(record.name) == nil, !pendingNames.contains(record.name) else { return .alreadyExists }
        guard state.objects.count + pendingNames.count < Limits.objectsMax, nextObject < ObjectNumber.max else { return .overloaded }
        guard imageHasRoom(for: UInt64(ObjectCodec.imageBytesMax)) else { return .noSpace }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        let number = ObjectNumber(nextObject)
        nextObject += 1
        pendingNames.append(record.name)
        slots[index].pointee.recordBytes = ObjectCodec.encodeCreation(number, record, to: slots.record(index))
        enqueue(index, number)
        return .ok
    }

    /// Its space comes back little by little.
    public mutating func remove(tag: UInt32, _ object: ObjectNumber) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        state.objects[object].admitted.isRemoved = true
        forgetFill(object)
        refuseWaiting(object, .notFound)
        encode(LogRecord(.remove, object), index)
        return .ok
    }

    /// What lies beyond a smaller size is gone, also when the object grows again.
    public mutating func resize(tag: UInt32, _ object: ObjectNumber, bytes: UInt64) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard bytes > 0, bytes % UInt64(Block.sectorBytes) == 0, bytes <= Limits.volumeBytesMax else { return .invalidArgument }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        state.objects[object].admitted.bytes = bytes
        var record = LogRecord(.resize, object)
        record.argument = bytes
        encode(record, index)
        return .ok
    }

    /// Raises the generation, and the map number unless it is higher already. Writes of older generations that were admitted are in the
    /// log before it; later ones are refused. `settles`: what is in doubt of older generations has happened, because there is no other
    /// member that could disagree.
    public mutating func fence(tag: UInt32, _ object: ObjectNumber, generation: UInt64, map: UInt64, settles: Bool) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard generation > state.objects[object].admitted.generation else { return .fenced }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        state.objects[object].admitted.generation = generation
        refuseWaiting(object, .fenced)
        var record = LogRecord(.fence, object)
        record.version.generation = generation
        record.argument = map
        if settles { record.flags = LogRecord.settles }
        encode(record, index)
        return .ok
    }

    /// Finishes when everything admitted before it for this object is applied; what still waited for room is refused: its writer comes
    /// back on a newer session and sends it again. With a map number, when in addition the object's is durably at least that.
    public mutating func drain(tag: UInt32, _ object: ObjectNumber, map: UInt64 = 0) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        refuseWaiting(object, .staleSession)
        putMap(map, object, index)
        return .ok
    }

    /// The object's map number is durably at least `map` when this finishes. Nothing else waits for it or is refused.
    public mutating func stamp(tag: UInt32, _ object: ObjectNumber, map: UInt64) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        putMap(map, object, index)
        return .ok
    }

    /// A record for a map number above the object's. For one that it has nothing is written, and still waited for what was: that may not
    /// be durable yet.
    private mutating func putMap(_ map: UInt64, _ object: ObjectNumber, _ index: UInt32) {
        guard map > state.objects[object].record.map else {
            slots[index].pointee.hasRecord = false
            slots[index].pointee.isDurable = map > 0
            slots.append(index, to: &toLog)
            return
        }
        var record = LogRecord(.stamp, object)
        record.version.generation = state.objects[object].admitted.generation
        record.argument = map
        encode(record, index)
    }

    private mutating func encode(_ record: LogRecord, _ index: UInt32) {
        record.encode(to: slots.record(index), bytes: LogRecord.headBytes)
        slots[index].pointee.recordBytes = LogRecord.headBytes
        enqueue(index, record.object)
    }

    mutating func enqueue(_ index: UInt32, _ object: ObjectNumber) {
        slots[index].pointee.object = object
        slots[index].pointee.isDurable = true
        slots.append(index, to: &toLog)
    }

    // MARK: Marks

    /// The writer's completion mark without a write. It takes effect with the next batch, at the latest within the mark interval.
    public mutating func mark(_ object: ObjectNumber, generation: UInt64, mark: UInt64) {
        noteMark(object, generation: generation, mark: mark)
    }

    mutating func noteMark(_ object: ObjectNumber, generation: UInt64, mark: UInt64) {
        guard exists(object), generation == state.objects[object].record.generation,
            mark > max(state.objects[object].mark, state.objects[object].pendingMark)
        else { return }
        if state.objects[object].pendingMark == 0 {
            if objectsWithMark.isEmpty { barrier.marksDue = now + Limits.markInterval }
            objectsWithMark.append(object)
        }
        state.objects[object].pendingMark = mark
    }

    /// The mark that a record of this object carries.
    mutating func takeMark(_ object: ObjectNumber, _ generation: UInt64, atLeast mark: UInt64) -> UInt64 {
        guard generation == state.objects[object].record.generation else { return mark }
        return max(mark, state.objects[object].pendingMark)
    }

    /// Marks that no write has carried get records of their own.
    mutating func logMarks() {
        for object in objectsWithMark where exists(object) {
            let pending = state.objects[object].pendingMark
            state.objects[object].pendingMark = 0
            guard pending > state.objects[object].mark, let index = slots.take(tag: PartStore.noTag) else { continue }
            ownMarks.hit(.marksLogged)
            var record = LogRecord(.mark, object)
            record.version.generation = state.objects[object].record.generation
            record.mark = pending
            record.encode(to: slots.record(index), bytes: LogRecord.headBytes)
            slots[index].pointee.object = object
            slots[index].pointee.recordBytes = LogRecord.headBytes
            slots.append(index, to: &toLog)
        }
        objectsWithMark.removeAll(keepingCapacity: true)
        barrier.marksDue = .never
    }
}
