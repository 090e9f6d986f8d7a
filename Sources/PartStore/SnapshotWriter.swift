import Base

/// The state written compactly to the half that the log has just moved to, in the background, a segment at a time.
///
/// A segment is whole blocks: this header, then entries.
///
///     offset bytes field
///          0     4 magic "RSSG"
///          4     4 CRC32C of bytes 8 to the end
///          8    16 store
///         24     8 last record that the objects hold; replay begins behind it
///         32     4 bytes, header and padding included
///         36     4 entry count
///         40     4 kind: 1 objects, 2 pages
///         44     4 1 in the last segment
///         48     8 revision that the superblock will have
///         56     8 zero
struct SnapshotWriter: ~Copyable {
    enum Phase {
        case idle
        /// The log has moved; its last record in the other half is not applied yet.
        case waiting
        case objects
        case pages
        /// All segments are on the disk, not durable yet.
        case written
        case flushing
        case superblock
        case superblockWritten
        case superblockFlushing
    }

    static let magic: UInt32 = 0x4753_5352
    static let headBytes = 64
    static let segmentBytes = 256 << 10
    /// All objects there can be, or a page with all doubts there can be.
    static let segmentBytesMax = roundUp(
        headBytes + max(Limits.objectsMax * ObjectCodec.imageBytesMax, PageImage.bytesMax + Limits.doubtsMax * PageImage.doubtBytes),
        to: 1 << 20)
    /// What a page takes beside its blocks: head, a run, and its share of a segment's padding.
    static let pageBytes = PageImage.headBytes + PageImage.runBytes + Block.bytes / pagesPerSegment
    static let pagesPerSegment = 64

    var phase = Phase.idle
    var isWriting = false
    var switchRecord: UInt64 = 0
    var objectsRecord: UInt64 = 0
    /// Objects made later have all their records behind `objectsRecord`: their pages are not captured.
    var objectsEnd: UInt32 = 0
    var nextPage: UInt32 = 0
    var offset = 0
    var buffer: UnsafeMutableRawPointer
    var bufferBytes: Int
    /// Bytes by which what was applied since the log moved may have made the snapshot larger, and for how much there is room.
    var growth = 0
    var growthMax = 0
    var tailOffset = 0
    var tailRecord: UInt64 = 0
    var tailChain: UInt32 = 0

    init() {
        bufferBytes = SnapshotWriter.segmentBytes
        buffer = .allocate(byteCount: bufferBytes, alignment: Block.bytes)
    }

    deinit { buffer.deallocate() }

    mutating func grow(to bytes: Int) {
        guard bytes > bufferBytes else { return }
        buffer.deallocate()
        bufferBytes = roundUp(bytes, to: Block.bytes)
        buffer = .allocate(byteCount: bufferBytes, alignment: Block.bytes)
    }
}

extension PartStore {
    /// The log has filled half of what is left in its half beside the snapshot.
    var wantsSnapshot: Bool {
        guard snapshot.phase == .idle, slots.usedCount < options.requestsMax else { return false }
        let room = Int(superblock.geometry.halfBytes) - log.tailStart
        return log.offset - log.tailStart > room / 2
    }

    /// Where the log goes on in the other half: behind room for the snapshot as it is now, and for what is applied while it is written.
    var snapshotReserve: Int {
        roundUp(PartStore.snapshotBytesMax(state) + growthUnderWay + Int(superblock.geometry.halfBytes) / 4, to: Block.bytes)
    }

    /// By what is on its way into the log, or in it and not applied yet.
    private var growthUnderWay: Int {
        PartStore.snapshotGrowth(blocks: admittedBlocks) + toApply.count * 2 * SnapshotWriter.pageBytes
    }

    /// Of a snapshot of this state.
    static func snapshotBytesMax(_ state: borrowing StoreState) -> Int {
        let bound = Int(state.imageBytesBound)
        return bound + bound / 32 + 2 * Block.bytes
    }

    /// What makes the state larger is refused above it, but for overwrites. With the doubts that there may be (an eighth of a half), growth
    /// while a snapshot is written (a quarter) and the log's spare room it leaves some of the half to the log.
    var imageBytesMax: UInt64 { superblock.geometry.halfBytes / 8 * 3 }

    /// While a snapshot is written, as much goes into the log as the snapshot has room for, and at most an eighth of a half.
    @inline(__always)
    var snapshotStallsLog: Bool {
        snapshot.phase != .idle
            && (snapshot.growth >= snapshot.growthMax || log.offset - snapshot.tailOffset > Int(superblock.geometry.halfBytes) / 8)
    }

    /// Bytes by which records of so many blocks make a snapshot larger at most: a run, a check and an entry in doubt for each, and pages.
    static func snapshotGrowth(blocks: Int) -> Int {
        blocks * (PageImage.runBytes + 4 + PageImage.doubtBytes) + (blocks / Block.perPage + 2) * SnapshotWriter.pageBytes
    }

    /// The log has moved; the snapshot of what stood before begins when that is applied.
    mutating func beginSnapshot() {
        snapshot.phase = .waiting
        snapshot.switchRecord = log.nextRecord - 1
        snapshot.tailOffset = log.tailStart
        snapshot.tailRecord = log.nextRecord
        snapshot.tailChain = log.chain
        snapshot.offset = 0
        snapshot.nextPage = 0
        snapshot.growth = growthUnderWay
        snapshot.growthMax = log.tailStart - PartStore.snapshotBytesMax(state)
    }

    mutating func continueSnapshot() {
        guard !snapshot.isWriting else { return }
        switch snapshot.phase {
        case .waiting:
            guard appliedRecord >= snapshot.switchRecord else { return }
            snapshot.phase = .objects
            writeObjects()
        case .pages: writePages()
        case .idle, .objects, .written, .flushing, .superblock, .superblockWritten, .superblockFlushing: break
        }
    }

    private mutating func writeObjects() {
        snapshot.objectsRecord = appliedRecord
        snapshot.objectsEnd = state.objects.next
        let all = state.objects.all
        snapshot.grow(to: SnapshotWriter.headBytes + all.count * ObjectCodec.imageBytesMax + Block.bytes)
        var used = SnapshotWriter.headBytes
        for number in all { used += ObjectCodec.encodeImage(number, state.objects[number], to: snapshot.buffer + used) }
        snapshot.phase = .pages
        writeSegment(kind: 1, entries: all.count, used: used, isLast: false)
    }

    private mutating func writePages() {
        var used = SnapshotWriter.headBytes
        var entries = 0
        var looked = 0
        while snapshot.nextPage < state.map.pageEnd, entries < SnapshotWriter.pagesPerSegment, looked < 4096 {
            let index = snapshot.nextPage
            let page = state.map.page(index).pointee
            if page.isUsed, page.key.object.raw < snapshot.objectsEnd, state.objects.contains(page.key.object) {
                let bound = PageImage.bound(state, page: index)
                if used + bound + Block.bytes > snapshot.bufferBytes {
                    if entries > 0 { break }
                    snapshot.grow(to: used + bound + Block.bytes)
                }
                used += PageImage.encode(state, page: index, record: appliedRecord, to: snapshot.buffer + used)
                entries += 1
            }
            snapshot.nextPage += 1
            looked += 1
        }
        let isLast = snapshot.nextPage >= state.map.pageEnd
        writeSegment(kind: 2, entries: entries, used: used, isLast: isLast)
        if isLast { snapshot.phase = .written }
    }

    private mutating func writeSegment(kind: UInt32, entries: Int, used: Int, isLast: Bool) {
        let bytes = roundUp(used, to: Block.bytes)
        let target = snapshot.buffer
        UnsafeMutableRawBufferPointer(start: target + used, count: bytes - used).initializeMemory(as: UInt8.self, repeating: 0)
        target.store(SnapshotWriter.magic, at: 0)
        target.storeIdentifier(superblock.store, at: 8)
        target.store(snapshot.objectsRecord, at: 24)
        target.store(UInt32(bytes), at: 32)
        target.store(UInt32(entries), at: 36)
        target.store(kind, at: 40)
        target.store(UInt32(isLast ? 1 : 0), at: 44)
        target.store(superblock.revision + 1, at: 48)
        target.store(UInt64(0), at: 56)
        target.store(Checksum.of(UnsafeRawBufferPointer(start: target + 8, count: bytes - 8)), at: 4)
        invariant(snapshot.offset + bytes <= snapshot.tailOffset, "the snapshot is larger than the room kept for it")
        let firstVector = vectorList.count
        vectorList.append(target, bytes)
        emitWrite(
            .segment, 0, offset: superblock.geometry.halfStart(log.half) + UInt64(snapshot.offset), firstVector: firstVector, bytes: bytes)
        snapshot.offset += bytes
        snapshot.isWriting = true
    }

    mutating func segmentDone() { snapshot.isWriting = false }

    /// The snapshot needs a flush of its own kind: of all segments and everything they hold, then of the superblock that names them.
    var snapshotWantsFlush: Bool {
        !snapshot.isWriting && (snapshot.phase == .written || snapshot.phase == .superblockWritten)
    }

    mutating func snapshotFlushBegins() {
        guard snapshotWantsFlush else { return }
        snapshot.phase = snapshot.phase == .written ? .flushing : .superblockFlushing
    }

    mutating func snapshotFlushEnds() {
        switch snapshot.phase {
        case .flushing: writeSuperblock()
        case .superblockFlushing:
            snapshot.phase = .idle
            counters.snapshots += 1
        case .idle, .waiting, .objects, .pages, .written, .superblock, .superblockWritten: break
        }
    }

    private mutating func writeSuperblock() {
        superblock.revision += 1
        superblock.snapshotHalf = UInt32(log.half)
        superblock.snapshotBytes = UInt64(snapshot.offset)
        superblock.tailOffset = UInt64(snapshot.tailOffset)
        superblock.tailRecord = snapshot.tailRecord
        superblock.tailChain = snapshot.tailChain
        superblock.nextObject = nextObject
        superblock.encode(to: snapshot.buffer)
        let firstVector = vectorList.count
        vectorList.append(snapshot.buffer, Block.bytes)
        let copy = Geometry.superblocks[Int(superblock.revision % 2)]
        emitWrite(.superblock, 0, offset: copy * UInt64(Block.bytes), firstVector: firstVector, bytes: Block.bytes)
        snapshot.phase = .superblock
        snapshot.isWriting = true
    }

    mutating func superblockDone() {
        snapshot.isWriting = false
        snapshot.phase = .superblockWritten
    }
}
