import Base

/// A queue of slot indexes with removal from the middle. The links lie beside the slots, so that a slot may be in several lists.
///
/// Invariant: a slot is in one list at most once.
struct SlotList: ~Copyable {
    static let none = -1
    private static let absent: Int32 = -2

    private struct Link {
        var previous: Int32
        var next: Int32
    }

    private let links: UnsafeMutablePointer<Link>
    private let capacity: Int
    private(set) var first = SlotList.none
    private(set) var last = SlotList.none
    private(set) var count = 0

    init(capacity: Int) {
        links = .allocate(capacity: capacity)
        links.initialize(repeating: Link(previous: SlotList.absent, next: SlotList.absent), count: capacity)
        self.capacity = capacity
    }

    deinit { links.deallocate() }

    var isEmpty: Bool { count == 0 }

    func contains(_ slot: Int) -> Bool { links[slot].next != SlotList.absent }
    func next(after slot: Int) -> Int { Int(links[slot].next) }

    mutating func append(_ slot: Int) {
        invariant(!contains(slot), "slot \(slot) is in the list already")
        links[slot] = Link(previous: Int32(truncatingIfNeeded: last), next: -1)
        if last == SlotList.none { first = slot } else { links[last].next = Int32(truncatingIfNeeded: slot) }
        last = slot
        count += 1
    }

    mutating func remove(_ slot: Int) {
        invariant(contains(slot), "slot \(slot) is not in the list")
        let link = links[slot]
        if link.previous < 0 { first = Int(link.next) } else { links[Int(link.previous)].next = link.next }
        if link.next < 0 { last = Int(link.previous) } else { links[Int(link.next)].previous = link.previous }
        links[slot] = Link(previous: SlotList.absent, next: SlotList.absent)
        count -= 1
    }

    mutating func removeIfPresent(_ slot: Int) {
        if contains(slot) { remove(slot) }
    }

    mutating func popFirst() -> Int? {
        guard first != SlotList.none else { return nil }
        let slot = first
        remove(slot)
        return slot
    }
}

/// Free slots, the one used last on top: its memory is the warmest.
struct SlotStack: ~Copyable {
    private let slots: UnsafeMutablePointer<Int32>
    private let capacity: Int
    private(set) var count: Int

    /// All of 0 ..< capacity; 0 comes first.
    init(capacity: Int) {
        slots = .allocate(capacity: capacity)
        for index in 0..<capacity { slots[index] = Int32(capacity - 1 - index) }
        self.capacity = capacity
        count = capacity
    }

    deinit { slots.deallocate() }

    mutating func pop() -> Int? {
        guard count > 0 else { return nil }
        count -= 1
        return Int(slots[count])
    }

    mutating func push(_ slot: Int) {
        invariant(count < capacity, "slot \(slot) is freed twice")
        slots[count] = Int32(truncatingIfNeeded: slot)
        count += 1
    }
}
