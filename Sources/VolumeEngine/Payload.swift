import Base

/// Checks over memory in pieces; a block may straddle them.
enum Payload {
    /// The check of each block, little-endian, one after the other.
    static func computeChecks(_ pieces: UnsafePointer<IOVector>, _ count: Int, into checks: UnsafeMutableRawPointer) {
        _ = areAll(pieces, count) { check, offset in
            checks.store(check, at: offset)
            return true
        }
    }

    /// Whether every block has the check that is given for it.
    static func matches(_ pieces: UnsafePointer<IOVector>, _ count: Int, checks: UnsafeRawPointer) -> Bool {
        areAll(pieces, count) { check, offset in checks.load(UInt32.self, at: offset) == check }
    }

    /// Whether `isWell` says so of each block's check, and of where it stands among the others.
    @inline(__always)
    private static func areAll(_ pieces: UnsafePointer<IOVector>, _ count: Int, _ isWell: (UInt32, Int) -> Bool) -> Bool {
        var check: UInt32 = 0
        var room = Block.bytes
        var offset = 0
        for index in 0..<count {
            var base = pieces[index].base
            var left = pieces[index].count
            while left > 0 {
                let length = min(left, room)
                check = Checksum.of(UnsafeRawBufferPointer(start: base, count: length), continuing: check)
                base += length
                left -= length
                room -= length
                if room > 0 { continue }
                guard isWell(check, offset) else { return false }
                offset += 4
                check = 0
                room = Block.bytes
            }
        }
        return true
    }
}

// Where the bytes of a request lie: the user's vectors, and a bounce block for each block that the user covers in part.
//
// Methods of the data plane are mutating even where they change nothing: to one that is not, the compiler hands a copy of the whole struct,
// which costs more than the method does.

extension VolumeEngine {
    /// Finds the blocks that are covered in part, and sets the cursor behind the first.
    mutating func findEdges(_ index: Int) {
        let slot = operations.at(index)
        let end = slot.pointee.offset + slot.pointee.bytes
        let blockBytes = UInt64(Block.bytes)
        guard slot.pointee.offset % blockBytes != 0 || end % blockBytes != 0 else { return }
        let isOneBlock = slot.pointee.endBlock - slot.pointee.firstBlock == 1
        slot.pointee.hasHeadEdge = slot.pointee.offset % blockBytes != 0 || isOneBlock
        slot.pointee.hasTailEdge = end % blockBytes != 0 && !isOneBlock
        if slot.pointee.hasHeadEdge, slot.pointee.kind.movesData { slot.pointee.advanceCursor(by: slot.pointee.headBytes) }
        if slot.pointee.kind.changesBlocks {
            slot.pointee.phase = .edges
            slot.pointee.edgesToRead = (slot.pointee.hasHeadEdge ? 1 : 0) | (slot.pointee.hasTailEdge ? 2 : 0)
        }
        marks.hit(slot.pointee.kind.changesBlocks ? .edgesMerged : .edgesRead)
    }

    /// The memory of the part's blocks in order; returns how many pieces.
    mutating func pieces(of index: Int, into list: UnsafeMutablePointer<IOVector>) -> Int {
        let part = parts.at(index)
        if let copy = part.pointee.copy {
            list[0] = IOVector(copy, part.pointee.blockCount * Block.bytes)
            return 1
        }
        let owner = part.pointee.operation
        switch part.pointee.purpose {
        case .headEdge, .tailEdge:
            list[0] = IOVector(operations.bounce(owner, edge: part.pointee.purpose == .headEdge ? 0 : 1), Block.bytes)
            return 1
        case .rewriteRead, .rewriteWrite:
            list[0] = IOVector(rewriteMemory(owner, part.pointee.block), part.pointee.blockCount * Block.bytes)
            return 1
        case .blocks: break
        case .flush: unreachable("a flush has no payload")
        }
        let operation = operations.at(owner)
        var middle = part.pointee.blockCount * Block.bytes
        var count = 0
        if operation.pointee.hasHeadEdge, part.pointee.block == operation.pointee.firstBlock {
            list[0] = IOVector(operations.bounce(owner, edge: 0), Block.bytes)
            count = 1
            middle -= Block.bytes
        }
        let endsInEdge =
            operation.pointee.hasTailEdge && part.pointee.block + UInt64(part.pointee.blockCount) == operation.pointee.endBlock
        if endsInEdge { middle -= Block.bytes }
        var vector = part.pointee.vector
        var offset = part.pointee.vectorOffset
        while middle > 0 {
            let whole = operation.pointee.vectors[vector]
            let length = min(whole.count - offset, middle)
            list[count] = IOVector(whole.base + offset, length)
            count += 1
            middle -= length
            vector += 1
            offset = 0
        }
        if endsInEdge {
            list[count] = IOVector(operations.bounce(owner, edge: 1), Block.bytes)
            count += 1
        }
        return count
    }

    /// Both edges have been read: puts the user's bytes, or zeros, into them.
    mutating func mergeEdges(_ index: Int) {
        let slot = operations.at(index)
        if slot.pointee.hasHeadEdge {
            let target = operations.bounce(index, edge: 0) + Int(slot.pointee.offset % UInt64(Block.bytes))
            merge(index, target, slot.pointee.headBytes, userOffset: 0)
        }
        if slot.pointee.hasTailEdge {
            let bytes = slot.pointee.tailBytes
            merge(index, operations.bounce(index, edge: 1), bytes, userOffset: Int(slot.pointee.bytes) - bytes)
        }
    }

    private mutating func merge(_ index: Int, _ target: UnsafeMutableRawPointer, _ count: Int, userOffset: Int) {
        if operations.at(index).pointee.kind.movesData {
            copy(index, userOffset: userOffset, count, target, toUser: false)
        } else {
            target.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        }
    }

    /// A part of a read has come: the user gets what it asked for of the edges in it.
    mutating func deliverEdges(of index: Int) {
        let part = parts.at(index)
        let slot = operations.at(part.pointee.operation)
        guard part.pointee.purpose == .blocks, slot.pointee.hasHeadEdge || slot.pointee.hasTailEdge else { return }
        let owner = part.pointee.operation
        if slot.pointee.hasHeadEdge, part.pointee.block == slot.pointee.firstBlock {
            let source = operations.bounce(owner, edge: 0) + Int(slot.pointee.offset % UInt64(Block.bytes))
            copy(owner, userOffset: 0, slot.pointee.headBytes, source, toUser: true)
        }
        if slot.pointee.hasTailEdge, part.pointee.block + UInt64(part.pointee.blockCount) == slot.pointee.endBlock {
            let bytes = slot.pointee.tailBytes
            copy(owner, userOffset: Int(slot.pointee.bytes) - bytes, bytes, operations.bounce(owner, edge: 1), toUser: true)
        }
    }

    private mutating func copy(_ index: Int, userOffset: Int, _ count: Int, _ bounce: UnsafeMutableRawPointer, toUser: Bool) {
        let slot = operations.at(index)
        var skip = userOffset
        var done = 0
        var vector = 0
        while done < count {
            let whole = slot.pointee.vectors[vector]
            vector += 1
            if skip >= whole.count {
                skip -= whole.count
                continue
            }
            let length = min(whole.count - skip, count - done)
            if toUser {
                (whole.base + skip).copyMemory(from: bounce + done, byteCount: length)
            } else {
                (bounce + done).copyMemory(from: whole.base + skip, byteCount: length)
            }
            done += length
            skip = 0
        }
    }

    /// From now on the part is sent from a copy of its payload.
    mutating func copyPayload(of index: Int) {
        let part = parts.at(index)
        part.pointee.hasChecks = false
        guard part.pointee.copy == nil else { return }
        let count = pieces(of: index, into: sendPieces)
        let copy = UnsafeMutableRawPointer.allocate(byteCount: part.pointee.blockCount * Block.bytes, alignment: Block.bytes)
        var offset = 0
        for piece in 0..<count {
            (copy + offset).copyMemory(from: sendPieces[piece].base, byteCount: sendPieces[piece].count)
            offset += sendPieces[piece].count
        }
        part.pointee.copy = copy
    }
}
