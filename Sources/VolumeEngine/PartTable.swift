import Base
import Wire

/// A piece of an operation: blocks of one chunk that lie together, with one version if it changes them. It is one request to each member
/// that takes writes, or to one at a time if it reads.
struct PartSlot {
    enum State: UInt8 {
        case free
        /// Has requests, or waits to be sent (again).
        case open
        /// A write that some members have and others may not. It keeps its place in the order, so that no mark passes it, until its
        /// operation has rewritten the blocks.
        case held
    }

    enum Purpose: UInt8 {
        case blocks
        case headEdge
        case tailEdge
        case flush
        /// Making members equal: the blocks are read from one, and written to all.
        case rewriteRead
        case rewriteWrite
    }

    var state = State.free
    var purpose = Purpose.blocks
    var opcode = Opcode.ping
    var isDurable = false
    var mismatches: UInt8 = 0
    /// Some request of it ended without a known outcome.
    var isUncertain = false
    /// Some member has it where a loss of power may take it.
    var isVolatile = false
    /// The first error.
    var status = Status.ok
    var operation = SlotList.none
    var sequence: UInt64 = 0
    /// Of the whole volume.
    var block: UInt64 = 0
    var blockCount = 0
    /// Where the user's memory begins, behind the head edge if there is one.
    var vector = 0
    var vectorOffset = 0
    /// Requests that name it.
    var requests = 0
    /// Members that it was sent to; members that have it, or of a read: that could not answer.
    var sent: UInt64 = 0
    var taken: UInt64 = 0
    var tried: UInt64 = 0
    /// Members whose blocks are damaged.
    var damaged: UInt64 = 0
    /// It says that the contents are lost.
    var isLost = false
    /// The payload as it was when the checks were computed, since the user changes it in flight.
    var copy: UnsafeMutableRawPointer?
    /// The checks of what it writes are computed, once for all members.
    var hasChecks = false

    var changesBlocks: Bool { opcode.changesBlocks }
}

extension Opcode {
    var changesBlocks: Bool {
        switch self {
        case .write, .writeZeroes, .discard: true
        case .hello, .create, .open, .close, .stat, .list, .remove, .resize, .statistics, .ping, .volumeRecord, .adopt, .read, .flush,
            .mark, .stamp, .doubts,
            .changed, .checks, .fillBegin, .fillEnd, .fillPage, .event,
            .volumeCreate, .volumeOpen, .volumeExclude, .volumeMap, .volumeList, .volumeRemove, .volumeResize, .volumeClose, .volumeFill,
            .volumeInSync, .volumeSet, .volumeHealth, .volumeReplace, .volumeSettle,
            .ostRegister,
            .ostList, .ostRemove, .ostDrain, .mdtRegister, .mdtList:
            false
        }
    }
}

/// All parts under way, each with memory for the checks of its blocks.
struct PartTable: ~Copyable {
    static let checksBytes = Limits.frameBlocksMax * 4

    let capacity: Int
    private let slots: UnsafeMutablePointer<PartSlot>
    private let checkMemory: UnsafeMutableRawPointer
    private var free: SlotStack

    init(capacity: Int) {
        self.capacity = capacity
        slots = .allocate(capacity: capacity)
        slots.initialize(repeating: PartSlot(), count: capacity)
        checkMemory = .allocate(byteCount: capacity * PartTable.checksBytes, alignment: 64)
        free = SlotStack(capacity: capacity)
    }

    deinit {
        for index in 0..<capacity { slots[index].copy?.deallocate() }
        slots.deallocate()
        checkMemory.deallocate()
    }

    @inline(__always)
    func at(_ index: Int) -> UnsafeMutablePointer<PartSlot> { slots + index }

    @inline(__always)
    func checks(_ index: Int) -> UnsafeMutableRawPointer { checkMemory + index * PartTable.checksBytes }

    var freeCount: Int { free.count }

    mutating func take(_ opcode: Opcode, _ purpose: PartSlot.Purpose, operation: Int) -> Int? {
        guard let index = free.pop() else { return nil }
        let slot = at(index)
        slot.pointee.state = .open
        slot.pointee.purpose = purpose
        slot.pointee.opcode = opcode
        slot.pointee.isDurable = false
        slot.pointee.mismatches = 0
        slot.pointee.isUncertain = false
        slot.pointee.isVolatile = false
        slot.pointee.status = .ok
        slot.pointee.operation = operation
        slot.pointee.sequence = 0
        slot.pointee.block = 0
        slot.pointee.blockCount = 0
        slot.pointee.requests = 0
        slot.pointee.sent = 0
        slot.pointee.taken = 0
        slot.pointee.tried = 0
        slot.pointee.damaged = 0
        slot.pointee.isLost = false
        slot.pointee.hasChecks = false
        return index
    }

    mutating func release(_ index: Int) {
        let slot = at(index)
        invariant(slot.pointee.requests == 0, "part \(index) is freed with requests under way")
        slot.pointee.state = .free
        dropCopy(index)
        free.push(index)
    }

    mutating func dropCopy(_ index: Int) {
        guard let copy = at(index).pointee.copy else { return }
        copy.deallocate()
        at(index).pointee.copy = nil
    }
}
