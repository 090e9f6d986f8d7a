import CISAL

/// CRC32C (Castagnoli), the check of every block and of every record and frame.
public enum Checksum {
    /// Of `bytes`, continuing from `previous`; 0 begins a new one.
    @inlinable
    public static func of(_ bytes: UnsafeRawBufferPointer, continuing previous: UInt32 = 0) -> UInt32 {
        guard let base = bytes.baseAddress else { return previous }
        return rs_crc32c(previous, base, Int32(bytes.count))
    }

    /// Of one block of zeros: what a *zero* block is reported with.
    public static let ofZeroBlock: UInt32 = withUnsafeTemporaryAllocation(byteCount: Block.bytes, alignment: 64) { block in
        block.initializeMemory(as: UInt8.self, repeating: 0)
        return of(UnsafeRawBufferPointer(block))
    }
}
