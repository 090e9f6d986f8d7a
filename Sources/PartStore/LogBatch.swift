import Base

/// Records that reach the disk in one write. A batch follows the one before directly, or begins with the next block if it takes fewer
/// blocks that way. The last block of a batch is written again, with the same bytes in front, when the next one begins in it. A sector
/// that is torn in that moment holds either the old bytes or the new ones, and what was acknowledged stands in both.
///
///     offset bytes field
///          0     4 magic "RSLB"
///          4     4 CRC32C of bytes 8 to the end
///          8     8 number of the first record
///         16     8 mount counter
///         24     8 highest record known durable when this was written
///         32     4 bytes, header included
///         36     4 record count
///         40     4 check of the batch before
///         44     4 how many records before the first one were not complete with their data when this was written
///         48    16 store
///
/// The chain of checks and the mount counter tell a batch that follows from one that stood here before.
struct LogBatch {
    static let magic: UInt32 = 0x424c_5352
    static let headBytes = 64
    static let bytesMax = 256 << 10

    var firstRecord: UInt64
    var mountCounter: UInt64
    var durableRecord: UInt64
    /// Highest record known complete with its data: after a crash without a loss of power it must still be.
    var appliedRecord: UInt64
    var bytes: Int
    var recordCount: Int
    var previousCheck: UInt32

    /// Writes the header before records that are already in place, and returns the batch's check.
    func seal(_ target: UnsafeMutableRawPointer, store: Identifier) -> UInt32 {
        target.store(LogBatch.magic, at: 0)
        target.store(firstRecord, at: 8)
        target.store(mountCounter, at: 16)
        target.store(durableRecord, at: 24)
        target.store(UInt32(bytes), at: 32)
        target.store(UInt32(recordCount), at: 36)
        target.store(previousCheck, at: 40)
        target.store(UInt32(truncatingIfNeeded: firstRecord - 1 - appliedRecord), at: 44)
        target.storeIdentifier(store, at: 48)
        let check = Checksum.of(UnsafeRawBufferPointer(start: target + 8, count: bytes - 8))
        target.store(check, at: 4)
        return check
    }

    /// A batch of this store at `source`, and its check; nil when there is none or it is damaged.
    static func decode(_ source: UnsafeRawPointer, available: Int, store: Identifier) -> (LogBatch, check: UInt32)? {
        guard available >= headBytes, source.load(UInt32.self, at: 0) == magic, source.loadIdentifier(at: 48) == store else { return nil }
        let bytes = Int(source.load(UInt32.self, at: 32))
        guard bytes >= headBytes, bytes <= bytesMax, bytes % 8 == 0, bytes <= available else { return nil }
        let check = source.load(UInt32.self, at: 4)
        guard check == Checksum.of(UnsafeRawBufferPointer(start: source + 8, count: bytes - 8)) else { return nil }
        let firstRecord = source.load(UInt64.self, at: 8)
        let behind = UInt64(source.load(UInt32.self, at: 44))
        guard firstRecord >= 1, behind < firstRecord else { return nil }
        let batch = LogBatch(
            firstRecord: firstRecord, mountCounter: source.load(UInt64.self, at: 16), durableRecord: source.load(UInt64.self, at: 24),
            appliedRecord: firstRecord - 1 - behind, bytes: bytes, recordCount: Int(source.load(UInt32.self, at: 36)),
            previousCheck: source.load(UInt32.self, at: 40))
        return (batch, check)
    }
}
