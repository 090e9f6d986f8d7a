import Base
import Wire

/// Deadlines and timeouts, by one coarse tick over all connections: exactness would cost a timer per request, and nobody needs it.
extension OSTEngine {
    static let busyTick = Interval.milliseconds(100)

    /// Something that may run into a time limit soon has begun.
    mutating func armTick() {
        guard connectionCount > 0 else {
            nextTick = .never
            return
        }
        let isBusy = requestsInFlight > 0 || isStopping || storeFailure != nil
        nextTick = min(nextTick, now + (isBusy ? OSTEngine.busyTick : Limits.helloDeadline))
    }

    mutating func tick() {
        nextTick = .never
        for index in 0..<connectionsMade {
            switch connections[index].state {
            case .free, .closed, .draining: break
            case .helloPending, .ready: tickOpen(index)
            case .closing: tickClosing(index)
            }
        }
        // Waiting for another change of the same object.
        var position = 0
        while position < waitingControls.count {
            let slot = waitingControls[position].slot
            if now >= requests[slot].pointee.deadline {
                waitingControls.remove(at: position)
                hit(.deadlineExceeded)
                answer(slot, Failure(.deadlineExceeded, "the deadline passed while another change of the volume was under way"))
            } else {
                position += 1
            }
        }
    }

    private mutating func tickOpen(_ index: Int) {
        let connection = connections + index
        let slot = connection.pointee.stalledSlot
        if slot != Connection.noSlot, now >= requests[slot].pointee.deadline {
            hit(.deadlineExceeded)
            giveUpStalled(index, Failure(.deadlineExceeded, "the deadline passed before there was a buffer"))
        }
        let receiving = connection.pointee.receivingSlot
        if receiving != Connection.noSlot, requests[receiving].pointee.refusal == .ok, now >= requests[receiving].pointee.deadline {
            hit(.deadlineExceeded)
            requests[receiving].pointee.refusal = .deadlineExceeded
        }
        if connection.pointee.state == .helloPending, now - connection.pointee.lastFrame >= Limits.helloDeadline {
            hit(.helloLate)
            end(index, Failure(.deadlineExceeded, "no hello came in time"))
        } else if takesNothing(index) {
            hit(.peerTakesNothing)
            end(index, Failure(.deadlineExceeded, "the client takes replies too slowly, or not at all"))
        } else if givesNothing(index) {
            hit(.payloadStopped)
            end(index, Failure(.deadlineExceeded, "the payload of a write comes too slowly, or not at all"))
        } else if connection.pointee.requests == 0, now - connection.pointee.lastFrame >= Limits.idleTimeout {
            hit(.idleConnection)
            end(index, Failure(.deadlineExceeded, "nothing came for \(Limits.idleTimeout.milliseconds / 1000) s"))
        }
    }

    private mutating func tickClosing(_ index: Int) {
        let waited = now - connections[index].closingSince
        guard takesNothing(index) || waited >= Limits.stopDeadline else { return }
        hit(.closingForced)
        closeNow(index)
    }

    private func takesNothing(_ index: Int) -> Bool {
        let connection = connections + index
        return connection.pointee.sendUnderWay
            && mayEnd(index, lastByte: connection.pointee.lastSent, began: connection.pointee.pieceSince)
    }

    private func givesNothing(_ index: Int) -> Bool {
        let connection = connections + index
        return connection.pointee.receivingSlot != Connection.noSlot
            && mayEnd(index, lastByte: connection.pointee.lastReceived, began: connection.pointee.payloadSince)
    }

    /// Whether a peer has held what it holds for too long: without moving a byte, or, while others wait for its buffers, without having
    /// moved all of a payload or a reply.
    private func mayEnd(_ index: Int, lastByte: Instant, began: Instant) -> Bool {
        let isWanted = connections[index].smallBuffers + connections[index].largeBuffers > 0 && stalled.contains { $0 != index }
        guard isWanted else { return now - lastByte >= Limits.stallTimeout }
        return now - lastByte >= Limits.stallTimeoutWanted || now - began >= Limits.transferTimeoutWanted
    }

    /// Without a last word: the peer would not hear it.
    private mutating func end(_ index: Int, _ reason: Failure) {
        log(.warning, "a connection is closed: \(reason.detail)", ["client": connections[index].peer])
        startClosing(index, reason)
        closeNow(index)
    }
}
