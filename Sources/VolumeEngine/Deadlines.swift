import Base
import Wire

// Time: deadlines of operations, the mark that is told when idle, keep-alives.
//
// Nearly every operation ends long before its deadline, so deadlines are kept in no order. One timer is armed for a time that no deadline
// is before; when it rings, all are looked at and the next time is exact. Under steady load it rings about once per deadline length.

extension VolumeEngine {
    static let overloadedDelay = Interval.milliseconds(10)
    static let markIntervalOfWrites = Interval.milliseconds(50)
    /// When the timer rings later than this the process did not run, and replies may lie unread: deadlines get as much again.
    static let lateClock = Interval.milliseconds(500)

    /// The time asked for with `wakeAt` has come, or any other time.
    public mutating func tick() {
        let isLate = armedWake != .never && now > armedWake + VolumeEngine.lateClock
        armedWake = .never
        expireOperations(isLate: isLate)
        checkFloor(isLate: isLate)
        if now >= delayedUntil {
            delayedUntil = .never
            for peer in 0..<peers.count {
                while let request = peers.at(peer).pointee.delayed.popFirst() {
                    peers.at(peer).pointee.requests.at(request).pointee.state = .unanswered
                    sendLater(peer, request)
                }
            }
        }
        continueStalled()
        pump()
        tellMark()
        for peer in 0..<peers.count where peers.at(peer).pointee.phase == .attached { keepAlive(peer, isLate: isLate) }
        checkExclusions(isLate: isLate)
        settle()
    }

    private mutating func expireOperations(isLate: Bool) {
        guard now >= deadlineNext else { return }
        if isLate { marks.hit(.lateClockForgiven) }
        deadlineNext = .never
        var index = operations.active.first
        while index != SlotList.none {
            let next = operations.active.next(after: index)
            let slot = operations.at(index)
            // One of its parts may have failed, and the answer to another one be late: it ends with what the first has said.
            if slot.pointee.status == .ok || !slot.pointee.isReported && !slot.pointee.isGivenUp {
                if isLate, now >= slot.pointee.deadline { slot.pointee.deadline = now + VolumeEngine.lateClock }
                if now >= slot.pointee.deadline {
                    fail(operation: index, slot.pointee.setback == .ok ? .deadlineExceeded : slot.pointee.setback)
                } else {
                    deadlineNext = min(deadlineNext, slot.pointee.deadline)
                }
            }
            index = next
        }
    }

    /// Ends the operation with this error as soon as its memory is free. What was sent of a write keeps its blocks until a new session
    /// has settled it.
    mutating func fail(operation index: Int, _ status: Status) {
        let slot = operations.at(index)
        if slot.pointee.status == .ok { slot.pointee.status = status }
        ready.removeIfPresent(index)
        stalled.removeIfPresent(index)
        if slot.pointee.parts == 0 {
            if slot.pointee.phase != .rewrite { marks.hit(.deadlineBeforeSent) }
            finish(index)
            return
        }
        slot.pointee.isGivenUp = true
        // The last part ends the operation; after that its slot is not ours to look at.
        var remaining = slot.pointee.parts
        var part = 0
        while remaining > 0 {
            if parts.at(part).pointee.state == .open, parts.at(part).pointee.operation == index {
                remaining -= 1
                give(up: part, status)
            }
            part += 1
        }
        guard slot.pointee.phase != .free, !slot.pointee.isReported, slot.pointee.status != .ok else { return }
        if isPinned(index) { marks.hit(.deadlineWhilePinned) } else { report(index) }
    }

    private mutating func give(up part: Int, _ status: Status) {
        let slot = parts.at(part)
        if retries.contains(part) {
            retries.remove(part)
            slot.pointee.status = status
            partEnded(part)
            return
        }
        // The last request ends the part.
        var remaining = slot.pointee.requests
        for peer in 0..<peers.count where remaining > 0 {
            var index = 0
            while index < peers.at(peer).pointee.requests.capacity, remaining > 0 {
                let request = peers.at(peer).pointee.requests.at(index)
                if request.pointee.part == part, request.pointee.state != .free, request.pointee.state != .abandoned {
                    remaining -= 1
                    give(up: peer, index, status)
                }
                index += 1
            }
        }
    }

    private mutating func give(up peer: Int, _ index: Int, _ status: Status) {
        let request = peers.at(peer).pointee.requests.at(index)
        switch request.pointee.state {
        case .free, .abandoned, .ghost: return
        case .inFlight:
            if request.pointee.isReplied {
                // The answer is there and the rest of what was asked does not get out: only the end of the connection gives the memory
                // back.
                if request.pointee.isPinned { reset(peer, .deadline) }
                return
            }
            if request.pointee.changesBlocks || request.pointee.isReceiving {
                marks.hit(.deadlineOfSentWrite)
                reset(peer, .deadline)
            } else {
                marks.hit(.deadlineOfSentRead)
                abandon(peer, index, status)
            }
        case .unanswered, .delayed:
            peers.at(peer).pointee.resends.removeIfPresent(index)
            peers.at(peer).pointee.delayed.removeIfPresent(index)
            // While attached, what earlier sessions carried is settled, and in the present one it was refused or not sent.
            if peers.at(peer).pointee.phase == .attached || !request.pointee.changesBlocks || isDead {
                let part = request.pointee.part
                if parts.at(part).pointee.status == .ok { parts.at(part).pointee.status = status }
                if request.pointee.changesBlocks { parts.at(part).pointee.isUncertain = true }
                requestEnded(peer, index)
            } else {
                request.pointee.state = .ghost
            }
        }
    }

    private mutating func abandon(_ peer: Int, _ index: Int, _ status: Status) {
        let request = peers.at(peer).pointee.requests.at(index)
        let part = request.pointee.part
        request.pointee.state = .abandoned
        request.pointee.part = SlotList.none
        peers.at(peer).pointee.abandoned += 1
        if peers.at(peer).pointee.abandoned * 2 > peers.at(peer).pointee.requestsMax { reset(peer, .backlog) }
        if parts.at(part).pointee.status == .ok { parts.at(part).pointee.status = status }
        parts.at(part).pointee.requests -= 1
        if parts.at(part).pointee.requests == 0 { partEnded(part) }
    }

    // The idle line

    private mutating func tellMark() {
        guard now >= markAt else { return }
        markAt = .never
        for peer in 0..<peers.count where peers.at(peer).pointee.phase == .attached && isUnsettled(peer) {
            let state = peers.at(peer)
            guard !state.pointee.isMarkInFlight, !state.pointee.isCloseSent else { continue }
            marks.hit(order.mark > state.pointee.durability.told ? .markSentAlone : .markAskedAgain)
            state.pointee.isMarkInFlight = control(peer, .mark, .mark)
        }
    }

    private mutating func keepAlive(_ peer: Int, isLate: Bool) {
        let state = peers.at(peer)
        if isLate { state.pointee.waitsSince = now }
        if now >= silenceEnd(peer) {
            marks.hit(.silence)
            reset(peer, .silence)
        } else if state.pointee.pingSent == .never {
            guard now >= min(state.pointee.lastReceived + Limits.keepAliveInterval, doubtBegins(peer)) else { return }
            marks.hit(.keepAlive)
            state.pointee.pingSent = now
            control(peer, .ping, .ping)
        } else if now >= state.pointee.pingSent + Limits.keepAliveInterval {
            if isLate {
                state.pointee.pingSent = now
                return
            }
            marks.hit(.silence)
            reset(peer, .silence)
        }
    }

    /// When it is asked whether it is there at all: a disk that is slow is no reason to go on without it.
    private mutating func doubtBegins(_ peer: Int) -> Instant {
        guard rows.width > 1, peers.at(peer).pointee.outstanding > 0 else { return .never }
        return peers.at(peer).pointee.waitsSince + VolumeEngine.silenceBeforePing
    }

    /// When its silence is too long for somebody who can go on without it.
    private mutating func silenceEnd(_ peer: Int) -> Instant {
        guard rows.width > 1, peers.at(peer).pointee.outstanding > 0 else { return .never }
        return peers.at(peer).pointee.waitsSince + VolumeEngine.silenceAmongMany
    }

    /// After every event: closes when it is time, and makes sure that the owner wakes us early enough.
    mutating func settle() {
        sendStamps()
        closeWhenIdle()
        var wake = min(min(deadlineNext, delayedUntil), min(stalledUntil, min(exclusionCheckAt, floorCheckAt)))
        var isBehind = false
        // A write that is not answered may wait for room that only the mark gives back.
        let markDue = now + (order.unfinished.isEmpty ? Limits.markInterval : VolumeEngine.markIntervalOfWrites)
        for peer in 0..<peers.count {
            let state = peers.at(peer)
            if state.pointee.isUsed, state.pointee.durability.isBehind { isBehind = true }
            guard state.pointee.phase == .attached else { continue }
            if markAt > markDue, isWritable, isUnsettled(peer) { markAt = markDue }
            let idle = state.pointee.pingSent == .never ? state.pointee.lastReceived : state.pointee.pingSent
            wake = min(wake, min(idle + Limits.keepAliveInterval, silenceEnd(peer)))
            if state.pointee.pingSent == .never { wake = min(wake, doubtBegins(peer)) }
        }
        if !isBehind { unflushed.allDurable() }
        wake = min(wake, markAt)
        // What is overdue already, since it had to wait for a connection, must not look like a timer that rang late.
        wake = max(wake, now)
        if wake < armedWake {
            armedWake = wake
            effects.append(.wakeAt(wake))
        }
    }
}
