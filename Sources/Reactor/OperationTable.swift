import Base
import CSystem
import Environment

/// One operation under way in the ring: everything needed to deliver its result, to continue it after a short transfer, and to hand it
/// to the kernel again. 64 bytes, one cache line; its index is what the completion carries.
struct Operation {
    enum Kind: UInt8 {
        case free
        // Disks
        case read, write, flush, punch
        // Streams
        case receive, send, accept, connect
        // The reactor's own
        case inbox, signal, timeout, cancel
    }

    var kind = Kind.free
    /// Its end is no longer wanted, and a cancellation is on its way.
    var isCancelling = false
    var sink: UInt16 = 0
    var token: UInt32 = 0
    var sinkGeneration: UInt32 = 0
    var descriptor: Int32 = -1
    /// Index of the disk, stream or listener.
    var object: Int32 = 0
    /// The registered buffer in which the memory lies, or -1.
    var buffer: Int32 = -1
    /// The memory of a single vector, or the list of several; the address of a connect; the length of a punch.
    var address: UInt64 = 0
    /// Bytes of a single vector, or of the whole list.
    var bytes: UInt32 = 0
    /// 1: `address` is the memory itself.
    var vectorCount: UInt32 = 0
    var offset: UInt64 = 0
    /// A message header and a vector list after it. Kept when the slot is reused, so that nothing is allocated once warm.
    var list: UnsafeMutableRawPointer?
    var listCapacity: UInt32 = 0
    var next: UInt32 = 0
}

/// The slots of all operations under way. Memory is reserved once and touched only as far as operations were ever under way at once,
/// since the slot freed last is used first.
struct OperationTable: ~Copyable {
    static let none = UInt32.max

    let slots: UnsafeMutablePointer<Operation>
    private let capacity: Int
    private(set) var count = 0
    private var free = OperationTable.none
    private var touched = 0

    init(capacity: Int) {
        invariant(MemoryLayout<Operation>.stride == 64, "an operation is a cache line, not \(MemoryLayout<Operation>.stride) bytes")
        self.capacity = capacity
        slots = .allocate(capacity: capacity)
    }

    deinit {
        for index in 0..<touched { slots[index].list?.deallocate() }
        slots.deallocate()
    }

    /// A slot, or `none` when all are in use.
    @inline(__always)
    mutating func take() -> UInt32 {
        let index = free
        if index != OperationTable.none {
            free = slots[Int(index)].next
            count += 1
            return index
        }
        if touched == capacity { return OperationTable.none }
        slots.advanced(by: touched).initialize(to: Operation())
        touched += 1
        count += 1
        return UInt32(touched - 1)
    }

    @inline(__always)
    mutating func release(_ index: UInt32) {
        let slot = slots + Int(index)
        invariant(slot.pointee.kind != .free, "operation \(index) ends twice")
        slot.pointee.kind = .free
        slot.pointee.next = free
        free = index
        count -= 1
    }

    /// Visits every operation under way.
    func forEach(_ body: (UInt32, Operation) -> Void) {
        for index in 0..<touched where slots[index].kind != .free { body(UInt32(index), slots[index]) }
    }
}

extension Operation {
    /// Takes over the vectors; a list is copied into the slot's own memory.
    @inline(__always)
    mutating func setVectors(_ vectors: UnsafeBufferPointer<IOVector>) {
        invariant(vectors.count > 0, "an operation needs memory")
        if vectors.count == 1 {
            let only = vectors[0]
            invariant(only.count > 0 && only.count <= Int(Int32.max), "a transfer of \(only.count) bytes")
            address = UInt64(UInt(bitPattern: only.base))
            bytes = UInt32(truncatingIfNeeded: only.count)
            vectorCount = 1
        } else {
            copyList(vectors)
        }
    }

    private mutating func copyList(_ vectors: UnsafeBufferPointer<IOVector>) {
        let capacity = vectorsMax
        invariant(vectors.count <= capacity, "\(vectors.count) vectors; the kernel takes \(capacity)")
        if Int(listCapacity) < vectors.count {
            list?.deallocate()
            let room = max(8, vectors.count.nextPowerOfTwo)
            list = .allocate(byteCount: Int(rs_message_bytes) + room * MemoryLayout<IOVector>.stride, alignment: 16)
            listCapacity = UInt32(room)
        }
        guard let own = vectorList else { unreachable("a list was just made") }
        var total = 0
        for index in 0..<vectors.count {
            own[index] = vectors[index]
            total += vectors[index].count
        }
        invariant(total > 0 && total <= Int(Int32.max), "a transfer of \(total) bytes")
        address = UInt64(UInt(bitPattern: own))
        bytes = UInt32(total)
        vectorCount = UInt32(vectors.count)
    }

    private var vectorList: UnsafeMutablePointer<IOVector>? {
        list.map { ($0 + Int(rs_message_bytes)).assumingMemoryBound(to: IOVector.self) }
    }

    /// Leaves what remains after the first `done` bytes.
    mutating func advance(by done: UInt32) {
        invariant(done < bytes, "\(done) bytes of \(bytes) are not a short transfer")
        bytes -= done
        offset += UInt64(done)
        if vectorCount == 1 {
            address += UInt64(done)
            return
        }
        var skipped = Int(done)
        var first = UnsafeMutablePointer<IOVector>(bitPattern: UInt(address))
        while let vector = first, skipped >= vector.pointee.count {
            skipped -= vector.pointee.count
            first = vector + 1
            vectorCount -= 1
        }
        guard let vector = first else { unreachable("a list has an address") }
        vector.pointee.base += skipped
        vector.pointee.count -= skipped
        address = UInt64(UInt(bitPattern: vector))
        if vectorCount == 1 { address = UInt64(UInt(bitPattern: vector.pointee.base)) }
    }
}

/// The kernel's UIO_MAXIOV.
private let vectorsMax = 1024

extension Int {
    fileprivate var nextPowerOfTwo: Int { self <= 1 ? 1 : 1 << (Int.bitWidth - (self - 1).leadingZeroBitCount) }
}
