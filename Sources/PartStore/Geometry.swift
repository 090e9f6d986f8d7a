import Base

/// Where things are on a store's disk, in blocks of 4 KiB from its beginning.
///
///     block 0            superblock, first copy
///     block 1            superblock, second copy
///     block 16           log area, half 0
///     block 16 + h       log area, half 1
///     block 16 + 2h      data, up to the end
///
/// A half is large enough for the state written compactly at the worst (20 bytes a block) beside as much log.
public struct Geometry: Hashable, Sendable {
    public static let superblocks: [UInt64] = [0, 1]
    private static let firstHalf: UInt64 = 16
    /// 4 MiB: a store below it is refused.
    public static let blocksMin: UInt64 = 1024

    public var blocks: UInt64
    public var halfBlocks: UInt64

    public init(blocks: UInt64, halfBlocks: UInt64) {
        self.blocks = blocks
        self.halfBlocks = halfBlocks
    }

    /// For a disk of this size, or the sentence that says why not.
    public init(diskBytes: UInt64) throws(Failure) {
        let blocks = diskBytes / UInt64(Block.bytes)
        guard blocks >= Geometry.blocksMin else {
            throw Failure(.invalidArgument, "a store needs at least 4 MiB, this disk has \(diskBytes) bytes")
        }
        guard blocks <= Limits.storeBlocksMax else {
            throw Failure(
                .invalidArgument, "a store is at most 16 TiB, this disk has \(diskBytes >> 40) TiB; make two partitions, one store on each")
        }
        // A sixty-fourth of the disk each, at least 1 MiB and at most an eighth (small disks).
        self.init(blocks: blocks, halfBlocks: min(max(blocks / 64, 256), blocks / 8))
    }

    public func halfStart(_ half: Int) -> UInt64 { (Geometry.firstHalf + UInt64(half) * halfBlocks) * UInt64(Block.bytes) }
    public var halfBytes: UInt64 { halfBlocks * UInt64(Block.bytes) }
    /// What the state may take when written compactly. A quarter of a half is kept for what changes while it is written, an eighth for
    /// the log behind it.
    public var imageBytesMax: UInt64 { halfBytes * 5 / 8 }
    /// Entries in doubt that are let in: an eighth of a half, and on the smallest disks enough for the largest discard.
    public var doubtsMax: Int { max(Limits.zeroBlocksMax + 512, Int(halfBytes) / 8 / PageImage.doubtBytes) }
    /// Entries in doubt that the pages of a snapshot hold when the log waits for its end. It may hold as many more as there are then:
    /// pages are captured one after the other, and while marks empty the earlier ones, writes fill the later ones.
    var capturedDoubtsMax: Int { min(Int(halfBytes) / 16 / PageImage.doubtBytes, Limits.doubtsMax) }
    public var firstDataBlock: UInt64 { Geometry.firstHalf + 2 * halfBlocks }
    public var dataBlocks: UInt64 { blocks - firstDataBlock }
    /// Kept for overwrites when the store is full: they need a free block before the old one can be given back.
    public var reserveBlocks: UInt64 {
        Limits.reserveBytes(ofCapacity: dataBlocks * UInt64(Block.bytes)) / UInt64(Block.bytes)
    }
}
