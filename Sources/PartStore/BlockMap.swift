import Base

/// Where each block of each part is, and its check: 8 bytes a written block.
///
/// Pages of 1,024 blocks are found by a hash of their key; a page holds 16 leaves of 64 blocks, made when first written. Leaves keep
/// sparse volumes cheap: a lone block costs 512 bytes, not 8 KiB.
struct BlockMap: ~Copyable {
    static let leafBlocks = 64
    static let leavesPerPage = Block.perPage / leafBlocks

    /// A disk block, or one of the states that need none. Disk blocks are above them since the superblocks come first.
    struct Address: Hashable, BitwiseCopyable {
        var raw: UInt32
        static let absent = Address(raw: 0)
        static let zero = Address(raw: 1)
        static let lost = Address(raw: 2)
        @inline(__always) var isData: Bool { raw > 2 }
    }

    struct Key: Hashable, BitwiseCopyable {
        var object: ObjectNumber
        var part: PartAddress
        /// Which 1,024 blocks of the part.
        var page: UInt32
    }

    struct Leaf {
        typealias Words = InlineArray<64, UInt32>
        var addresses: Words
        var checks: Words
    }

    struct Page {
        var key: Key
        /// Highest version ever written to any of its blocks.
        var highest: Version
        /// A snapshot image holds everything up to this record.
        var imageRecord: UInt64 = 0
        /// Blocks with a disk address.
        var mapped: UInt32 = 0
        /// Entries in doubt; 0 for most.
        var doubts: UInt32 = 0
        var isUsed = true
        var leaves = InlineArray<16, UInt32>(repeating: noIndex)
        /// Blocks of each leaf that are zero.
        var zeros = InlineArray<16, UInt8>(repeating: 0)
    }

    private var pages = Slab<Page>()
    private var leaves = Slab<Leaf>()
    /// Open addressing with linear probing; a power of two, at most half full.
    private var table: UnsafeMutablePointer<UInt32>
    private var tableMask: Int
    private(set) var mappedBlocks: UInt64 = 0
    /// At least as many as the runs of blocks that are neither absent nor data, each of which takes its room in a snapshot.
    private(set) var emptyRunsMax: UInt64 = 0

    init() {
        tableMask = 1023
        table = .allocate(capacity: 1024)
        table.initialize(repeating: noIndex, count: 1024)
    }

    deinit { table.deallocate() }

    var bytesInUse: UInt64 { pages.bytesInUse + leaves.bytesInUse + UInt64((tableMask + 1) * MemoryLayout<UInt32>.stride) }

    /// What a write of so many blocks adds to it at most, apart from the table.
    static func growth(blocks: UInt64) -> UInt64 {
        let leaves = blocks / UInt64(leafBlocks) + 2
        let pages = blocks / UInt64(Block.perPage) + 2
        return leaves * UInt64(MemoryLayout<Leaf>.stride) + pages * UInt64(MemoryLayout<Page>.stride)
    }

    var pageCount: Int { pages.count }
    /// Page indexes are below it; some may be unused.
    var pageEnd: UInt32 { pages.endIndex }

    @inline(__always)
    func page(_ index: UInt32) -> UnsafeMutablePointer<Page> { pages.pointer(index) }

    private static func hash(_ key: Key) -> Int {
        var hash = UInt64(key.object.raw) << 32 | UInt64(key.part.chunk)
        hash ^= key.part.incarnation &* 0x9e37_79b9_7f4a_7c15
        hash ^= UInt64(key.part.member) << 48 ^ UInt64(key.page) << 20
        hash = (hash ^ hash >> 32) &* 0xd6e8_feb8_6659_fd93
        return Int(truncatingIfNeeded: hash ^ hash >> 32)
    }

    @inline(__always)
    func find(_ key: Key) -> UInt32? {
        var slot = BlockMap.hash(key) & tableMask
        while true {
            let index = table[slot]
            if index == noIndex { return nil }
            if pages.pointer(index).pointee.key == key { return index }
            slot = (slot + 1) & tableMask
        }
    }

    mutating func findOrMake(_ key: Key) -> UInt32 {
        if let index = find(key) { return index }
        if (pages.count + 1) * 2 > tableMask { grow() }
        let index = pages.take(Page(key: key, highest: .zero))
        insert(index)
        return index
    }

    private mutating func insert(_ index: UInt32) {
        var slot = BlockMap.hash(pages.pointer(index).pointee.key) & tableMask
        while table[slot] != noIndex { slot = (slot + 1) & tableMask }
        table[slot] = index
    }

    private mutating func grow() {
        table.deallocate()
        tableMask = tableMask * 2 + 1
        table = .allocate(capacity: tableMask + 1)
        table.initialize(repeating: noIndex, count: tableMask + 1)
        for index in 0..<pages.endIndex where pages.pointer(index).pointee.isUsed { insert(index) }
    }

    /// The page leaves the map. Its blocks and doubts must be gone.
    mutating func removePage(_ index: UInt32) {
        let page = pages.pointer(index)
        invariant(page.pointee.mapped == 0 && page.pointee.doubts == 0, "page \(page.pointee.key) is removed with blocks in it")
        for number in 0..<BlockMap.leavesPerPage where page.pointee.leaves[number] != noIndex { leaves.give(page.pointee.leaves[number]) }
        var slot = BlockMap.hash(page.pointee.key) & tableMask
        while table[slot] != index { slot = (slot + 1) & tableMask }
        table[slot] = noIndex
        // What was displaced by the removed entry moves up, or lookups would stop at the hole.
        var next = (slot + 1) & tableMask
        while table[next] != noIndex {
            let moved = table[next]
            table[next] = noIndex
            insert(moved)
            next = (next + 1) & tableMask
        }
        page.pointee.isUsed = false
        pages.give(index)
    }

    @inline(__always)
    func lookup(_ page: UInt32, _ block: Int) -> (address: Address, check: UInt32) {
        let leaf = pages.pointer(page).pointee.leaves[block / BlockMap.leafBlocks]
        guard leaf != noIndex else { return (.absent, 0) }
        let content = leaves.pointer(leaf)
        let index = block % BlockMap.leafBlocks
        return (Address(raw: content.pointee.addresses[index]), content.pointee.checks[index])
    }

    /// A leaf with `zeros` zero blocks has at most that many runs of them, and at most one more than there are others.
    private static func runsMax(_ zeros: UInt8) -> UInt64 { UInt64(min(Int(zeros), leafBlocks + 1 - Int(zeros))) }

    private mutating func countEmpty(_ page: UnsafeMutablePointer<Page>, _ leaf: Int, _ old: Address, _ new: Address) {
        emptyRunsMax -= BlockMap.runsMax(page.pointee.zeros[leaf])
        if old == .zero { page.pointee.zeros[leaf] -= 1 }
        if new == .zero { page.pointee.zeros[leaf] += 1 }
        emptyRunsMax += BlockMap.runsMax(page.pointee.zeros[leaf])
        // One that is lost may divide a run of zeros.
        if old == .lost { emptyRunsMax -= 2 }
        if new == .lost { emptyRunsMax += 2 }
    }

    /// Sets a block and returns what it was.
    mutating func set(_ page: UInt32, _ block: Int, _ address: Address, _ check: UInt32) -> (address: Address, check: UInt32) {
        let content = pages.pointer(page)
        let number = block / BlockMap.leafBlocks
        if content.pointee.leaves[number] == noIndex {
            guard address != .absent else { return (.absent, 0) }
            content.pointee.leaves[number] = leaves.take(
                Leaf(addresses: Leaf.Words(repeating: Address.absent.raw), checks: Leaf.Words(repeating: 0)))
        }
        let leaf = leaves.pointer(content.pointee.leaves[number])
        let index = block % BlockMap.leafBlocks
        let old = Address(raw: leaf.pointee.addresses[index])
        let oldCheck = leaf.pointee.checks[index]
        leaf.pointee.addresses[index] = address.raw
        leaf.pointee.checks[index] = check
        if address != old, !address.isData || !old.isData { countEmpty(content, number, old, address) }
        if address.isData != old.isData {
            if address.isData {
                content.pointee.mapped += 1
                mappedBlocks += 1
            } else {
                content.pointee.mapped -= 1
                mappedBlocks -= 1
            }
        }
        return (old, oldCheck)
    }
}
