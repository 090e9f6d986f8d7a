import Base
import Wire

// Time: deadlines of operations, the mark that is told when idle, keep-alives.
//
// Nearly every operation ends long before its deadline, so deadlines are kept in no order. One timer is armed for a time that no deadline
// is before; when it rings, all are looked at and the next time is exact. Under steady load it rings about once per deadline length.

extension VolumeEngine {
    static let overloadedDelay = Interval.milliseconds(10)
    /// When the timer rings later than this the process did not run, and replies may lie unread: deadlines get as much again.
    static let lateClock = Interval.milliseconds(500)

    /// The time asked for with `wakeAt` has come, or any other time.
    public mutating func tick() {
        let isLate = armedWake != .never && now > armedWake + VolumeEngine.lateClock
        armedWake = .never
        expireOperations(isLate: isLate)
        if now >= delayedUntil {
            delayedUntil = .never
            while let request = delayed.popFirst() {
                requests.at(request).pointee.state = .unanswered
                resends.append(request)
            }
        }
        pump()
        if connection.phase == .attached {
            tellMark()
            keepAlive(isLate: isLate)
        }
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
            if slot.pointee.status == .ok {
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
        if slot.pointee.requests == 0 {
            marks.hit(.deadlineBeforeSent)
            finish(index)
            return
        }
        var pinned = 0
        // The last request ends the operation; after that its slot is not ours to look at.
        var remaining = slot.pointee.requests
        var request = 0
        while remaining > 0 {
            if requests.at(request).pointee.operation == index, requests.at(request).pointee.state != .free,
                requests.at(request).pointee.state != .abandoned
            {
                if requests.at(request).pointee.isPinned { pinned += 1 }
                remaining -= 1
                give(up: request)
            }
            request += 1
        }
        if pinned > 0 { marks.hit(.deadlineWhilePinned) }
        if pinned == 0, slot.pointee.phase != .free { report(index) }
    }

    private mutating func give(up index: Int) {
        let request = requests.at(index)
        switch request.pointee.state {
        case .free, .abandoned, .ghost: return
        case .inFlight:
            if request.pointee.isReplied {
                // The answer is there and the rest of what was asked does not get out: only the end of the connection gives the memory back.
                if request.pointee.isPinned { reset(.deadline) }
                return
            }
            if request.pointee.changesBlocks || request.pointee.isReceiving {
                marks.hit(.deadlineOfSentWrite)
                reset(.deadline)
            } else {
                marks.hit(.deadlineOfSentRead)
                abandon(index)
            }
        case .unanswered, .delayed:
            resends.removeIfPresent(index)
            delayed.removeIfPresent(index)
            // While attached, what came before this session is settled, and in this session it was refused or not sent.
            if connection.phase == .attached || !request.pointee.changesBlocks {
                release(unsent: index)
            } else {
                request.pointee.state = .ghost
            }
        }
    }

    private mutating func abandon(_ index: Int) {
        let operation = requests.at(index).pointee.operation
        requests.at(index).pointee.state = .abandoned
        requests.at(index).pointee.operation = SlotList.none
        connection.abandoned += 1
        if connection.abandoned * 2 > connection.requestsMax { reset(.backlog) }
        partEnded(operation, operations.at(operation).pointee.status)
    }

    private mutating func release(unsent index: Int) {
        let operation = requests.at(index).pointee.operation
        if requests.at(index).pointee.changesBlocks { order.end(index, isTaken: false) }
        requests.release(index)
        partEnded(operation, operations.at(operation).pointee.status)
    }

    // The idle line

    private mutating func tellMark() {
        guard now >= markAt else { return }
        markAt = .never
        guard order.isUnsettled, !connection.isMarkInFlight, !connection.isCloseSent else { return }
        marks.hit(order.mark > order.told ? .markSentAlone : .markAskedAgain)
        connection.isMarkInFlight = true
        control(.mark, .mark)
    }

    private mutating func keepAlive(isLate: Bool) {
        if connection.pingSent == .never {
            guard now >= connection.lastReceived + Limits.keepAliveInterval else { return }
            marks.hit(.keepAlive)
            connection.pingSent = now
            control(.ping, .ping)
        } else if now >= connection.pingSent + Limits.keepAliveInterval {
            if isLate {
                connection.pingSent = now
                return
            }
            marks.hit(.silence)
            reset(.silence)
        }
    }

    /// After every event: closes when it is time, and makes sure that the owner wakes us early enough.
    mutating func settle() {
        closeWhenIdle()
        if isWritable, order.isUnsettled, markAt == .never { markAt = now + Limits.markInterval }
        if !order.isBehind { unflushed.allDurable() }
        var wake = min(deadlineNext, delayedUntil)
        if connection.phase == .attached {
            let idle = connection.pingSent == .never ? connection.lastReceived : connection.pingSent
            wake = min(wake, min(markAt, idle + Limits.keepAliveInterval))
        }
        // What is overdue already, since it had to wait for a connection, must not look like a timer that rang late.
        wake = max(wake, now)
        if wake < armedWake {
            armedWake = wake
            effects.append(.wakeAt(wake))
        }
    }
}
