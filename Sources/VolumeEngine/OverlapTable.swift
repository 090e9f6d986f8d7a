import Base

/// The overlap rule: of two operations that share a block and of which at least one changes it, the later one waits for the earlier.
///
/// Owns the block ranges of all unfinished operations, and for each the count of earlier ones that it waits for. Waiting ones count too,
/// so that operations on a block start in the order in which they came.
///
/// A range is listed under each 128 KiB region that it touches. One that touches more than two is *wide*: every other looks at all wide
/// ones, and a wide one looks at all others. A pair is counted only in the region where its intersection begins, so once.
struct OverlapTable: ~Copyable {
    private struct Entry {
        var first: UInt64 = 0
        var end: UInt64 = 0
        var arrival: UInt64 = 0
        var blockers: Int32 = 0
        var changesBlocks = false
        var isWide = false

        @inline(__always)
        func conflicts(with other: Entry) -> Bool {
            (changesBlocks || other.changesBlocks) && first < other.end && other.first < end
                && (changesBlocks == other.changesBlocks || !mutated(.readsOverlapWrites))
        }
    }

    private struct Node {
        var previous: Int32
        var next: Int32
    }

    private static let regionShift: UInt64 = 5
    private static let bucketShift: UInt64 = 64 - 10
    private static let bucketCount = 1 << 10

    private let entries: UnsafeMutablePointer<Entry>
    /// Two for each slot: of its first region, and of its second.
    private let nodes: UnsafeMutablePointer<Node>
    private let heads: UnsafeMutablePointer<Int32>
    private var all: SlotList
    private var wide: SlotList
    private var released: SlotList
    private var arrivals: UInt64 = 0
    /// Only for the test that shows that the tests notice: nothing waits for anything.
    var isDisabled = false

    init(capacity: Int) {
        entries = .allocate(capacity: capacity)
        entries.initialize(repeating: Entry(), count: capacity)
        nodes = .allocate(capacity: 2 * capacity)
        nodes.initialize(repeating: Node(previous: -1, next: -1), count: 2 * capacity)
        heads = .allocate(capacity: OverlapTable.bucketCount)
        heads.initialize(repeating: -1, count: OverlapTable.bucketCount)
        all = SlotList(capacity: capacity)
        wide = SlotList(capacity: capacity)
        released = SlotList(capacity: capacity)
    }

    deinit {
        entries.deallocate()
        nodes.deallocate()
        heads.deallocate()
    }

    var count: Int { all.count }

    func isWide(_ slot: Int) -> Bool { entries[slot].isWide }
    func contains(_ slot: Int) -> Bool { all.contains(slot) }

    /// Adds the blocks `first ..< end`; true if nothing stands before it.
    mutating func insert(_ slot: Int, _ first: UInt64, _ end: UInt64, changesBlocks: Bool) -> Bool {
        arrivals += 1
        let regions = ((end - 1) >> OverlapTable.regionShift) - (first >> OverlapTable.regionShift) + 1
        entries[slot] = Entry(
            first: first, end: end, arrival: arrivals, blockers: 0, changesBlocks: changesBlocks, isWide: regions > 2)
        visit(slot, isLeaving: false)
        all.append(slot)
        if regions > 2 {
            wide.append(slot)
        } else {
            link(slot * 2)
            if regions == 2 { link(slot * 2 + 1) }
        }
        return entries[slot].blockers == 0
    }

    /// Takes it out. Those that waited for nothing else come out of `popReleased`.
    mutating func remove(_ slot: Int) {
        let entry = entries[slot]
        all.remove(slot)
        released.removeIfPresent(slot)
        if entry.isWide {
            wide.remove(slot)
        } else {
            unlink(slot * 2)
            if (entry.end - 1) >> OverlapTable.regionShift != entry.first >> OverlapTable.regionShift { unlink(slot * 2 + 1) }
        }
        visit(slot, isLeaving: true)
    }

    mutating func popReleased() -> Int? { released.popFirst() }

    /// Compares with everything that may conflict: on arrival counts what stands before it, on leaving uncounts it from those behind.
    private mutating func visit(_ slot: Int, isLeaving: Bool) {
        if isDisabled { return }
        let entry = entries[slot]
        if entry.isWide {
            var other = all.first
            while other != SlotList.none {
                meet(slot, other, isLeaving)
                other = all.next(after: other)
            }
            return
        }
        var region = entry.first >> OverlapTable.regionShift
        let lastRegion = (entry.end - 1) >> OverlapTable.regionShift
        while region <= lastRegion {
            var node = Int(heads[bucket(region)])
            while node >= 0 {
                let other = node >> 1
                if self.region(of: node) == region, max(entry.first, entries[other].first) >> OverlapTable.regionShift == region {
                    meet(slot, other, isLeaving)
                }
                node = Int(nodes[node].next)
            }
            region += 1
        }
        var other = wide.first
        while other != SlotList.none {
            meet(slot, other, isLeaving)
            other = wide.next(after: other)
        }
    }

    @inline(__always)
    private mutating func meet(_ slot: Int, _ other: Int, _ isLeaving: Bool) {
        guard entries[slot].conflicts(with: entries[other]) else { return }
        if !isLeaving {
            entries[slot].blockers += 1
        } else if entries[other].arrival > entries[slot].arrival {
            entries[other].blockers -= 1
            invariant(entries[other].blockers >= 0, "slot \(other) waits for less than nothing")
            if entries[other].blockers == 0 { released.append(other) }
        }
    }

    @inline(__always)
    private func region(of node: Int) -> UInt64 { (entries[node >> 1].first >> OverlapTable.regionShift) + UInt64(node & 1) }

    @inline(__always)
    private func bucket(_ region: UInt64) -> Int { Int((region &* 0x9e37_79b9_7f4a_7c15) >> OverlapTable.bucketShift) }

    private mutating func link(_ node: Int) {
        let bucket = bucket(region(of: node))
        let head = heads[bucket]
        nodes[node] = Node(previous: -1, next: head)
        if head >= 0 { nodes[Int(head)].previous = Int32(truncatingIfNeeded: node) }
        heads[bucket] = Int32(truncatingIfNeeded: node)
    }

    private mutating func unlink(_ node: Int) {
        let links = nodes[node]
        if links.previous < 0 {
            heads[bucket(region(of: node))] = links.next
        } else {
            nodes[Int(links.previous)].next = links.next
        }
        if links.next >= 0 { nodes[Int(links.next)].previous = links.previous }
    }

    /// Compares the counts with those of the plain definition. Slow; for tests.
    func checkInvariants() {
        if isDisabled { return }
        invariant(released.isEmpty, "released operations were left behind")
        var slot = all.first
        while slot != SlotList.none {
            var blockers: Int32 = 0
            var other = all.first
            while other != slot {
                if entries[slot].conflicts(with: entries[other]) { blockers += 1 }
                other = all.next(after: other)
            }
            invariant(blockers == entries[slot].blockers, "slot \(slot) counts \(entries[slot].blockers) before it, not \(blockers)")
            slot = all.next(after: slot)
        }
    }

    /// Whether nothing that conflicts stands before it.
    func mayStart(_ slot: Int) -> Bool { entries[slot].blockers == 0 }
}
