import Base
import PartStore
import Wire

/// Builds replies and events and queues them on their connections.
extension OSTEngine {
    mutating func answer(_ slot: UInt32, _ failure: Failure) {
        // A sentence is for people: what does not fit is cut off.
        answer(slot, failure.status, body: Array(failure.detail.utf8.prefix(RequestTable.replyMetaMax)))
    }

    mutating func answer(_ slot: UInt32, _ status: Status) {
        let reply = replyHeader(slot, status)
        queue(slot, reply, at: requests.reply(of: slot), bytes: FrameHeader.bytes)
    }

    /// With a control body or a sentence in the meta section.
    mutating func answer(_ slot: UInt32, _ status: Status, body: [UInt8], handle: UInt32 = 0, object: ObjectRecord? = nil) {
        invariant(body.count <= RequestTable.replyMetaMax, "a reply body of \(body.count) bytes, at most \(RequestTable.replyMetaMax) fit")
        var reply = replyHeader(slot, status)
        reply.handle = handle
        if let object {
            reply.generation = object.generation
            reply.map = object.map
        }
        queue(slot, &reply, at: requests.reply(of: slot), body: body)
    }

    /// A body too large for the slot's own memory goes out of its buffer.
    mutating func answerFromBuffer(_ slot: UInt32, body: [UInt8], argument: UInt64 = 0, map: UInt64 = 0) {
        let start = buffers.payload(of: requests[slot].pointee.buffer) - BufferPool.prefixBytes
        let room = buffers.classOf(requests[slot].pointee.buffer).bytes - FrameHeader.bytes
        invariant(body.count <= room, "a body of \(body.count) bytes does not fit a buffer with room for \(room)")
        var reply = replyHeader(slot, .ok)
        reply.argument = argument
        reply.map = map
        queue(slot, &reply, at: start, body: body, holdsBody: true)
    }

    /// Payload and checks are where the store put them; the header goes directly before.
    mutating func answerRead(_ slot: UInt32) {
        let request = requests[slot]
        let count = request.pointee.header.blockCount
        let checks = buffers.checks(of: request.pointee.buffer, blockCount: count)
        var reply = replyHeader(slot, .ok)
        reply.blockCount = count
        reply.metaBytes = count * 4
        reply.payloadBytes = count * UInt32(Block.bytes)
        reply.metaCheck = Checksum.of(UnsafeRawBufferPointer(start: checks, count: Int(count) * 4))
        counters.readBytes += UInt64(reply.payloadBytes)
        queue(slot, reply, at: checks - FrameHeader.bytes, bytes: FrameHeader.bytes + reply.bodyBytes)
    }

    private mutating func replyHeader(_ slot: UInt32, _ status: Status) -> FrameHeader {
        let request = requests[slot]
        var reply = request.pointee.header.reply(status)
        switch request.pointee.opcode {
        case .write, .writeZeroes, .discard, .flush, .mark, .open:
            reply.handle = request.pointee.header.handle
            // A handle that is gone may have been the last thing that kept the object.
            if isHandleOpen(request.pointee.connection, request.pointee.handleIndex, request.pointee.object), storeFailure == nil {
                reply.mark = store.durableSequence(of: request.pointee.object)
            }
        case .event: reply.argument = request.pointee.header.argument
        case .hello, .create, .close, .stat, .list, .remove, .resize, .statistics, .ping, .read, .volumeRecord, .adopt: break
        case .doubts, .stamp, .changed, .checks, .fillBegin, .fillEnd, .fillPage: break
        case .volumeCreate, .volumeOpen, .volumeExclude, .volumeMap, .volumeList, .volumeRemove, .volumeResize, .volumeClose, .volumeFill,
            .volumeInSync, .volumeSet, .volumeHealth, .volumeReplace, .volumeSettle,
            .ostRegister,
            .ostList, .ostRemove, .ostDrain, .mdtRegister, .mdtList:
            break
        }
        return reply
    }

    /// `holdsBody`: the buffer of the slot does, and stays with it until the reply is sent.
    private mutating func queue(
        _ slot: UInt32, _ reply: inout FrameHeader, at start: UnsafeMutableRawPointer, body: [UInt8], holdsBody: Bool = false
    ) {
        reply.metaBytes = UInt32(body.count)
        body.withUnsafeBytes { bytes in
            reply.metaCheck = Checksum.of(bytes)
            (start + FrameHeader.bytes).copyMemory(from: bytes.baseAddress ?? UnsafeRawPointer(start), byteCount: bytes.count)
        }
        queue(slot, reply, at: start, bytes: FrameHeader.bytes + body.count, holdsBody: holdsBody)
    }

    private mutating func queue(
        _ slot: UInt32, _ reply: FrameHeader, at start: UnsafeMutableRawPointer, bytes: Int, holdsBody: Bool = false
    ) {
        let request = requests[slot]
        let index = request.pointee.connection
        let connection = connections + index
        invariant(request.pointee.state != .replied && request.pointee.state != .store, "request slot \(slot) is answered twice")
        counters.count(reply: request.pointee.opcode, reply.status, after: now - request.pointee.arrived)
        switch connection.pointee.state {
        case .helloPending, .ready, .closing: break
        case .closed, .draining: return release(slot)
        case .free: unreachable("a request of connection \(index), which is free")
        }
        // Unless its buffer goes out with the reply, it is free for the next one now.
        if reply.payloadBytes == 0, !holdsBody { releaseBuffer(slot) }
        request.pointee.state = .replied
        reply.encode(to: start)
        connection.pointee.sender.append(start, bytes, token: slot)
        markDirty(index)
    }

    // Events

    mutating func post(_ event: Handle.Events, to reference: HandleReference) {
        connections[reference.connection].handles[reference.index].events.insert(event)
        queueEvent(reference.connection)
    }

    /// The next event that waits on this connection. One at a time: its memory is one frame, and equal ones merge meanwhile.
    mutating func queueEvent(_ index: Int) {
        let connection = connections + index
        guard connection.pointee.takesFrames || connection.pointee.state == .closing, !connection.pointee.eventIsQueued else { return }
        for position in 0..<Limits.handlesPerConnectionMax {
            let handle = connection.pointee.handles + position
            guard handle.pointee.state != .free, !handle.pointee.events.isEmpty else { continue }
            var header = FrameHeader(.event)
            header.handle = handle.pointee.number
            if handle.pointee.events.remove(.sizeChanged) != nil {
                header.argument = VolumeEvent.sizeChanged.rawValue
                header.sequence = handle.pointee.bytes
            } else if handle.pointee.events.remove(.fenced) != nil {
                header.argument = VolumeEvent.fenced.rawValue
            } else {
                handle.pointee.events.remove(.closed)
                header.argument = VolumeEvent.closed.rawValue
            }
            header.encode(to: connection.pointee.eventFrame)
            connection.pointee.sender.append(connection.pointee.eventFrame, FrameHeader.bytes, token: Connection.eventToken)
            connection.pointee.eventIsQueued = true
            return markDirty(index)
        }
    }
}
