import Base
import PartStore
import Wire

/// The life of connections: what the shell tells and asks about their streams.
extension OSTEngine {
    /// A stream was accepted, on a listener of that name; nil when there are too many, or the daemon is about to stop or to reload.
    public mutating func accept(on listener: String) -> ConnectionID? {
        guard connectionCount < configuration.connectionsMax, !isStopping, storeFailure == nil else {
            if connectionCount >= configuration.connectionsMax {
                hit(.connectionLimit)
                log(.warning, "a connection is refused: the limit is reached", ["limit": "\(configuration.connectionsMax)"])
            }
            counters.connectionsRefused += 1
            return nil
        }
        let index: Int
        if let free = freeConnections.popLast() {
            index = free
        } else if connectionsMade < configuration.connectionsMax {
            index = connectionsMade
            (connections + index).initialize(to: Connection())
            connectionsMade += 1
        } else {
            // Slots of connections that are gone but have requests in the store.
            hit(.connectionLimit)
            counters.connectionsRefused += 1
            return nil
        }
        let connection = connections + index
        invariant(connection.pointee.state == .free, "connection \(index) is accepted while it is in use")
        connection.pointee.state = .helloPending
        connection.pointee.incarnation = 0
        connection.pointee.peer = "connection \(counters.connectionsAccepted) on \(listener)"
        connection.pointee.receiver.reset()
        connection.pointee.lastFrame = now
        connection.pointee.lastReceived = now
        connection.pointee.lastSent = now
        connectionCount += 1
        counters.connectionsAccepted += 1
        wantReceive(index)
        return ConnectionID(UInt32(index))
    }

    /// Where to receive to; returns the number of vectors, at most `capacity`, which is 2 or more.
    public mutating func nextReceive(_ id: ConnectionID, into list: UnsafeMutablePointer<IOVector>, capacity: Int) -> Int {
        invariant(connections[Int(id.index)].receiveUnderWay, "connection \(id.index) wants nothing received")
        return connections[Int(id.index)].receiver.vectors(into: list, capacity: capacity)
    }

    /// `count` bytes, more than none, came.
    public mutating func received(_ id: ConnectionID, _ count: Int) {
        let index = Int(id.index)
        let connection = connections + index
        invariant(connection.pointee.receiveUnderWay && count > 0, "\(count) bytes came to connection \(index), which wants none")
        connection.pointee.receiveUnderWay = false
        connection.pointee.receiver.received(count)
        connection.pointee.lastReceived = now
        guard connection.pointee.takesFrames else { return }
        giveUpRefusedPayload(index)
        takeFrames(index)
    }

    public mutating func nextSend(_ id: ConnectionID, into list: UnsafeMutablePointer<IOVector>, capacity: Int) -> Int {
        invariant(connections[Int(id.index)].sendUnderWay, "connection \(id.index) wants nothing sent")
        return connections[Int(id.index)].sender.vectors(into: list, capacity: capacity)
    }

    /// `count` bytes, more than none, went out.
    public mutating func sent(_ id: ConnectionID, _ count: Int) {
        let index = Int(id.index)
        let connection = connections + index
        invariant(connection.pointee.sendUnderWay && count > 0, "\(count) bytes left connection \(index), which sends none")
        connection.pointee.sendUnderWay = false
        connection.pointee.lastSent = now
        connection.pointee.sender.sent(count)
        while let token = connection.pointee.sender.popSent() {
            connection.pointee.pieceSince = now
            pieceIsFree(index, token)
        }
        if !connection.pointee.sender.isEmpty { markDirty(index) }
        closeIfDone(index)
    }

    /// The stream is gone: neither a receive nor a send is under way, and none will be.
    public mutating func disconnected(_ id: ConnectionID) {
        let index = Int(id.index)
        let connection = connections + index
        let state = connection.pointee.state
        invariant(state != .free && state != .draining, "connection \(index) is disconnected twice")
        connection.pointee.receiveUnderWay = false
        connection.pointee.sendUnderWay = false
        closeHandles(index)
        connection.pointee.state = .draining
        if connection.pointee.inStore > 0 { hit(.disconnectedWithRequests) }
        while let token = connection.pointee.sender.popAny() { pieceIsFree(index, token) }
        connection.pointee.receiver.reset()
        for slot in [connection.pointee.receivingSlot, connection.pointee.stalledSlot] where slot != Connection.noSlot {
            release(slot)
        }
        connection.pointee.receivingSlot = Connection.noSlot
        connection.pointee.stalledSlot = Connection.noSlot
        connection.pointee.stall = .none
        if state != .closed { log(.debug, "a client disconnected", ["client": connection.pointee.peer]) }
        freeIfDrained(index)
    }

    /// Nothing is read any more. Replies that are due go out, then the shell is told to end the stream.
    mutating func startClosing(_ index: Int, _ reason: Failure) {
        let connection = connections + index
        guard connection.pointee.takesFrames else { return }
        connection.pointee.state = .closing
        connection.pointee.closeReason = reason
        connection.pointee.closingSince = now
        if connection.pointee.stall != .none {
            let slot = connection.pointee.stalledSlot
            connection.pointee.stall = .none
            connection.pointee.stalledSlot = Connection.noSlot
            if slot != Connection.noSlot { answer(slot, reason) }
        }
        closeIfDone(index)
    }

    mutating func closeIfDone(_ index: Int) {
        let connection = connections + index
        guard connection.pointee.state == .closing, connection.pointee.sender.isEmpty else { return }
        // A payload that is still coming has no reply to wait for.
        guard connection.pointee.requests == (connection.pointee.receivingSlot == Connection.noSlot ? 0 : 1) else { return }
        closeNow(index)
    }

    mutating func closeNow(_ index: Int) {
        let connection = connections + index
        guard connection.pointee.state != .closed else { return }
        closeHandles(index)
        connection.pointee.state = .closed
        emit(.close(ConnectionID(UInt32(index)), connection.pointee.closeReason))
    }

    /// A connection's own wrong-doing: it gets the sentence, and is closed. `slot`, if any, carries the reply.
    mutating func refuseConnection(_ index: Int, _ failure: Failure, slot: UInt32? = nil) {
        let connection = connections + index
        counters.malformedFrames += 1
        hit(failure.status == .unsupported ? .unknownOpcode : .malformedFrame)
        log(.warning, "a connection is closed: \(failure.detail)", ["client": connection.pointee.peer])
        if let slot {
            answer(slot, failure)
        } else {
            // There is no request to answer: an event says why, under the request's id when that much can be believed.
            var header = FrameHeader(.event)
            header.requestID = connection.pointee.receiver.refusedRequestID
            header.argument = VolumeEvent.closed.rawValue
            answer(takeSlot(index, header), failure)
        }
        startClosing(index, failure)
    }

    mutating func wantReceive(_ index: Int) {
        let connection = connections + index
        guard !connection.pointee.receiveUnderWay, connection.pointee.takesFrames else { return }
        connection.pointee.receiveUnderWay = true
        emit(.receive(ConnectionID(UInt32(index))))
    }

    mutating func markDirty(_ index: Int) {
        guard !connections[index].isDirty else { return }
        connections[index].isDirty = true
        dirty.append(index)
    }

    /// A queued piece of memory is no longer needed.
    private mutating func pieceIsFree(_ index: Int, _ token: UInt32) {
        if token == Connection.eventToken {
            connections[index].eventIsQueued = false
            queueEvent(index)
        } else {
            release(token)
        }
    }

    mutating func freeIfDrained(_ index: Int) {
        let connection = connections + index
        guard connection.pointee.state == .draining, connection.pointee.requests == 0 else { return }
        invariant(connection.pointee.inStore == 0, "connection \(index) is free with \(connection.pointee.inStore) requests in the store")
        connection.pointee.state = .free
        connectionCount -= 1
        freedConnections.append(index)
    }
}
