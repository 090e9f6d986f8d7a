import Base
import Wire

// Making members equal (P5): blocks of a write that some members have and others may not, of a member whose copy is damaged, and those
// found in doubt at an open. What one member has is read, and written to all as a new version. The operation keeps its blocks locked
// meanwhile; the parts that left them unequal keep their place in the order until it is done, so that no mark passes them.

extension VolumeEngine {
    static let rewriteBlocksMax: UInt64 = 64
    static let stallDelay = Interval.milliseconds(250)

    func refusal(ofRewrite operation: Operation) -> Status? {
        let bytes = UInt64(Block.bytes)
        guard isWritable else { return .readOnly }
        guard operation.bytes > 0, operation.bytes % bytes == 0, operation.offset % bytes == 0 else { return .invalidArgument }
        let (end, overflow) = operation.offset.addingReportingOverflow(operation.bytes)
        return overflow || end > sizeInBlocks * bytes ? .outOfRange : nil
    }

    private var sizeInBlocks: UInt64 { Block.count(covering: objectBytes) }

    /// The operation has ended for its user, and left blocks that may differ.
    mutating func beginRewrite(_ index: Int) {
        let slot = operations.at(index)
        report(index)
        if mutated(.skipsRewrite) {
            releaseHeldParts(of: index)
            return end(index)
        }
        marks.hit(.rewritten)
        slot.pointee.phase = .rewrite
        slot.pointee.source = nil
        // Where one had no room for it the write is undone rather than done: what was there before has its room.
        slot.pointee.cursorBlock = slot.pointee.firstBlock
        slot.pointee.rewriteFirst = slot.pointee.firstBlock
        slot.pointee.rewriteEnd = slot.pointee.firstBlock
        ready.append(index)
    }

    /// Blocks of a read that some member could not give for damage, and another could.
    mutating func repair(_ part: Int) {
        guard isWritable, rows.width > 1, !isClosing, !isDead, let index = operations.take() else { return }
        let source = parts.at(part)
        marks.hit(.repaired)
        prepareInternal(index, source.pointee.block, source.pointee.blockCount)
        operations.at(index).pointee.avoided = source.pointee.damaged
        let slot = operations.at(index)
        if overlaps.insert(index, slot.pointee.firstBlock, slot.pointee.endBlock, changesBlocks: true) { ready.append(index) }
    }

    mutating func rewriteMemory(_ index: Int, _ block: UInt64) -> UnsafeMutableRawPointer {
        let slot = operations.at(index)
        guard let memory = slot.pointee.rewriteMemory else { unreachable("operation \(index) rewrites without memory") }
        return memory + Int(block - slot.pointee.rewriteFirst) * Block.bytes
    }

    /// Reads the next blocks, or writes the next run of what was read: zeros as zeros, so that no member needs space for them.
    mutating func issueRewrite(_ index: Int) -> Bool {
        let slot = operations.at(index)
        let block = slot.pointee.cursorBlock
        if block >= sizeInBlocks {
            // The volume was cut meanwhile: behind its end there is nothing to make equal.
            ready.remove(index)
            slot.pointee.cursorBlock = slot.pointee.endBlock
            rewriteOn(index)
            return true
        }
        let members = rows.range(ofChunk: block >> chunkShift)
        guard block < slot.pointee.rewriteEnd || slot.pointee.isLost else { return issueRewriteRead(index, members) }
        guard roomForWrite(members) > 0 else { return false }
        if slot.pointee.onlyFills, !members.contains(where: { rows.members[$0].state == .filling }) {
            // Excluded or in sync meanwhile: there is nobody to fill.
            ready.remove(index)
            end(index)
            return true
        }
        if slot.pointee.isLost {
            // Of what somebody asked for all of it; of a write that failed the one block that was just read in vain.
            let isAsked = slot.pointee.kind == .rewrite && !slot.pointee.isInternal
            slot.pointee.isLost = isAsked
            guard members.contains(where: { rows.members[$0].state == .filling }) else {
                ready.remove(index)
                slot.pointee.cursorBlock = block + 1
                rewriteOn(index)
                return true
            }
            lose(index, block..<(isAsked ? slot.pointee.endBlock : block + 1))
            return true
        }
        let isZero = isZero(rewriteMemory(index, block))
        var end = block + 1
        while end < slot.pointee.rewriteEnd, self.isZero(rewriteMemory(index, end)) == isZero { end += 1 }
        let part = take(isZero ? .writeZeroes : .write, .rewriteWrite, index)
        parts.at(part).pointee.block = block
        parts.at(part).pointee.blockCount = Int(end - block)
        ready.remove(index)
        sendToAll(part)
        return true
    }

    private mutating func issueRewriteRead(_ index: Int, _ members: Range<Int>) -> Bool {
        let slot = operations.at(index)
        let block = slot.pointee.cursorBlock
        let stale = members.first {
            mutated(.resyncsFromStale) && slot.pointee.onlyFills && rows.members[$0].state == .stale
                && peers.at(rows.members[$0].peer).pointee.hasRoomAttached
        }
        let member = stale ?? reader(members, block: block, without: slot.pointee.avoided, only: slot.pointee.source)
        let part: Int
        if member >= 0 {
            part = take(.read, .rewriteRead, index)
        } else {
            // Nobody there yet, or nobody left: the retry finds out which.
            part = take(.read, .rewriteRead, index)
            retries.append(part)
        }
        let chunkEnd = (block >> chunkShift + 1) << chunkShift
        let most = slot.pointee.readsSingly ? 1 : VolumeEngine.rewriteBlocksMax
        let end = min(block + most, chunkEnd, slot.pointee.endBlock, sizeInBlocks)
        parts.at(part).pointee.block = block
        parts.at(part).pointee.blockCount = Int(end - block)
        parts.at(part).pointee.tried = slot.pointee.avoided
        slot.pointee.rewriteFirst = block
        if slot.pointee.rewriteMemory == nil {
            let bytes = Int(VolumeEngine.rewriteBlocksMax) * Block.bytes
            slot.pointee.rewriteMemory = .allocate(byteCount: bytes, alignment: Block.bytes)
        }
        ready.remove(index)
        if member >= 0 { send(part, toMember: member) }
        return true
    }

    /// Tells members that are being filled that nobody has these blocks.
    private mutating func lose(_ index: Int, _ blocks: Range<UInt64>) {
        let part = take(.writeZeroes, .rewriteWrite, index)
        parts.at(part).pointee.block = blocks.lowerBound
        parts.at(part).pointee.blockCount = blocks.count
        parts.at(part).pointee.isLost = true
        ready.remove(index)
        sendToAll(part)
    }

    private func isZero(_ memory: UnsafeMutableRawPointer) -> Bool {
        let words = memory.assumingMemoryBound(to: UInt64.self)
        for index in 0..<Block.bytes / 8 where words[index] != 0 { return false }
        return true
    }

    /// A part of a rewrite has ended.
    mutating func rewriteStep(_ index: Int, _ purpose: PartSlot.Purpose, _ blocks: Range<UInt64>, _ status: Status, damaged: UInt64 = 0) {
        let slot = operations.at(index)
        guard slot.pointee.parts == 0 else { return }
        guard !isDead else {
            releaseHeldParts(of: index)
            if slot.pointee.status == .ok { slot.pointee.status = status }
            return end(index)
        }
        if status == .damaged, purpose == .rewriteRead, hasHeldParts(index), isDamagedEverywhere(blocks, damaged) {
            return rewriteAround(index, blocks)
        }
        guard status == .ok else { return rewriteFailed(index, status) }
        if purpose == .rewriteRead {
            slot.pointee.rewriteEnd = blocks.upperBound
        } else {
            slot.pointee.cursorBlock = blocks.upperBound
        }
        rewriteOn(index)
    }

    /// Every member in sync says that it cannot give them. Then they are equal, those that are being filled apart.
    private func isDamagedEverywhere(_ blocks: Range<UInt64>, _ damaged: UInt64) -> Bool {
        let members = rows.range(ofChunk: blocks.lowerBound >> chunkShift)
        return members.allSatisfy { rows.members[$0].state != .inSync || damaged & 1 << UInt64($0 - members.lowerBound) != 0 }
    }

    private mutating func rewriteAround(_ index: Int, _ blocks: Range<UInt64>) {
        let slot = operations.at(index)
        slot.pointee.rewriteFirst = blocks.lowerBound
        slot.pointee.rewriteEnd = blocks.lowerBound
        if blocks.count > 1 {
            slot.pointee.readsSingly = true
            return ready.append(index)
        }
        marks.hit(.damagedEverywhere)
        let members = rows.range(ofChunk: blocks.lowerBound >> chunkShift)
        guard !members.contains(where: { rows.members[$0].state == .filling }) else {
            // Takes its turn like any write.
            slot.pointee.isLost = true
            slot.pointee.rewriteEnd = blocks.upperBound
            return ready.append(index)
        }
        slot.pointee.cursorBlock = blocks.upperBound
        rewriteOn(index)
    }

    private mutating func rewriteOn(_ index: Int) {
        let slot = operations.at(index)
        if slot.pointee.cursorBlock == slot.pointee.endBlock {
            slot.pointee.needsRewrite = false
            releaseHeldParts(of: index)
            advanceMark()
            end(index)
        } else {
            ready.append(index)
        }
    }

    /// What somebody outside asked for ends, and he decides what to do; else it is tried again until it succeeds, since the blocks
    /// cannot be used before. A repair that has changed nothing yet is given up: the read that found the damage was answered.
    private mutating func rewriteFailed(_ index: Int, _ status: Status) {
        let slot = operations.at(index)
        if slot.pointee.kind == .rewrite, !slot.pointee.isInternal {
            if slot.pointee.status == .ok { slot.pointee.status = status }
            return end(index)
        }
        if slot.pointee.isInternal, !hasHeldParts(index) { return end(index) }
        // A member has been cut, and that was not heard of here yet.
        if status == .outOfRange { wantMap() }
        slot.pointee.avoided = 0
        slot.pointee.rewriteFirst = slot.pointee.cursorBlock
        slot.pointee.rewriteEnd = slot.pointee.cursorBlock
        stalled.append(index)
        if stalledUntil == .never { stalledUntil = now + VolumeEngine.stallDelay }
    }

    mutating func continueStalled() {
        guard now >= stalledUntil else { return }
        stalledUntil = .never
        while let index = stalled.popFirst() { ready.append(index) }
    }

    func hasHeldParts(_ operation: Int) -> Bool {
        for part in 0..<parts.capacity where parts.at(part).pointee.state == .held {
            if parts.at(part).pointee.operation == operation { return true }
        }
        return false
    }

    mutating func releaseHeldParts(of operation: Int) {
        guard operations.at(operation).pointee.hasHeld else { return }
        operations.at(operation).pointee.hasHeld = false
        for part in 0..<parts.capacity where parts.at(part).pointee.state == .held && parts.at(part).pointee.operation == operation {
            order.end(part)
            parts.release(part)
        }
        advanceMark()
    }

    private mutating func prepareInternal(_ index: Int, _ block: UInt64, _ count: Int) {
        prepare(
            index,
            Operation(
                .rewrite, offset: block * UInt64(Block.bytes), bytes: UInt64(count * Block.bytes), tag: Operation.Tag(0, 0)))
        let slot = operations.at(index)
        slot.pointee.isInternal = true
        slot.pointee.phase = .rewrite
        slot.pointee.deadline = .never
    }
}
