import Base
import Wire

// The two byte streams of each peer, and what a reply does to its request, part and operation.

extension VolumeEngine {
    // Sending

    /// What to send to a peer next, at most `capacity` vectors; 0 when there is nothing. At most one send may be under way for each.
    public mutating func nextSend(into list: UnsafeMutablePointer<IOVector>, capacity: Int, peer: Int = 0) -> Int {
        peers.at(peer).pointee.phase == .attached ? peers.at(peer).pointee.sender.vectors(into: list, capacity: capacity) : 0
    }

    public mutating func sent(_ count: Int, peer: Int = 0) {
        guard peers.at(peer).pointee.phase == .attached else { return }
        peers.at(peer).pointee.sender.sent(count)
        while let token = peers.at(peer).pointee.sender.popSent() {
            if token == FrameSender.noToken { continue }
            let request = peers.at(peer).pointee.requests.at(Int(token))
            request.pointee.isSending = false
            if request.pointee.isReplied { conclude(peer, Int(token), request.pointee.reply) }
        }
        pump()
        settle()
    }

    // Receiving

    /// Where to receive next; `capacity` is at least 2. 0 while not attached. At most one receive may be under way for each peer.
    public mutating func nextReceive(into list: UnsafeMutablePointer<IOVector>, capacity: Int, peer: Int = 0) -> Int {
        peers.at(peer).pointee.phase == .attached ? peers.at(peer).pointee.receiver.vectors(into: list, capacity: capacity) : 0
    }

    public mutating func received(_ count: Int, peer: Int = 0) {
        guard peers.at(peer).pointee.phase == .attached else { return }
        peers.at(peer).pointee.lastReceived = now
        peers.at(peer).pointee.waitsSince = now
        peers.at(peer).pointee.receiver.received(count)
        do throws(Failure) {
            try takeFrames(peer)
        } catch {
            marks.hit(.peerMalformed)
            lastFault = error.detail
            reset(peer, .malformed)
        }
        pump()
        settle()
    }

    private mutating func takeFrames(_ peer: Int) throws(Failure) {
        while peers.at(peer).pointee.phase == .attached {
            switch try peers.at(peer).pointee.receiver.next() {
            case .needsMore: return
            case .frame(let header, _):
                if header.opcode == .event {
                    take(event: header, peer)
                } else {
                    let index = try peers.at(peer).pointee.requests.find(header)
                    guard header.opcode != .read || header.status != .ok else {
                        throw Failure(.malformed, "a read was answered without data")
                    }
                    learned(peer, durable: header.mark)
                    answered(peer, index, header.status)
                }
            case .payloadFollows(let header, let meta): try take(payload: header, meta, peer)
            case .payloadComplete: payloadArrived(peer)
            }
        }
    }

    private mutating func take(payload header: FrameHeader, _ checks: UnsafeRawBufferPointer, _ peer: Int) throws(Failure) {
        let index = try peers.at(peer).pointee.requests.find(header)
        let request = peers.at(peer).pointee.requests.at(index)
        learned(peer, durable: header.mark)
        if request.pointee.state == .abandoned {
            peers.at(peer).pointee.receiver.skipPayload()
            answered(peer, index, .ok)
            return
        }
        let part = parts.at(request.pointee.part)
        guard Int(header.blockCount) == part.pointee.blockCount, let base = checks.baseAddress else {
            throw Failure(.malformed, "\(header.blockCount) blocks came for a read of \(part.pointee.blockCount)")
        }
        parts.checks(request.pointee.part).copyMemory(from: base, byteCount: checks.count)
        _ = pieces(of: request.pointee.part, into: peers.at(peer).pointee.receivePieces)
        request.pointee.isReceiving = true
        peers.at(peer).pointee.receiving = index
        peers.at(peer).pointee.receiver.takePayload(into: peers.at(peer).pointee.receivePieces)
    }

    private mutating func payloadArrived(_ peer: Int) {
        let index = peers.at(peer).pointee.receiving
        let request = peers.at(peer).pointee.requests.at(index)
        let part = request.pointee.part
        peers.at(peer).pointee.receiving = SlotList.none
        request.pointee.isReceiving = false
        let count = pieces(of: part, into: peers.at(peer).pointee.receivePieces)
        let isIntact = mutated(.skipsCheck) || Payload.matches(peers.at(peer).pointee.receivePieces, count, checks: parts.checks(part))
        if isIntact { deliverEdges(of: part) }
        answered(peer, index, isIntact ? .ok : .checksumMismatch)
    }

    private mutating func take(event header: FrameHeader, _ peer: Int) {
        guard header.handle == peers.at(peer).pointee.handle, let event = VolumeEvent(rawValue: header.argument) else { return }
        switch event {
        case .sizeChanged:
            // Of several OSTs one has it before the others; the MDT knows when all have.
            if peers.count == 1 { changeSize(header.sequence) } else { wantMap() }
        case .fenced: if isWritable { fail(.fenced) }
        case .closed:
            marks.hit(.storeRefused)
            reset(peer, .refused(.closed))
        }
    }

    // Durability and mark

    mutating func learned(_ peer: Int, durable sequence: UInt64) {
        if peers.at(peer).pointee.durability.learned(durable: sequence, last: order.last) { advanceMark() }
    }

    /// The mark passes what is complete, and durable on every peer that has taken some of it.
    mutating func advanceMark() {
        var bound = UInt64.max
        for peer in 0..<peers.count where peers.at(peer).pointee.isUsed {
            bound = min(bound, peers.at(peer).pointee.durability.bound)
        }
        order.advance(to: bound)
    }

    /// Whether it should hear the mark, or be asked how far it is.
    mutating func isUnsettled(_ peer: Int) -> Bool {
        guard peers.at(peer).pointee.isUsed else { return false }
        return order.mark > peers.at(peer).pointee.durability.told || peers.at(peer).pointee.durability.isBehind
    }

    // Replies

    private mutating func answered(_ peer: Int, _ index: Int, _ status: Status) {
        let request = peers.at(peer).pointee.requests.at(index)
        if request.pointee.isSending {
            marks.hit(.replyBeforeSent)
            request.pointee.isReplied = true
            request.pointee.reply = status
        } else {
            conclude(peer, index, status)
        }
    }

    /// Nothing of the request is in the kernel's hands any more, and this is what the OST said.
    mutating func conclude(_ peer: Int, _ index: Int, _ status: Status) {
        let request = peers.at(peer).pointee.requests.at(index)
        request.pointee.isReplied = false
        peers.at(peer).pointee.outstanding -= 1
        // What was refused may have told nothing.
        if status != .ok { peers.at(peer).pointee.durability.told = 0 }
        if request.pointee.state == .abandoned {
            marks.hit(.replyToAbandoned)
            peers.at(peer).pointee.abandoned -= 1
            peers.at(peer).pointee.requests.release(index)
            return
        }
        switch request.pointee.purpose {
        case .part: concludePart(peer, index, status)
        case .mark:
            peers.at(peer).pointee.isMarkInFlight = false
            concludeControl(peer, index, status)
        case .ping:
            peers.at(peer).pointee.pingSent = .never
            concludeControl(peer, index, status)
        case .stamp:
            peers.at(peer).pointee.isStampInFlight = false
            if status == .ok, peers.at(peer).pointee.stampSent >= peers.at(peer).pointee.stampWanted {
                peers.at(peer).pointee.stampWanted = 0
            }
            // A session that is opened anew brings the number with it.
            if status != .ok { reset(peer, .refused(status)) }
            concludeControl(peer, index, status)
            stampsChanged()
        case .close:
            peers.at(peer).pointee.requests.release(index)
            peers.at(peer).pointee.isGone = true
            becomeClosedWhenAllAre()
        }
    }

    private mutating func concludePart(_ peer: Int, _ index: Int, _ status: Status) {
        let request = peers.at(peer).pointee.requests.at(index)
        let part = parts.at(request.pointee.part)
        let changesBlocks = request.pointee.changesBlocks
        let isAlone = rows.width == 1
        var verdict = Verdict(status, request.pointee.opcode, mismatches: part.pointee.mismatches, isAlone: isAlone)
        if hasFailed(part.pointee.operation) {
            // Its memory may be the user's again: nothing is sent any more.
            switch verdict {
            case .again, .elsewhere, .later, .refreshMap: verdict = .failed
            case .done, .reconnect, .expired, .fenced, .failed: break
            }
        }
        if verdict == .failed, status == .noSpace, changesBlocks, isOnlyFilling(peer, request.pointee.part) {
            // Those that count have room for it: this one is done without.
            peers.at(peer).pointee.isFull = true
            verdict = .reconnect
        }
        switch verdict {
        case .done: succeeded(peer, index)
        case .again:
            marks.hit(changesBlocks ? .writeMismatchRetried : .readMismatchRetried)
            if changesBlocks, part.pointee.sent.nonzeroBitCount > 1 {
                // Others may have taken what the user had there a moment ago; all of them get one and the same copy, as a newer write.
                refused(peer, index, status)
                return
            }
            part.pointee.mismatches += 1
            if request.pointee.opcode == .write { copyPayload(of: request.pointee.part) }
            sendAgain(peer, index)
            sendLater(peer, index)
        case .elsewhere:
            part.pointee.tried |= 1 << UInt64(request.pointee.member)
            // What happened on the way, to whom a block is to be copied: that the block is lost must be told to nobody for it.
            let isOnTheWay = status == .checksumMismatch && part.pointee.purpose == .rewriteRead
            let isDamaged = !isOnTheWay && (status == .damaged || status == .checksumMismatch)
            if isDamaged { part.pointee.damaged |= 1 << UInt64(request.pointee.member) }
            marks.hit(.readElsewhere)
            retry(peer, index, isDamaged ? .damaged : status)
        case .later:
            marks.hit(.overloadedRetried)
            delay(peer, index, status)
        case .refreshMap:
            marks.hit(.mapRefreshed)
            wantMap()
            delay(peer, index, status)
        case .reconnect:
            marks.hit(.storeRefused)
            setBack(part.pointee.operation, status)
            sendAgain(peer, index)
            reset(peer, .refused(status))
        case .expired:
            let operation = part.pointee.operation
            if changesBlocks {
                sendAgain(peer, index)
                reset(peer, .deadline)
                fail(operation: operation, .deadlineExceeded)
            } else {
                refused(peer, index, .deadlineExceeded)
            }
        case .fenced:
            // Whatever another member has said before.
            part.pointee.status = .fenced
            refused(peer, index, .fenced)
            fail(.fenced)
        case .failed:
            let isDamaged = status == .checksumMismatch && !changesBlocks
            if isDamaged { marks.hit(.readDamaged) }
            refused(peer, index, isDamaged ? .damaged : status)
        }
    }

    /// Whether a peer is sent this part only because it is being filled, and not to fill it.
    private mutating func isOnlyFilling(_ peer: Int, _ part: Int) -> Bool {
        let operation = operations.at(parts.at(part).pointee.operation)
        if hasFailed(parts.at(part).pointee.operation) || operation.pointee.onlyFills { return false }
        let row = rows.range(ofChunk: parts.at(part).pointee.block >> chunkShift)
        return row.contains { rows.members[$0].peer == peer && rows.members[$0].state == .filling }
    }

    /// Of several members one is excluded for what it says, and then the operation ends well: if that takes too long, too long is what the
    /// user hears. Only of one that has no room for now nothing else is to be expected.
    private mutating func setBack(_ operation: Int, _ status: Status) {
        if rows.width == 1 || status == .overloaded { operations.at(operation).pointee.setback = status }
    }

    mutating func wantMap() {
        if isMapWanted { return }
        isMapWanted = true
        effects.append(.mapWanted)
    }

    private mutating func concludeControl(_ peer: Int, _ index: Int, _ status: Status) {
        peers.at(peer).pointee.requests.release(index)
        switch Verdict(status, .mark, mismatches: 0, isAlone: true) {
        case .done, .later, .failed, .refreshMap: break
        case .again, .elsewhere, .reconnect, .expired: reset(peer, .refused(status))
        case .fenced: fail(.fenced)
        }
    }

    /// A write that is not sent for the first time is always durable. Later ones may have overtaken it, and then the OST's word on how far
    /// it is durable would cover this one before it is.
    private mutating func sendAgain(_ peer: Int, _ index: Int) {
        let request = peers.at(peer).pointee.requests.at(index)
        request.pointee.state = .unanswered
        if request.pointee.changesBlocks { request.pointee.isDurable = true }
    }

    private mutating func delay(_ peer: Int, _ index: Int, _ status: Status) {
        let request = peers.at(peer).pointee.requests.at(index)
        setBack(parts.at(request.pointee.part).pointee.operation, status)
        sendAgain(peer, index)
        request.pointee.state = .delayed
        peers.at(peer).pointee.delayed.append(index)
        if delayedUntil == .never { delayedUntil = now + VolumeEngine.overloadedDelay }
    }

    /// The read asks another member.
    mutating func retry(_ peer: Int, _ index: Int, _ status: Status) {
        let request = peers.at(peer).pointee.requests.at(index)
        let part = request.pointee.part
        parts.at(part).pointee.status = status
        parts.at(part).pointee.requests -= 1
        peers.at(peer).pointee.requests.release(index)
        retries.append(part)
    }

    private mutating func succeeded(_ peer: Int, _ index: Int) {
        let request = peers.at(peer).pointee.requests.at(index)
        let part = request.pointee.part
        let slot = parts.at(part)
        if request.pointee.changesBlocks {
            let isForgotten = mutated(.marksUnflushedRewrites) && slot.pointee.purpose == .rewriteWrite
            if !isForgotten { peers.at(peer).pointee.durability.took(slot.pointee.sequence) }
            slot.pointee.taken |= 1 << UInt64(request.pointee.member)
            if !request.pointee.isDurable {
                slot.pointee.isVolatile = true
                operations.at(slot.pointee.operation).pointee.hasVolatileParts = true
            }
        } else if request.pointee.opcode == .read {
            // Those that could not answer do not make the read one that failed.
            slot.pointee.status = .ok
        }
        requestEnded(peer, index)
    }

    /// The member has not done it and will not, unless it did in an earlier session.
    private mutating func refused(_ peer: Int, _ index: Int, _ status: Status) {
        let part = peers.at(peer).pointee.requests.at(index).pointee.part
        if peers.at(peer).pointee.requests.at(index).pointee.isRepeated { parts.at(part).pointee.isUncertain = true }
        if parts.at(part).pointee.status == .ok { parts.at(part).pointee.status = status }
        requestEnded(peer, index)
    }

    /// The request has a definite outcome, or none that anybody could still learn.
    mutating func requestEnded(_ peer: Int, _ index: Int) {
        let part = peers.at(peer).pointee.requests.at(index).pointee.part
        peers.at(peer).pointee.requests.release(index)
        parts.at(part).pointee.requests -= 1
        if parts.at(part).pointee.requests == 0 { partEnded(part) }
    }

    /// All requests of the part have ended.
    mutating func partEnded(_ index: Int) {
        let part = parts.at(index)
        let status = part.pointee.status
        let operation = part.pointee.operation
        let owner = operations.at(operation)
        if part.pointee.changesBlocks {
            if status == .ok, !part.pointee.isUncertain {
                order.end(index)
                let isRewrite = mutated(.flushSkipsRewrites) && part.pointee.purpose == .rewriteWrite
                if part.pointee.isVolatile, !isRewrite { unflushed.acknowledge() }
                advanceMark()
            } else if part.pointee.sent.nonzeroBitCount > 1, part.pointee.taken != 0 || part.pointee.isUncertain {
                return hold(index)
            } else {
                // One that never went out has no sequence.
                if part.pointee.sequence > 0 { order.end(index) }
                if owner.pointee.hasHeld { owner.pointee.needsRewrite = true }
                advanceMark()
            }
        } else if part.pointee.purpose == .flush, status == .ok {
            if !owner.pointee.isUnheard { unflushed.flushed(owner.pointee.covered) }
        } else if part.pointee.damaged != 0, status == .ok {
            repair(index)
        }
        let purpose = part.pointee.purpose
        let blocks = part.pointee.block..<part.pointee.block + UInt64(part.pointee.blockCount)
        let damaged = part.pointee.damaged
        parts.release(index)
        owner.pointee.parts -= 1
        if purpose == .rewriteRead || purpose == .rewriteWrite {
            rewriteStep(operation, purpose, blocks, status, damaged: damaged)
        } else {
            operationStep(operation, status)
        }
    }

    /// Some members have the write and others may not. Where the users's data is still at hand it is sent to all as a newer write;
    /// otherwise the operation rewrites its blocks before it lets go of them. The part keeps its place in the order until then.
    private mutating func hold(_ index: Int) {
        let part = parts.at(index)
        let operation = part.pointee.operation
        let owner = operations.at(operation)
        if part.pointee.status == .noSpace { owner.pointee.avoided |= part.pointee.taken }
        if owner.pointee.hasHeld, part.pointee.purpose == .rewriteWrite {
            // The one that is held already keeps the mark below this one too.
            let blocks = part.pointee.block..<part.pointee.block + UInt64(part.pointee.blockCount)
            let status = part.pointee.status == .ok ? Status.unreachable : part.pointee.status
            order.end(index)
            parts.release(index)
            owner.pointee.parts -= 1
            rewriteStep(operation, .rewriteWrite, blocks, status)
            return
        }
        part.pointee.state = .held
        owner.pointee.hasHeld = true
        marks.hit(.heldUnequal)
        let canRepeat =
            part.pointee.status == .checksumMismatch && Int(part.pointee.mismatches) < Verdict.writeMismatchesMax
            && owner.pointee.status == .ok && part.pointee.opcode == .write && !isDead
        if canRepeat, let next = parts.take(.write, part.pointee.purpose, operation: operation) {
            let again = parts.at(next)
            again.pointee.block = part.pointee.block
            again.pointee.blockCount = part.pointee.blockCount
            again.pointee.vector = part.pointee.vector
            again.pointee.vectorOffset = part.pointee.vectorOffset
            again.pointee.mismatches = part.pointee.mismatches + 1
            again.pointee.isDurable = part.pointee.isDurable
            copyPayload(of: next)
            parts.dropCopy(index)
            retries.append(next)
            return
        }
        parts.dropCopy(index)
        owner.pointee.parts -= 1
        owner.pointee.needsRewrite = true
        if part.pointee.purpose == .rewriteWrite {
            let blocks = part.pointee.block..<part.pointee.block + UInt64(part.pointee.blockCount)
            rewriteStep(operation, .rewriteWrite, blocks, part.pointee.status == .ok ? .unreachable : part.pointee.status)
        } else {
            operationStep(operation, part.pointee.status == .ok ? .deadlineExceeded : part.pointee.status)
        }
    }

    /// Parts go out once more: some of them were taken before and others after a loss of power, and an operation that ends well is there as
    /// a whole; or they were taken by too few.
    private mutating func begin(again index: Int, _ mark: VolumeMark) {
        marks.hit(mark)
        let slot = operations.at(index)
        slot.pointee.isRepeated = false
        slot.pointee.hasVolatileParts = false
        slot.pointee.cursorBlock = slot.pointee.firstBlock
        slot.pointee.cursorVector = 0
        slot.pointee.cursorOffset = 0
        if slot.pointee.hasHeadEdge, slot.pointee.kind.movesData { slot.pointee.advanceCursor(by: slot.pointee.headBytes) }
        ready.append(index)
    }

    /// One part of the operation has a definite outcome.
    mutating func operationStep(_ index: Int, _ status: Status) {
        let slot = operations.at(index)
        if slot.pointee.status == .ok { slot.pointee.status = status }
        if slot.pointee.status != .ok { ready.removeIfPresent(index) }
        guard slot.pointee.parts == 0 else { return }
        if slot.pointee.status == .ok {
            if slot.pointee.phase == .edges {
                guard slot.pointee.edgesToRead == 0 else { return }
                mergeEdges(index)
                slot.pointee.phase = .parts
                ready.append(index)
                return
            }
            guard slot.pointee.cursorBlock == slot.pointee.endBlock else { return }
            if slot.pointee.isRepeated { return begin(again: index, .repeatedAfterPowerLoss) }
            if isBelowFloor(index) { return begin(again: index, .repeatedBelowFloor) }
        }
        finish(index)
    }
}
