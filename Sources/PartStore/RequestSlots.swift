import Base

/// Requests that go through the log, each with room for its record: the same bytes go to the disk and, when the write ends, into the map.
struct RequestSlots: ~Copyable {
    struct Slot: BitwiseCopyable {
        var tag: UInt32 = 0
        var isUsed = false
        /// A drain has no record: it only waits for those before it.
        var hasRecord = true
        var isDurable = false
        /// Answered before its time by a mutant.
        var isAnswered = false
        var next = noIndex
        var recordBytes = 0
        /// Memory of its own, of a record that is larger than what a slot has; freed with the slot.
        var large: UnsafeMutableRawPointer?
        /// Known once it is in a batch.
        var recordNumber: UInt64 = 0
        /// Disk writes of its data that are under way.
        var dataPending = 0
        /// Blocks, and entries in doubt, counted as admitted.
        var blocks = 0
        var doubts = 0
        var object = ObjectNumber(0)
        // A write that waits for room:
        var waitsUntil = Instant.never
        var kind = LogRecord.Kind.write
        var target = WaitingTarget()
        var memory: UnsafeMutableRawPointer?
        var checks: UnsafeRawPointer?
    }

    struct WaitingTarget: BitwiseCopyable {
        var part = PartAddress(chunk: 0)
        var firstBlock: UInt32 = 0
        var blockCount: UInt32 = 0
        var version = Version.zero
        var mark: UInt64 = 0
        var touched: UInt64 = 0
        /// 0: no fill write.
        var fill: UInt64 = 0
        var flags: UInt8 = 0
        var isRewrite = false
    }

    private let slots: UnsafeMutablePointer<Slot>
    private let records: UnsafeMutableRawPointer
    private let capacity: Int
    private var free: ContiguousArray<UInt32> = []

    init(count: Int) {
        capacity = count
        slots = .allocate(capacity: count)
        slots.initialize(repeating: Slot(), count: count)
        records = .allocate(byteCount: count * LogRecord.bytesMax, alignment: 64)
        for index in (0..<UInt32(count)).reversed() { free.append(index) }
    }

    deinit {
        for index in 0..<capacity where slots[index].isUsed { slots[index].large?.deallocate() }
        slots.deallocate()
        records.deallocate()
    }

    var usedCount: Int { capacity - free.count }

    @inline(__always)
    subscript(_ index: UInt32) -> UnsafeMutablePointer<Slot> { slots + Int(index) }

    @inline(__always)
    func record(_ index: UInt32) -> UnsafeMutableRawPointer { slots[Int(index)].large ?? records + Int(index) * LogRecord.bytesMax }

    /// Room for a record of this size.
    func makeRoom(_ index: UInt32, _ bytes: Int) {
        if bytes > LogRecord.bytesMax { slots[Int(index)].large = .allocate(byteCount: bytes, alignment: 64) }
    }

    func isUsed(_ index: UInt32) -> Bool { slots[Int(index)].isUsed }

    mutating func take(tag: UInt32) -> UInt32? {
        guard let index = free.popLast() else { return nil }
        slots[Int(index)] = Slot(tag: tag, isUsed: true)
        return index
    }

    mutating func give(_ index: UInt32) {
        invariant(slots[Int(index)].isUsed, "slot \(index) is given back twice")
        slots[Int(index)].large?.deallocate()
        slots[Int(index)].large = nil
        slots[Int(index)].isUsed = false
        free.append(index)
    }

    // Queues are linked through the slots.

    func append(_ index: UInt32, to queue: inout SlotQueue) {
        slots[Int(index)].next = noIndex
        if queue.last == noIndex { queue.first = index } else { slots[Int(queue.last)].next = index }
        queue.last = index
        queue.count += 1
    }

    func popFirst(from queue: inout SlotQueue) -> UInt32? {
        let index = queue.first
        guard index != noIndex else { return nil }
        queue.first = slots[Int(index)].next
        if queue.first == noIndex { queue.last = noIndex }
        queue.count -= 1
        return index
    }
}

/// A queue of slots, linked through them.
struct SlotQueue: BitwiseCopyable {
    var first = noIndex
    var last = noIndex
    var count = 0

    var isEmpty: Bool { first == noIndex }
}

/// Reads under way.
struct ReadSlots: ~Copyable {
    struct Slot: BitwiseCopyable {
        var tag: UInt32 = 0
        var isUsed = false
        var hasError = false
        var attempts = 0
        var pending = 0
        var object = ObjectNumber(0)
        var part = PartAddress(chunk: 0)
        var firstBlock: UInt32 = 0
        var blockCount: UInt32 = 0
        var memory: UnsafeMutableRawPointer?
        var checks: UnsafeMutableRawPointer?
    }

    private let slots: UnsafeMutablePointer<Slot>
    /// Where each block of a read was when it began, to see whether it has moved since.
    private let addresses: UnsafeMutablePointer<UInt32>
    private var free: ContiguousArray<UInt32> = []
    private let capacity: Int

    init(count: Int) {
        capacity = count
        slots = .allocate(capacity: count)
        slots.initialize(repeating: Slot(), count: count)
        addresses = .allocate(capacity: count * Limits.frameBlocksMax)
        for index in (0..<UInt32(count)).reversed() { free.append(index) }
    }

    deinit {
        slots.deallocate()
        addresses.deallocate()
    }

    var usedCount: Int { capacity - free.count }

    @inline(__always)
    subscript(_ index: UInt32) -> UnsafeMutablePointer<Slot> { slots + Int(index) }

    @inline(__always)
    func addresses(_ index: UInt32) -> UnsafeMutablePointer<UInt32> { addresses + Int(index) * Limits.frameBlocksMax }

    func isUsed(_ index: UInt32) -> Bool { slots[Int(index)].isUsed }

    mutating func take(tag: UInt32) -> UInt32? {
        guard let index = free.popLast() else { return nil }
        slots[Int(index)] = Slot(tag: tag, isUsed: true)
        return index
    }

    mutating func give(_ index: UInt32) {
        invariant(slots[Int(index)].isUsed, "read slot \(index) is given back twice")
        slots[Int(index)].isUsed = false
        free.append(index)
    }
}

/// Vectors of the disk writes of one batch. Grows to the largest batch and stays there.
struct VectorList: ~Copyable {
    private(set) var base: UnsafeMutablePointer<IOVector>
    private(set) var count = 0
    private var capacity = 1024

    init() { base = .allocate(capacity: 1024) }

    deinit { base.deallocate() }

    mutating func append(_ memory: UnsafeMutableRawPointer, _ bytes: Int) {
        if count == capacity {
            let larger = UnsafeMutablePointer<IOVector>.allocate(capacity: 2 * capacity)
            larger.moveInitialize(from: base, count: count)
            base.deallocate()
            base = larger
            capacity *= 2
        }
        (base + count).initialize(to: IOVector(memory, bytes))
        count += 1
    }

    mutating func removeAll() { count = 0 }
}

/// One piece of data on its way to one extent.
struct DataWrite: BitwiseCopyable {
    var diskBlock: UInt32
    var blocks: UInt32
    var memory: UnsafeMutableRawPointer
    var slot: UInt32
}

/// Disk writes under way, each with the requests whose data it carries.
struct DataGroups: ~Copyable {
    struct Member: BitwiseCopyable {
        var slot: UInt32
        var next: UInt32
    }

    private var members = Slab<Member>()
    /// First member of each group.
    private var groups = Slab<UInt32>()

    mutating func make() -> UInt32 { groups.take(noIndex) }

    mutating func add(_ slot: UInt32, to group: UInt32) {
        let first = groups.pointer(group)
        first.pointee = members.take(Member(slot: slot, next: first.pointee))
    }

    /// The next request of a group that has ended; nil when there is none left, and the group is gone.
    mutating func pop(_ group: UInt32) -> UInt32? {
        let index = groups.pointer(group).pointee
        guard index != noIndex else {
            groups.give(group)
            return nil
        }
        let member = members.pointer(index).pointee
        members.give(index)
        groups.pointer(group).pointee = member.next
        return member.slot
    }

    mutating func drop(_ group: UInt32) {
        while pop(group) != nil {}
    }
}
