import Base

/// What a disk holds: what reads see, what would survive a loss of power, and the completed writes in between.
///
/// - Every completed write that was not flushed is an entry of its own, in completion order.
/// - A loss of power keeps, drops or tears (at 512-byte sectors) each entry independently.
/// - A flush up to a mark makes the entries below the mark stable. Without a volatile cache there are no entries.
///
/// It knows no time and draws from the generator it is handed.
public final class Media {
    public let bytes: UInt64
    public let isVolatile: Bool

    /// More than this is in no disk's cache: the oldest entries become stable by themselves.
    static let cacheBytesMax = 64 << 20

    private struct Entry {
        var offset: UInt64
        var bytes: Int
        var data: UnsafeMutableRawPointer
    }

    private let current: BlockStore
    private let stable: BlockStore
    private var entries: [Entry] = []
    private var head = 0
    /// Number of the entry at `head`.
    private var base: UInt64 = 0
    private var cachedBytes = 0
    private var unreadable: Set<UInt64> = []

    public convenience init(bytes: UInt64, isVolatile: Bool) {
        self.init(BlockStore(bytes: bytes), bytes, isVolatile)
    }

    private init(_ stable: BlockStore, _ bytes: UInt64, _ isVolatile: Bool) {
        self.bytes = bytes
        self.isVolatile = isVolatile
        self.stable = stable
        current = isVolatile ? stable.clone() : stable
    }

    deinit {
        for index in head..<entries.count { entries[index].data.deallocate() }
    }

    /// A disk with what reads see now, all of it stable.
    public func clone() -> Media { Media(current.clone(), bytes, isVolatile) }

    /// Completed writes that a loss of power may take.
    public var unflushedWrites: Int { entries.count - head }

    // Reading

    public func read(_ offset: UInt64, into memory: UnsafeMutableRawPointer, _ count: Int) { current.read(offset, into: memory, count) }

    /// What reads see.
    public func contents(_ offset: UInt64, _ count: Int) -> [UInt8] { contents(of: current, offset, count) }

    /// What is there after a loss of power that keeps nothing unflushed.
    public func stableContents(_ offset: UInt64, _ count: Int) -> [UInt8] { contents(of: stable, offset, count) }

    private func contents(of store: BlockStore, _ offset: UInt64, _ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            if let base = buffer.baseAddress { store.read(offset, into: base, count) }
            initialized = count
        }
    }

    // Writing

    /// A write completes. Takes `data` over.
    func land(_ offset: UInt64, _ data: UnsafeMutableRawPointer, _ count: Int) {
        current.write(offset, from: data, count)
        if !unreadable.isEmpty {
            forEachSector(offset, count) { sector, _ in unreadable.remove(sector) }
        }
        guard isVolatile else { return data.deallocate() }
        entries.append(Entry(offset: offset, bytes: count, data: data))
        cachedBytes += count
        while cachedBytes > Self.cacheBytesMax { settleFirst() }
    }

    /// A write lands in part: any subset of its sectors. Takes `data` over. The other sectors are written with what they hold, which
    /// changes nothing that could be told apart.
    func landTorn(_ offset: UInt64, _ data: UnsafeMutableRawPointer, _ count: Int, _ random: inout Random) {
        let tear = Tear(count / Block.sectorBytes, &random)
        forEachSector(offset, count) { sector, at in
            if !tear.keeps(at / Block.sectorBytes, &random) {
                current.read(sector * UInt64(Block.sectorBytes), into: data + at, Block.sectorBytes)
            }
        }
        land(offset, data, count)
    }

    public func write(_ offset: UInt64, _ contents: [UInt8]) {
        invariant(
            offset % UInt64(Block.sectorBytes) == 0 && contents.count % Block.sectorBytes == 0, "whole sectors: \(offset) \(contents.count)"
        )
        let data = UnsafeMutableRawPointer.allocate(byteCount: max(1, contents.count), alignment: 16)
        contents.withUnsafeBytes { data.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(data), byteCount: contents.count) }
        land(offset, data, contents.count)
    }

    /// The number below which all entries are complete now; for `flush(upTo:)`.
    public var mark: UInt64 { base + UInt64(entries.count - head) }

    public func flush(upTo mark: UInt64) {
        while base < mark, head < entries.count { settleFirst() }
    }

    private func settleFirst() {
        let entry = entries[head]
        stable.write(entry.offset, from: entry.data, entry.bytes)
        entry.data.deallocate()
        head += 1
        base += 1
        cachedBytes -= entry.bytes
        if head == entries.count {
            entries.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1024, head * 2 > entries.count {
            entries.removeFirst(head)
            head = 0
        }
    }

    // Damage

    /// How many entries were dropped and torn.
    @discardableResult
    public func losePower(_ random: inout Random) -> (dropped: Int, torn: Int) {
        var dropped = 0
        var torn = 0
        // All or nothing now and then, or a long list would never be lost or kept as a whole.
        let style = random.below(8)
        for index in head..<entries.count {
            let entry = entries[index]
            let fate = style == 0 ? 0 : style == 1 ? 1 : random.below(3)
            if fate == 0 {
                stable.write(entry.offset, from: entry.data, entry.bytes)
            } else if fate == 1 {
                dropped += 1
            } else {
                torn += 1
                let tear = Tear(entry.bytes / Block.sectorBytes, &random)
                forEachSector(entry.offset, entry.bytes) { sector, at in
                    if tear.keeps(at / Block.sectorBytes, &random) {
                        stable.write(sector * UInt64(Block.sectorBytes), from: entry.data + at, Block.sectorBytes)
                    }
                }
            }
        }
        for index in head..<entries.count {
            current.copy(entries[index].offset, entries[index].bytes, from: stable)
            entries[index].data.deallocate()
        }
        base += UInt64(entries.count - head)
        entries.removeAll(keepingCapacity: true)
        head = 0
        cachedBytes = 0
        return (dropped, torn)
    }

    /// Reads of this sector fail until it is rewritten.
    public func makeUnreadable(sectorAt offset: UInt64) { unreadable.insert(offset / UInt64(Block.sectorBytes)) }

    public func isReadable(_ offset: UInt64, _ count: Int) -> Bool {
        if unreadable.isEmpty { return true }
        var result = true
        forEachSector(offset, count) { sector, _ in if unreadable.contains(sector) { result = false } }
        return result
    }

    /// Flips a bit on the medium. Only for what is stable: `isSettled`.
    public func flip(_ offset: UInt64, bit: UInt8) {
        stable.flip(offset, bit: bit)
        if isVolatile { current.copy(offset, 1, from: stable) }
    }

    /// Whether no unflushed write touches the range.
    public func isSettled(_ offset: UInt64, _ count: Int) -> Bool {
        for index in head..<entries.count
        where entries[index].offset < offset + UInt64(count) && offset < entries[index].offset + UInt64(entries[index].bytes) {
            return false
        }
        return true
    }
}

/// Which sectors of a torn write made it: up to a point, from a point on, or any.
private struct Tear {
    private let style: UInt64
    private let cut: Int

    init(_ sectors: Int, _ random: inout Random) {
        style = random.below(4)
        cut = random.below(max(1, sectors))
    }

    func keeps(_ sector: Int, _ random: inout Random) -> Bool {
        switch style {
        case 0: sector < cut
        case 1: sector >= cut
        default: random.coin()
        }
    }
}

@inline(__always)
func forEachSector(_ offset: UInt64, _ bytes: Int, _ body: (_ sector: UInt64, _ at: Int) -> Void) {
    var at = 0
    while at < bytes {
        body((offset + UInt64(at)) / UInt64(Block.sectorBytes), at)
        at += Block.sectorBytes
    }
}
