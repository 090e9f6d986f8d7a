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
///         40     4 kind: 1 objects, 2 pages, 3 volume records
///         44     4 1 in the last segment
///         48     8 revision that the superblock will have
///         56     8 zero
struct SnapshotWriter: ~Copyable {
    enum Phase {
        case idle
        /// The log has moved; its last record in the other half is not applied yet.
        case waiting
        case objects
        case volumes
        case pages
        /// All segments are on the disk, not durable yet.
        case written
        case flushing
        case superblock
        case superblockWritten
        case superblockFlushing
        /// The first copy is durable; the second one follows, so that neither is ever older than a half of the log is reused.
        case secondSuperblock
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
    /// Objects whose volume records are still to be captured. One may be newer than `objectsRecord` then: that is kept when the log is
    /// replayed over it.
    var volumesLeft: ArraySlice<ObjectNumber> = []
    var nextPage: UInt32 = 0
    /// Entries in doubt in the pages captured.
    var doubts = 0
    var offset = 0
    var buffer: UnsafeMutableRawPointer
    var bufferBytes: Int
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
    var mayBeginSnapshot: Bool { snapshot.phase == .idle && slots.usedCount < options.requestsMax }

    /// The log has filled half of what is left in its half beside the snapshot.
    var wantsSnapshot: Bool {
        guard mayBeginSnapshot else { return false }
        let room = Int(superblock.geometry.halfBytes) - log.tailStart
        return log.offset - log.tailStart > room / 2
    }

    /// Where the log goes on in the other half: behind room for the snapshot. What is applied while it is written makes it larger by less
    /// than four times those records (a zero record of 80 bytes may split a run and open three pages), and of them a sixteenth of a half
    /// is let in. Segments are padded to blocks.
    static func snapshotReserve(_ state: borrowing StoreState, doubtsMax: Int, _ geometry: Geometry) -> Int {
        let bound = Int(state.imageBytesBound) + (doubtsMax + geometry.capturedDoubtsMax) * PageImage.doubtBytes
        return roundUp(bound + bound / 32 + Int(geometry.halfBytes) / 4 + 4 * Block.bytes, to: Block.bytes)
    }

    var snapshotReserve: Int {
        let reserve = PartStore.snapshotReserve(state, doubtsMax: doubtsMax, superblock.geometry)
        invariant(reserve < superblock.geometry.halfBytes, "a state of \(state.imageBytesBound) bytes cannot be written to half a log")
        return reserve
    }

    var snapshotStallsLog: Bool {
        let takesDoubts = snapshot.phase == .pages && snapshot.doubts > superblock.geometry.capturedDoubtsMax
        return takesDoubts || snapshot.phase != .idle && log.offset - snapshot.tailOffset > Int(superblock.geometry.halfBytes) / 16
    }

    /// The log has moved; the snapshot of what stands now begins when that is applied. The tail begins where the log entered this half,
    /// also when a restart goes on with a snapshot that a crash broke off.
    mutating func beginSnapshot() {
        snapshot.phase = .waiting
        snapshot.switchRecord = log.nextRecord - 1
        snapshot.tailOffset = log.tailStart
        snapshot.tailRecord = log.tailRecord
        snapshot.tailChain = log.tailChain
        snapshot.offset = 0
        snapshot.nextPage = 0
        snapshot.doubts = 0
    }

    mutating func continueSnapshot() {
        guard !snapshot.isWriting else { return }
        switch snapshot.phase {
        case .waiting:
            guard appliedRecord >= snapshot.switchRecord else { return }
            snapshot.phase = .objects
            writeObjects()
        case .volumes: writeVolumes()
        case .pages: writePages()
        case .idle, .objects, .written, .flushing, .superblock, .superblockWritten, .superblockFlushing, .secondSuperblock: break
        }
    }

    private mutating func writeObjects() {
        snapshot.objectsRecord = appliedRecord
        snapshot.objectsEnd = state.objects.next
        let all = state.objects.all
        snapshot.grow(to: SnapshotWriter.headBytes + all.count * ObjectCodec.imageBytesMax + Block.bytes)
        var used = SnapshotWriter.headBytes
        for number in all { used += ObjectCodec.encodeImage(number, state.objects[number], to: snapshot.buffer + used) }
        snapshot.volumesLeft = all[...]
        snapshot.phase = .volumes
        writeSegment(kind: 1, entries: all.count, used: used, isLast: false)
    }

    private mutating func writeVolumes() {
        var used = SnapshotWriter.headBytes
        var entries = 0
        while let number = snapshot.volumesLeft.first {
            let bytes = state.objects.contains(number) ? ObjectCodec.volumeImageBytes(state.objects[number].volume.count) : 0
            if used + bytes > SnapshotWriter.segmentBytes { break }
            snapshot.volumesLeft.removeFirst()
            guard bytes > 0 else { continue }
            used += ObjectCodec.encodeVolume(number, state.objects[number], to: snapshot.buffer + used)
            entries += 1
        }
        if snapshot.volumesLeft.isEmpty {
            snapshot.volumesLeft = []
            snapshot.phase = .pages
        }
        if entries > 0 { writeSegment(kind: 3, entries: entries, used: used, isLast: false) } else { continueSnapshot() }
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
                snapshot.doubts += Int(page.doubts)
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
        case .flushing:
            changeSuperblock()
            writeSuperblock(0)
            snapshot.phase = .superblock
        case .superblockFlushing:
            writeSuperblock(1)
            snapshot.phase = .secondSuperblock
        case .idle, .waiting, .objects, .volumes, .pages, .written, .superblock, .superblockWritten, .secondSuperblock: break
        }
    }

    private mutating func changeSuperblock() {
        superblock.revision += 1
        superblock.snapshotHalf = UInt32(log.half)
        superblock.snapshotBytes = UInt64(snapshot.offset)
        superblock.tailOffset = UInt64(snapshot.tailOffset)
        superblock.tailRecord = snapshot.tailRecord
        superblock.tailChain = snapshot.tailChain
        superblock.nextObject = nextObject
        superblock.incarnation = state.incarnation
    }

    private mutating func writeSuperblock(_ copy: Int) {
        superblock.encode(to: snapshot.buffer)
        let firstVector = vectorList.count
        vectorList.append(snapshot.buffer, Block.bytes)
        emitWrite(
            .superblock, 0, offset: Geometry.superblocks[copy] * UInt64(Block.bytes), firstVector: firstVector, bytes: Block.bytes)
        snapshot.isWriting = true
    }

    mutating func superblockDone() {
        snapshot.isWriting = false
        if snapshot.phase == .superblock {
            snapshot.phase = .superblockWritten
        } else {
            snapshot.phase = .idle
            counters.snapshots += 1
            ownMarks.hit(.snapshotFinished)
        }
    }
}
