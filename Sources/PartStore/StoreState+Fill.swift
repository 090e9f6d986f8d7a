import Base

/// What the records of a fill say; `PartStore+Fill.swift` tells what a fill is. Apart from the writer's records, since theirs is the path
/// of every write: these name versions of the writer, and say nothing of what else it has sent.
extension StoreState {
    mutating func applyFill(_ record: LogRecord, _ source: UnsafeRawPointer, _ number: UInt64) {
        let mappedBefore = map.mappedBlocks
        var extent = (index: 0, offset: UInt64(0))
        for position in 0..<Int(record.blockCount) {
            var address = record.flags & LogRecord.isAbsent != 0 ? BlockMap.Address.absent : .zero
            var check: UInt32 = 0
            if record.kind == .write {
                let found = LogRecord.extent(source, extent.index)
                address = BlockMap.Address(raw: UInt32(found.first + extent.offset))
                check = source.load(UInt32.self, at: record.checksOffset + position * 4)
                extent = extent.offset + 1 == found.count ? (extent.index + 1, 0) : (extent.index, extent.offset + 1)
            }
            let block = Int(record.firstBlock) + position
            guard let page = openPage(record, block, number) else { continue }
            putFill(record, page, block % Block.perPage, address, check, number, isLive: record.isLive(source, position))
        }
        if record.blockCount == 0 { _ = openPage(record, Int(record.firstBlock), number) }
        objects[record.object].mappedBlocks &+= map.mappedBlocks &- mappedBefore
    }

    /// The page of a block, raised to the record's version; nil when it was captured later and holds the record.
    private mutating func openPage(_ record: LogRecord, _ block: Int, _ number: UInt64) -> UInt32? {
        let key = BlockMap.Key(object: record.object, part: record.part, page: UInt32(block / Block.perPage))
        let index = map.findOrMake(key)
        let page = map.page(index)
        guard page.pointee.imageRecord < number else { return nil }
        page.pointee.highest = max(page.pointee.highest, record.version)
        return index
    }

    /// What a fill brings. Of a block written since the fill began it becomes the old block below, while that is in doubt and not older.
    private mutating func putFill(
        _ record: LogRecord, _ page: UInt32, _ block: Int, _ address: BlockMap.Address, _ check: UInt32, _ number: UInt64, isLive: Bool
    ) {
        if isLive {
            let hasDoubts = map.page(page).pointee.doubts > 0
            let old = hasDoubts ? doubts.replaceOldest(page, block, above: record.version, address, check) : nil
            if old != nil { marks.hit(.fillPutBelow) }
            freed.push(old ?? address, record: number)
            return
        }
        let isPassed =
            record.version.generation == objects[record.object].record.generation && record.version.sequence <= objects[record.object].mark
        if record.flags & LogRecord.isDoubtful != 0, !isPassed {
            put(record, page, block, address, check, number)
        } else {
            freed.push(map.set(page, block, address, check).address, record: number)
        }
    }

    /// What was in doubt belongs to a past in which this member had no part to its end. A page that was captured later holds what came
    /// since.
    mutating func beginFill(_ record: LogRecord, _ source: UnsafeRawPointer, _ number: UInt64) -> Bool {
        let object = record.object
        let fill = LogRecord.fill(source)
        guard record.version.generation >= objects[object].record.generation, fill.number > objects[object].fill.number else {
            return false
        }
        if record.version.generation > objects[object].record.generation {
            objects[object].record.generation = record.version.generation
            objects[object].mark = 0
            objects[object].durable = 0
            objects[object].lowestSinceBarrier = .max
        }
        objects[object].record.map = max(objects[object].record.map, record.argument)
        objects[object].fill.number = fill.number
        objects[object].fill.isOpen = true
        objects[object].fill.base = fill.base
        var lists = [objects[object].orphans, objects[object].doubts]
        var gone: [DoubtList.Entry] = []
        for index in lists.indices {
            doubts.removeAll(from: &lists[index], where: { map.page($0.page).pointee.imageRecord < number }, { gone.append($0) })
        }
        objects[object].orphans = lists[0]
        objects[object].doubts = lists[1]
        for entry in gone { forget(entry, object, number) }
        return true
    }

    mutating func endFill(_ record: LogRecord) -> Bool {
        guard objects[record.object].fill.isOpen, record.argument == objects[record.object].fill.number else { return false }
        objects[record.object].fill.isOpen = false
        objects[record.object].fill.base = .zero
        return true
    }
}
