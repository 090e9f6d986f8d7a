import Base
import Wire

// The two byte streams, and what a reply does to its request and operation.

extension VolumeEngine {
    // Sending

    /// What to send next, at most `capacity` vectors; 0 when there is nothing. At most one send may be under way.
    public mutating func nextSend(into list: UnsafeMutablePointer<IOVector>, capacity: Int) -> Int {
        connection.phase == .attached ? connection.sender.vectors(into: list, capacity: capacity) : 0
    }

    public mutating func sent(_ count: Int) {
        guard connection.phase == .attached else { return }
        connection.sender.sent(count)
        while let token = connection.sender.popSent() {
            if token == FrameSender.noToken { continue }
            let index = Int(token)
            let request = requests.at(index)
            request.pointee.isSending = false
            if request.pointee.isReplied { conclude(index, request.pointee.reply) }
        }
        pump()
        settle()
    }

    // Receiving

    /// Where to receive next; `capacity` is at least 2. 0 while not attached. At most one receive may be under way.
    public mutating func nextReceive(into list: UnsafeMutablePointer<IOVector>, capacity: Int) -> Int {
        connection.phase == .attached ? connection.receiver.vectors(into: list, capacity: capacity) : 0
    }

    public mutating func received(_ count: Int) {
        guard connection.phase == .attached else { return }
        connection.lastReceived = now
        connection.receiver.received(count)
        do throws(Failure) {
            try takeFrames()
        } catch {
            marks.hit(.peerMalformed)
            lastFault = error.detail
            reset(.malformed)
        }
        pump()
        settle()
    }

    private mutating func takeFrames() throws(Failure) {
        while connection.phase == .attached {
            switch try connection.receiver.next() {
            case .needsMore: return
            case .frame(let header, _):
                if header.opcode == .event {
                    take(event: header)
                } else {
                    let index = try requests.find(header)
                    guard header.opcode != .read || header.status != .ok else {
                        throw Failure(.malformed, "a read was answered without data")
                    }
                    order.learned(durable: header.mark)
                    answered(index, header.status)
                }
            case .payloadFollows(let header, let meta): try take(payload: header, meta)
            case .payloadComplete: payloadArrived()
            }
        }
    }

    private mutating func take(payload header: FrameHeader, _ checks: UnsafeRawBufferPointer) throws(Failure) {
        let index = try requests.find(header)
        let request = requests.at(index)
        guard Int(header.blockCount) == request.pointee.blockCount, let base = checks.baseAddress else {
            throw Failure(.malformed, "\(header.blockCount) blocks came for a read of \(request.pointee.blockCount)")
        }
        order.learned(durable: header.mark)
        if request.pointee.state == .abandoned {
            connection.receiver.skipPayload()
            answered(index, .ok)
            return
        }
        (requests.head(index) + FrameHeader.bytes).copyMemory(from: base, byteCount: checks.count)
        _ = pieces(of: index, into: receivePieces)
        request.pointee.isReceiving = true
        connection.receiving = index
        connection.receiver.takePayload(into: receivePieces)
    }

    private mutating func payloadArrived() {
        let index = connection.receiving
        let request = requests.at(index)
        connection.receiving = SlotList.none
        request.pointee.isReceiving = false
        let count = pieces(of: index, into: receivePieces)
        let isIntact = mutated(.skipsCheck) || Payload.matches(receivePieces, count, checks: requests.head(index) + FrameHeader.bytes)
        if isIntact { deliverEdges(of: index) }
        answered(index, isIntact ? .ok : .checksumMismatch)
    }

    private mutating func take(event header: FrameHeader) {
        guard header.handle == connection.handle, let event = VolumeEvent(rawValue: header.argument) else { return }
        switch event {
        case .sizeChanged: changeSize(header.sequence)
        case .fenced: if isWritable { fail(.fenced) }
        case .closed:
            marks.hit(.storeRefused)
            reset(.refused(.closed))
        }
    }

    // Replies

    private mutating func answered(_ index: Int, _ status: Status) {
        let request = requests.at(index)
        if request.pointee.isSending {
            marks.hit(.replyBeforeSent)
            request.pointee.isReplied = true
            request.pointee.reply = status
        } else {
            conclude(index, status)
        }
    }

    /// Nothing of the request is in the kernel's hands any more, and this is what the OST said.
    mutating func conclude(_ index: Int, _ status: Status) {
        let request = requests.at(index)
        request.pointee.isReplied = false
        connection.outstanding -= 1
        if request.pointee.state == .abandoned {
            marks.hit(.replyToAbandoned)
            connection.abandoned -= 1
            requests.release(index)
            return
        }
        switch request.pointee.purpose {
        case .part, .headEdge, .tailEdge: break
        case .mark:
            connection.isMarkInFlight = false
            return concludeControl(index, status)
        case .ping:
            connection.pingSent = .never
            return concludeControl(index, status)
        case .close:
            requests.release(index)
            becomeClosed()
            return
        }
        let changesBlocks = request.pointee.changesBlocks
        switch Verdict(status, changesBlocks: changesBlocks, mismatches: request.pointee.mismatches) {
        case .done: succeeded(index)
        case .again:
            request.pointee.mismatches += 1
            marks.hit(changesBlocks ? .writeMismatchRetried : .readMismatchRetried)
            if request.pointee.opcode == .write { copyPayload(of: index) }
            sendAgain(index)
            resends.append(index)
        case .later:
            marks.hit(.overloadedRetried)
            operations.at(request.pointee.operation).pointee.setback = status
            sendAgain(index)
            request.pointee.state = .delayed
            delayed.append(index)
            if delayedUntil == .never { delayedUntil = now + VolumeEngine.overloadedDelay }
        case .reconnect:
            marks.hit(.storeRefused)
            operations.at(request.pointee.operation).pointee.setback = status
            sendAgain(index)
            reset(.refused(status))
        case .expired:
            if changesBlocks {
                sendAgain(index)
                reset(.deadline)
                fail(operation: request.pointee.operation, .deadlineExceeded)
            } else {
                failed(index, .deadlineExceeded)
            }
        case .fenced:
            failed(index, .fenced)
            fail(.fenced)
        case .failed:
            if status == .checksumMismatch, !changesBlocks { marks.hit(.readDamaged) }
            failed(index, status == .checksumMismatch && !changesBlocks ? .damaged : status)
        }
    }

    private mutating func concludeControl(_ index: Int, _ status: Status) {
        requests.release(index)
        switch Verdict(status, changesBlocks: false, mismatches: .max) {
        case .fenced: fail(.fenced)
        case .reconnect: reset(.refused(status))
        case .done, .again, .later, .expired, .failed: break
        }
    }

    /// A write that is not sent for the first time is always durable. Later ones may have overtaken it, and then the OST's word on how far
    /// it is durable would cover this one before it is.
    private mutating func sendAgain(_ index: Int) {
        let request = requests.at(index)
        request.pointee.state = .unanswered
        if request.pointee.changesBlocks { request.pointee.isDurable = true }
    }

    private mutating func succeeded(_ index: Int) {
        let request = requests.at(index)
        let operation = request.pointee.operation
        if request.pointee.changesBlocks {
            order.end(index, isTaken: true)
            if !request.pointee.isDurable {
                unflushed.acknowledge()
                operations.at(operation).pointee.hasVolatileParts = true
            }
        } else if request.pointee.opcode == .flush {
            unflushed.flushed(operations.at(operation).pointee.covered)
        }
        requests.release(index)
        partEnded(operation, .ok)
    }

    private mutating func failed(_ index: Int, _ status: Status) {
        let operation = requests.at(index).pointee.operation
        if requests.at(index).pointee.changesBlocks { order.end(index, isTaken: false) }
        requests.release(index)
        partEnded(operation, status)
    }

    /// Its parts were taken partly before and partly after a loss of power. They go out once more, since an operation that ends well is
    /// there as a whole.
    private mutating func begin(again index: Int) {
        marks.hit(.repeatedAfterPowerLoss)
        let slot = operations.at(index)
        slot.pointee.isRepeated = false
        slot.pointee.hasVolatileParts = false
        slot.pointee.cursorBlock = slot.pointee.firstBlock
        slot.pointee.cursorVector = 0
        slot.pointee.cursorOffset = 0
        if slot.pointee.hasHeadEdge, slot.pointee.kind.movesData { slot.pointee.advanceCursor(by: slot.pointee.headBytes) }
        ready.append(index)
    }

    /// One request of the operation has a definite outcome.
    mutating func partEnded(_ index: Int, _ status: Status) {
        let slot = operations.at(index)
        slot.pointee.requests -= 1
        if slot.pointee.status == .ok { slot.pointee.status = status }
        if slot.pointee.status != .ok { ready.removeIfPresent(index) }
        guard slot.pointee.requests == 0 else { return }
        if slot.pointee.status == .ok {
            if slot.pointee.phase == .edges {
                guard slot.pointee.edgesToRead == 0 else { return }
                mergeEdges(index)
                slot.pointee.phase = .parts
                ready.append(index)
                return
            }
            guard slot.pointee.cursorBlock == slot.pointee.endBlock else { return }
            if slot.pointee.isRepeated { return begin(again: index) }
        }
        finish(index)
    }
}
