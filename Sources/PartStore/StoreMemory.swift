import Base

/// What serving a store takes of memory: a part that is always there, and the map, which grows with what is written.
public enum StoreMemory {
    /// Free space, request slots, what is in doubt, buffers and the program itself.
    public static func fixedBytes(blocks: UInt64) -> UInt64 {
        let doubts = UInt64(Limits.doubtsMax * MemoryLayout<DoubtList.Entry>.stride)
        let slots = UInt64(Limits.requestsMax * LogRecord.bytesMax)
        return blocks / 8 + slots + doubts + UInt64(Limits.memoryForBuffers) + UInt64(Limits.memoryForProgram)
    }

    /// The map of a store that is full of blocks written in large pieces.
    public static func mapBytesFull(blocks: UInt64) -> UInt64 {
        blocks * 8 + blocks / UInt64(Block.perPage) * UInt64(MemoryLayout<BlockMap.Page>.stride + 16)
    }
}
