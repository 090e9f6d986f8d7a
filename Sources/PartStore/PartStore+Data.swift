import Base

/// Writes, zeroes and reads of blocks.
///
/// Methods of the data path are mutating even where they change nothing: to one that is not, the compiler hands a copy of the whole
/// struct, which costs more than the method does.
extension PartStore {
    // MARK: Writes

    /// `memory` holds the blocks, `checks` 4 bytes for each; both are the store's until the request has finished.
    public mutating func write(tag: UInt32, _ target: WriteTarget, memory: UnsafeMutableRawPointer, checks: UnsafeRawPointer) -> Status {
        guard Int(target.blockCount) <= Limits.frameBlocksMax else { return .invalidArgument }
        if let refusal = refusal(of: target) { return refusal }
        for block in 0..<Int(target.blockCount) where !mutated(.skipsCheck) {
            let bytes = UnsafeRawBufferPointer(start: memory + block * Block.bytes, count: Block.bytes)
            guard Checksum.of(bytes) == checks.load(UInt32.self, at: block * 4) else { return .checksumMismatch }
        }
        return admit(tag, .write, target, memory, checks)
    }

    /// Blocks become zero: write zeroes and discard; or lost. Of a fill, and without blocks: the page that holds the first one is as its
    /// source's, what was written to it up to the target's version is here.
    public mutating func zero(tag: UInt32, _ target: WriteTarget) -> Status {
        guard Int(target.blockCount) <= Limits.zeroBlocksMax else { return .invalidArgument }
        var range = target
        if target.fill > 0 { range.blockCount = max(1, target.blockCount) }
        if let refusal = refusal(of: range) { return refusal }
        if target.blockCount == 0, lacksRoomForPage(target) { return .noSpace }
        // Only on a store of a few MiB.
        guard Int(target.blockCount) <= ordinaryDoubtsMax else { return .noSpace }
        return admit(tag, .zero, target, nil, nil)
    }

    private mutating func refusal(of target: WriteTarget) -> Status? {
        if hasFailed { return .diskFailed }
        guard exists(target.object) else { return .notFound }
        let admitted = state.objects[target.object].admitted
        if target.fill > 0 {
            let isAlive =
                admitted.fill == target.fill || mutated(.fillNeverDies) && admitted.fill == 0
                || mutated(.takesOlderFills) && target.fill < admitted.fill
            guard isAlive else { return .staleMap }
            guard target.version.generation <= admitted.generation else { return .invalidArgument }
        } else if target.version.generation != admitted.generation, !mutated(.ignoresFences) {
            return target.version.generation < admitted.generation ? .fenced : .invalidArgument
        }
        return isWithin(target.object, target.part, target.firstBlock, target.blockCount) ? nil : .outOfRange
    }

    private mutating func isWithin(_ object: ObjectNumber, _ part: PartAddress, _ firstBlock: UInt32, _ blockCount: UInt32) -> Bool {
        let chunkBlocks = state.objects[object].record.layout.chunkBytes / UInt64(Block.bytes)
        let end = UInt64(firstBlock) + UInt64(blockCount)
        return blockCount >= 1 && end <= chunkBlocks
            && UInt64(part.chunk) * chunkBlocks + end <= Block.count(covering: state.objects[object].admitted.bytes)
    }

    private mutating func admit(
        _ tag: UInt32, _ kind: LogRecord.Kind, _ target: WriteTarget, _ memory: UnsafeMutableRawPointer?, _ checks: UnsafeRawPointer?
    ) -> Status {
        let need = kind == .write ? UInt64(target.blockCount) : 0
        if lacksSpace(for: need, target) {
            ownMarks.hit(.refusedForSpace)
            return .noSpace
        }
        guard let index = slots.take(tag: tag) else { return .overloaded }
        let slot = slots[index]
        slot.pointee.kind = kind
        slot.pointee.object = target.object
        slot.pointee.isDurable = target.isDurable
        slot.pointee.memory = memory
        slot.pointee.checks = checks
        slot.pointee.target = RequestSlots.WaitingTarget(
            part: target.part, firstBlock: target.firstBlock, blockCount: target.blockCount, version: target.version, mark: target.mark,
            touched: target.touched, fill: target.fill, flags: PartStore.recordFlags(target), isRewrite: target.isRewrite)
        if target.fill == 0, isAnswered(index) {
            // Sent again by a writer that did not hear the answer.
            ownMarks.hit(.resentAnswered)
            slot.pointee.hasRecord = false
            slots.append(index, to: &toLog)
        } else if waitingRewrites.isEmpty, waiting.isEmpty || target.isRewrite, hasRoom(index) {
            start(index)
        } else {
            ownMarks.hit(.waitedForSpace)
            noteMark(target.object, generation: target.version.generation, mark: target.mark)
            slot.pointee.waitsUntil = now + Limits.spaceWait
            // In their order: the mark waits for the oldest of them, and must not find that newer ones have taken the room.
            if target.isRewrite { slots.append(index, to: &waitingRewrites) } else { slots.append(index, to: &waiting) }
        }
        return .ok
    }

    /// Whether the store already has this write, or a newer one, of every block.
    private mutating func isAnswered(_ index: UInt32) -> Bool {
        let target = slots[index].pointee.target
        var position = 0
        while position < Int(target.blockCount) {
            let block = Int(target.firstBlock) + position
            let key = BlockMap.Key(object: slots[index].pointee.object, part: target.part, page: UInt32(block / Block.perPage))
            guard let page = state.map.find(key), state.map.page(page).pointee.highest >= target.version,
                let newest = state.doubts.newest(page, block % Block.perPage), newest.version >= target.version
            else { return false }
            position += 1
        }
        return true
    }

    /// A write of blocks that take no space yet is refused while the reserve is touched, or the map has no memory left: overwrites must go
    /// on. What waits to be freed counts as free.
    private mutating func lacksSpace(for need: UInt64, _ target: WriteTarget) -> Bool {
        let available = allocator.freeBlocks + state.freed.blocks + state.doubts.keptBlocks
        let isTight = need > 0 && available < superblock.geometry.reserveBlocks + need
        let imageIsTight = !imageHasRoom(for: UInt64(target.blockCount) * UInt64(PageImage.runBytes + 4) + 256)
        guard isTight || imageIsTight || mapIsFull(after: UInt64(target.blockCount)) else { return false }
        var position = 0
        while position < Int(target.blockCount) {
            let block = Int(target.firstBlock) + position
            let key = BlockMap.Key(object: target.object, part: target.part, page: UInt32(block / Block.perPage))
            guard let page = state.map.find(key) else { return true }
            let address = state.map.lookup(page, block % Block.perPage).address
            if !address.isData && (isTight || address == .absent) { return true }
            position += 1
        }
        return false
    }

    @inline(__always)
    mutating func mapIsFull(after blocks: UInt64) -> Bool {
        let live = fillsUnderWay > 0 ? live.bytesInUse : 0
        return state.map.bytesInUse + state.objects.volumeImageBytes + live + BlockMap.growth(blocks: blocks) > options.mapBytesMax
    }

    @inline(__always)
    private static func recordFlags(_ target: WriteTarget) -> UInt8 {
        guard target.fill > 0 else { return target.isLost ? LogRecord.isLost : 0 }
        let isInDoubt = target.isInDoubt && !mutated(.fillForgetsDoubt)
        return LogRecord.fills | (isInDoubt ? LogRecord.isDoubtful : 0) | (target.isAbsent ? LogRecord.isAbsent : 0)
    }

    /// Whether the state, with what is admitted and this, can still be written compactly.
    mutating func imageHasRoom(for bytes: UInt64) -> Bool {
        let admitted = UInt64(admittedBlocks) * UInt64(PageImage.runBytes + 4) + UInt64(slots.usedCount) * 256 + admittedVolumeBytes
        let doubts = UInt64((doubtsMax + superblock.geometry.capturedDoubtsMax) * PageImage.doubtBytes)
        return state.imageBytesBound + admitted + doubts + bytes <= superblock.geometry.imageBytesMax
    }

    /// A write that makes members equal has an eighth of the room for itself: the mark waits for it, and room for others for the mark.
    private mutating func hasRoom(_ index: UInt32) -> Bool {
        let slot = slots[index].pointee
        let blocks = Int(slot.target.blockCount)
        let isOrdinary = !slot.target.isRewrite
        let room = (isOrdinary ? ordinaryDoubtsMax : doubtsMax) - state.doubts.count - admittedDoubts
        var doubts = blocks
        if doubts > room, !isOrdinary { doubts = newDoubts(index) }
        guard doubts <= room, !exceedsShare(index) else { return false }
        slots[index].pointee.doubts = doubts
        let kept = isOrdinary ? superblock.geometry.reserveBlocks / 8 : 0
        return slot.kind != .write || allocator.freeBlocks >= UInt64(blocks) + kept
    }

    /// How many entries in doubt a write adds at most: none where it takes the place of one. Slow; for when there is little room.
    private mutating func newDoubts(_ index: UInt32) -> Int {
        let slot = slots[index].pointee
        let target = slot.target
        let range = UInt64(target.firstBlock)..<UInt64(target.firstBlock) + UInt64(target.blockCount)
        // What is on its way to the same blocks comes first, and takes the places.
        for queue in [toLog, toApply] {
            var other = queue.first
            while other != noIndex {
                let admitted = slots[other].pointee
                let first = UInt64(admitted.target.firstBlock)
                if admitted.blocks > 0, admitted.object == slot.object, admitted.target.part == target.part,
                    range.overlaps(first..<first + UInt64(admitted.target.blockCount))
                {
                    return range.count
                }
                other = admitted.next
            }
        }
        var count = 0
        for block in range {
            let key = BlockMap.Key(object: slot.object, part: target.part, page: UInt32(block) / UInt32(Block.perPage))
            guard let page = state.map.find(key), let newest = state.doubts.newest(page, Int(block) % Block.perPage),
                state.replacesDoubt(of: slot.object, newest, target.version)
            else {
                count += 1
                continue
            }
        }
        return count
    }

    /// Whether a write would bring its object above three quarters of what others leave. What is in doubt of a volume whose writer is gone
    /// stays until somebody opens it, and must not keep all others from being written.
    private mutating func exceedsShare(_ index: UInt32) -> Bool {
        let slot = slots[index].pointee
        let blocks = Int(slot.target.blockCount)
        let all = state.doubts.count + admittedDoubts
        guard !slot.target.isRewrite, (all + blocks) * 4 > ordinaryDoubtsMax * 3 else { return false }
        var own = state.objects[slot.object].doubtCount
        for queue in [toLog, toApply] {
            var other = queue.first
            while other != noIndex {
                let admitted = slots[other].pointee
                if admitted.object == slot.object { own += admitted.doubts }
                other = admitted.next
            }
        }
        return own + blocks > max((ordinaryDoubtsMax - (all - own)) * 3 / 4, Limits.zeroBlocksMax)
    }

    private var ordinaryDoubtsMax: Int { doubtsMax - min(doubtsMax / 8, max(doubtsMax - Limits.zeroBlocksMax, 0)) }

    /// Takes blocks, makes the record, and queues data and record for the disk.
    private mutating func start(_ index: UInt32) {
        let slot = slots[index]
        let target = slot.pointee.target
        var record = LogRecord(slot.pointee.kind, slot.pointee.object)
        record.version = target.version
        record.flags = target.flags
        record.mark = target.fill > 0 ? 0 : takeMark(slot.pointee.object, target.version.generation, atLeast: target.mark)
        record.part = target.part
        record.touched = target.touched
        record.firstBlock = target.firstBlock
        record.blockCount = target.blockCount
        let blocks = Int(target.blockCount)
        slot.pointee.blocks = blocks
        admittedBlocks += blocks
        admittedDoubts += slot.pointee.doubts
        if slot.pointee.kind == .write, let memory = slot.pointee.memory, let checks = slot.pointee.checks {
            let extents = placeData(index, blocks, memory)
            record.extentCount = UInt32(extents)
            (slots.record(index) + record.checksOffset).copyMemory(from: checks, byteCount: blocks * 4)
            if blocks % 2 == 1 { slots.record(index).store(UInt32(0), at: record.checksOffset + blocks * 4) }
            slot.pointee.recordBytes = LogRecord.dataBytes(extents: extents, checks: blocks)
        } else {
            slot.pointee.recordBytes = LogRecord.dataHeadBytes
        }
        if fillsUnderWay > 0 || target.fill > 0 { noteFill(index) }
        record.encode(to: slots.record(index), bytes: slot.pointee.recordBytes)
        slots.append(index, to: &toLog)
    }

    /// Gives a write its blocks; returns how many extents they are.
    private mutating func placeData(_ index: UInt32, _ blocks: Int, _ memory: UnsafeMutableRawPointer) -> Int {
        withUnsafeTemporaryAllocation(of: Allocator.Extent.self, capacity: blocks) { extents in
            guard let base = extents.baseAddress else { unreachable("a write has blocks") }
            let count = allocator.allocate(blocks, into: base)
            var offset = 0
            for number in 0..<count {
                let extent = extents[number]
                let place = slots.record(index) + LogRecord.dataHeadBytes + number * LogRecord.extentBytes
                place.store(UInt64(extent.first), at: 0)
                place.store(UInt64(extent.count), at: 8)
                dataWrites.append(DataWrite(diskBlock: extent.first, blocks: extent.count, memory: memory + offset, slot: index))
                offset += Int(extent.count) * Block.bytes
            }
            slots[index].pointee.dataPending = count
            return count
        }
    }

    /// Data that lies together on the disk goes there in one write.
    mutating func emitDataWrites() {
        var position = 0
        while position < dataWrites.count {
            let first = dataWrites[position]
            let group = groups.make()
            let firstVector = vectorList.count
            var end = first.diskBlock
            var bytes = 0
            while position < dataWrites.count, dataWrites[position].diskBlock == end, vectorList.count - firstVector < 64,
                bytes + Int(dataWrites[position].blocks) * Block.bytes <= Limits.frameBytesMax
            {
                let write = dataWrites[position]
                vectorList.append(write.memory, Int(write.blocks) * Block.bytes)
                groups.add(write.slot, to: group)
                end &+= write.blocks
                bytes += Int(write.blocks) * Block.bytes
                position += 1
            }
            emitWrite(.data, group, offset: UInt64(first.diskBlock) * UInt64(Block.bytes), firstVector: firstVector, bytes: bytes)
        }
        dataWrites.removeAll(keepingCapacity: true)
    }

    mutating func emitWrite(_ kind: DiskToken, _ index: UInt32, offset: UInt64, firstVector: Int, bytes: Int) {
        operationsUnderWay += 1
        counters.diskWrites += 1
        counters.diskWrittenBytes += UInt64(bytes)
        barrier.bytesSince += bytes
        effects.append(
            .diskWrite(
                token: kind.rawValue | index, offset: offset, firstVector: firstVector, vectorCount: vectorList.count - firstVector))
    }

    mutating func dataDone(_ group: UInt32) {
        while let index = groups.pop(group) {
            let slot = slots[index]
            slot.pointee.dataPending -= 1
            if mutated(.acknowledgesOutOfLogOrder), slot.pointee.dataPending == 0, !slot.pointee.isDurable, !slot.pointee.isAnswered {
                slot.pointee.isAnswered = true
                effects.append(.finished(tag: slot.pointee.tag, .ok))
                slot.pointee.tag = PartStore.noTag
            }
        }
    }

    /// Writes that waited for room go on, in their order, as far as there is some; those that make members equal before others.
    mutating func retryWaiting() {
        if waiting.isEmpty, waitingRewrites.isEmpty { return }
        waitingRewrites = retried(waitingRewrites)
        if waitingRewrites.isEmpty { waiting = retried(waiting) }
        waitingRewrites = ended(waitingRewrites)
        waiting = ended(waiting)
        if !waiting.isEmpty || !waitingRewrites.isEmpty { barrier.isWanted = true }
    }

    /// The queue without those for which there is room now. Those of an object that has its share wait for each other, and nobody else for
    /// them.
    private mutating func retried(_ queue: SlotQueue) -> SlotQueue {
        var queue = queue
        var rest = SlotQueue()
        var isFull = false
        objectsWithShare.removeAll(keepingCapacity: true)
        while let index = slots.popFirst(from: &queue) {
            let (object, target) = (slots[index].pointee.object, slots[index].pointee.target)
            let waits = isFull || objectsWithShare.contains(object)
            guard !waits, hasRoom(index) else {
                slots.append(index, to: &rest)
                if !waits, exceedsShare(index) { objectsWithShare.append(object) } else if !waits { isFull = true }
                continue
            }
            if target.fill > 0, target.fill != state.objects[object].admitted.fill {
                finish(index, .staleMap)
            } else if !isWithin(object, target.part, target.firstBlock, target.blockCount) {
                // The object was cut meanwhile.
                finish(index, .outOfRange)
            } else {
                start(index)
            }
        }
        return rest
    }

    /// The queue without those that have waited for long enough.
    private mutating func ended(_ queue: SlotQueue) -> SlotQueue {
        var queue = queue
        while queue.first != noIndex, slots[queue.first].pointee.waitsUntil <= now, let index = slots.popFirst(from: &queue) {
            ownMarks.hit(.spaceWaitRanOut)
            finish(index, .noSpace)
        }
        return queue
    }

    /// Requests of older generations or sessions that still wait are refused: they must not enter the log behind a fence.
    mutating func refuseWaiting(_ object: ObjectNumber, _ status: Status) {
        waitingRewrites = refused(waitingRewrites, object, status)
        waiting = refused(waiting, object, status)
    }

    private mutating func refused(_ queue: SlotQueue, _ object: ObjectNumber, _ status: Status) -> SlotQueue {
        var queue = queue
        var kept = SlotQueue()
        while let index = slots.popFirst(from: &queue) {
            if slots[index].pointee.object == object {
                ownMarks.hit(.waitingRefused)
                finish(index, status)
            } else {
                slots.append(index, to: &kept)
            }
        }
        return kept
    }

    // MARK: Reads

    /// Fills `memory` and `checks`. Blocks that were never written are zeros.
    public mutating func read(
        tag: UInt32, _ object: ObjectNumber, _ part: PartAddress, firstBlock: UInt32, blockCount: UInt32, memory: UnsafeMutableRawPointer,
        checks: UnsafeMutableRawPointer
    ) -> Status {
        if hasFailed { return .diskFailed }
        guard exists(object) else { return .notFound }
        guard Int(blockCount) <= Limits.frameBlocksMax else { return .invalidArgument }
        guard isWithin(object, part, firstBlock, blockCount) else { return .outOfRange }
        guard let index = reads.take(tag: tag) else { return .overloaded }
        let slot = reads[index]
        slot.pointee.object = object
        slot.pointee.part = part
        slot.pointee.firstBlock = firstBlock
        slot.pointee.blockCount = blockCount
        slot.pointee.memory = memory
        slot.pointee.checks = checks
        startRead(index)
        return .ok
    }

    private mutating func startRead(_ index: UInt32) {
        let slot = reads[index]
        guard let memory = slot.pointee.memory, let checks = slot.pointee.checks else { unreachable("a read has memory") }
        let addresses = reads.addresses(index)
        slot.pointee.hasError = false
        slot.pointee.pending = 0
        var page = noIndex
        var run = (first: 0, count: 0)
        for position in 0..<Int(slot.pointee.blockCount) {
            let block = Int(slot.pointee.firstBlock) + position
            if position == 0 || block % Block.perPage == 0 {
                let key = BlockMap.Key(object: slot.pointee.object, part: slot.pointee.part, page: UInt32(block / Block.perPage))
                page = state.map.find(key) ?? noIndex
            }
            var found = (address: BlockMap.Address.absent, check: UInt32(0))
            if page != noIndex { found = state.map.lookup(page, block % Block.perPage) }
            addresses[position] = found.address.raw
            if found.address.isData {
                checks.store(found.check, at: position * 4)
                if run.count > 0, addresses[position - 1] &+ 1 != found.address.raw {
                    emitRead(index, run.first, run.count)
                    run.count = 0
                }
                if run.count == 0 { run.first = position }
                run.count += 1
                continue
            }
            if run.count > 0 {
                emitRead(index, run.first, run.count)
                run.count = 0
            }
            checks.store(Checksum.ofZeroBlock, at: position * 4)
            UnsafeMutableRawBufferPointer(start: memory + position * Block.bytes, count: Block.bytes)
                .initializeMemory(as: UInt8.self, repeating: 0)
            if found.address == .lost {
                slot.pointee.hasError = true
                noteDamage(slot.pointee.object, slot.pointee.part, block, .lost)
            }
        }
        if run.count > 0 { emitRead(index, run.first, run.count) }
        if slot.pointee.pending == 0 { finishRead(index, slot.pointee.hasError ? .damaged : .ok) }
    }

    private mutating func emitRead(_ index: UInt32, _ position: Int, _ count: Int) {
        guard let memory = reads[index].pointee.memory else { unreachable("a read has memory") }
        reads[index].pointee.pending += 1
        operationsUnderWay += 1
        counters.diskReads += 1
        effects.append(
            .diskRead(
                token: DiskToken.read.rawValue | index, offset: UInt64(reads.addresses(index)[position]) * UInt64(Block.bytes),
                memory: memory + position * Block.bytes, bytes: count * Block.bytes))
    }

    mutating func readDone(_ index: UInt32, result: Int32) {
        let slot = reads[index]
        slot.pointee.pending -= 1
        if result < 0 { slot.pointee.hasError = true }
        guard slot.pointee.pending == 0, !hasFailed else { return }
        guard let damaged = firstDamaged(index) else {
            finishRead(index, slot.pointee.hasError ? .damaged : .ok)
            return
        }
        // A block that was replaced while it was read may have been given out again: what came is of no use, not damaged.
        if hasMoved(index), slot.pointee.attempts < 16 {
            ownMarks.hit(.readMoved)
            slot.pointee.attempts += 1
            startRead(index)
            return
        }
        counters.damagedReads += 1
        noteDamage(
            slot.pointee.object, slot.pointee.part, Int(slot.pointee.firstBlock) + damaged,
            BlockMap.Address(raw: reads.addresses(index)[damaged]))
        ownMarks.hit(.readDamaged)
        effects.append(.damaged(object: slot.pointee.object, part: slot.pointee.part, block: slot.pointee.firstBlock + UInt32(damaged)))
        finishRead(index, .damaged)
    }

    private mutating func firstDamaged(_ index: UInt32) -> Int? {
        let slot = reads[index].pointee
        guard let memory = slot.memory, let checks = slot.checks else { unreachable("a read has memory") }
        let addresses = reads.addresses(index)
        for position in 0..<Int(slot.blockCount) where BlockMap.Address(raw: addresses[position]).isData && !mutated(.skipsCheck) {
            let bytes = UnsafeRawBufferPointer(start: memory + position * Block.bytes, count: Block.bytes)
            if Checksum.of(bytes) != checks.load(UInt32.self, at: position * 4) { return position }
        }
        return nil
    }

    private mutating func hasMoved(_ index: UInt32) -> Bool {
        let slot = reads[index].pointee
        let addresses = reads.addresses(index)
        for position in 0..<Int(slot.blockCount) {
            let block = Int(slot.firstBlock) + position
            let key = BlockMap.Key(object: slot.object, part: slot.part, page: UInt32(block / Block.perPage))
            var address = BlockMap.Address.absent
            if let page = state.map.find(key) { address = state.map.lookup(page, block % Block.perPage).address }
            if address.raw != addresses[position] { return true }
        }
        return false
    }
}
