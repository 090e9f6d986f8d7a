import Base

/// One change of the store's state. The log is a sequence of records, numbered without gaps; replaying them in order gives the state.
///
/// All records share the first 40 bytes; lengths are multiples of 8.
///
///     offset bytes field
///          0     1 kind
///          1     1 flags (fence: 1 settles)
///          2     2 bytes of the record
///          4     4 object number
///          8     8 generation
///         16     8 sequence
///         24     8 mark of that generation
///         32     8 argument: new size, map number (create, fence, stamp), offset in the other half, first void record
///
///     write and zero go on:
///         40     4 chunk
///         44     2 member
///         46     2 snapshot level
///         48     8 incarnation
///         56     8 touched members
///         64     4 first block
///         68     4 block count
///         72     4 extent count (zero: none)
///         76     4 zero
///         80    16 extents: disk block (8), count (8)
///          …     4 check of each block, padded to 8
///
///     create goes on: the object record
struct LogRecord {
    enum Kind: UInt8 {
        case write = 1
        case zero = 2
        /// Nothing but a mark.
        case mark = 3
        case create = 4
        case remove = 5
        case resize = 6
        case fence = 7
        /// The log goes on in the other half, at the offset in the argument.
        case switchHalf = 8
        /// Records from the number in the argument to the one before this do not count: their data was lost with the power.
        case void = 9
        /// Nothing. Its batch says what is durable by now, so that a later loss of data is not taken for a lost tail.
        case note = 10
        /// The map number rises to the one in the argument; the generation stays.
        case stamp = 11
    }

    /// Flag of a fence: what is in doubt has happened.
    static let settles: UInt8 = 1

    static let headBytes = 40
    static let dataHeadBytes = 80
    static let extentBytes = 16
    /// A full frame in blocks that are nowhere contiguous.
    static let bytesMax = dataHeadBytes + Limits.frameBlocksMax * (extentBytes + 4)

    var kind: Kind
    var flags: UInt8 = 0
    var object = ObjectNumber(0)
    var version = Version.zero
    var mark: UInt64 = 0
    var argument: UInt64 = 0
    var part = PartAddress(chunk: 0)
    var touched: UInt64 = 0
    var firstBlock: UInt32 = 0
    var blockCount: UInt32 = 0
    var extentCount: UInt32 = 0

    init(_ kind: Kind, _ object: ObjectNumber) {
        self.kind = kind
        self.object = object
    }

    var carriesBlocks: Bool { kind == .write || kind == .zero }

    /// Bytes of a record of these blocks.
    static func dataBytes(extents: Int, checks: Int) -> Int { dataHeadBytes + extents * extentBytes + roundUp(checks * 4, to: 8) }

    /// Everything but extents, checks and object record, which the caller puts behind it.
    func encode(to target: UnsafeMutableRawPointer, bytes: Int) {
        target.store(kind.rawValue, at: 0)
        target.store(flags, at: 1)
        target.store(UInt16(bytes), at: 2)
        target.store(object.raw, at: 4)
        target.store(version.generation, at: 8)
        target.store(version.sequence, at: 16)
        target.store(mark, at: 24)
        target.store(argument, at: 32)
        guard carriesBlocks else { return }
        target.store(part.chunk, at: 40)
        target.store(part.member, at: 44)
        target.store(UInt16(0), at: 46)
        target.store(part.incarnation, at: 48)
        target.store(touched, at: 56)
        target.store(firstBlock, at: 64)
        target.store(blockCount, at: 68)
        target.store(extentCount, at: 72)
        target.store(UInt32(0), at: 76)
    }

    /// The record at `source`, of which `available` bytes can be read; nil when it contradicts itself. Its batch had the right check, so
    /// that is another program's bug or an attack, never a torn write.
    static func decode(_ source: UnsafeRawPointer, available: Int, geometry: Geometry) -> (LogRecord, bytes: Int)? {
        guard available >= headBytes, let kind = Kind(rawValue: source.load(UInt8.self, at: 0)) else { return nil }
        let bytes = Int(source.load(UInt16.self, at: 2))
        guard bytes >= headBytes, bytes % 8 == 0, bytes <= available else { return nil }
        var record = LogRecord(kind, ObjectNumber(source.load(UInt32.self, at: 4)))
        record.flags = source.load(UInt8.self, at: 1)
        record.version = Version(generation: source.load(UInt64.self, at: 8), sequence: source.load(UInt64.self, at: 16))
        record.mark = source.load(UInt64.self, at: 24)
        record.argument = source.load(UInt64.self, at: 32)
        guard record.carriesBlocks else { return (record, bytes) }
        guard bytes >= dataHeadBytes else { return nil }
        record.part = PartAddress(
            chunk: source.load(UInt32.self, at: 40), member: source.load(UInt16.self, at: 44),
            incarnation: source.load(UInt64.self, at: 48))
        record.touched = source.load(UInt64.self, at: 56)
        record.firstBlock = source.load(UInt32.self, at: 64)
        record.blockCount = source.load(UInt32.self, at: 68)
        record.extentCount = source.load(UInt32.self, at: 72)
        guard record.extentsAreSound(source, bytes: bytes, geometry: geometry) else { return nil }
        return (record, bytes)
    }

    private func extentsAreSound(_ source: UnsafeRawPointer, bytes: Int, geometry: Geometry) -> Bool {
        guard blockCount >= 1, UInt64(firstBlock) + UInt64(blockCount) <= Self.partBlocksMax else {
            return false
        }
        if kind == .zero { return extentCount == 0 && bytes == Self.dataHeadBytes && Int(blockCount) <= Limits.zeroBlocksMax }
        guard Int(blockCount) <= Limits.frameBlocksMax, extentCount >= 1, extentCount <= blockCount,
            bytes == Self.dataBytes(extents: Int(extentCount), checks: Int(blockCount))
        else { return false }
        var total: UInt64 = 0
        for index in 0..<Int(extentCount) {
            let extent = Self.extent(source, index)
            guard extent.first >= geometry.firstDataBlock, extent.count >= 1, extent.count <= UInt64(blockCount),
                extent.first <= geometry.blocks - extent.count
            else { return false }
            total += extent.count
        }
        return total == UInt64(blockCount)
    }

    /// Blocks of the largest chunk.
    static let partBlocksMax: UInt64 = (1 << 30) / UInt64(Block.bytes)

    static func extent(_ source: UnsafeRawPointer, _ index: Int) -> (first: UInt64, count: UInt64) {
        let offset = dataHeadBytes + index * extentBytes
        return (source.load(UInt64.self, at: offset), source.load(UInt64.self, at: offset + 8))
    }

    /// Offset of the checks in a write record.
    var checksOffset: Int { Self.dataHeadBytes + Int(extentCount) * Self.extentBytes }
}
