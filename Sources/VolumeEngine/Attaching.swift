import Base
import Wire

// Connections come and go; the volume ends. What happens then to requests whose outcome is open.

extension VolumeEngine {
    /// A new session is open, and the OST has drained the one before: what that carried has happened or never will.
    public mutating func attached(_ attachment: Attachment) {
        invariant(connection.phase == .detached, "attached twice")
        let knownBoot = connection.boot
        let isFirst = connection.session == 0
        invariant(isFirst || attachment.session > connection.session, "session \(attachment.session) is not newer")
        generation = attachment.generation
        chunkShift = UInt64((attachment.chunkBytes / UInt64(Block.bytes)).trailingZeroBitCount)
        connection.attach(attachment, now: now)
        if isFirst {
            objectBytes = attachment.objectBytes
        } else {
            changeSize(attachment.objectBytes)
        }
        order.attached(highestTaken: attachment.highest.generation == generation ? attachment.highest.sequence : 0)
        settleGhosts()
        if !isFirst, attachment.boot != knownBoot { powerLost() }
        sendUnansweredAgain()
        effects.append(.notice(.connected))
        if isDead { reset(.dead(deadStatus)) }
        pump()
        settle()
    }

    /// The connection is gone: nothing is under way on it any more, in either direction.
    public mutating func detached() {
        guard connection.phase != .detached else { return }
        let keepsOutcomesOpen = !isDead
        // Replies that were only waiting for their send to end are as good as any.
        for index in 0..<requests.capacity {
            let request = requests.at(index)
            request.pointee.isSending = false
            request.pointee.isReceiving = false
            if request.pointee.isReplied, request.pointee.reply == .ok, request.pointee.purpose != .close { conclude(index, .ok) }
            request.pointee.isReplied = false
        }
        connection.detach()
        while resends.popFirst() != nil {}
        while delayed.popFirst() != nil {}
        delayedUntil = .never
        for index in 0..<requests.capacity { detach(request: index, keepsOutcomesOpen) }
        reportUnpinned()
        effects.append(.notice(.disconnected))
        settle()
    }

    private mutating func detach(request index: Int, _ keepsOutcomesOpen: Bool) {
        let request = requests.at(index)
        switch request.pointee.state {
        case .free: return
        case .abandoned:
            requests.release(index)
            return
        case .ghost, .inFlight, .unanswered, .delayed: break
        }
        let operation = request.pointee.operation
        guard operation != SlotList.none else {
            requests.release(index)
            return
        }
        if operations.at(operation).pointee.status == .ok {
            request.pointee.state = .unanswered
        } else if request.pointee.changesBlocks && keepsOutcomesOpen {
            request.pointee.state = .ghost
        } else {
            drop(request: index)
        }
    }

    /// The request is over without a reply.
    private mutating func drop(request index: Int) {
        let operation = requests.at(index).pointee.operation
        if requests.at(index).pointee.changesBlocks { order.end(index, isTaken: false) }
        requests.release(index)
        partEnded(operation, operations.at(operation).pointee.status)
    }

    /// Failed operations whose memory is free now.
    private mutating func reportUnpinned() {
        var index = operations.active.first
        while index != SlotList.none {
            let next = operations.active.next(after: index)
            if operations.at(index).pointee.status != .ok { report(index) }
            index = next
        }
    }

    private mutating func settleGhosts() {
        for index in 0..<requests.capacity where requests.at(index).pointee.state == .ghost {
            marks.hit(.ghostSettled)
            drop(request: index)
        }
    }

    private mutating func sendUnansweredAgain() {
        var index = order.unfinished.first
        while index != SlotList.none {
            let request = requests.at(index)
            invariant(request.pointee.state == .unanswered, "request \(index) survived in state \(request.pointee.state)")
            marks.hit(.resentWrite)
            request.pointee.isDurable = true
            resends.append(index)
            index = order.unfinished.next(after: index)
        }
        for index in 0..<requests.capacity {
            let request = requests.at(index)
            guard request.pointee.state == .unanswered, !request.pointee.changesBlocks else { continue }
            marks.hit(.resentRead)
            resends.append(index)
        }
    }

    /// Every flush under way that covers something at risk fails; so does the next one, if it covers more.
    private mutating func powerLost() {
        guard unflushed.lostPower() else {
            marks.hit(.powerLostWithNothingAtRisk)
            return
        }
        effects.append(.notice(.powerLost))
        var covered: UInt64 = 0
        var index = operations.active.first
        while index != SlotList.none {
            let next = operations.active.next(after: index)
            let slot = operations.at(index)
            if slot.pointee.hasVolatileParts { slot.pointee.isRepeated = true }
            if slot.pointee.kind == .flush, slot.pointee.status == .ok, unflushed.mustFail(slot.pointee.covered) {
                covered = max(covered, slot.pointee.covered)
                marks.hit(.flushFailedAfterPowerLoss)
                fail(operation: index, .powerLost)
            }
            index = next
        }
        unflushed.reported(covered)
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
        // Nobody shall see a write of this session any more, so its outcome locks nothing.
        reset(.dead(status))
        var index = operations.active.first
        while index != SlotList.none {
            let next = operations.active.next(after: index)
            fail(operation: index, status)
            index = next
        }
        if connection.phase == .detached { dropGhosts() }
        settle()
    }

    private mutating func dropGhosts() {
        for index in 0..<requests.capacity where requests.at(index).pointee.state == .ghost { drop(request: index) }
    }

    /// Takes no more operations. When those under way have ended the OST is told, and `.closed` comes out.
    public mutating func close() {
        isClosing = true
        settle()
    }

    mutating func becomeClosed() {
        guard !isClosed else { return }
        isClosed = true
        effects.append(.closed)
    }

    mutating func closeWhenIdle() {
        guard isClosing, !isClosed, activeCount == 0 else { return }
        if connection.phase == .detached {
            marks.hit(.closedWhileDetached)
            becomeClosed()
        }
        guard connection.phase == .attached, !connection.isCloseSent else { return }
        connection.isCloseSent = true
        if order.mark > order.told { control(.mark, .mark) }
        control(.close, .close)
    }
}
