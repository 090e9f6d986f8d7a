import Base
import Wire

// From operations to requests: which part goes out next, and its header. Everything here happens only while attached.

extension VolumeEngine {
    /// Sends what may be sent: first what must go again, so that sequences reach a new session in order, then new parts in the order of
    /// arrival.
    mutating func pump() {
        guard connection.phase == .attached else { return }
        while connection.hasRoom, let request = resends.popFirst() { transmit(request) }
        while ready.first != SlotList.none {
            guard connection.hasRoom, requests.freeCount > VolumeEngine.controlRequests else {
                marks.hit(.wireLimitReached)
                return
            }
            issue(ready.first)
        }
    }

    /// Makes one request for the operation, and takes it off `ready` with its last one.
    private mutating func issue(_ index: Int) {
        let operation = operations.at(index)
        if operation.pointee.phase == .edges { return issueEdge(index) }
        if operation.pointee.kind == .flush {
            ready.remove(index)
            transmit(take(.flush, .part, index))
            return
        }
        let block = operation.pointee.cursorBlock
        let (opcode, end) = nextPart(index)
        let request = take(opcode, .part, index)
        let slot = requests.at(request)
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
        if operation.pointee.kind.changesBlocks {
            slot.pointee.isDurable = operation.pointee.isDurable
            slot.pointee.sequence = order.begin(request)
        }
        transmit(request)
    }

    /// What the next part is, and where it ends: at the chunk, at the frame limit, and for zeros at an edge, which is written as data.
    private mutating func nextPart(_ index: Int) -> (Opcode, end: UInt64) {
        let operation = operations.at(index)
        let block = operation.pointee.cursorBlock
        let chunkEnd = (block >> chunkShift + 1) << chunkShift
        let end = min(chunkEnd, operation.pointee.endBlock)
        let opcode: Opcode
        switch operation.pointee.kind {
        case .read: return (.read, min(end, block + min(connection.blocksMax, UInt64(Limits.readBytes / Block.bytes))))
        case .write: return (.write, min(end, block + connection.blocksMax))
        case .discard: opcode = .discard
        case .writeZeroes: opcode = .writeZeroes
        case .flush: unreachable("a flush has no parts")
        }
        if operation.pointee.hasHeadEdge && block == operation.pointee.firstBlock { return (.write, block + 1) }
        guard operation.pointee.hasTailEdge else { return (opcode, end) }
        if block == operation.pointee.endBlock - 1 { return (.write, block + 1) }
        return (opcode, min(end, operation.pointee.endBlock - 1))
    }

    private mutating func issueEdge(_ index: Int) {
        let operation = operations.at(index)
        let isHead = operation.pointee.edgesToRead & 1 != 0
        let request = take(.read, isHead ? .headEdge : .tailEdge, index)
        requests.at(request).pointee.block = isHead ? operation.pointee.firstBlock : operation.pointee.endBlock - 1
        requests.at(request).pointee.blockCount = 1
        operation.pointee.edgesToRead &= isHead ? ~1 : ~2
        if operation.pointee.edgesToRead == 0 { ready.remove(index) }
        transmit(request)
    }

    private mutating func take(_ opcode: Opcode, _ purpose: RequestSlot.Purpose, _ operation: Int) -> Int {
        guard let request = requests.take(opcode, purpose, operation: operation) else { unreachable("no request is free") }
        operations.at(operation).pointee.requests += 1
        return request
    }

    /// A mark, a keep-alive or a close; these have requests of their own.
    mutating func control(_ opcode: Opcode, _ purpose: RequestSlot.Purpose) {
        guard connection.sender.room > 0, let request = requests.take(opcode, purpose, operation: SlotList.none) else { return }
        transmit(request)
    }

    /// Puts the request into the send queue.
    mutating func transmit(_ index: Int) {
        let slot = requests.at(index)
        let head = requests.head(index)
        var header = FrameHeader(slot.pointee.opcode)
        header.requestID = requests.requestID(index)
        header.generation = generation
        header.session = connection.session
        header.handle = connection.handle
        header.sequence = slot.pointee.sequence
        header.mark = order.tell()
        let deadline =
            slot.pointee.operation == SlotList.none
            ? now + Limits.requestDeadlineDefault : operations.at(slot.pointee.operation).pointee.deadline
        header.deadlineOrStatus = UInt32(truncatingIfNeeded: min(max((deadline - now).milliseconds, 1), UInt64(UInt32.max)))
        header.part = PartAddress(chunk: UInt32(truncatingIfNeeded: slot.pointee.block >> chunkShift))
        header.firstBlock = UInt32(truncatingIfNeeded: slot.pointee.block & (1 << chunkShift - 1))
        header.blockCount = UInt32(truncatingIfNeeded: slot.pointee.blockCount)
        if slot.pointee.isDurable { header.flags.insert(.durable) }

        slot.pointee.state = .inFlight
        slot.pointee.isSending = true
        connection.outstanding += 1
        let token = UInt32(truncatingIfNeeded: index)
        guard slot.pointee.opcode == .write else {
            header.encode(to: head)
            connection.sender.append(head, FrameHeader.bytes, token: token)
            return
        }
        let count = pieces(of: index, into: sendPieces)
        let metaBytes = slot.pointee.blockCount * 4
        Payload.computeChecks(sendPieces, count, into: head + FrameHeader.bytes)
        header.metaBytes = UInt32(truncatingIfNeeded: metaBytes)
        header.payloadBytes = UInt32(truncatingIfNeeded: slot.pointee.blockCount * Block.bytes)
        header.metaCheck = Checksum.of(UnsafeRawBufferPointer(start: head + FrameHeader.bytes, count: metaBytes))
        header.encode(to: head)
        connection.sender.append(head, FrameHeader.bytes + metaBytes)
        for piece in 0..<count - 1 { connection.sender.append(sendPieces[piece].base, sendPieces[piece].count) }
        connection.sender.append(sendPieces[count - 1].base, sendPieces[count - 1].count, token: token)
    }
}
