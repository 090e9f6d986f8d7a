import Base

/// Where the log goes on, and the batch on its way there.
///
/// Two buffers take turns: while one is being written the other one holds the bytes of the last block, which the next batch writes again
/// in front of its own.
struct LogWriter: ~Copyable {
    /// Kept free at the end of a half: batches that only say where the log goes on, or that a restart has lost some of it, find room.
    static let spareBytes = 4 * Block.bytes
    private static let bufferBytes = LogBatch.bytesMax + 2 * Block.bytes

    private(set) var half: Int
    /// Where the next batch begins, from the start of the half.
    private(set) var offset: Int
    /// Where the log began in this half.
    private(set) var tailStart: Int
    private(set) var chain: UInt32
    /// The first record in this half, and the check of the batch before it.
    private(set) var tailRecord: UInt64
    private(set) var tailChain: UInt32
    var nextRecord: UInt64
    private(set) var loggedRecord: UInt64
    private(set) var isWriting = false
    private let buffers: (UnsafeMutableRawPointer, UnsafeMutableRawPointer)
    private var usesSecond = false
    private var batchBytes = 0
    private var batchFirst: UInt64 = 0

    init(
        half: Int, offset: Int, chain: UInt32, nextRecord: UInt64, tailStart: Int, tailRecord: UInt64, tailChain: UInt32
    ) {
        self.half = half
        self.offset = offset
        self.tailStart = tailStart
        self.tailRecord = tailRecord
        self.tailChain = tailChain
        self.chain = chain
        self.nextRecord = nextRecord
        loggedRecord = nextRecord - 1
        buffers = (
            .allocate(byteCount: LogWriter.bufferBytes, alignment: Block.bytes),
            .allocate(byteCount: LogWriter.bufferBytes, alignment: Block.bytes)
        )
    }

    deinit {
        buffers.0.deallocate()
        buffers.1.deallocate()
    }

    private var buffer: UnsafeMutableRawPointer { usesSecond ? buffers.1 : buffers.0 }
    /// Bytes of the block in which the next batch begins that are taken.
    private var partial: Int { offset % Block.bytes }

    /// What stands in the block where the log goes on; for the loader.
    mutating func restore(lastBlock: UnsafeRawPointer) { buffer.copyMemory(from: lastBlock, byteCount: partial) }

    /// A batch begins.
    mutating func begin() {
        invariant(!isWriting && batchBytes == 0, "one batch at a time")
        batchBytes = LogBatch.headBytes
        batchFirst = nextRecord
    }

    /// Whether a record of this size fits into the batch and the half, with a record behind it that says where the log goes on.
    func fits(_ bytes: Int, halfBytes: UInt64) -> Bool {
        let end = batchBytes + bytes + LogRecord.headBytes
        return end <= LogBatch.bytesMax && roundUp(offset, to: Block.bytes) + end + LogWriter.spareBytes <= Int(halfBytes)
    }

    /// Whether nothing was added since the batch began.
    var isEmpty: Bool { nextRecord == batchFirst }

    /// Adds a record and returns its number.
    mutating func add(_ record: UnsafeRawPointer, _ bytes: Int) -> UInt64 {
        (buffer + partial + batchBytes).copyMemory(from: record, byteCount: bytes)
        batchBytes += bytes
        nextRecord += 1
        return nextRecord - 1
    }

    /// Closes the batch: what to write where, in whole blocks. Nothing if it is empty.
    mutating func seal(
        store: Identifier, mountCounter: UInt64, durableRecord: UInt64, appliedRecord: UInt64
    ) -> (offset: Int, memory: UnsafeMutableRawPointer, bytes: Int)? {
        defer { batchBytes = 0 }
        guard nextRecord > batchFirst else { return nil }
        let memory = buffer
        skipToNextBlock(memory)
        let start = offset - partial
        let batch = LogBatch(
            firstRecord: batchFirst, mountCounter: mountCounter, durableRecord: durableRecord, appliedRecord: appliedRecord,
            bytes: batchBytes,
            recordCount: Int(nextRecord - batchFirst), previousCheck: chain)
        chain = batch.seal(memory + partial, store: store)
        let used = partial + batchBytes
        let bytes = roundUp(used, to: Block.bytes)
        UnsafeMutableRawBufferPointer(start: memory + used, count: bytes - used).initializeMemory(as: UInt8.self, repeating: 0)
        offset += batchBytes
        // The other buffer begins with what this one ends with.
        usesSecond.toggle()
        if partial > 0 { buffer.copyMemory(from: memory + bytes - Block.bytes, byteCount: partial) }
        isWriting = true
        return (start, memory, bytes)
    }

    /// A batch that takes fewer blocks from the next boundary on begins there: a single small record never costs two blocks.
    private mutating func skipToNextBlock(_ memory: UnsafeMutableRawPointer) {
        guard partial > 0, roundUp(batchBytes, to: Block.bytes) < roundUp(partial + batchBytes, to: Block.bytes) else { return }
        UnsafeMutableRawBufferPointer(start: memory, count: batchBytes)
            .copyMemory(from: UnsafeRawBufferPointer(start: memory + partial, count: batchBytes))
        offset = roundUp(offset, to: Block.bytes)
    }

    /// The batch is on the disk.
    mutating func written() {
        isWriting = false
        loggedRecord = nextRecord - 1
    }

    /// The log goes on in the other half.
    mutating func move(to offset: Int) {
        half = 1 - half
        self.offset = offset
        tailStart = offset
        tailRecord = nextRecord
        tailChain = chain
    }
}
