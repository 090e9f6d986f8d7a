import Base

/// One operation of the user, from its submission until its blocks are free again.
struct OperationSlot {
    enum Phase: UInt8 {
        case free
        /// Reads the blocks that it covers in part.
        case edges
        /// Its parts go out, or have gone.
        case parts
        /// Makes its blocks equal on all members.
        case rewrite
    }

    var phase = Phase.free
    var kind = Operation.Kind.read
    var isDurable = false
    /// The user knows the result; requests with an indefinite outcome still hold the blocks.
    var isReported = false
    /// Nobody outside asked for it.
    var isInternal = false
    /// It left, or may have left, blocks that differ between members.
    var needsRewrite = false
    /// It writes to members that are being filled, and to no others.
    var onlyFills = false
    /// What it would bring is lost: those that are being filled are told that.
    var isLost = false
    /// A rewrite that has met damage: it reads block by block.
    var readsSingly = false
    /// A flush that tells nobody of losses.
    var isUnheard = false
    /// Some part of it is held.
    var hasHeld = false
    /// Some part is acknowledged and was not on stable media then.
    var hasVolatileParts = false
    /// Of those some may be gone with a loss of power: all parts go out once more.
    var isRepeated = false
    /// The first block is covered in part only; its whole is in the first bounce block.
    var hasHeadEdge = false
    /// The same of the last block, where that is another one; it is in the second bounce block.
    var hasTailEdge = false
    /// Edges still to be asked for before the parts: bit 0 the head, bit 1 the tail.
    var edgesToRead: UInt8 = 0
    /// The first error, which is the result.
    var status = Status.ok
    /// Nothing of it is waited for any more that can be given up.
    var isGivenUp = false
    /// Why it was sent again; a better answer than "too late" when it never succeeds.
    var setback = Status.ok
    var tag = Operation.Tag(0, 0)
    var began = Instant.zero
    var deadline = Instant.never
    var offset: UInt64 = 0
    var bytes: UInt64 = 0
    var firstBlock: UInt64 = 0
    var endBlock: UInt64 = 0
    /// Of a flush: how many acknowledged writes it covers.
    var covered: UInt64 = 0
    /// Parts that name it and are under way.
    var parts = 0
    /// Of a rewrite: the peer to read from, peers not to read from (a bit each, of the first 64), what was read and not written yet, and
    /// the end of that.
    var source: Int?
    var avoided: UInt64 = 0
    var rewriteMemory: UnsafeMutableRawPointer?
    var rewriteFirst: UInt64 = 0
    var rewriteEnd: UInt64 = 0
    /// The next block that no part covers yet, and where the user's memory for it begins.
    var cursorBlock: UInt64 = 0
    var cursorVector = 0
    var cursorOffset = 0
    var vectors: UnsafeMutablePointer<IOVector>
    var vectorCount = 0
    /// Kept for the next user of the slot.
    var overflow: UnsafeMutablePointer<IOVector>?
    var overflowCapacity = 0
    /// Two blocks, kept as well.
    var bounce: UnsafeMutableRawPointer?

    /// Bytes of the user in the first block, if that is an edge.
    var headBytes: Int {
        let skip = offset % UInt64(Block.bytes)
        return Int(min(UInt64(Block.bytes) - skip, bytes))
    }

    var tailBytes: Int { Int((offset + bytes) % UInt64(Block.bytes)) }

    @inline(__always)
    mutating func advanceCursor(by count: Int) {
        var count = count
        while count > 0 {
            let room = vectors[cursorVector].count - cursorOffset
            if count < room {
                cursorOffset += count
                return
            }
            count -= room
            cursorVector += 1
            cursorOffset = 0
        }
    }
}

/// All operations of a volume. Their memory for vectors and edges grows to what was needed at once, and stays.
///
/// Invariant: every slot is free or in `active`; `active` is in the order of arrival.
struct OperationTable: ~Copyable {
    private static let inlineVectors = 4

    let capacity: Int
    private let slots: UnsafeMutablePointer<OperationSlot>
    private let vectors: UnsafeMutablePointer<IOVector>
    private var free: SlotStack
    private(set) var active: SlotList

    init(capacity: Int) {
        self.capacity = capacity
        slots = .allocate(capacity: capacity)
        vectors = .allocate(capacity: capacity * OperationTable.inlineVectors)
        for index in 0..<capacity {
            (slots + index).initialize(to: OperationSlot(vectors: vectors + index * OperationTable.inlineVectors))
        }
        free = SlotStack(capacity: capacity)
        active = SlotList(capacity: capacity)
    }

    deinit {
        for index in 0..<capacity {
            slots[index].overflow?.deallocate()
            slots[index].bounce?.deallocate()
            slots[index].rewriteMemory?.deallocate()
        }
        slots.deallocate()
        vectors.deallocate()
    }

    @inline(__always)
    func at(_ index: Int) -> UnsafeMutablePointer<OperationSlot> { slots + index }

    var freeCount: Int { free.count }

    mutating func take() -> Int? {
        guard let index = free.pop() else { return nil }
        active.append(index)
        return index
    }

    mutating func release(_ index: Int) {
        slots[index].phase = .free
        slots[index].isInternal = false
        slots[index].rewriteMemory?.deallocate()
        slots[index].rewriteMemory = nil
        active.remove(index)
        free.push(index)
    }

    /// Copies the list, without empty vectors; true if it did not fit in line.
    mutating func copy(_ list: UnsafeBufferPointer<IOVector>, to index: Int) -> Bool {
        let slot = at(index)
        let overflows = list.count > OperationTable.inlineVectors
        if overflows {
            if slot.pointee.overflowCapacity < list.count {
                slot.pointee.overflow?.deallocate()
                var capacity = 16
                while capacity < list.count { capacity *= 2 }
                slot.pointee.overflow = .allocate(capacity: capacity)
                slot.pointee.overflowCapacity = capacity
            }
            if let overflow = slot.pointee.overflow { slot.pointee.vectors = overflow }
        } else {
            slot.pointee.vectors = vectors + index * OperationTable.inlineVectors
        }
        var count = 0
        for vector in list where vector.count > 0 {
            slot.pointee.vectors[count] = vector
            count += 1
        }
        slot.pointee.vectorCount = count
        return overflows
    }

    /// The bounce block of the head (0) or of the tail (1).
    mutating func bounce(_ index: Int, edge: Int) -> UnsafeMutableRawPointer {
        let slot = at(index)
        if let memory = slot.pointee.bounce { return memory + edge * Block.bytes }
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 2 * Block.bytes, alignment: Block.bytes)
        slot.pointee.bounce = memory
        return memory + edge * Block.bytes
    }
}
