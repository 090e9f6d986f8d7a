import Base

/// Objects, fences and marks. Every change is a record and ends when that is durable.
extension PartStore {
    /// With a map number: the object belongs to a volume, and has the record of that map when this finishes.
    public mutating func create(tag: UInt32, _ record: ObjectRecord, map: UInt64 = 0, volume: [UInt8] = []) -> Status {
        if hasFailed { return .diskFailed }
        guard state.objects.find(record.name) == nil, !pendingNames.contains(record.name) else { return .alreadyExists }
        guard state.objects.count + pendingNames.count < Limits.objectsMax, nextObject < ObjectNumber.max else { return .overloaded }
        guard imageHasRoom(for: UInt64(ObjectCodec.imageBytesMax + ObjectCodec.volumeImageBytes(volume.count))), fits(volume) else {
            return .noSpace
        }
        guard hasTwoSlots, let index = slots.take(tag: map > 0 ? PartStore.noTag : tag) else { return .overloaded }
        let number = ObjectNumber(nextObject)
        nextObject += 1
        pendingNames.append(record.name)
        slots[index].pointee.recordBytes = ObjectCodec.encodeCreation(number, record, to: slots.record(index))
        enqueue(index, number)
        if map > 0, let stamp = slots.take(tag: tag) { encodeStamp(stamp, number, generation: 0, map: map, volume) }
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
    /// `number`: of the volume's resize; 0 of one that is only a step on the way, or of an object that belongs to no volume.
    public mutating func resize(
        tag: UInt32, _ object: ObjectNumber, bytes: UInt64, number: UInt64 = 0, map: UInt64 = 0, volume: [UInt8] = []
    ) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard bytes > 0, bytes % UInt64(Block.sectorBytes) == 0, bytes <= Limits.volumeBytesMax else { return .invalidArgument }
        guard hasTwoSlots else { return .overloaded }
        guard stampFirst(object, map, volume), let index = slots.take(tag: tag) else { return .noSpace }
        state.objects[object].admitted.bytes = bytes
        var record = LogRecord(.resize, object)
        record.version.sequence = number
        record.argument = bytes
        encode(record, index)
        return .ok
    }

    /// Raises the generation, and the map number unless it is higher already. Writes of older generations that were admitted are in the
    /// log before it; later ones are refused. `settles`: what is in doubt of older generations has happened, because there is no other
    /// member that could disagree.
    public mutating func fence(
        tag: UInt32, _ object: ObjectNumber, generation: UInt64, map: UInt64, volume: [UInt8] = [], settles: Bool
    ) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard generation > state.objects[object].admitted.generation else { return .fenced }
        guard hasTwoSlots else { return .overloaded }
        guard stampFirst(object, map, volume), let index = slots.take(tag: tag) else { return .noSpace }
        state.objects[object].admitted.generation = generation
        if !mutated(.fencesWithoutDraining) { refuseWaiting(object, .fenced) }
        var record = LogRecord(.fence, object)
        record.version.generation = generation
        if settles { record.flags = LogRecord.settles }
        encode(record, index)
        return .ok
    }

    /// Finishes when everything admitted before it for this object is applied; what still waited for room is refused: its writer comes
    /// back on a newer session and sends it again. With a map number, when in addition the object's is durably at least that.
    public mutating func drain(tag: UInt32, _ object: ObjectNumber, map: UInt64 = 0, volume: [UInt8] = []) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard fits(volume, of: object) else { return .noSpace }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        refuseWaiting(object, .staleSession)
        putMap(map, volume, object, index)
        return .ok
    }

    /// The object's map number is durably at least `map`, with the volume record of that map, when this finishes. Nothing else waits for
    /// it or is refused.
    public mutating func stamp(tag: UInt32, _ object: ObjectNumber, map: UInt64, volume: [UInt8] = []) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard fits(volume, of: object) else { return .noSpace }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        putMap(map, volume, object, index)
        return .ok
    }

    /// The incarnation of the store's catalogue rises, if nobody has raised it since the asker looked: whoever names an older one is
    /// refused from the end of this on, by those who ask this store what it is.
    public mutating func adopt(tag: UInt32, from old: UInt64, to new: UInt64) -> Status {
        if hasFailed { return .diskFailed }
        guard new > old, new < Superblock.counterMax else { return .invalidArgument }
        guard old == incarnationAdmitted else { return .staleMap }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        incarnationAdmitted = new
        var record = LogRecord(.adopt, ObjectNumber(0))
        record.argument = new
        encode(record, index)
        return .ok
    }

    // MARK: Maps

    /// Number and record are one record of the log: neither is ever durable without the other. For what the object has already nothing is
    /// written, and still waited for what was: that may not be durable yet.
    private mutating func putMap(_ map: UInt64, _ volume: [UInt8], _ object: ObjectNumber, _ index: UInt32) {
        guard isNewer(map, volume, object) else {
            slots[index].pointee.hasRecord = false
            slots[index].pointee.isDurable = map > 0
            slots.append(index, to: &toLog)
            return
        }
        encodeStamp(index, object, generation: state.objects[object].admitted.generation, map: map, volume)
    }

    private func isNewer(_ map: UInt64, _ volume: [UInt8], _ object: ObjectNumber) -> Bool {
        map > state.objects[object].record.map || !volume.isEmpty && map > state.objects[object].volumeMap
    }

    /// In the log before what comes with it, so that nothing of that is ever durable alone. False if there is no room for it.
    private mutating func stampFirst(_ object: ObjectNumber, _ map: UInt64, _ volume: [UInt8]) -> Bool {
        guard isNewer(map, volume, object) else { return true }
        guard fits(volume, of: object), let index = slots.take(tag: PartStore.noTag) else { return false }
        encodeStamp(index, object, generation: state.objects[object].admitted.generation, map: map, volume)
        return true
    }

    private mutating func encodeStamp(_ index: UInt32, _ object: ObjectNumber, generation: UInt64, map: UInt64, _ volume: [UInt8]) {
        var record = LogRecord(.stamp, object)
        record.version.generation = generation
        record.argument = map
        guard !volume.isEmpty, !mutated(.stampsOnlyTheNumber) else { return encode(record, index) }
        slots.makeRoom(index, LogRecord.stampHeadBytes + roundUp(volume.count, to: 8))
        slots[index].pointee.recordBytes = record.encodeStamp(volume, to: slots.record(index))
        admittedVolumeBytes += UInt64(slots[index].pointee.recordBytes)
        enqueue(index, object)
    }

    private var hasTwoSlots: Bool { slots.usedCount + 2 <= options.requestsMax }

    /// Whether a half of the log can take it, whatever else is there.
    private func fits(_ volume: [UInt8]) -> Bool {
        volume.count <= min(Limits.volumeRecordBytesMax, Int(superblock.geometry.halfBytes) / 64)
    }

    /// One in the place of another may use a little of what writes must leave: an exclusion must not wait for space.
    private mutating func fits(_ volume: [UInt8], of object: ObjectNumber) -> Bool {
        let growth = ObjectCodec.volumeImageBytes(volume.count) - ObjectCodec.volumeImageBytes(state.objects[object].volume.count)
        let reserve = superblock.geometry.halfBytes / 64
        return fits(volume) && (growth <= 0 || imageHasRoom(for: UInt64(growth) - min(UInt64(growth), reserve)))
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
