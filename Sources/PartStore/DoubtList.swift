import Base

/// Blocks whose newest versions the writer's mark has not passed, each with the block it replaced (P1, P3, P5).
///
/// An entry is found by its block (a hash of page and block, newest first) and by its object: entries of the current generation in the
/// order of versions, and, apart from them, *orphans* of older generations. A mark takes entries from the front of the first list;
/// an orphan goes when a newer version of its block is passed by the mark, or when the only member of a volume settles at its open.
struct DoubtList: ~Copyable {
    struct Entry: BitwiseCopyable {
        var page: UInt32
        var block: UInt16
        var isOrphan: Bool
        var object: UInt32
        var version: Version
        var touched: UInt64
        var oldAddress: BlockMap.Address
        var oldCheck: UInt32
        fileprivate var bucketNext = noIndex
        fileprivate var previous = noIndex
        fileprivate var next = noIndex

        init(
            page: UInt32, block: Int, isOrphan: Bool, object: UInt32, version: Version, touched: UInt64, oldAddress: BlockMap.Address,
            oldCheck: UInt32
        ) {
            self.page = page
            self.block = UInt16(block)
            self.isOrphan = isOrphan
            self.object = object
            self.version = version
            self.touched = touched
            self.oldAddress = oldAddress
            self.oldCheck = oldCheck
        }
    }

    /// Ends of an object's list.
    struct Ends: BitwiseCopyable {
        var first = noIndex
        var last = noIndex
    }

    private static var bucketCount: Int { 1 << 16 }
    private var entries = Slab<Entry>()
    private let buckets: UnsafeMutablePointer<UInt32>

    init() {
        buckets = .allocate(capacity: DoubtList.bucketCount)
        buckets.initialize(repeating: noIndex, count: DoubtList.bucketCount)
    }

    deinit { buckets.deallocate() }

    var count: Int { entries.count }
    /// Disk blocks that are kept only because an entry names them.
    private(set) var keptBlocks: UInt64 = 0
    /// The blocks of a write are added one after the other, and lie together in their list: the place is looked for once.
    private var lastAdded = noIndex

    func entry(_ index: UInt32) -> Entry { entries.pointer(index).pointee }

    /// The next one in the list of its object.
    func next(after index: UInt32) -> UInt32 { entries.pointer(index).pointee.next }

    /// Whether there is an entry of this index, and it is among the orphans of this object.
    func isOrphan(_ index: UInt32, of object: ObjectNumber) -> Bool {
        guard index < entries.endIndex else { return false }
        let entry = entries.pointer(index).pointee
        return entry.object == object.raw && entry.isOrphan
    }

    @inline(__always)
    private func bucket(_ page: UInt32, _ block: UInt16) -> UnsafeMutablePointer<UInt32> {
        let hash = (UInt64(page) << 10 | UInt64(block)) &* 0x9e37_79b9_7f4a_7c15
        return buckets + Int(hash >> 48)
    }

    /// The newest entry of a block.
    func newest(_ page: UInt32, _ block: Int) -> Entry? {
        var index = bucket(page, UInt16(block)).pointee
        while index != noIndex {
            let entry = entries.pointer(index)
            if entry.pointee.page == page, entry.pointee.block == UInt16(block) { return entry.pointee }
            index = entry.pointee.bucketNext
        }
        return nil
    }

    /// The oldest entry of a block below which `address` and its check are put, if the entry is of a version above; what was there before.
    mutating func replaceOldest(
        _ page: UInt32, _ block: Int, above version: Version, _ address: BlockMap.Address, _ check: UInt32
    ) -> BlockMap.Address? {
        var index = bucket(page, UInt16(block)).pointee
        var oldest = noIndex
        while index != noIndex {
            let entry = entries.pointer(index)
            if entry.pointee.page == page, entry.pointee.block == UInt16(block) { oldest = index }
            index = entry.pointee.bucketNext
        }
        guard oldest != noIndex, entries.pointer(oldest).pointee.version > version else { return nil }
        let entry = entries.pointer(oldest)
        let old = entry.pointee.oldAddress
        if old.isData { keptBlocks -= 1 }
        if address.isData { keptBlocks += 1 }
        entry.pointee.oldAddress = address
        entry.pointee.oldCheck = check
        return old
    }

    /// Takes out of a list what `isGone` says, and passes it on.
    mutating func removeAll(from ends: inout Ends, where isGone: (Entry) -> Bool, _ body: (Entry) -> Void) {
        var index = ends.first
        while index != noIndex {
            let next = entries.pointer(index).pointee.next
            if isGone(entries.pointer(index).pointee) { body(remove(index, from: &ends)) }
            index = next
        }
    }

    /// Entries of a block, newest first.
    func forEach(_ page: UInt32, _ block: Int, _ body: (Entry) -> Void) {
        var index = bucket(page, UInt16(block)).pointee
        while index != noIndex {
            let entry = entries.pointer(index)
            if entry.pointee.page == page, entry.pointee.block == UInt16(block) { body(entry.pointee) }
            index = entry.pointee.bucketNext
        }
    }

    /// Adds the newest entry of its block to a list of its object, which is kept in the order of versions. That is nearly always its end.
    mutating func add(_ entry: Entry, to ends: inout Ends) {
        let index = entries.take(entry)
        if entry.oldAddress.isData { keptBlocks += 1 }
        let added = entries.pointer(index)
        let bucket = bucket(entry.page, entry.block)
        added.pointee.bucketNext = bucket.pointee
        bucket.pointee = index
        var before = isOfSameWrite(lastAdded, entry) ? lastAdded : ends.last
        lastAdded = index
        while before != noIndex, entries.pointer(before).pointee.version > entry.version {
            before = entries.pointer(before).pointee.previous
        }
        let after = before == noIndex ? ends.first : entries.pointer(before).pointee.next
        added.pointee.previous = before
        added.pointee.next = after
        if before == noIndex { ends.first = index } else { entries.pointer(before).pointee.next = index }
        if after == noIndex { ends.last = index } else { entries.pointer(after).pointee.previous = index }
    }

    private func isOfSameWrite(_ index: UInt32, _ entry: Entry) -> Bool {
        guard index != noIndex else { return false }
        let other = entries.pointer(index).pointee
        return other.object == entry.object && other.version == entry.version && other.isOrphan == entry.isOrphan
    }

    /// Takes one entry out of its list and its bucket.
    private mutating func remove(_ index: UInt32, from ends: inout Ends) -> Entry {
        let entry = entries.pointer(index).pointee
        if index == lastAdded { lastAdded = noIndex }
        if entry.previous == noIndex { ends.first = entry.next } else { entries.pointer(entry.previous).pointee.next = entry.next }
        if entry.next == noIndex { ends.last = entry.previous } else { entries.pointer(entry.next).pointee.previous = entry.previous }
        var link = bucket(entry.page, entry.block)
        while link.pointee != index {
            link = bucketLink(link.pointee)
        }
        link.pointee = entry.bucketNext
        // No object has number 0: a listing that would go on here sees that it is gone.
        entries.pointer(index).pointee.object = 0
        entries.give(index)
        if entry.oldAddress.isData { keptBlocks -= 1 }
        return entry
    }

    /// The place in an entry that names the next one of its bucket.
    private func bucketLink(_ index: UInt32) -> UnsafeMutablePointer<UInt32> {
        guard let offset = MemoryLayout<Entry>.offset(of: \.bucketNext) else { unreachable("bucketNext is stored") }
        return UnsafeMutableRawPointer(entries.pointer(index)).advanced(by: offset).assumingMemoryBound(to: UInt32.self)
    }

    /// The first entry of a list, if the mark has passed it; removed.
    mutating func popPassed(_ mark: Version, from ends: inout Ends) -> Entry? {
        guard ends.first != noIndex, entries.pointer(ends.first).pointee.version <= mark else { return nil }
        return remove(ends.first, from: &ends)
    }

    mutating func popFirst(from ends: inout Ends) -> Entry? {
        ends.first == noIndex ? nil : remove(ends.first, from: &ends)
    }

    /// The newest entry of a block below a version, removed from whichever list of its object it is in; nil when there is none.
    mutating func popBlock(_ page: UInt32, _ block: Int, below version: Version, current: inout Ends, orphans: inout Ends) -> Entry? {
        var index = bucket(page, UInt16(block)).pointee
        while index != noIndex {
            let entry = entries.pointer(index)
            if entry.pointee.page == page, entry.pointee.block == UInt16(block), entry.pointee.version < version {
                return entry.pointee.isOrphan ? remove(index, from: &orphans) : remove(index, from: &current)
            }
            index = entry.pointee.bucketNext
        }
        return nil
    }

    /// Entries older than a generation leave the current list for the orphans.
    mutating func orphan(before generation: UInt64, current: inout Ends, orphans: inout Ends) {
        while current.first != noIndex, entries.pointer(current.first).pointee.version.generation < generation {
            let index = current.first
            let entry = entries.pointer(index)
            current.first = entry.pointee.next
            if current.first == noIndex { current.last = noIndex } else { entries.pointer(current.first).pointee.previous = noIndex }
            entry.pointee.isOrphan = true
            entry.pointee.next = noIndex
            entry.pointee.previous = orphans.last
            if orphans.last == noIndex { orphans.first = index } else { entries.pointer(orphans.last).pointee.next = index }
            orphans.last = index
        }
    }
}
