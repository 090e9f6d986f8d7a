import Base

/// The root of a store: who it is, where its log begins. Two copies, written one after the other and flushed in between: one is always
/// whole, and neither is older than what has been overwritten since.
///
///     offset bytes field
///          0     8 magic "RAWSTOR1"
///          8     4 format version
///         12     4 CRC32C of bytes 16 to 4095
///         16     8 revision: the copy with the higher one counts
///         24     8 features a reader must know (incompat)
///         32     8 features a writer must know (read-only compat)
///         40     8 features that may be ignored (compat)
///         48    16 cluster
///         64    16 store
///         80     8 blocks of the store
///         88     8 blocks of one half of the log area
///         96     4 bytes of check per block (up to 32)
///        100     4 half that holds the snapshot
///        104     8 mount counter
///        112    16 boot identity under which writes were taken last
///        128    16 boot of the host at that time
///        144     8 bytes of the snapshot, from the start of its half (0: none)
///        152     8 offset of the first record behind the snapshot, from the start of its half
///        160     8 number of that record
///        168     4 check of the batch before it
///        172     4 zero
///        176     8 next object number
///        184     8 created, milliseconds since 1970
///        192     8 incarnation of the catalogue that the store belongs to
///
/// Identity comes before position: a tool that finds a damaged store can still tell whose it is.
public struct Superblock: Hashable, Sendable {
    static let magic: UInt64 = 0x3152_4f54_5357_4152
    public static let formatVersion: UInt32 = 1
    /// Revisions, mounts and records are counted up from 1: no store comes near it.
    static let counterMax: UInt64 = 1 << 62

    public var revision: UInt64 = 1
    public var incompatible: UInt64 = 0
    public var readOnlyCompatible: UInt64 = 0
    public var compatible: UInt64 = 0
    public var cluster: Identifier
    public var store: Identifier
    public var geometry: Geometry
    public var snapshotHalf: UInt32 = 0
    public var mountCounter: UInt64 = 0
    public var boot: Identifier = .zero
    public var hostBoot: Identifier = .zero
    public var snapshotBytes: UInt64 = 0
    public var tailOffset: UInt64 = 0
    public var tailRecord: UInt64 = 1
    public var tailChain: UInt32 = 0
    public var nextObject: UInt32 = 1
    public var createdMilliseconds: UInt64 = 0
    public var incarnation: UInt64 = 0

    public init(cluster: Identifier, store: Identifier, geometry: Geometry) {
        self.cluster = cluster
        self.store = store
        self.geometry = geometry
    }

    func encode(to target: UnsafeMutableRawPointer) {
        UnsafeMutableRawBufferPointer(start: target, count: Block.bytes).initializeMemory(as: UInt8.self, repeating: 0)
        target.store(Superblock.magic, at: 0)
        target.store(Superblock.formatVersion, at: 8)
        target.store(revision, at: 16)
        target.store(incompatible, at: 24)
        target.store(readOnlyCompatible, at: 32)
        target.store(compatible, at: 40)
        target.storeIdentifier(cluster, at: 48)
        target.storeIdentifier(store, at: 64)
        target.store(geometry.blocks, at: 80)
        target.store(geometry.halfBlocks, at: 88)
        target.store(UInt32(4), at: 96)
        target.store(snapshotHalf, at: 100)
        target.store(mountCounter, at: 104)
        target.storeIdentifier(boot, at: 112)
        target.storeIdentifier(hostBoot, at: 128)
        target.store(snapshotBytes, at: 144)
        target.store(tailOffset, at: 152)
        target.store(tailRecord, at: 160)
        target.store(tailChain, at: 168)
        target.store(nextObject, at: 176)
        target.store(createdMilliseconds, at: 184)
        target.store(incarnation, at: 192)
        target.store(Superblock.check(target), at: 12)
    }

    private static func check(_ source: UnsafeMutableRawPointer) -> UInt32 {
        Checksum.of(UnsafeRawBufferPointer(start: source + 16, count: Block.bytes - 16))
    }

    /// One copy; throws `.malformed` when it is none or damaged, and what the user must know when it is one that this version cannot use.
    static func decode(_ source: UnsafeMutableRawPointer) throws(Failure) -> Superblock {
        guard source.load(UInt64.self, at: 0) == magic else { throw Failure(.malformed, "no rawstor store") }
        guard source.load(UInt32.self, at: 12) == check(source) else { throw Failure(.malformed, "the superblock is damaged") }
        let version = source.load(UInt32.self, at: 8)
        guard version == formatVersion else {
            throw Failure(.wrongVersion, "the store has format version \(version), this program knows \(formatVersion); use a newer one")
        }
        let geometry = Geometry(blocks: source.load(UInt64.self, at: 80), halfBlocks: source.load(UInt64.self, at: 88))
        var superblock = Superblock(cluster: source.loadIdentifier(at: 48), store: source.loadIdentifier(at: 64), geometry: geometry)
        superblock.revision = source.load(UInt64.self, at: 16)
        superblock.incompatible = source.load(UInt64.self, at: 24)
        superblock.readOnlyCompatible = source.load(UInt64.self, at: 32)
        superblock.compatible = source.load(UInt64.self, at: 40)
        guard superblock.incompatible == 0, superblock.readOnlyCompatible == 0 else {
            throw Failure(.wrongVersion, "the store uses features that this program does not know; use a newer one")
        }
        superblock.snapshotHalf = source.load(UInt32.self, at: 100)
        superblock.mountCounter = source.load(UInt64.self, at: 104)
        superblock.boot = source.loadIdentifier(at: 112)
        superblock.hostBoot = source.loadIdentifier(at: 128)
        superblock.snapshotBytes = source.load(UInt64.self, at: 144)
        superblock.tailOffset = source.load(UInt64.self, at: 152)
        superblock.tailRecord = source.load(UInt64.self, at: 160)
        superblock.tailChain = source.load(UInt32.self, at: 168)
        superblock.nextObject = source.load(UInt32.self, at: 176)
        superblock.createdMilliseconds = source.load(UInt64.self, at: 184)
        superblock.incarnation = source.load(UInt64.self, at: 192)
        try superblock.checkShape(checkBytes: source.load(UInt32.self, at: 96))
        return superblock
    }

    /// A superblock with a right check may still be a forgery or another program's bug: nothing in it is used as an index unseen.
    private func checkShape(checkBytes: UInt32) throws(Failure) {
        let isSound =
            geometry.blocks >= Geometry.blocksMin && geometry.blocks <= Limits.storeBlocksMax && geometry.halfBlocks >= 8
            && geometry.halfBlocks <= geometry.blocks / 8 && checkBytes == 4 && snapshotHalf <= 1
            && snapshotBytes <= geometry.halfBytes && tailOffset < geometry.halfBytes && tailOffset >= snapshotBytes
            && tailOffset % UInt64(Block.bytes) == 0 && nextObject >= 1 && tailRecord >= 1
            && max(revision, mountCounter, tailRecord, incarnation) < Superblock.counterMax
        guard isSound else { throw Failure(.malformed, "the superblock contradicts itself") }
    }
}
