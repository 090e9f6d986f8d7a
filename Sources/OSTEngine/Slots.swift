import Base
import Wire

/// Who gets request slots and buffers, and who waits.
///
/// A connection may hold no more of anything than is left free: whoever is greedy, or takes no replies, leaves room for the others
/// without a fixed share for each of a thousand connections that are mostly idle.
extension OSTEngine {
    mutating func hasRoom(_ index: Int) -> Bool {
        let held = connections[index].requests
        let free = requests.freeCount
        return free > 0 && held < Limits.requestsPerConnectionMax && held < max(1, free)
    }

    mutating func takeSlot(_ index: Int, _ header: FrameHeader) -> UInt32 {
        let slot = requests.take()
        let request = requests[slot]
        request.pointee = Request()
        request.pointee.state = .waiting
        request.pointee.header = header
        request.pointee.connection = index
        request.pointee.arrived = now
        let asked = header.deadlineOrStatus
        request.pointee.deadline = now + (asked == 0 ? Limits.requestDeadlineDefault : .milliseconds(UInt64(asked)))
        connections[index].requests += 1
        return slot
    }

    /// Gives the request's slot a buffer for that many blocks, if there is one to have.
    mutating func takeBuffer(_ slot: UInt32, blockCount: UInt32) -> Bool {
        let request = requests[slot]
        let connection = connections + request.pointee.connection
        let kind = BufferPool.classOf(payloadBytes: Int(blockCount) * Block.bytes)
        let free = buffers.freeCount(kind)
        let held = kind == .small ? connection.pointee.smallBuffers : connection.pointee.largeBuffers
        guard free > 0, held < max(1, free) else { return false }
        request.pointee.buffer = buffers.take(kind)
        if kind == .small { connection.pointee.smallBuffers += 1 } else { connection.pointee.largeBuffers += 1 }
        return true
    }

    mutating func releaseBuffer(_ slot: UInt32) {
        let request = requests[slot]
        guard request.pointee.buffer != .none else { return }
        let connection = connections + request.pointee.connection
        let kind = buffers.classOf(request.pointee.buffer)
        if kind == .small { connection.pointee.smallBuffers -= 1 } else { connection.pointee.largeBuffers -= 1 }
        buffers.release(request.pointee.buffer)
        request.pointee.buffer = .none
        roomFreed = true
    }

    /// The request is over: its reply was sent, or there is nobody to send it to.
    mutating func release(_ slot: UInt32) {
        let index = requests[slot].pointee.connection
        releaseBuffer(slot)
        requests.release(slot)
        roomFreed = true
        connections[index].requests -= 1
        invariant(connections[index].requests >= 0, "connection \(index) holds fewer than no requests")
        freeIfDrained(index)
    }

    // Stalling

    mutating func stall(_ index: Int, _ stall: Connection.Stall, slot: UInt32 = Connection.noSlot) {
        hit(stall == .room ? .stalledForRoom : .stalledForBuffer)
        connections[index].stall = stall
        connections[index].stalledSlot = slot
        if slot != Connection.noSlot { requests[slot].pointee.state = .stalled }
        guard !connections[index].isQueuedForRoom else { return }
        connections[index].isQueuedForRoom = true
        stalled.append(index)
    }

    /// Stalled connections go on, those that waited longest first, as far as there is room.
    mutating func resumeStalled() {
        guard roomFreed else { return }
        roomFreed = false
        let count = stalled.count
        var kept = 0
        for position in 0..<count {
            let index = stalled[position]
            connections[index].isQueuedForRoom = false
            // A connection that stalls again while it goes on queues itself anew, behind `count`.
            if !resume(index) {
                connections[index].isQueuedForRoom = true
                stalled[kept] = index
                kept += 1
            }
        }
        stalled.removeSubrange(kept..<count)
    }

    /// Whether it no longer waits in this place of the queue.
    private mutating func resume(_ index: Int) -> Bool {
        let connection = connections + index
        let slot = connection.pointee.stalledSlot
        switch connection.pointee.stall {
        case .none: return true
        case .room: guard hasRoom(index) else { return false }
        case .readBuffer, .payloadBuffer:
            guard takeBuffer(slot, blockCount: requests[slot].pointee.header.blockCount) else { return false }
        }
        unstall(index, slot)
        return true
    }

    /// Goes on with the request for which a buffer was found, and with what came behind it.
    private mutating func unstall(_ index: Int, _ slot: UInt32) {
        let stall = connections[index].stall
        connections[index].stall = .none
        connections[index].stalledSlot = Connection.noSlot
        switch stall {
        case .none, .room: break
        case .readBuffer: submitRead(slot)
        case .payloadBuffer: receivePayload(slot, connections[index].stalledMeta)
        }
        takeFrames(index)
    }

    /// A stalled request is answered although no buffer was found. What came behind it is taken when its connection has its turn: this may
    /// be called in the middle of another connection's request, whose decisions must not change under it.
    mutating func giveUpStalled(_ index: Int, _ failure: Failure) {
        let connection = connections + index
        let slot = connection.pointee.stalledSlot
        guard slot != Connection.noSlot else { return }
        if connection.pointee.stall == .payloadBuffer { connection.pointee.receiver.skipPayload() }
        connection.pointee.stall = .room
        connection.pointee.stalledSlot = Connection.noSlot
        invariant(connection.pointee.isQueuedForRoom, "connection \(index) stalls and is not queued for room")
        roomFreed = true
        answer(slot, failure)
    }
}
