import Base

/// What the log says: the map, what is in doubt, the objects. A pure function of the records applied, in order.
///
/// The running store and the loader apply the same records with the same code, so what a restart rebuilds is what was there. Blocks that
/// an applied record makes unreferenced are queued in `freed` under that record's number.
///
/// A snapshot is not taken at one moment. Objects are captured first, at one record; replay begins behind it. Each page is captured later,
/// with the number of the last record it holds (`imageRecord`), and passes over records up to that one. Marks and fences, which touch many
/// pages, find nothing left to do in a page that was captured after them.
struct StoreState: ~Copyable {
    var map = BlockMap()
    var doubts = DoubtList()
    var objects = ObjectTable()
    var freed = FreeQueue()
    /// Objects written to since the last barrier began.
    private(set) var touched: ContiguousArray<ObjectNumber> = []
    var marks = StoreMarks()
    /// Of the catalogue that the store belongs to; it never goes back.
    var incarnation: UInt64 = 0
    /// Pages of removed objects may be left; they are swept little by little.
    private(set) var needsSweep = false
    private var sweepCursor: UInt32 = 0

    /// An upper bound of the bytes that the state takes when written compactly, apart from what is in doubt.
    var imageBytesBound: UInt64 {
        map.mappedBlocks * UInt64(PageImage.runBytes + 4) + map.emptyRunsMax * UInt64(PageImage.runBytes)
            + UInt64(map.pageCount) * UInt64(SnapshotWriter.pageBytes) + UInt64(map.pageEnd)
            + UInt64(objects.count + 1) * UInt64(ObjectCodec.imageBytesMax) + objects.volumeImageBytes
    }

    /// Applies one record. `source` is its first byte. False when it makes no sense in this state: the log is not ours.
    mutating func apply(_ record: LogRecord, _ source: UnsafeRawPointer, number: UInt64) -> Bool {
        if record.kind == .create {
            guard let object = ObjectCodec.decodeCreation(source), record.object.isSound, objects.count < Limits.objectsMax,
                objects.find(object.name) == nil, !objects.contains(record.object)
            else {
                return false
            }
            objects.insert(record.object, ObjectTable.State(record: object))
            return true
        }
        if record.kind == .switchHalf || record.kind == .void || record.kind == .note { return true }
        if record.kind == .adopt {
            incarnation = max(incarnation, record.argument)
            return true
        }
        guard objects.contains(record.object) else { return false }
        switch record.kind {
        case .write, .zero:
            if record.isFill {
                applyFill(record, source, number)
            } else {
                advanceMark(record, number)
                applyBlocks(record, source, number)
            }
        case .mark: advanceMark(record, number)
        case .remove: remove(record.object, number)
        case .resize:
            guard ObjectRecord.isSound(bytes: record.argument) else { return false }
            objects[record.object].record.bytes = record.argument
            objects[record.object].resizes = max(objects[record.object].resizes, record.version.sequence)
            trim(record.object, to: record.argument, number)
        case .fence:
            guard record.version.generation > objects[record.object].record.generation else { return false }
            fence(record, number)
        case .stamp:
            guard record.version.generation == objects[record.object].record.generation else { return false }
            objects[record.object].record.map = max(objects[record.object].record.map, record.argument)
            objects.keep(record.object, volume: LogRecord.volume(source), map: record.argument)
        case .fillBegin:
            guard beginFill(record, source, number) else { return false }
        case .fillEnd:
            guard endFill(record) else { return false }
        case .create, .switchHalf, .void, .note, .adopt: unreachable("handled above")
        }
        return true
    }

    // MARK: Blocks

    private mutating func applyBlocks(_ record: LogRecord, _ source: UnsafeRawPointer, _ number: UInt64) {
        let mappedBefore = map.mappedBlocks
        let empty = record.flags & LogRecord.isLost != 0 ? BlockMap.Address.lost : .zero
        var extentIndex = 0
        var extentOffset: UInt64 = 0
        var position = 0
        while position < Int(record.blockCount) {
            let block = Int(record.firstBlock) + position
            let page = map.findOrMake(
                BlockMap.Key(object: record.object, part: record.part, page: UInt32(block / Block.perPage)))
            let length = min(Int(record.blockCount) - position, Block.perPage - block % Block.perPage)
            let isKnown = map.page(page).pointee.imageRecord >= number
            for offset in 0..<length {
                var address = empty
                var check: UInt32 = 0
                if record.kind == .write {
                    let extent = LogRecord.extent(source, extentIndex)
                    address = BlockMap.Address(raw: UInt32(extent.first + extentOffset))
                    check = source.load(UInt32.self, at: record.checksOffset + (position + offset) * 4)
                    extentOffset += 1
                    if extentOffset == extent.count {
                        extentIndex += 1
                        extentOffset = 0
                    }
                }
                if !isKnown { put(record, page, (block + offset) % Block.perPage, address, check, number) }
            }
            if !isKnown {
                let content = map.page(page)
                content.pointee.highest = max(content.pointee.highest, record.version)
            }
            position += length
        }
        let delta = map.mappedBlocks &- mappedBefore
        if Self.note(record, delta, &objects[record.object], &marks) { touched.append(record.object) }
    }

    /// The object's own account of a write; true when it was not touched since the last barrier began.
    private static func note(
        _ record: LogRecord, _ mappedDelta: UInt64, _ object: inout ObjectTable.State, _ marks: inout StoreMarks
    ) -> Bool {
        object.mappedBlocks &+= mappedDelta
        object.highest = max(object.highest, record.version)
        let isFirst = !object.isTouched
        object.isTouched = true
        guard record.version.generation == object.record.generation else { return isFirst }
        let sequence = record.version.sequence
        object.lowestSinceBarrier = min(object.lowestSinceBarrier, sequence)
        // A write sent again after newer ones were flushed is not durable yet, and what is reported must not say so.
        if sequence <= object.durable {
            marks.hit(.durableWentBack)
            object.durable = max(sequence, 1) - 1
        }
        return isFirst
    }

    /// A barrier begins: what is applied now will be durable when it ends. Objects and their highest sequences go to `covered`.
    mutating func beginBarrier(_ covered: inout ContiguousArray<(object: ObjectNumber, version: Version)>) {
        for object in touched where objects.contains(object) {
            covered.append((object, objects[object].highest))
            objects[object].isTouched = false
            objects[object].lowestSinceBarrier = .max
        }
        touched.removeAll(keepingCapacity: true)
    }

    mutating func endBarrier(_ covered: ContiguousArray<(object: ObjectNumber, version: Version)>) {
        for (object, version) in covered where objects.contains(object) && objects[object].record.generation == version.generation {
            objects[object].durable = min(version.sequence, objects[object].lowestSinceBarrier &- 1)
        }
    }

    @inline(__always)
    mutating func put(
        _ record: LogRecord, _ page: UInt32, _ block: Int, _ address: BlockMap.Address, _ check: UInt32, _ number: UInt64
    ) {
        var isReplacing = false
        if map.page(page).pointee.doubts > 0, let newest = doubts.newest(page, block) {
            if newest.version >= record.version {
                // Sent again after something newer: answered and dropped.
                marks.hit(.olderDropped)
                freed.push(address, record: number)
                return
            }
            isReplacing = replacesDoubt(of: record.object, newest, record.version)
        }
        var old = map.set(page, block, address, check)
        if isReplacing, let replaced = popDoubt(record.object, page, block, below: record.version) {
            marks.hit(.orphanReplaced)
            freed.push(old.address, record: number)
            old = (replaced.oldAddress, replaced.oldCheck)
            objects[record.object].doubtCount -= 1
            map.page(page).pointee.doubts -= 1
        }
        addDoubt(
            DoubtList.Entry(
                page: page, block: block, isOrphan: record.version.generation < objects[record.object].record.generation,
                object: record.object.raw, version: record.version, touched: record.touched, oldAddress: old.address, oldCheck: old.check))
    }

    /// Whether a write of a block takes the place of its newest entry, with the block that this one keeps. What a newer generation writes
    /// where an older one left something in doubt is what it has found to be the content of all replicas, so nobody asks for the content
    /// between the two any more. Without it every open that dies half way would leave one entry more, until none has room to write what
    /// would end the doubt. Members of an erasure code go back one write after the other, and need each.
    func replacesDoubt(of object: ObjectNumber, _ newest: DoubtList.Entry, _ version: Version) -> Bool {
        newest.version.generation < version.generation && objects[object].record.layout.kind == .replicas && !mutated(.keepsEveryOrphan)
    }

    mutating func addDoubt(_ entry: DoubtList.Entry) {
        let object = ObjectNumber(entry.object)
        if entry.isOrphan {
            doubts.add(entry, to: &objects[object].orphans)
        } else {
            doubts.add(entry, to: &objects[object].doubts)
        }
        objects[object].doubtCount += 1
        map.page(entry.page).pointee.doubts += 1
    }

    // MARK: Marks

    /// What the mark has passed is no longer in doubt, nor is anything older of the same blocks.
    private mutating func advanceMark(_ record: LogRecord, _ number: UInt64) {
        let object = record.object
        guard record.version.generation == objects[object].record.generation else { return }
        if record.mark > objects[object].mark { objects[object].mark = record.mark }
        let mark = Version(generation: record.version.generation, sequence: record.mark)
        var current = objects[object].doubts
        while let entry = doubts.popPassed(mark, from: &current) {
            objects[object].doubts = current
            forget(entry, object, number)
            while map.page(entry.page).pointee.doubts > 0, let older = popDoubt(object, entry.page, Int(entry.block), below: entry.version)
            {
                if older.isOrphan { marks.hit(.orphansForgotten) }
                forget(older, object, number)
            }
            current = objects[object].doubts
        }
        objects[object].doubts = current
    }

    private mutating func popDoubt(_ object: ObjectNumber, _ page: UInt32, _ block: Int, below version: Version) -> DoubtList.Entry? {
        var current = objects[object].doubts
        var orphans = objects[object].orphans
        let entry = doubts.popBlock(page, block, below: version, current: &current, orphans: &orphans)
        objects[object].doubts = current
        objects[object].orphans = orphans
        return entry
    }

    /// The entry is out of the list; the block it kept is free.
    mutating func forget(_ entry: DoubtList.Entry, _ object: ObjectNumber, _ number: UInt64) {
        freed.push(entry.oldAddress, record: number)
        map.page(entry.page).pointee.doubts -= 1
        objects[object].doubtCount -= 1
    }

    private mutating func fence(_ record: LogRecord, _ number: UInt64) {
        let object = record.object
        let generation = record.version.generation
        objects[object].record.generation = generation
        objects[object].mark = 0
        objects[object].durable = 0
        objects[object].lowestSinceBarrier = .max
        var current = objects[object].doubts
        var orphans = objects[object].orphans
        doubts.orphan(before: generation, current: &current, orphans: &orphans)
        if orphans.first != noIndex { marks.hit(record.flags & LogRecord.settles != 0 ? .doubtsSettled : .doubtsOrphaned) }
        if record.flags & LogRecord.settles != 0 {
            // One that is newer than the fence is here only while the tail is replayed over a page captured later.
            var kept = DoubtList.Ends()
            while let entry = doubts.popFirst(from: &orphans) {
                if entry.version.generation < generation { forget(entry, object, number) } else { doubts.add(entry, to: &kept) }
            }
            orphans = kept
        }
        objects[object].doubts = current
        objects[object].orphans = orphans
    }

    // MARK: Removal

    private mutating func remove(_ object: ObjectNumber, _ number: UInt64) {
        var lists = [objects[object].doubts, objects[object].orphans]
        for index in lists.indices {
            while let entry = doubts.popFirst(from: &lists[index]) {
                marks.hit(.removedWithDoubts)
                freed.push(entry.oldAddress, record: number)
                map.page(entry.page).pointee.doubts -= 1
            }
        }
        objects.remove(object)
        needsSweep = true
        sweepCursor = 0
    }

    /// Blocks beyond the new size become absent, so that growing again shows zeros.
    private mutating func trim(_ object: ObjectNumber, to bytes: UInt64, _ number: UInt64) {
        let chunkBlocks = objects[object].record.layout.chunkBytes / UInt64(Block.bytes)
        let keep = Block.count(covering: bytes)
        for index in 0..<map.pageEnd {
            let page = map.page(index).pointee
            guard page.isUsed, page.key.object == object, page.imageRecord < number else { continue }
            let first = UInt64(page.key.part.chunk) * chunkBlocks + UInt64(page.key.page) * UInt64(Block.perPage)
            if first + UInt64(Block.perPage) <= keep { continue }
            marks.hit(.trimmed)
            clear(index, from: Int(keep > first ? keep - first : 0), object, number)
        }
    }

    /// Blocks of a page from `start` on become absent, and nothing of them is in doubt.
    private mutating func clear(_ index: UInt32, from start: Int, _ object: ObjectNumber, _ number: UInt64) {
        let mappedBefore = map.mappedBlocks
        for block in start..<Block.perPage {
            let old = map.set(index, block, .absent, 0)
            freed.push(old.address, record: number)
            while map.page(index).pointee.doubts > 0,
                let gone = popDoubt(object, index, block, below: Version(generation: .max, sequence: .max))
            {
                forget(gone, object, number)
            }
        }
        objects[object].mappedBlocks -= mappedBefore - map.mappedBlocks
    }

    /// Frees up to `count` pages of objects that are gone. A large volume is removed in many small steps, between requests.
    mutating func sweep(pages count: Int, number: UInt64) {
        var looked = 0
        var budget = count
        while budget > 0, looked < 1 << 14 {
            guard sweepCursor < map.pageEnd else {
                needsSweep = false
                return
            }
            let page = map.page(sweepCursor).pointee
            if page.isUsed, !objects.contains(page.key.object) {
                marks.hit(.removedSwept)
                dropPage(sweepCursor, number)
                budget -= 1
            }
            sweepCursor += 1
            looked += 1
        }
    }

    private mutating func dropPage(_ index: UInt32, _ number: UInt64) {
        for block in 0..<Block.perPage { freed.push(map.set(index, block, .absent, 0).address, record: number) }
        map.removePage(index)
    }

    // MARK: After loading

    /// Pages whose object was removed go at once: nothing refers to their blocks.
    mutating func dropOrphanedPages() {
        for index in 0..<map.pageEnd where map.page(index).pointee.isUsed && !objects.contains(map.page(index).pointee.key.object) {
            marks.hit(.orphanedPagesDropped)
            dropPage(index, .max)
        }
        needsSweep = false
    }

    /// What must never be done: see the mutant.
    mutating func forgetDoubts() {
        for object in objects.all {
            var lists = [objects[object].orphans, objects[object].doubts]
            for index in lists.indices {
                while let entry = doubts.popFirst(from: &lists[index]) { forget(entry, object, .max) }
            }
            (objects[object].orphans, objects[object].doubts) = (lists[0], lists[1])
        }
        freed.removeAll()
    }

    /// The running store applies every record to every page.
    mutating func forgetImages() {
        for index in 0..<map.pageEnd { map.page(index).pointee.imageRecord = 0 }
        for object in objects.all {
            let record = objects[object].record
            objects[object].admitted = ObjectTable.Admitted(generation: record.generation, bytes: record.bytes)
            objects[object].durable = record.generation == objects[object].highest.generation ? objects[object].highest.sequence : 0
        }
        // What was touched while the log was replayed is durable already.
        for object in touched where objects.contains(object) {
            objects[object].isTouched = false
            objects[object].lowestSinceBarrier = .max
        }
        touched.removeAll(keepingCapacity: true)
    }
}
