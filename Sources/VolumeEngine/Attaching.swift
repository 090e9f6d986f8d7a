import Base
import Wire

// Connections come and go; the volume ends. What happens then to requests whose outcome is open.

extension VolumeEngine {
    /// A new session is open with the peer, and it has drained the one before: what that carried has happened or never will.
    public mutating func attached(_ attachment: Attachment, peer: Int = 0) {
        let state = peers.at(peer)
        invariant(state.pointee.phase == .detached, "attached twice")
        let knownBoot = state.pointee.boot
        let isFirst = state.pointee.session == 0
        invariant(isFirst || attachment.session > state.pointee.session, "session \(attachment.session) is not newer")
        invariant(
            !isWritable || generation == 0 || attachment.generation == generation,
            "a session of generation \(attachment.generation), this writer has \(generation)")
        generation = attachment.generation
        chunkShift = UInt64((attachment.chunkBytes / UInt64(Block.bytes)).trailingZeroBitCount)
        state.pointee.attach(attachment, now: now)
        state.pointee.isUsed = table.isUsed(peer)
        if objectBytes == 0 {
            objectBytes = attachment.objectBytes
        } else if peers.count == 1 {
            changeSize(attachment.objectBytes)
        }
        let highest = attachment.highest.generation == generation ? attachment.highest.sequence : 0
        let hasLostPower = knownBoot != .zero && attachment.boot != knownBoot
        let isWhole = state.pointee.durability.attached(highest: highest, last: order.last, lostPower: hasLostPower)
        settleGhosts(peer)
        state.pointee.isRolledBack = !isWhole
        if !isWhole { rolledBack(peer) } else if hasLostPower { lostPower(peer) }
        effects.append(.notice(.connected(peer)))
        if isDead {
            reset(peer, .dead(deadStatus))
        } else if !state.pointee.isUsed {
            reset(peer, .excluded)
        } else if state.pointee.phase == .attached {
            sendUnansweredAgain(peer)
        }
        stampsChanged()
        pump()
        settle()
    }

    /// The connection is gone: nothing is under way on it any more, in either direction.
    public mutating func detached(peer: Int = 0) {
        let state = peers.at(peer)
        guard state.pointee.phase != .detached else { return }
        let keepsOutcomesOpen = !isDead
        // Replies that were only waiting for their send to end are as good as any.
        for index in 0..<state.pointee.requests.capacity {
            let request = state.pointee.requests.at(index)
            request.pointee.isSending = false
            request.pointee.isReceiving = false
            if request.pointee.isReplied, request.pointee.reply == .ok, request.pointee.purpose != .close { conclude(peer, index, .ok) }
            request.pointee.isReplied = false
        }
        state.pointee.detach(now: now)
        while state.pointee.resends.popFirst() != nil {}
        while state.pointee.delayed.popFirst() != nil {}
        resending.removeIfPresent(peer)
        for index in 0..<state.pointee.requests.capacity { detach(peer, request: index, keepsOutcomesOpen) }
        if state.pointee.isUsed { forgetStale(peer) } else { forget(peer) }
        reportUnpinned()
        if state.pointee.isWanted { exclusionCheckAt = min(exclusionCheckAt, now + VolumeEngine.graceWithout) }
        effects.append(.notice(.disconnected(peer)))
        stampsChanged()
        pump()
        settle()
    }

    /// An operation whose user has the result, or will get an error; one that makes members equal goes on all the same.
    mutating func hasFailed(_ operation: Int) -> Bool {
        operations.at(operation).pointee.status != .ok && operations.at(operation).pointee.phase != .rewrite
    }

    private mutating func detach(_ peer: Int, request index: Int, _ keepsOutcomesOpen: Bool) {
        let request = peers.at(peer).pointee.requests.at(index)
        switch request.pointee.state {
        case .free: return
        case .abandoned:
            peers.at(peer).pointee.requests.release(index)
            return
        case .ghost, .inFlight, .unanswered, .delayed: break
        }
        let part = request.pointee.part
        guard part != SlotList.none else {
            peers.at(peer).pointee.requests.release(index)
            return
        }
        let operation = parts.at(part).pointee.operation
        if request.pointee.opcode == .read {
            if hasFailed(operation) || isDead {
                drop(peer, request: index)
            } else {
                peers.at(peer).pointee.requests.release(index)
                parts.at(part).pointee.requests -= 1
                retries.append(part)
            }
        } else if !hasFailed(operation), !isDead {
            request.pointee.state = .unanswered
            want(peer)
        } else if request.pointee.changesBlocks && keepsOutcomesOpen {
            request.pointee.state = .ghost
            want(peer)
        } else {
            drop(peer, request: index)
        }
    }

    /// The request is over without a reply.
    private mutating func drop(_ peer: Int, request index: Int) {
        let part = peers.at(peer).pointee.requests.at(index).pointee.part
        if peers.at(peer).pointee.requests.at(index).pointee.changesBlocks { parts.at(part).pointee.isUncertain = true }
        if parts.at(part).pointee.status == .ok {
            let status = operations.at(parts.at(part).pointee.operation).pointee.status
            parts.at(part).pointee.status = status == .ok ? deadStatus : status
        }
        requestEnded(peer, index)
    }

    /// Failed operations whose memory is free now.
    private mutating func reportUnpinned() {
        var index = operations.active.first
        while index != SlotList.none {
            let next = operations.active.next(after: index)
            let slot = operations.at(index)
            if slot.pointee.status != .ok, !slot.pointee.isReported, !isPinned(index) { report(index) }
            index = next
        }
    }

    /// Whether the kernel touches memory of the operation's user, or will when an answer comes. Slow.
    func isPinned(_ operation: Int) -> Bool {
        for peer in 0..<peers.count where peers.at(peer).pointee.phase != .detached {
            for index in 0..<peers.at(peer).pointee.requests.capacity {
                let request = peers.at(peer).pointee.requests.at(index)
                let mayArrive = request.pointee.state == .inFlight && request.pointee.opcode == .read
                guard request.pointee.state != .free, request.pointee.isPinned || mayArrive, request.pointee.part != SlotList.none else {
                    continue
                }
                if parts.at(request.pointee.part).pointee.operation == operation { return true }
            }
        }
        return false
    }

    /// What nobody waits for with success any more is not sent again.
    private mutating func settleGhosts(_ peer: Int) {
        for index in 0..<peers.at(peer).pointee.requests.capacity {
            let request = peers.at(peer).pointee.requests.at(index)
            guard request.pointee.state == .ghost || request.pointee.state == .unanswered, request.pointee.part != SlotList.none else {
                continue
            }
            let operation = parts.at(request.pointee.part).pointee.operation
            guard request.pointee.state == .ghost || hasFailed(operation) else { continue }
            marks.hit(.ghostSettled)
            drop(peer, request: index)
        }
    }

    private mutating func sendUnansweredAgain(_ peer: Int) {
        let state = peers.at(peer)
        // Writes first, in the order of their sequences.
        var part = order.unfinished.first
        while part != SlotList.none {
            if parts.at(part).pointee.state == .open, let index = request(peer, of: part) {
                invariant(
                    state.pointee.requests.at(index).pointee.state == .unanswered,
                    "request \(index) survived in state \(state.pointee.requests.at(index).pointee.state)")
                marks.hit(.resentWrite)
                state.pointee.requests.at(index).pointee.isDurable = true
                state.pointee.requests.at(index).pointee.isRepeated = true
                sendLater(peer, index)
            }
            part = order.unfinished.next(after: part)
        }
        for index in 0..<state.pointee.requests.capacity {
            let request = state.pointee.requests.at(index)
            guard request.pointee.state == .unanswered, !request.pointee.changesBlocks else { continue }
            sendLater(peer, index)
        }
    }

    /// The request of a part to a peer. Slow; for after a reconnect.
    private func request(_ peer: Int, of part: Int) -> Int? {
        for index in 0..<peers.at(peer).pointee.requests.capacity {
            let request = peers.at(peer).pointee.requests.at(index)
            if request.pointee.state != .free, request.pointee.state != .abandoned, request.pointee.part == part { return index }
        }
        return nil
    }

    /// The peer came back under another boot identity. One with which others can go on is excluded, for it may lack what it
    /// acknowledged; else that is lost.
    private mutating func lostPower(_ peer: Int) {
        // Excluded while it was away: nobody counts on it. Until that map holds it is not read either.
        if rows.width > 1, !(tableNext ?? table).isUsed(peer) {
            peers.at(peer).pointee.isLacking = peers.at(peer).pointee.durability.isBehind
            return
        }
        if rows.width > 1, isWritable {
            guard peers.at(peer).pointee.durability.isBehind else {
                marks.hit(.powerLostWithNothingAtRisk)
                return
            }
            if mutated(.trustsMemberThatLostPower) || mutated(.fillSurvivesPowerLoss) && !hasMemberInSync(peer) {
                return peers.at(peer).pointee.durability.settleLoss()
            }
            if (tableNext ?? table).couldDo(without: peer, { _ in true }) || isFillEnding(beside: peer) { return taint(peer) }
            // It is the last one wherever it is in sync; in the map that comes, if one does, and until that holds others may have more.
            peers.at(peer).pointee.isLacking = tableNext != nil
        }
        powerLost()
        settleLoss(of: peer)
    }

    private func hasMemberInSync(_ peer: Int) -> Bool { table.members.contains { $0.peer == peer && $0.state == .inSync } }

    /// The peer lacks what it had for good: its disk is an old copy, or has lost a piece of its log. Where nobody else has that, nothing is
    /// read from it or written to it before the newest disk is back.
    private mutating func rolledBack(_ peer: Int) {
        // Excluded while it was away.
        if rows.width > 1, !(tableNext ?? table).isUsed(peer) {
            peers.at(peer).pointee.isLacking = true
            return
        }
        marks.hit(.rolledBack)
        if rows.width > 1, isWritable, (tableNext ?? table).couldDo(without: peer, { _ in true }) { return taint(peer) }
        reset(peer, .rolledBack)
    }

    /// Every flush under way that covers something at risk fails; so does the next one, if it covers more.
    mutating func powerLost() {
        losses += 1
        repeatVolatile()
        guard !mutated(.hidesPowerLoss), unflushed.lostPower() else {
            marks.hit(.powerLostWithNothingAtRisk)
            return
        }
        effects.append(.notice(.powerLost))
        var covered: UInt64 = 0
        var index = operations.active.first
        while index != SlotList.none {
            let next = operations.active.next(after: index)
            let slot = operations.at(index)
            if slot.pointee.kind == .flush, !slot.pointee.isUnheard, slot.pointee.status == .ok, unflushed.mustFail(slot.pointee.covered) {
                covered = max(covered, slot.pointee.covered)
                marks.hit(.flushFailedAfterPowerLoss)
                fail(operation: index, .powerLost)
            }
            index = next
        }
        unflushed.reported(covered)
    }

    /// What some member has taken and others have not answered yet is acknowledged to nobody, and may be gone where it was taken.
    private mutating func repeatVolatile() {
        if mutated(.forgetsWhatOneTook) { return }
        var index = operations.active.first
        while index != SlotList.none {
            let slot = operations.at(index)
            if slot.pointee.hasVolatileParts { slot.pointee.isRepeated = true }
            index = operations.active.next(after: index)
        }
    }

    mutating func changeSize(_ bytes: UInt64) {
        guard bytes != objectBytes else { return }
        marks.hit(.sizeChanged)
        objectBytes = bytes
        effects.append(.notice(.sizeChanged(bytes)))
    }

    // The end

    /// The volume is lost to this user for good: every operation fails with this status, now and later.
    public mutating func fail(_ status: Status) {
        guard !isDead else { return }
        deadStatus = status
        marks.hit(status == .fenced ? .fenced : .failed)
        effects.append(.notice(status == .fenced ? .fenced : .failed(status)))
        // Nobody shall see a write of this writer any more, so its outcome locks nothing.
        resetAll(.dead(status))
        var index = operations.active.first
        while index != SlotList.none {
            let next = operations.active.next(after: index)
            fail(operation: index, status)
            index = next
        }
        for peer in 0..<peers.count where peers.at(peer).pointee.phase == .detached { dropGhosts(peer) }
        settle()
    }

    private mutating func dropGhosts(_ peer: Int) {
        for index in 0..<peers.at(peer).pointee.requests.capacity
        where peers.at(peer).pointee.requests.at(index).pointee.state == .ghost {
            drop(peer, request: index)
        }
    }

    /// Takes no more operations. When those under way have ended the peers are told, and `.closed` comes out.
    public mutating func close() {
        isClosing = true
        settle()
    }

    mutating func becomeClosedWhenAllAre() {
        for peer in 0..<peers.count where peers.at(peer).pointee.phase == .attached && !peers.at(peer).pointee.isGone { return }
        guard !isClosed else { return }
        isClosed = true
        effects.append(.closed)
    }

    mutating func closeWhenIdle() {
        guard isClosing, !isClosed, activeCount == 0 else { return }
        var isAnyAttached = false
        for peer in 0..<peers.count where peers.at(peer).pointee.phase == .attached {
            isAnyAttached = true
            guard !peers.at(peer).pointee.isCloseSent else { continue }
            peers.at(peer).pointee.isCloseSent = true
            if order.mark > peers.at(peer).pointee.durability.told { control(peer, .mark, .mark) }
            control(peer, .close, .close)
        }
        if !isAnyAttached { marks.hit(.closedWhileDetached) }
        becomeClosedWhenAllAre()
    }
}
