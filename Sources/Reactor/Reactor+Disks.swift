import Base
import CSystem
import CURing
import Environment

/// Memory that was asked for through `allocate`, and which registered buffers it consists of.
struct Arena {
    var base: UnsafeMutableRawPointer
    var bytes: Int
    /// Index of the first registered buffer; -1: not registered.
    var firstBuffer: Int32
}

extension Reactor {
    public func openDisk(_ path: String, _ mode: DiskMode) throws(Failure) -> DiskID {
        let (descriptor, traits) = try DiskOpening.open(path, mode)
        if let disk = disks.add(descriptor, traits) { return disk }
        rs_close(descriptor)
        throw Failure(.overloaded, "\(DiskTable.capacity) disks are open, which is all that one reactor takes")
    }

    public func traits(of disk: DiskID) -> DiskTraits { disks.traits(disk) }

    public func read(_ disk: DiskID, at offset: UInt64, into vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        transfer(.read, disk, offset, vectors, ticket)
    }

    public func write(_ disk: DiskID, at offset: UInt64, from vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        transfer(.write, disk, offset, vectors, ticket)
    }

    @inline(__always)
    private func transfer(
        _ kind: Operation.Kind, _ disk: DiskID, _ offset: UInt64, _ vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket
    ) {
        guard let index = begin(kind, ticket) else { return }
        let slot = operations.slots + Int(index)
        slot.pointee.descriptor = disks.began(disk)
        slot.pointee.object = disk.index
        slot.pointee.setVectors(vectors)
        slot.pointee.offset = offset
        invariant(
            disks.isAligned(disk.index, offset | UInt64(slot.pointee.bytes)),
            "\(slot.pointee.bytes) bytes at \(offset) are not whole sectors")
        slot.pointee.buffer = slot.pointee.vectorCount == 1 ? registeredBuffer(slot.pointee.address, slot.pointee.bytes) : -1
        queueTransfer(index)
    }

    public func flush(_ disk: DiskID, _ ticket: Ticket) {
        guard let index = begin(.flush, ticket) else { return }
        operations.slots[Int(index)].descriptor = disks.began(disk)
        operations.slots[Int(index)].object = disk.index
        queue(index)
    }

    public func punch(_ disk: DiskID, at offset: UInt64, bytes: UInt64, _ ticket: Ticket) {
        guard let index = begin(.punch, ticket) else { return }
        let slot = operations.slots + Int(index)
        invariant(disks.isAligned(disk.index, offset | bytes), "\(bytes) bytes at \(offset) are not whole sectors")
        slot.pointee.descriptor = disks.began(disk)
        slot.pointee.object = disk.index
        slot.pointee.offset = offset
        slot.pointee.address = bytes
        queue(index)
    }

    public func closeDisk(_ disk: DiskID) { disks.close(disk) }

    // Memory

    public func allocate(bytes: Int) throws(Failure) -> UnsafeMutableRawBufferPointer {
        invariant(bytes > 0, "an allocation of \(bytes) bytes")
        let rounded = roundUp(bytes, to: Block.bytes)
        guard let base = rs_map(rounded) else {
            throw Failure(.outOfMemory, "no memory for \(rounded) bytes of buffers; lower the limits, or add memory")
        }
        arenas.append(Arena(base: base, bytes: rounded, firstBuffer: register(base, rounded)))
        return UnsafeMutableRawBufferPointer(start: base, count: bytes)
    }

    /// Spares the kernel the work of pinning pages for each transfer: a tenth of the processor time of a 4 KiB read. Best effort.
    private func register(_ base: UnsafeMutableRawPointer, _ bytes: Int) -> Int32 {
        if canRegisterBuffers == nil {
            rs_raise_locked_memory_limit()
            canRegisterBuffers = rs_ring_reserve_buffers(ring, UInt32(registeredBuffersMax)) == 0
        }
        let pieces = (bytes + registeredBufferBytesMax - 1) / registeredBufferBytesMax
        guard canRegisterBuffers == true, registeredBuffers + pieces <= registeredBuffersMax else { return -1 }
        let first = registeredBuffers
        for piece in 0..<pieces {
            let start = piece * registeredBufferBytesMax
            let result = rs_ring_register_buffer(
                ring, UInt32(first + piece), base + start, UInt64(min(bytes - start, registeredBufferBytesMax)))
            if result < 0 {
                canRegisterBuffers = false
                log(
                    .info, "buffers are not registered with io_uring, which costs some speed; raise the memory lock limit (ulimit -l)",
                    [LogField("bytes", bytes), LogField("reason", ErrorCode.text(-result))])
                return -1
            }
            registeredBuffers += 1
        }
        return Int32(first)
    }

    @inline(__always)
    private func registeredBuffer(_ address: UInt64, _ bytes: UInt32) -> Int32 {
        for index in 0..<arenas.count where arenas[index].firstBuffer >= 0 {
            let offset = address &- UInt64(UInt(bitPattern: arenas[index].base))
            if offset >= UInt64(arenas[index].bytes) { continue }
            let piece = offset / UInt64(registeredBufferBytesMax)
            let isWithin = (offset + UInt64(bytes) - 1) / UInt64(registeredBufferBytesMax) == piece
            return isWithin ? arenas[index].firstBuffer + Int32(piece) : -1
        }
        return -1
    }
}

/// The kernel's limit for one registered buffer.
private let registeredBufferBytesMax = 1 << 30
private let registeredBuffersMax = 64
