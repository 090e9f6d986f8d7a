import Base

/// One change of the store's state. The log is a sequence of records, numbered without gaps; replaying them in order gives the state.
///
/// All records share the first 40 bytes; lengths are multiples of 8.
///
///     offset bytes field
///          0     1 kind
///          1     1 flags (fence: 1 settles; write and zero: 1 of a fill, 2 in doubt at the source; zero: 4 absent, 8 lost)
///          2     2 bytes of the record
///          4     4 object number
///          8     8 generation
///         16     8 sequence
///         24     8 mark of that generation
///         32     8 argument: new size (the sequence has the number of the resize), map number (create, stamp, fillBegin), offset in the
///                  other half, first void record, incarnation
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
///     of a fill: a mask behind that, a bit for each block, set where it was written since the fill began; padded to 8. A zero of a fill
///     may have no blocks: it raises the version of the page of its first block
///
///     create goes on: the object record
///
///     stamp goes on, unless it has only the number:
///         40     4 bytes of the volume record
///         44     4 CRC32C of it
///         48     … volume record, padded to 8
///
///     fillBegin goes on:
///         40    16 version up to which the object is complete
///         56     8 fill number
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
        /// The map number rises to the one in the argument, and the volume record of that map is kept; the generation stays.
        case stamp = 11
        /// A fill begins: generation and map number rise, nothing is in doubt any more, and the object is not complete.
        case fillBegin = 12
        /// The fill in the argument has ended well.
        case fillEnd = 13
        /// Of the store: the incarnation of its catalogue rises to the argument.
        case adopt = 14
    }

    /// Flag of a fence: what is in doubt has happened.
    static let settles: UInt8 = 1
    /// Flags of a write or zero.
    static let fills: UInt8 = 1
    static let isDoubtful: UInt8 = 2
    static let isAbsent: UInt8 = 4
    static let isLost: UInt8 = 8

    static let headBytes = 40
    static let dataHeadBytes = 80
    static let extentBytes = 16
    /// A full frame in blocks that are nowhere contiguous.
    static let bytesMax = dataHeadBytes + Limits.frameBlocksMax * (extentBytes + 4) + Limits.frameBlocksMax / 8
    static let fillBeginBytes = headBytes + 24
    static let stampHeadBytes = headBytes + 8
    /// Of any record: of all but a stamp it is `bytesMax`.
    static let stampBytesMax = stampHeadBytes + roundUp(Limits.volumeRecordBytesMax, to: 8)

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
    var isFill: Bool { carriesBlocks && flags & LogRecord.fills != 0 }

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
        if kind == .stamp, bytes > headBytes, !stampIsSound(source, bytes) { return nil }
        guard record.carriesBlocks else { return kind == .fillBegin && bytes != fillBeginBytes ? nil : (record, bytes) }
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
        let isPage = isFill && kind == .zero
        guard blockCount >= 1 || isPage, UInt64(firstBlock) + UInt64(max(1, blockCount)) <= Self.partBlocksMax else {
            return false
        }
        let maskBytes = isFill ? Self.maskBytes(blockCount) : 0
        if kind == .zero { return extentCount == 0 && bytes == Self.dataHeadBytes + maskBytes && Int(blockCount) <= Limits.zeroBlocksMax }
        guard Int(blockCount) <= Limits.frameBlocksMax, extentCount >= 1, extentCount <= blockCount,
            bytes == Self.dataBytes(extents: Int(extentCount), checks: Int(blockCount)) + maskBytes
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

    /// What a fillBegin record has behind its head.
    func encodeFill(_ number: UInt64, base: Version, to target: UnsafeMutableRawPointer) {
        encode(to: target, bytes: LogRecord.fillBeginBytes)
        target.store(base.generation, at: 40)
        target.store(base.sequence, at: 48)
        target.store(number, at: 56)
    }

    static func fill(_ source: UnsafeRawPointer) -> (number: UInt64, base: Version) {
        let base = Version(generation: source.load(UInt64.self, at: 40), sequence: source.load(UInt64.self, at: 48))
        return (source.load(UInt64.self, at: 56), base)
    }

    /// A whole stamp; returns its bytes.
    func encodeStamp(_ volume: [UInt8], to target: UnsafeMutableRawPointer) -> Int {
        let bytes = LogRecord.stampHeadBytes + roundUp(volume.count, to: 8)
        encode(to: target, bytes: bytes)
        target.store(UInt32(volume.count), at: 40)
        target.store(volume.withUnsafeBytes { Checksum.of($0) }, at: 44)
        let body = UnsafeMutableRawBufferPointer(start: target + LogRecord.stampHeadBytes, count: bytes - LogRecord.stampHeadBytes)
        body.initializeMemory(as: UInt8.self, repeating: 0)
        body.copyBytes(from: volume)
        return bytes
    }

    private static func stampIsSound(_ source: UnsafeRawPointer, _ bytes: Int) -> Bool {
        guard bytes > stampHeadBytes else { return false }
        let count = Int(source.load(UInt32.self, at: 40))
        guard (1...Limits.volumeRecordBytesMax).contains(count), stampHeadBytes + roundUp(count, to: 8) == bytes else { return false }
        return Checksum.of(UnsafeRawBufferPointer(start: source + stampHeadBytes, count: count)) == source.load(UInt32.self, at: 44)
    }

    /// The volume record that a stamp brings; empty if it has only the number.
    static func volume(_ source: UnsafeRawPointer) -> [UInt8] {
        guard source.load(UInt16.self, at: 2) > headBytes else { return [] }
        return Array(UnsafeRawBufferPointer(start: source + stampHeadBytes, count: Int(source.load(UInt32.self, at: 40))))
    }

    /// Bytes of the mask of a fill's record.
    static func maskBytes(_ blockCount: UInt32) -> Int { roundUp((Int(blockCount) + 7) / 8, to: 8) }

    /// Whether this block of a fill's record was written since the fill began.
    func isLive(_ source: UnsafeRawPointer, _ position: Int) -> Bool {
        let checks = kind == .write ? Int(blockCount) : 0
        let mask = Self.dataBytes(extents: Int(extentCount), checks: checks)
        return source.load(UInt8.self, at: mask + position / 8) & 1 << UInt8(position % 8) != 0
    }

    /// Offset of the checks in a write record.
    var checksOffset: Int { Self.dataHeadBytes + Int(extentCount) * Self.extentBytes }
}
