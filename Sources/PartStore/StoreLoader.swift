import Base
import Environment

/// Rebuilds a store from its disk: one snapshot and one tail of the log. Reads only; mounting is `StoreFile`'s.
///
/// The log is kept up to the first batch that is damaged and, of what may have been lost, up to the first record whose data is not on the
/// disk. What may have been lost is, after a loss of power, what was not known durable; after a mere crash, what was not known complete.
/// Data that should be there and is not has rotted: the record stays, and reading it is an error. A damaged batch that is followed by one
/// that knows it durable has rotted too: that log is refused, and nothing is guessed.
struct StoreLoader: ~Copyable {
    private let operations: Operations
    private let disk: DiskID
    private let diskBytes: UInt64
    private(set) var superblock: Superblock
    private let geometry: Geometry
    /// For map and tail together.
    private let bytesMax: UInt64

    // The tail, as scanned
    private var records: TailRecords
    /// Records that do not count; apart, and in order.
    private var voids: [ClosedRange<UInt64>] = []
    private(set) var durableRecord: UInt64 = 0
    private var completeRecord: UInt64 = 0
    // Where the log goes on
    private(set) var half = 0
    private(set) var offset = 0
    private(set) var tailStart = 0
    private(set) var tailRecord: UInt64 = 0
    private(set) var tailChain: UInt32 = 0
    private(set) var chain: UInt32 = 0
    private(set) var nextRecord: UInt64 = 1
    private var mountCounter: UInt64 = 0
    private(set) var objectsRecord: UInt64 = 0
    private(set) var isTorn = false

    /// Reads the superblocks.
    init(_ operations: Operations, disk: DiskID, path: String, bytesMax: UInt64 = .max) async throws(Failure) {
        self.bytesMax = bytesMax
        self.operations = operations
        self.disk = disk
        diskBytes = operations.world.traits(of: disk).bytes
        superblock = try await StoreLoader.readSuperblock(operations, disk, path, diskBytes)
        geometry = superblock.geometry
        records = TailRecords(first: superblock.tailRecord)
    }

    private static func readSuperblock(
        _ operations: Operations, _ disk: DiskID, _ path: String, _ diskBytes: UInt64
    ) async throws(Failure) -> Superblock {
        guard diskBytes >= Geometry.blocksMin * UInt64(Block.bytes) else {
            throw Failure(.malformed, "\(path) is no rawstor store: it is too small")
        }
        let buffer = PageBuffer(bytes: Block.bytes)
        var best: Superblock?
        var problem = Failure(.malformed, "no rawstor store")
        for copy in Geometry.superblocks {
            do throws(Failure) {
                try await operations.read(disk, at: copy * UInt64(Block.bytes), into: buffer.bytes)
                let found = try Superblock.decode(buffer.base)
                if found.revision >= best?.revision ?? 0 { best = found }
            } catch {
                if error.status != .malformed || problem.detail == "no rawstor store" { problem = error }
            }
        }
        guard let best else {
            throw Failure(problem.status, "\(path): \(problem.detail); 'rawstor-ost init \(path)' makes a store")
        }
        guard best.geometry.blocks * UInt64(Block.bytes) <= diskBytes else {
            throw Failure(
                .malformed,
                "\(path): the store has \(best.geometry.blocks) blocks, the disk only \(diskBytes / UInt64(Block.bytes)); was it cut?")
        }
        return best
    }

    /// Whether the disk may have lost something since the store was written to: with the power, or because it has failed.
    var lostPower: Bool {
        superblock.hostBoot != operations.world.hostBoot || superblock.hostBoot == .zero || superblock.boot == .zero
    }

    /// The state after the longest prefix of the log that is whole.
    mutating func rebuild(verifyingTail: Bool = true) async throws(Failure) -> StoreState {
        try await scanTail()
        while true {
            var state = try await loadSnapshot()
            try replay(into: &state)
            let trusted = max(objectsRecord, lostPower ? durableRecord : max(durableRecord, completeRecord))
            guard verifyingTail, let lost = try await firstLost(state, trusted) else { return state }
            cut(at: lost)
        }
    }

    // MARK: Tail

    private mutating func scanTail() async throws(Failure) {
        half = Int(superblock.snapshotHalf)
        offset = Int(superblock.tailOffset)
        chain = superblock.tailChain
        nextRecord = superblock.tailRecord
        while try await scanHalf() {}
        guard roundUp(offset, to: Block.bytes) + Block.bytes <= Int(geometry.halfBytes) else {
            throw Failure(.damaged, "the log has no room left at record \(nextRecord); the store was not written by this program")
        }
    }

    /// Scans the log in the current half to its end; true if it goes on in the other one.
    private mutating func scanHalf() async throws(Failure) -> Bool {
        tailStart = offset
        tailRecord = nextRecord
        tailChain = chain
        let halfBytes = Int(geometry.halfBytes)
        let window = PageBuffer(bytes: min(4 << 20, halfBytes))
        var windowStart = 0
        var windowBytes = 0
        while offset < halfBytes {
            let ahead = offset + 2 * LogBatch.bytesMax + 4 * Block.bytes
            if ahead > windowStart + windowBytes, windowStart + windowBytes < halfBytes || windowBytes == 0 {
                windowStart = offset & ~(Block.bytes - 1)
                windowBytes = min(window.bytes.count, halfBytes - windowStart)
                await readLog(half, windowStart, into: UnsafeMutableRawBufferPointer(rebasing: window.bytes[..<windowBytes]))
            }
            let base = UnsafeRawPointer(window.base)
            // Directly behind the batch before, or at the next block.
            var start = offset
            var found = next(base, start - windowStart, windowBytes)
            if found == nil {
                start = roundUp(offset, to: Block.bytes)
                found = next(base, start - windowStart, windowBytes)
            }
            guard let (batch, check) = found else {
                isTorn = begins(base, offset - windowStart, windowBytes) || begins(base, start - windowStart, windowBytes)
                if let later = laterBatch(base, from: offset - windowStart + 8, to: windowBytes, step: 8) { throw rotten(later) }
                if offset - tailStart > (halfBytes - tailStart) / 4, let later = await laterBatchInOtherHalf(window) { throw rotten(later) }
                return false
            }
            offset = start
            let source = base + (start - windowStart)
            mountCounter = batch.mountCounter
            durableRecord = max(durableRecord, batch.durableRecord)
            completeRecord = max(completeRecord, batch.appliedRecord)
            chain = check
            let moves = try take(batch, source)
            offset += batch.bytes
            if let moves {
                half = 1 - half
                offset = moves
                return true
            }
        }
        return false
    }

    /// The batch that goes on with the log at this place.
    private func next(_ window: UnsafeRawPointer, _ position: Int, _ bytes: Int) -> (LogBatch, check: UInt32)? {
        guard position < bytes,
            let (batch, check) = LogBatch.decode(window + position, available: bytes - position, store: superblock.store),
            batch.firstRecord == nextRecord, batch.previousCheck == chain, batch.mountCounter >= mountCounter
        else { return nil }
        return (batch, check)
    }

    /// Whether a batch stands here that ought to come next, though not whole.
    private func begins(_ window: UnsafeRawPointer, _ position: Int, _ bytes: Int) -> Bool {
        position + LogBatch.headBytes <= bytes && window.load(UInt32.self, at: position) == LogBatch.magic
            && window.load(UInt64.self, at: position + 8) == nextRecord
    }

    /// Notes the records of a batch; returns where the log goes on if it leaves this half.
    private mutating func take(_ batch: LogBatch, _ source: UnsafeRawPointer) throws(Failure) -> Int? {
        var position = LogBatch.headBytes
        var moves: Int?
        for _ in 0..<batch.recordCount {
            guard let (record, bytes) = LogRecord.decode(source + position, available: batch.bytes - position, geometry: geometry) else {
                throw Failure(.malformed, "record \(nextRecord) of the log contradicts itself; the store was not written by this program")
            }
            if record.kind == .void, record.argument >= 1, record.argument < nextRecord { cut(at: record.argument) }
            if record.kind == .switchHalf {
                // The half with the snapshot is left once; a snapshot in the other half comes before it is left.
                guard record.argument % UInt64(Block.bytes) == 0, record.argument < geometry.halfBytes, half == Int(superblock.snapshotHalf)
                else {
                    throw Failure(.malformed, "record \(nextRecord) of the log leads out of the log area")
                }
                moves = Int(record.argument)
            }
            guard records.hasRoom else { throw Failure(.malformed, "the log has more records than a store can hold") }
            records.append(source + position, bytes)
            position += bytes
            nextRecord += 1
        }
        return moves
    }

    /// Reads a piece of the log area. Of what cannot be read the rest is taken: a bad sector beyond the end of the log is no harm, and one
    /// within it is found by the checks.
    private func readLog(_ half: Int, _ start: Int, into memory: UnsafeMutableRawBufferPointer) async {
        do throws(Failure) {
            try await operations.read(disk, at: geometry.halfStart(half) + UInt64(start), into: memory)
        } catch {
            guard memory.count > Block.bytes else {
                memory.initializeMemory(as: UInt8.self, repeating: 0)
                return
            }
            let middle = memory.count / 2 / Block.bytes * Block.bytes
            await readLog(half, start, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<middle]))
            await readLog(half, start + middle, into: UnsafeMutableRawBufferPointer(rebasing: memory[middle...]))
        }
    }

    /// The log ends here, or it is damaged: a batch that was written later says so if it knows that more was durable.
    private func laterBatch(_ window: UnsafeRawPointer, from start: Int, to end: Int, step: Int) -> LogBatch? {
        for position in stride(from: start, to: end - LogBatch.headBytes, by: step) {
            if let (batch, _) = LogBatch.decode(window + position, available: end - position, store: superblock.store),
                batch.firstRecord > nextRecord, batch.mountCounter >= mountCounter, batch.durableRecord >= nextRecord
            {
                return batch
            }
        }
        return nil
    }

    /// The damaged batch may have been the one that led to the other half. The log enters that at a block of its own.
    private func laterBatchInOtherHalf(_ window: PageBuffer) async -> LogBatch? {
        var start = 0
        while start < Int(geometry.halfBytes) {
            let bytes = min(window.bytes.count, Int(geometry.halfBytes) - start)
            await readLog(1 - half, start, into: UnsafeMutableRawBufferPointer(rebasing: window.bytes[..<bytes]))
            if let batch = laterBatch(UnsafeRawPointer(window.base), from: 0, to: bytes, step: Block.bytes) { return batch }
            start += bytes
        }
        return nil
    }

    private func rotten(_ later: LogBatch) -> Failure {
        Failure(
            .damaged,
            "the log is damaged at record \(nextRecord), which was durable: records up to \(later.durableRecord) would be lost; "
                + "restore the store from its other members")
    }

    /// Record `number` and what follows up to here do not count.
    private mutating func cut(at number: UInt64) {
        var first = number
        while let last = voids.last, last.upperBound >= number {
            first = min(first, last.lowerBound)
            voids.removeLast()
        }
        voids.append(first...nextRecord - 1)
    }

    /// The first void record that no record of the log says so of yet.
    var newVoid: UInt64? {
        guard let last = voids.last, last.upperBound == nextRecord - 1 else { return nil }
        return last.lowerBound
    }

    private func isVoid(_ number: UInt64) -> Bool {
        var low = 0
        var high = voids.count
        while low < high {
            let middle = (low + high) / 2
            if voids[middle].upperBound < number { low = middle + 1 } else { high = middle }
        }
        return low < voids.count && voids[low].contains(number)
    }

    /// The records of the tail, in order.
    func forEachRecord(_ body: (UInt64, LogRecord, _ isVoid: Bool) -> Void) {
        for number in records.first..<records.end {
            if let record = record(number) { body(number, record, isVoid(number)) }
        }
    }

    /// It was read once already, when it was found.
    private func record(_ number: UInt64) -> LogRecord? {
        LogRecord.decode(records.source(number), available: LogRecord.stampBytesMax, geometry: geometry)?.0
    }

    // MARK: Snapshot

    private mutating func loadSnapshot() async throws(Failure) -> StoreState {
        var state = StoreState()
        state.incarnation = superblock.incarnation
        objectsRecord = superblock.tailRecord - 1
        guard superblock.snapshotBytes > 0 else { return state }
        var doubts: ContiguousArray<DoubtList.Entry> = []
        var position: UInt64 = 0
        var isComplete = false
        while position < superblock.snapshotBytes {
            let start = geometry.halfStart(Int(superblock.snapshotHalf)) + position
            let (segment, head) = try await readSegment(at: start, remaining: superblock.snapshotBytes - position)
            var used = SnapshotWriter.headBytes
            let bytes = segment.bytes.count
            for _ in 0..<head.entries {
                let source = UnsafeRawPointer(segment.base) + used
                var length: Int?
                if head.kind == 1 {
                    if let (number, object, entryBytes) = ObjectCodec.decodeImage(source, available: bytes - used),
                        number.isSound, state.objects.count < Limits.objectsMax, !state.objects.contains(number),
                        state.objects.find(object.record.name) == nil
                    {
                        state.objects.insert(number, object)
                        length = entryBytes
                    }
                } else if head.kind == 3 {
                    if let (number, map, volume, entryBytes) = ObjectCodec.decodeVolume(source, available: bytes - used),
                        state.objects.contains(number)
                    {
                        state.objects.keep(number, volume: volume, map: map)
                        length = entryBytes
                    }
                } else {
                    length = PageImage.decode(source, available: bytes - used, into: &state, doubts: &doubts, geometry: geometry)
                }
                guard let length else { throw Failure(.damaged, "the snapshot contradicts itself at \(start + UInt64(used))") }
                used += length
            }
            try checkMemory(&state)
            objectsRecord = head.objectsRecord
            isComplete = head.isLast
            position += UInt64(bytes)
        }
        guard isComplete else { throw Failure(.damaged, "the snapshot ends before its last segment") }
        guard objectsRecord >= superblock.tailRecord - 1, objectsRecord < nextRecord, doubts.count <= 2 * Limits.doubtsMax else {
            throw Failure(.damaged, "the snapshot and the log do not belong together; restore the store from its other members")
        }
        doubts.sort { ($0.object, $0.version) < ($1.object, $1.version) }
        for doubt in doubts { state.addDoubt(doubt) }
        return state
    }

    private struct SegmentHead {
        var entries: Int
        var kind: UInt32
        var isLast: Bool
        var objectsRecord: UInt64
    }

    private func readSegment(at start: UInt64, remaining: UInt64) async throws(Failure) -> (PageBuffer, SegmentHead) {
        let damaged = Failure(.damaged, "the snapshot is damaged at \(start); restore the store from its other members")
        let first = PageBuffer(bytes: Block.bytes)
        try await operations.read(disk, at: start, into: first.bytes)
        let bytes = Int(first.base.load(UInt32.self, at: 32))
        guard first.base.load(UInt32.self, at: 0) == SnapshotWriter.magic, first.base.loadIdentifier(at: 8) == superblock.store,
            first.base.load(UInt64.self, at: 48) <= superblock.revision, bytes >= Block.bytes, bytes % Block.bytes == 0,
            UInt64(bytes) <= remaining,
            bytes <= SnapshotWriter.segmentBytesMax
        else { throw damaged }
        let segment = PageBuffer(bytes: bytes)
        try await operations.read(disk, at: start, into: segment.bytes)
        guard segment.base.load(UInt32.self, at: 4) == Checksum.of(UnsafeRawBufferPointer(start: segment.base + 8, count: bytes - 8)) else {
            throw damaged
        }
        let head = SegmentHead(
            entries: Int(segment.base.load(UInt32.self, at: 36)), kind: segment.base.load(UInt32.self, at: 40),
            isLast: segment.base.load(UInt32.self, at: 44) == 1, objectsRecord: segment.base.load(UInt64.self, at: 24))
        return (segment, head)
    }

    // MARK: Replay

    private func replay(into state: inout StoreState) throws(Failure) {
        for number in records.after(objectsRecord) where !isVoid(number) {
            guard let record = record(number), state.apply(record, records.source(number), number: number),
                state.doubts.count <= 3 * Limits.doubtsMax, fitsLog(&state)
            else { throw Failure(.damaged, "the log does not fit the snapshot; restore the store from its other members") }
            try checkMemory(&state)
        }
    }

    /// Whether a store can have been like this. Pages of removed objects, which the running store sweeps, are only dropped when they count.
    private func fitsLog(_ state: inout StoreState) -> Bool {
        if state.imageBytesBound > 2 * geometry.halfBytes { dropOrphans(&state) }
        return state.imageBytesBound <= 2 * geometry.halfBytes
    }

    private func dropOrphans(_ state: inout StoreState) {
        state.dropOrphanedPages()
        state.freed.removeAll()
    }

    private func checkMemory(_ state: inout StoreState) throws(Failure) {
        let others = state.objects.volumeImageBytes + records.bytesInUse
        guard state.map.bytesInUse + others > bytesMax else { return }
        dropOrphans(&state)
        guard state.map.bytesInUse + others > bytesMax else { return }
        throw Failure(
            .outOfMemory,
            "loading this store takes more than the \(bytesMax >> 20) MiB of memory that there are for it; free some, or give it more "
                + "with --memory")
    }

    /// The oldest record behind the trusted ones whose data is referred to and is not on the disk.
    private func firstLost(_ state: borrowing StoreState, _ trusted: UInt64) async throws(Failure) -> UInt64? {
        var pieces = unverified(state, trusted)
        pieces.sort { $0.block < $1.block }
        let buffer = PageBuffer(bytes: Limits.frameBytesMax)
        var lost: UInt64?
        var index = 0
        while index < pieces.count {
            var count = 1
            while index + count < pieces.count, count < Limits.frameBlocksMax,
                pieces[index + count].block == pieces[index].block + UInt32(count)
            {
                count += 1
            }
            let memory = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<(count * Block.bytes)])
            var isReadable = true
            do throws(Failure) {
                try await operations.read(disk, at: UInt64(pieces[index].block) * UInt64(Block.bytes), into: memory)
            } catch { isReadable = false }
            for offset in 0..<count {
                let piece = pieces[index + offset]
                let bytes = UnsafeRawBufferPointer(start: buffer.base + offset * Block.bytes, count: Block.bytes)
                if !isReadable || Checksum.of(bytes) != piece.check { lost = min(lost ?? .max, piece.record) }
            }
            index += count
        }
        return lost
    }

    private struct Piece {
        var block: UInt32
        var check: UInt32
        var record: UInt64
    }

    /// Blocks of records that may have been lost, as far as the state refers to them. What was replaced and forgotten may have been
    /// given out again; it was durable then.
    private func unverified(_ state: borrowing StoreState, _ trusted: UInt64) -> [Piece] {
        var pieces: [Piece] = []
        for number in records.after(trusted) where !isVoid(number) {
            guard let record = record(number), record.kind == .write, state.objects.contains(record.object) else { continue }
            let source = records.source(number)
            var position = 0
            for extentIndex in 0..<Int(record.extentCount) {
                let extent = LogRecord.extent(source, extentIndex)
                for offset in 0..<extent.count {
                    let address = BlockMap.Address(raw: UInt32(extent.first + offset))
                    if refers(state, record, Int(record.firstBlock) + position, to: address) {
                        let check = source.load(UInt32.self, at: record.checksOffset + position * 4)
                        pieces.append(Piece(block: address.raw, check: check, record: number))
                    }
                    position += 1
                }
            }
        }
        return pieces
    }

    private func refers(_ state: borrowing StoreState, _ record: LogRecord, _ block: Int, to address: BlockMap.Address) -> Bool {
        let key = BlockMap.Key(object: record.object, part: record.part, page: UInt32(block / Block.perPage))
        guard let page = state.map.find(key) else { return false }
        if state.map.lookup(page, block % Block.perPage).address == address { return true }
        var isKept = false
        state.doubts.forEach(page, block % Block.perPage) { if $0.oldAddress == address { isKept = true } }
        return isKept
    }
}

/// Page-aligned memory of rare work, freed with its owner.
final class PageBuffer {
    let bytes: UnsafeMutableRawBufferPointer

    init(bytes count: Int) {
        bytes = .allocate(byteCount: count, alignment: Block.bytes)
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit { bytes.deallocate() }

    var base: UnsafeMutableRawPointer {
        guard let base = bytes.baseAddress else { unreachable("a page buffer is not empty") }
        return base
    }
}
