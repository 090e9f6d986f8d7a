import Base
import PartStore
import Wire

/// Requests of the data path: what is checked, which buffer they get, how they reach the part store.
extension OSTEngine {
    // Write: the checks come with the header, the payload after it.

    mutating func write(_ slot: UInt32, _ meta: UnsafeRawBufferPointer) {
        let index = requests[slot].pointee.connection
        let status = admitWrite(slot)
        guard status == .ok else {
            connections[index].receiver.skipPayload()
            return answer(slot, status)
        }
        guard takeBuffer(slot, blockCount: requests[slot].pointee.header.blockCount) else {
            connections[index].stalledMeta = meta
            return stall(index, .payloadBuffer, slot: slot)
        }
        receivePayload(slot, meta)
    }

    private mutating func admitWrite(_ slot: UInt32) -> Status {
        let isFill = requests[slot].pointee.header.flags.contains(.fill)
        let status = admit(slot, isFill ? .fills : .writes)
        guard status == .ok else { return status }
        // The version of a fill write is a bound, and may be that of no write.
        guard isFill ? requests[slot].pointee.header.argument > 0 : requests[slot].pointee.header.sequence > 0 else {
            return .invalidArgument
        }
        return checkRange(slot)
    }

    mutating func receivePayload(_ slot: UInt32, _ meta: UnsafeRawBufferPointer) {
        let request = requests[slot]
        let connection = connections + request.pointee.connection
        let buffer = request.pointee.buffer
        let count = request.pointee.header.blockCount
        guard let checks = meta.baseAddress else { unreachable("a write came without checks") }
        invariant(meta.count == Int(count) * 4, "\(meta.count) bytes of checks for \(count) blocks")
        buffers.checks(of: buffer, blockCount: count).copyMemory(from: checks, byteCount: meta.count)
        request.pointee.state = .receiving
        connection.pointee.receivingSlot = slot
        connection.pointee.payloadSince = now
        connection.pointee.payloadVector.pointee = IOVector(buffers.payload(of: buffer), Int(count) * Block.bytes)
        connection.pointee.receiver.takePayload(into: UnsafePointer(connection.pointee.payloadVector))
    }

    mutating func finishPayload(_ index: Int) {
        let slot = connections[index].receivingSlot
        invariant(slot != Connection.noSlot, "a payload is complete that no request waits for")
        connections[index].receivingSlot = Connection.noSlot
        let request = requests[slot]
        request.pointee.state = .waiting
        guard request.pointee.refusal == .ok else { return answer(slot, request.pointee.refusal) }
        // The handle may have been fenced, replaced or closed, and the volume may have shrunk, while the payload came.
        let status = admitWrite(slot)
        guard status == .ok else { return answer(slot, status) }
        let count = request.pointee.header.blockCount
        let memory = buffers.payload(of: request.pointee.buffer)
        let checks = buffers.checks(of: request.pointee.buffer, blockCount: count)
        counters.writtenBytes += UInt64(count) * UInt64(Block.bytes)
        // P4: the store compares payload and checks before it takes anything.
        let taken = store.write(tag: slot, writeTarget(slot), memory: memory, checks: UnsafeRawPointer(checks))
        if taken == .checksumMismatch {
            hit(.checksumMismatch)
            log(
                .warning, "the payload of a write does not match its checks",
                ["client": connections[index].peer, "request": "\(request.pointee.header.requestID)"])
        }
        submitted(slot, taken)
    }

    // Read

    mutating func read(_ slot: UInt32) {
        var status = admit(slot, .reads)
        if status == .ok { status = checkRange(slot) }
        guard status == .ok else { return answer(slot, status) }
        guard takeBuffer(slot, blockCount: requests[slot].pointee.header.blockCount) else {
            return stall(requests[slot].pointee.connection, .readBuffer, slot: slot)
        }
        submitRead(slot)
    }

    /// It has its buffer, and was admitted when it came or `refuseUnsubmitted` would have answered it.
    mutating func submitRead(_ slot: UInt32) {
        let request = requests[slot]
        let header = request.pointee.header
        let buffer = request.pointee.buffer
        submitted(
            slot,
            store.read(
                tag: slot, request.pointee.object, header.part, firstBlock: header.firstBlock, blockCount: header.blockCount,
                memory: buffers.payload(of: buffer), checks: buffers.checks(of: buffer, blockCount: header.blockCount)))
    }

    // Without payload

    mutating func zero(_ slot: UInt32) {
        let status = admitWrite(slot)
        guard status == .ok else { return answer(slot, status) }
        submitted(slot, store.zero(tag: slot, writeTarget(slot)))
    }

    mutating func flush(_ slot: UInt32) {
        let status = admit(slot, .asksMember)
        guard status == .ok else { return answer(slot, status) }
        let request = requests[slot]
        // A recovery knows no mark: no writer has generation 0.
        let isWriter = connections[request.pointee.connection].handles[request.pointee.handleIndex].writes
        submitted(
            slot,
            store.flush(
                tag: slot, request.pointee.object, generation: isWriter ? request.pointee.header.generation : 0,
                mark: request.pointee.header.mark))
    }

    mutating func mark(_ slot: UInt32) {
        let status = admit(slot, .writes)
        guard status == .ok else { return answer(slot, status) }
        let header = requests[slot].pointee.header
        store.mark(requests[slot].pointee.object, generation: header.generation, mark: header.mark)
        answer(slot, .ok)
    }

    /// The part store was asked: it has the request now, or refused it at once.
    mutating func submitted(_ slot: UInt32, _ status: Status) {
        guard status == .ok else { return answer(slot, status) }
        requests[slot].pointee.state = .store
        connections[requests[slot].pointee.connection].inStore += 1
    }
}
