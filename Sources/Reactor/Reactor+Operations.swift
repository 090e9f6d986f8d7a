import Base
import CSystem
import CURing
import Environment

/// From an operation to the kernel's entry, and from its completion to the sink.
extension Reactor {
    /// A slot for the ticket's operation. Without one the operation ends with -ENOBUFS.
    @inline(__always)
    func begin(_ kind: Operation.Kind, _ ticket: Ticket) -> UInt32? {
        let index = begin(kind, sink: ticket.sink.index, generation: sinks.generation(ticket.sink), token: ticket.token)
        if index == nil { completeLater(ticket, -ErrorCode.noBuffers) }
        return index
    }

    @inline(__always)
    func begin(_ kind: Operation.Kind, sink: UInt16, generation: UInt32, token: UInt32) -> UInt32? {
        invariant(!isClosed, "the reactor is closed")
        let index = operations.take()
        if index == OperationTable.none { return nil }
        let slot = operations.slots + Int(index)
        slot.pointee.kind = kind
        slot.pointee.isCancelling = false
        slot.pointee.sink = sink
        slot.pointee.sinkGeneration = generation
        slot.pointee.token = token
        return index
    }

    /// Queues a transfer of a disk; at some number of them the device gets to work.
    @inline(__always)
    func queueTransfer(_ index: UInt32) {
        queue(index)
        transfersQueued += 1
        if transfersQueued >= transfersAtOnce { submitTransfers() }
    }

    /// What a device that is at work already gets to do may come in larger pieces. Brings what has ended meanwhile, too: it goes with
    /// this turn.
    private func submitTransfers() {
        transfersQueued = 0
        transfersAtOnce = min(2 * transfersAtOnce, options.transfersAtOnceMax)
        checkSubmission(rs_ring_submit_and_collect(ring))
    }

    /// Queues what is in the slot, for the first time or again.
    func queue(_ index: UInt32) {
        var entry = rs_entry()
        fill(&entry, operations.slots + Int(index))
        entry.data = UInt64(index)
        if rs_ring_queue(ring, &entry) { return }
        // The queue is full: this turn has more for the kernel than fits at once.
        rs_ring_submit(ring)
        if !rs_ring_queue(ring, &entry) { deferOperation(index) }
    }

    @inline(__always)
    private func fill(_ entry: inout rs_entry, _ slot: UnsafeMutablePointer<Operation>) {
        entry.descriptor = slot.pointee.descriptor
        entry.address = slot.pointee.address
        entry.length = slot.pointee.bytes
        switch slot.pointee.kind {
        case .read: fillTransfer(&entry, slot, rs_opcode_read, rs_opcode_read_fixed, rs_opcode_readv)
        case .write: fillTransfer(&entry, slot, rs_opcode_write, rs_opcode_write_fixed, rs_opcode_writev)
        case .flush:
            entry.opcode = UInt8(rs_opcode_fsync.rawValue)
            entry.address = 0
            entry.length = 0
            entry.flags = UInt32(rs_fsync_datasync)
        case .punch:
            entry.opcode = UInt8(rs_opcode_fallocate.rawValue)
            entry.offset = slot.pointee.offset
            entry.length = UInt32(rs_fallocate_punch)
        case .receive:
            fillMessage(&entry, slot, rs_opcode_recv, rs_opcode_recvmsg)
            entry.priority = slot.pointee.buffer == 0 ? UInt16(rs_poll_first) : 0
        case .send:
            fillMessage(&entry, slot, rs_opcode_send, rs_opcode_sendmsg)
            entry.flags = UInt32(rs_send_flags)
        case .accept:
            entry.opcode = UInt8(rs_opcode_accept.rawValue)
            entry.address = 0
            entry.length = 0
            entry.flags = UInt32(rs_accept_flags)
        case .connect:
            entry.opcode = UInt8(rs_opcode_connect.rawValue)
            entry.offset = slot.pointee.offset
            entry.length = 0
        case .inbox, .signal: entry.opcode = UInt8(rs_opcode_read.rawValue)
        case .timeout:
            entry.opcode = UInt8(rs_opcode_timeout.rawValue)
            entry.descriptor = -1
            entry.length = 1
            entry.flags = UInt32(rs_timeout_absolute)
        case .cancel:
            entry.opcode = UInt8(rs_opcode_async_cancel.rawValue)
            entry.descriptor = -1
            entry.length = 0
        case .free: unreachable("a free slot is queued")
        }
    }

    @inline(__always)
    private func fillTransfer(
        _ entry: inout rs_entry, _ slot: UnsafeMutablePointer<Operation>, _ plain: rs_opcode, _ fixed: rs_opcode, _ vectored: rs_opcode
    ) {
        entry.offset = slot.pointee.offset
        if slot.pointee.vectorCount > 1 {
            entry.opcode = UInt8(vectored.rawValue)
            entry.length = slot.pointee.vectorCount
        } else if slot.pointee.buffer >= 0 {
            entry.opcode = UInt8(fixed.rawValue)
            entry.buffer = UInt16(truncatingIfNeeded: slot.pointee.buffer)
        } else {
            entry.opcode = UInt8(plain.rawValue)
        }
    }

    @inline(__always)
    private func fillMessage(
        _ entry: inout rs_entry, _ slot: UnsafeMutablePointer<Operation>, _ plain: rs_opcode, _ message: rs_opcode
    ) {
        if slot.pointee.vectorCount == 1 {
            entry.opcode = UInt8(plain.rawValue)
            return
        }
        guard let list = slot.pointee.list else { unreachable("several vectors without a list") }
        rs_message_fill(list, UnsafeMutableRawPointer(bitPattern: UInt(slot.pointee.address)), Int(slot.pointee.vectorCount))
        entry.opcode = UInt8(message.rawValue)
        entry.address = UInt64(UInt(bitPattern: list))
        entry.length = 1
    }

    /// Asks the kernel to end an operation soon; it ends in its usual way, most likely with -ECANCELED.
    func requestCancel(_ target: UInt32) {
        operations.slots[Int(target)].isCancelling = true
        guard let index = begin(.cancel, sink: 0, generation: 0, token: 0) else { return }
        operations.slots[Int(index)].address = UInt64(target)
        queue(index)
    }

    /// The kernel is done with operation `index`.
    func ended(_ index: UInt32, _ result: Int32, _ flags: UInt32) {
        // The cancellation of everything at the close has no slot.
        if index == OperationTable.none { return }
        let slot = operations.slots + Int(index)
        if result == -ErrorCode.cancelled || result == -ErrorCode.interrupted, mustRepeat(slot.pointee) { return queue(index) }
        switch slot.pointee.kind {
        case .read, .write:
            if result == Int32(bitPattern: slot.pointee.bytes) || result < 0 {
                disks.ended(slot.pointee.object)
                finish(index, min(result, 0))
            } else {
                shortTransfer(index, result)
            }
        case .flush:
            disks.ended(slot.pointee.object)
            finish(index, result)
        case .punch:
            disks.ended(slot.pointee.object)
            // What cannot give ranges back keeps them.
            finish(index, result == -ErrorCode.notSupported ? 0 : result)
        case .receive:
            streams.receiveEnded(slot.pointee.object, hasMore: flags & UInt32(rs_more_in_socket) != 0)
            finish(index, result)
        case .send:
            streams.sendEnded(slot.pointee.object)
            finish(index, result)
        case .accept: acceptEnded(index, result)
        case .connect: finish(index, result)
        case .inbox: isClosed ? operations.release(index) : inboxIsReadable(index)
        case .signal: signalEnded(index, result)
        case .timeout:
            timeoutEnded(slot.pointee)
            operations.release(index)
        case .cancel: operations.release(index)
        case .free: unreachable("operation \(index) ends, and none is under way")
        }
    }

    /// A request dies with the thread that handed it over. If that was not the end of the operation, another thread takes it on.
    private func mustRepeat(_ operation: Operation) -> Bool {
        if operation.isCancelling || isClosed { return false }
        switch operation.kind {
        // The connector begins anew with another socket.
        case .connect, .cancel, .timeout: return false
        case .read, .write, .flush, .punch, .receive, .send, .accept, .inbox, .signal: return true
        case .free: unreachable("a free slot ends")
        }
    }

    @inline(__always)
    func finish(_ index: UInt32, _ result: Int32) {
        let operation = operations.slots[Int(index)]
        operations.release(index)
        deliver(operation.sink, operation.sinkGeneration, operation.token, result)
    }

    /// The kernel may split a transfer; at the end of a device or file it moves nothing.
    private func shortTransfer(_ index: UInt32, _ result: Int32) {
        let slot = operations.slots + Int(index)
        if result > 0, disks.isAligned(slot.pointee.object, UInt64(result)), !isClosed {
            slot.pointee.advance(by: UInt32(result))
            return queueTransfer(index)
        }
        disks.ended(slot.pointee.object)
        finish(index, -ErrorCode.inputOutput)
    }
}
