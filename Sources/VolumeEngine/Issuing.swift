import Base
import Wire

// From operations to parts and requests: which part goes out next, to whom, and its header.

extension VolumeEngine {
    /// Sends what may be sent: first what must go again, so that sequences reach a new session in order, then new parts, as a rule in
    /// the order of arrival.
    mutating func pump() {
        var peer = resending.first
        while peer != SlotList.none {
            let next = resending.next(after: peer)
            while peers.at(peer).pointee.hasRoomAttached, let request = peers.at(peer).pointee.resends.popFirst() {
                transmit(peer, request)
            }
            if peers.at(peer).pointee.resends.isEmpty { resending.remove(peer) }
            peer = next
        }
        var part = retries.first
        while part != SlotList.none {
            let next = retries.next(after: part)
            sendRetry(part)
            part = next
        }
        while ready.first != SlotList.none {
            guard parts.freeCount > 0 else { return }
            guard issue(ready.first) else { return pumpBehindFirst() }
        }
    }

    /// What waits for a peer that is away, for a new map, or for members to be in sync again, does not keep others waiting: reads, and
    /// writes of other placements. What waits for room only is not overtaken.
    private mutating func pumpBehindFirst() {
        guard rows.width > 1, isAnyoneMissed || rows.isAnyBelowFloor else { return }
        var index = ready.next(after: ready.first)
        while index != SlotList.none, ready.contains(index) {
            let next = ready.next(after: index)
            while parts.freeCount > 0, ready.contains(index), issue(index) { marks.hit(.overtaken) }
            index = next
        }
    }

    private var isAnyoneMissed: Bool {
        mutating get {
            if tableNext != nil { return true }
            for peer in 0..<peers.count where peers.at(peer).pointee.isUsed && peers.at(peer).pointee.phase != .attached { return true }
            return false
        }
    }

    private mutating func sendRetry(_ part: Int) {
        let slot = parts.at(part)
        if hasFailed(slot.pointee.operation) {
            retries.remove(part)
            slot.pointee.status = operations.at(slot.pointee.operation).pointee.status
            partEnded(part)
        } else if slot.pointee.changesBlocks {
            guard roomForWrite(rows.range(ofChunk: slot.pointee.block >> chunkShift)) > 0 else { return }
            retries.remove(part)
            sendToAll(part)
        } else if let member = reader(of: part) {
            retries.remove(part)
            marks.hit(.resentRead)
            send(part, toMember: member)
        } else if hasNoReader(part) {
            retries.remove(part)
            if slot.pointee.status == .ok { slot.pointee.status = .unreachable }
            partEnded(part)
        }
    }

    /// Makes one part of the operation, and takes it off `ready` with its last one; false if it must wait.
    private mutating func issue(_ index: Int) -> Bool {
        let operation = operations.at(index)
        switch operation.pointee.phase {
        case .free: unreachable("operation \(index) is ready and free")
        case .edges: return issueEdge(index)
        case .rewrite: return issueRewrite(index)
        case .parts: break
        }
        if operation.pointee.kind == .flush { return issueFlush(index) }
        let block = operation.pointee.cursorBlock
        let members = rows.range(ofChunk: block >> chunkShift)
        let changesBlocks = operation.pointee.kind.changesBlocks
        var choice = 0
        var blocksMax: UInt64
        if changesBlocks {
            if waitsForFloor(index) { return false }
            blocksMax = roomForWrite(members)
        } else {
            choice = reader(members, block: block)
            blocksMax = choice < 0 ? 0 : peers.at(rows.members[choice].peer).pointee.blocksMax
        }
        guard blocksMax > 0 else { return false }
        let (opcode, end) = nextPart(index, blocksMax)
        let part = take(opcode, .blocks, index)
        let slot = parts.at(part)
        slot.pointee.block = block
        slot.pointee.blockCount = Int(end - block)
        slot.pointee.vector = operation.pointee.cursorVector
        slot.pointee.vectorOffset = operation.pointee.cursorOffset
        if operation.pointee.kind.movesData {
            var middle = Int(end - block) * Block.bytes
            if operation.pointee.hasHeadEdge && block == operation.pointee.firstBlock { middle -= Block.bytes }
            if operation.pointee.hasTailEdge && end == operation.pointee.endBlock { middle -= Block.bytes }
            operation.pointee.advanceCursor(by: middle)
        }
        operation.pointee.cursorBlock = end
        if end == operation.pointee.endBlock { ready.remove(index) } else { marks.hit(.operationSplit) }
        if changesBlocks {
            slot.pointee.isDurable = operation.pointee.isDurable
            sendToAll(part)
        } else {
            send(part, toMember: choice)
        }
        return true
    }

    /// A part that writes gets its sequence, and goes to every member that takes writes.
    mutating func sendToAll(_ part: Int) {
        let slot = parts.at(part)
        slot.pointee.sequence = order.begin(part)
        let members = rows.range(ofChunk: slot.pointee.block >> chunkShift)
        let onlyFills = operations.at(slot.pointee.operation).pointee.onlyFills || slot.pointee.isLost
        for member in members where rows.members[member].takesWrites {
            if !onlyFills || rows.members[member].state == .filling { send(part, toMember: member) }
        }
        if slot.pointee.requests > 1 { marks.hit(.replicated) }
    }

    /// `member` is an index into the table.
    mutating func send(_ part: Int, toMember member: Int) {
        let slot = parts.at(part)
        let peer = rows.members[member].peer
        guard let request = peers.at(peer).pointee.requests.take(slot.pointee.opcode, .part, part: part) else {
            unreachable("no request is free")
        }
        let position = member % rows.width
        slot.pointee.requests += 1
        slot.pointee.sent |= 1 << UInt64(position)
        peers.at(peer).pointee.requests.at(request).pointee.member = UInt16(truncatingIfNeeded: position)
        peers.at(peer).pointee.requests.at(request).pointee.number = rows.members[member].number
        peers.at(peer).pointee.requests.at(request).pointee.incarnation = rows.members[member].incarnation
        peers.at(peer).pointee.requests.at(request).pointee.isDurable = slot.pointee.isDurable
        transmit(peer, request)
    }

    /// How many blocks a write of this placement may have now; 0 while it must wait.
    mutating func roomForWrite(_ members: Range<Int>) -> UInt64 {
        guard tableNext == nil else { return 0 }
        var blocksMax = UInt64(Limits.frameBlocksMax)
        for member in members where rows.members[member].takesWrites {
            let peer = peers.at(rows.members[member].peer)
            guard peer.pointee.hasRoomAttached else {
                lacksRoom(rows.members[member].peer)
                return 0
            }
            blocksMax = min(blocksMax, peer.pointee.blocksMax)
        }
        return blocksMax
    }

    private mutating func lacksRoom(_ peer: Int) {
        if peers.at(peer).pointee.phase == .attached { marks.hit(.wireLimitReached) } else { want(peer) }
    }

    // Readers

    /// The member in sync to read a block from, as an index into the table; negative if there is none now. The least busy one; of equals
    /// always the same one for a chunk, whose OST has its neighbours in its caches.
    mutating func reader(_ members: Range<Int>, block: UInt64, without tried: UInt64 = 0, only source: Int? = nil) -> Int {
        if members.count == 1 {
            let peer = peers.at(rows.members[members.lowerBound].peer)
            guard tried == 0, rows.members[members.lowerBound].state == .inSync else { return -1 }
            if peer.pointee.hasRoomAttached { return members.lowerBound }
            lacksRoom(rows.members[members.lowerBound].peer)
            return -1
        }
        guard hasHeard(from: members) else { return -1 }
        var best = -1
        var bestLoad = Int.max
        let start = Int(truncatingIfNeeded: (block >> chunkShift) / UInt64(rows.placementCount)) % members.count
        for step in 0..<members.count {
            let position = (start + step) % members.count
            let member = members.lowerBound + position
            let index = rows.members[member].peer
            // What it lost may be what a successor believes, until it is excluded: whatever another one has kept is not told before.
            if rows.members[member].takesWrites, mayLack(index, member), !mutated(.readsBesideLoss) { return -1 }
            let isComplete =
                rows.members[member].state == .inSync || mutated(.readerReadsFilling) && !isWritable && rows.members[member].takesWrites
            guard isComplete, tried & 1 << UInt64(position) == 0, source == nil || source == index else { continue }
            let peer = peers.at(index)
            guard peer.pointee.hasRoomAttached, peer.pointee.outstanding < bestLoad else { continue }
            best = member
            bestLoad = peer.pointee.outstanding
        }
        return best
    }

    /// Whether others have what the peer has lost, and the map that comes does not hold yet: the one that excludes it there, or that has it
    /// count there in the place of one that did not lose the same.
    private func mayLack(_ peer: Int, _ member: Int) -> Bool {
        if peers.at(peer).pointee.isTainted || peers.at(peer).pointee.isMissed { return true }
        guard peers.at(peer).pointee.isLacking, let tableNext else { return false }
        let first = member / rows.width * tableNext.membersPerPlacement
        let next = tableNext.members[first..<first + tableNext.membersPerPlacement]
        guard next.contains(where: { $0.peer == peer && $0.state == .inSync }) else { return true }
        let row = member / rows.width * rows.width
        return (row..<row + rows.width).contains { index in
            let other = rows.members[index]
            return other.state == .inSync && !next.contains { $0.peer == other.peer && $0.state == .inSync }
        }
    }

    /// Whether every member was heard of late, filling ones included: one may have become the only one in sync since. A writer that is cut
    /// off from some may have a successor that excluded the one it still reaches; so it reads on only for so long, and then asks first.
    /// The successor waits longer than that before it writes (P3).
    private mutating func hasHeard(from members: Range<Int>) -> Bool {
        guard isWritable, !mutated(.readsUnheard) else { return true }
        var isFresh = true
        for member in members where rows.members[member].takesWrites {
            if mutated(.readsWithoutFilling), rows.members[member].state == .filling { continue }
            let index = rows.members[member].peer
            let peer = peers.at(index)
            if peer.pointee.lastReceived + VolumeEngine.trustWithoutWord > now { continue }
            isFresh = false
            if peer.pointee.phase != .attached {
                want(index)
            } else if peer.pointee.pingSent == .never {
                marks.hit(.askedBeforeReading)
                peer.pointee.pingSent = now
                control(index, .ping, .ping)
            }
        }
        return isFresh
    }

    /// The next member to ask for a part that reads.
    private mutating func reader(of part: Int) -> Int? {
        let slot = parts.at(part)
        let owner = operations.at(slot.pointee.operation)
        let member = reader(
            rows.range(ofChunk: slot.pointee.block >> chunkShift), block: slot.pointee.block,
            without: slot.pointee.tried, only: slot.pointee.purpose == .rewriteRead ? owner.pointee.source : nil)
        return member < 0 ? nil : member
    }

    /// Whether no member is left that could ever answer, connected or not.
    private mutating func hasNoReader(_ part: Int) -> Bool {
        let slot = parts.at(part)
        let members = rows.range(ofChunk: slot.pointee.block >> chunkShift)
        let source = slot.pointee.purpose == .rewriteRead ? operations.at(slot.pointee.operation).pointee.source : nil
        for member in members where rows.members[member].state == .inSync {
            let position = member - members.lowerBound
            if slot.pointee.tried & 1 << UInt64(position) == 0, source == nil || source == rows.members[member].peer { return false }
        }
        return true
    }

    // Parts

    /// What the next part is, and where it ends: at the chunk, at the limit of a frame or of zeros, and for zeros at an edge, which is
    /// written as data.
    private mutating func nextPart(_ index: Int, _ blocksMax: UInt64) -> (Opcode, end: UInt64) {
        let operation = operations.at(index)
        let block = operation.pointee.cursorBlock
        let chunkEnd = (block >> chunkShift + 1) << chunkShift
        let end = min(chunkEnd, operation.pointee.endBlock)
        let opcode: Opcode
        switch operation.pointee.kind {
        case .read: return (.read, min(end, block + min(blocksMax, UInt64(Limits.readBytes / Block.bytes))))
        case .write: return (.write, min(end, block + blocksMax))
        case .discard: opcode = .discard
        case .writeZeroes: opcode = .writeZeroes
        case .flush, .rewrite: unreachable("a flush or rewrite has no parts of this kind")
        }
        if operation.pointee.hasHeadEdge && block == operation.pointee.firstBlock { return (.write, block + 1) }
        let zeroEnd = min(end, block + UInt64(Limits.zeroBlocksMax))
        guard operation.pointee.hasTailEdge else { return (opcode, zeroEnd) }
        if block == operation.pointee.endBlock - 1 { return (.write, block + 1) }
        return (opcode, min(zeroEnd, operation.pointee.endBlock - 1))
    }

    private mutating func issueEdge(_ index: Int) -> Bool {
        let operation = operations.at(index)
        let isHead = operation.pointee.edgesToRead & 1 != 0
        let block = isHead ? operation.pointee.firstBlock : operation.pointee.endBlock - 1
        let member = reader(rows.range(ofChunk: block >> chunkShift), block: block)
        guard member >= 0 else { return false }
        let part = take(.read, isHead ? .headEdge : .tailEdge, index)
        parts.at(part).pointee.block = block
        parts.at(part).pointee.blockCount = 1
        operation.pointee.edgesToRead &= isHead ? ~1 : ~2
        if operation.pointee.edgesToRead == 0 { ready.remove(index) }
        send(part, toMember: member)
        return true
    }

    /// To every peer that has something which is not durable; to all if none has, since what an earlier writer left may not be.
    private mutating func issueFlush(_ index: Int) -> Bool {
        guard tableNext == nil else { return false }
        var isAnyBehind = false
        for peer in 0..<peers.count where isFlushed(peer, index) && peers.at(peer).pointee.durability.isBehind { isAnyBehind = true }
        for peer in 0..<peers.count where isFlushed(peer, index) {
            guard !isAnyBehind || peers.at(peer).pointee.durability.isBehind else { continue }
            guard peers.at(peer).pointee.hasRoomAttached else {
                lacksRoom(peer)
                return false
            }
        }
        let part = take(.flush, .flush, index)
        let slot = parts.at(part)
        for peer in 0..<peers.count where isFlushed(peer, index) {
            guard !isAnyBehind || peers.at(peer).pointee.durability.isBehind else { continue }
            guard let request = peers.at(peer).pointee.requests.take(.flush, .part, part: part) else { unreachable("no request is free") }
            slot.pointee.requests += 1
            transmit(peer, request)
        }
        ready.remove(index)
        return true
    }

    private func isFlushed(_ peer: Int, _ operation: Int) -> Bool {
        if mutated(.flushSkipsFilling), !operations.at(operation).pointee.isUnheard {
            return table.members.contains { $0.peer == peer && $0.state == .inSync }
        }
        return peers.at(peer).pointee.isUsed
    }

    mutating func take(_ opcode: Opcode, _ purpose: PartSlot.Purpose, _ operation: Int) -> Int {
        guard let part = parts.take(opcode, purpose, operation: operation) else { unreachable("no part is free") }
        operations.at(operation).pointee.parts += 1
        return part
    }

    // Requests

    /// A mark, a keep-alive, a stamp or a close; these have requests of their own. False if there is no room.
    @discardableResult
    mutating func control(_ peer: Int, _ opcode: Opcode, _ purpose: RequestSlot.Purpose) -> Bool {
        guard peers.at(peer).pointee.phase == .attached, peers.at(peer).pointee.sender.room > 1,
            let request = peers.at(peer).pointee.requests.take(opcode, purpose, part: SlotList.none)
        else { return false }
        transmit(peer, request)
        return true
    }

    mutating func sendLater(_ peer: Int, _ request: Int) {
        peers.at(peer).pointee.resends.append(request)
        if !resending.contains(peer) { resending.append(peer) }
    }

    /// Puts the request into the send queue of its peer.
    mutating func transmit(_ index: Int, _ request: Int) {
        let peer = peers.at(index)
        let slot = peer.pointee.requests.at(request)
        let head = peer.pointee.requests.head(request)
        let part = slot.pointee.part
        var header = FrameHeader(slot.pointee.opcode)
        header.requestID = peer.pointee.requests.requestID(request)
        header.generation = generation
        header.map = mapNumber
        header.session = peer.pointee.session
        header.handle = peer.pointee.handle
        header.mark = order.mark
        if slot.pointee.opcode.tellsMark { peer.pointee.durability.told = order.mark }
        var deadline = now + Limits.requestDeadlineDefault
        if part != SlotList.none {
            let piece = parts.at(part)
            let owner = operations.at(piece.pointee.operation)
            if owner.pointee.phase != .rewrite { deadline = owner.pointee.deadline }
            header.sequence = piece.pointee.sequence
            if piece.pointee.purpose == .rewriteWrite { header.flags.insert(.rewrite) }
            if slot.pointee.opcode != .flush {
                header.part = PartAddress(
                    chunk: UInt32(truncatingIfNeeded: piece.pointee.block >> chunkShift), member: slot.pointee.number,
                    incarnation: slot.pointee.incarnation)
                header.firstBlock = UInt32(truncatingIfNeeded: piece.pointee.block & (1 << chunkShift - 1))
                header.blockCount = UInt32(truncatingIfNeeded: piece.pointee.blockCount)
                if piece.pointee.isLost { header.flags.insert(.lost) }
            }
        }
        header.deadlineOrStatus = UInt32(truncatingIfNeeded: min(max((deadline - now).milliseconds, 1), UInt64(UInt32.max)))
        if slot.pointee.isDurable { header.flags.insert(.durable) }

        slot.pointee.state = .inFlight
        slot.pointee.isSending = true
        if peer.pointee.outstanding == 0 { peer.pointee.waitsSince = now }
        peer.pointee.outstanding += 1
        let token = UInt32(truncatingIfNeeded: request)
        if slot.pointee.opcode == .stamp, let body = peer.pointee.stampBody.baseAddress {
            header.metaBytes = UInt32(truncatingIfNeeded: peer.pointee.stampBody.count)
            header.metaCheck = Checksum.of(UnsafeRawBufferPointer(peer.pointee.stampBody))
            header.encode(to: head)
            peer.pointee.sender.append(head, FrameHeader.bytes)
            peer.pointee.sender.append(body, peer.pointee.stampBody.count, token: token)
            return
        }
        guard slot.pointee.opcode == .write else {
            header.encode(to: head)
            peer.pointee.sender.append(head, FrameHeader.bytes, token: token)
            return
        }
        let count = pieces(of: part, into: sendPieces)
        let checks = parts.checks(part)
        let metaBytes = parts.at(part).pointee.blockCount * 4
        if !parts.at(part).pointee.hasChecks {
            Payload.computeChecks(sendPieces, count, into: checks)
            parts.at(part).pointee.hasChecks = true
        }
        header.metaBytes = UInt32(truncatingIfNeeded: metaBytes)
        header.payloadBytes = UInt32(truncatingIfNeeded: parts.at(part).pointee.blockCount * Block.bytes)
        header.metaCheck = Checksum.of(UnsafeRawBufferPointer(start: checks, count: metaBytes))
        header.encode(to: head)
        peer.pointee.sender.append(head, FrameHeader.bytes)
        peer.pointee.sender.append(checks, metaBytes)
        for piece in 0..<count - 1 { peer.pointee.sender.append(sendPieces[piece].base, sendPieces[piece].count) }
        peer.pointee.sender.append(sendPieces[count - 1].base, sendPieces[count - 1].count, token: token)
    }
}
