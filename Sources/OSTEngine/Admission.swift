import Base
import PartStore
import Wire

/// Whether a data request may go to the part store: the one place where handle, session, generation, map and range are checked.
extension OSTEngine {
    enum Access {
        /// Every handle.
        case reads
        /// The writer's.
        case writes
        /// The writer's and the recovery's.
        case asksMember
        /// The recovery's.
        case fills
    }

    /// Finds the handle of a request and checks everything about it but its range.
    mutating func admit(_ slot: UInt32, _ access: Access) -> Status {
        let request = requests[slot]
        let index = Int(request.pointee.header.handle) % Limits.handlesPerConnectionMax
        let handle = connections[request.pointee.connection].handles + index
        guard handle.pointee.state != .free, handle.pointee.number == request.pointee.header.handle else { return .closed }
        request.pointee.handleIndex = index
        request.pointee.object = handle.pointee.object
        return check(request.pointee.header, against: handle, access)
    }

    private mutating func check(_ header: FrameHeader, against handle: UnsafeMutablePointer<Handle>, _ access: Access) -> Status {
        guard isCurrentSession(header, handle) else {
            hit(.staleSession)
            return .staleSession
        }
        if handle.pointee.state == .fenced { return .fenced }
        if handle.pointee.writes {
            // Reads of a writer are fenced too: a successor may have written what it would no longer see.
            if header.generation < handle.pointee.generation { return .fenced }
            if header.generation > handle.pointee.generation || access == .fills { return .invalidArgument }
        } else if access != .reads, !handle.pointee.recovers || access == .writes {
            return .readOnly
        }
        // Of two stamps the one with the smaller number may come later: it has nothing to do.
        if header.map < handle.pointee.map, header.opcode != .stamp { return .staleMap }
        return .ok
    }

    private func isCurrentSession(_ header: FrameHeader, _ handle: UnsafeMutablePointer<Handle>) -> Bool {
        if mutated(.acceptsOldSession) { return true }
        return handle.pointee.state != .replaced && header.session == handle.pointee.session
    }

    /// The blocks are within their chunk, and the chunk within the object. Sums are of small numbers: none overflows.
    mutating func checkRange(_ slot: UInt32) -> Status {
        let request = requests[slot]
        let header = request.pointee.header
        let handle = connections[request.pointee.connection].handles + request.pointee.handleIndex
        let end = UInt64(header.firstBlock) + UInt64(header.blockCount)
        let blocks = Block.count(covering: handle.pointee.bytes)
        let chunkStart = UInt64(header.part.chunk) * handle.pointee.chunkBlocks
        guard header.snapshot == 0 else { return .unsupported }
        guard header.blockCount > 0, header.part.member < handle.pointee.members else { return .invalidArgument }
        guard chunkStart < blocks, end <= handle.pointee.chunkBlocks else { return .outOfRange }
        // What an erasure member holds of the last chunk is its client's knowledge; a replica holds what the volume has.
        if handle.pointee.isReplicated, chunkStart + end > blocks { return .outOfRange }
        return .ok
    }

    mutating func writeTarget(_ slot: UInt32) -> WriteTarget {
        let request = requests[slot]
        let header = request.pointee.header
        var target = WriteTarget(
            object: request.pointee.object, part: header.part, firstBlock: header.firstBlock, blockCount: header.blockCount,
            version: Version(generation: header.generation, sequence: header.sequence), mark: header.mark,
            touched: header.touched == 0 ? 1 << UInt64(header.part.member) : header.touched, isDurable: header.flags.contains(.durable))
        target.isRewrite = header.flags.contains(.rewrite)
        if header.flags.contains(.fill) {
            target.fill = header.argument
            target.isInDoubt = header.flags.contains(.inDoubt)
            target.isAbsent = header.opcode == .discard
        } else {
            target.isLost = header.opcode == .writeZeroes && header.flags.contains(.lost)
        }
        return target
    }
}
