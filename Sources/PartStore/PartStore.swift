import Base

/// The engine of one store: raw parts of objects on one disk, for small random writes. Sans-I/O: calls go in, effects come out.
///
/// A write takes free blocks and writes data and a log record in parallel; it ends when both are on the disk and every earlier record too
/// (one disk round trip, and a restart finds a prefix of the log). One log write is under way at a time; what comes meanwhile goes with
/// the next one. The map changes when a write ends, never before.
///
/// Owns blocks, log, map and what is in doubt. Knows nothing of the wire, of sessions or redundancy. Who drives it calls `endBatch` after
/// a batch of calls, performs `effects`, and answers disk effects with `diskDone`.
///
/// Record numbers only grow: durable ≤ applied ≤ logged < next.
public struct PartStore: ~Copyable {
    public struct Options: Hashable, Sendable {
        /// Requests at once, writes and others together; and as many reads.
        public var requestsMax = Limits.requestsMax
        public var doubtsMax = Limits.doubtsMax
        public var barrierBytes = Limits.barrierBytes
        /// Of the map. What would make it larger is refused as if the disk were full; overwrites never do.
        public var mapBytesMax = UInt64.max
        /// Of the map and the log's tail while the store is loaded: far enough above the other that what was taken is loaded again.
        public var loadBytesMax = UInt64.max
        public init() {}
    }

    /// Tag of what nobody waits for.
    static let noTag = UInt32.max

    let options: Options
    let doubtsMax: Int
    let isVolatile: Bool
    var superblock: Superblock
    var state: StoreState
    var allocator: Allocator
    public internal(set) var effects: ContiguousArray<StoreEffect> = []
    var vectorList: VectorList
    public internal(set) var operationsUnderWay = 0
    public internal(set) var hasFailed = false
    var failure: String?
    var counters = Counters()
    var ownMarks = StoreMarks()

    // Requests
    var slots: RequestSlots
    var reads: ReadSlots
    /// Admitted, not in the log yet; logged or being logged, not applied yet; applied, waiting to be durable; waiting for room.
    var toLog = SlotQueue()
    var toApply = SlotQueue()
    var toBeDurable = SlotQueue()
    var waiting = SlotQueue()
    /// The same of writes that make members equal.
    var waitingRewrites = SlotQueue()
    /// Objects that have what may be in doubt of one: while writes that wait are gone through.
    var objectsWithShare: ContiguousArray<ObjectNumber> = []
    /// Blocks of writes between admission and application, and the entries in doubt that they may add.
    var admittedBlocks = 0
    var admittedDoubts = 0
    var pendingNames: [String] = []
    /// What volume records take that are on their way to the log.
    var admittedVolumeBytes: UInt64 = 0
    /// The incarnation that was last let in.
    var incarnationAdmitted: UInt64
    var nextObject: UInt32
    var objectsWithMark: ContiguousArray<ObjectNumber> = []
    /// Objects that are being filled, and what of them was written since.
    var fillsUnderWay = 0
    var live = LiveBlocks()
    var damage = KnownDamage()

    // Data writes of this batch, and those under way
    var dataWrites: ContiguousArray<DataWrite> = []
    var groups = DataGroups()

    var log: LogWriter
    // Barriers
    var appliedRecord: UInt64
    var durableRecord: UInt64
    var barrier = BarrierState()
    var snapshot = SnapshotWriter()
    var now = Instant.zero

    /// A store as the loader has rebuilt it.
    init(
        state: consuming StoreState, allocator: consuming Allocator, superblock: Superblock, log: consuming LogWriter, isVolatile: Bool,
        options: Options
    ) {
        self.options = options
        // What a crash left behind may be more than a changed limit; it must stay.
        doubtsMax = max(min(options.doubtsMax, superblock.geometry.doubtsMax), state.doubts.count)
        self.isVolatile = isVolatile
        self.superblock = superblock
        nextObject = max(superblock.nextObject, state.objects.next)
        incarnationAdmitted = state.incarnation
        self.state = state
        self.allocator = allocator
        appliedRecord = log.nextRecord - 1
        durableRecord = log.nextRecord - 1
        self.log = log
        slots = RequestSlots(count: options.requestsMax)
        reads = ReadSlots(count: options.requestsMax)
        vectorList = VectorList()
        // All that was found is durable by now, and the log shall say so.
        barrier.lastChange = appliedRecord
        if appliedRecord > 0 { barrier.noteDue = .zero }
    }

    // MARK: Identity

    public var cluster: Identifier { superblock.cluster }
    public var store: Identifier { superblock.store }
    public var mountCounter: UInt64 { superblock.mountCounter }
    /// Names the period in which nothing completed can have been lost: the same after a process that died, new after a loss of power or a
    /// failed disk operation.
    public var boot: Identifier { superblock.boot }
    public var vectors: UnsafePointer<IOVector> { UnsafePointer(vectorList.base) }

    public mutating func clearEffects() {
        effects.removeAll(keepingCapacity: true)
        vectorList.removeAll()
    }

    // MARK: Objects

    public func find(name: String) -> ObjectNumber? {
        guard let object = state.objects.find(name), !state.objects[object].admitted.isRemoved else { return nil }
        return object
    }

    public mutating func exists(_ object: ObjectNumber) -> Bool {
        state.objects.contains(object) && !state.objects[object].admitted.isRemoved
    }
    public func record(of object: ObjectNumber) -> ObjectRecord { state.objects[object].record }
    public func generation(of object: ObjectNumber) -> UInt64 { state.objects[object].record.generation }
    public func mappedBlocks(of object: ObjectNumber) -> UInt64 { state.objects[object].mappedBlocks }
    public func highest(of object: ObjectNumber) -> Version { state.objects[object].highest }
    public mutating func durableSequence(of object: ObjectNumber) -> UInt64 { state.objects[object].durable }
    /// The newest volume record, and the number of its map; empty and 0 where there is none.
    public func volume(of object: ObjectNumber) -> (map: UInt64, record: [UInt8]) {
        (state.objects[object].volumeMap, state.objects[object].volume)
    }
    /// The last resize of the volume that the object has gone along with.
    public func resizes(of object: ObjectNumber) -> UInt64 { state.objects[object].resizes }
    /// Of the catalogue that the store belongs to, from the moment that a raise is let in; 0: of none yet.
    public var incarnation: UInt64 { incarnationAdmitted }
    public func doubtCount(of object: ObjectNumber) -> Int { state.objects[object].doubtCount }
    public var objectCount: Int { state.objects.count }

    /// Up to `count` objects whose names sort after `name`, in the order of names.
    public func objects(after name: String, count: Int) -> [ObjectNumber] { state.objects.after(name, count: count) }

    public var statistics: StoreStatistics {
        StoreStatistics(
            capacityBytes: superblock.geometry.dataBlocks * UInt64(Block.bytes),
            freeBytes: (allocator.freeBlocks + state.freed.blocks) * UInt64(Block.bytes),
            usedBytes: state.map.mappedBlocks * UInt64(Block.bytes), diskReads: counters.diskReads, diskWrites: counters.diskWrites,
            diskWrittenBytes: counters.diskWrittenBytes, diskFlushes: counters.diskFlushes, damagedReads: counters.damagedReads,
            damagedBlocks: UInt64(damagedBlocks),
            snapshots: counters.snapshots, blocksInDoubt: UInt64(state.doubts.count),
            requestsWaitingForSpace: UInt64(waiting.count + waitingRewrites.count), mapBytes: state.map.bytesInUse)
    }

    /// Rare branches taken since the store was loaded, by the load included.
    public var marks: StoreMarks { ownMarks.union(state.marks) }

    /// The log has moved to its other half, and the snapshot of what was before is not finished.
    public var isMovingLog: Bool { snapshot.phase != .idle }

    // MARK: Driving

    /// A disk effect ended with 0 or a negative errno.
    public mutating func diskDone(_ token: UInt32, result: Int32) {
        operationsUnderWay -= 1
        invariant(operationsUnderWay >= 0, "a disk effect ended twice")
        let index = token & DiskToken.indexMask
        guard let kind = DiskToken(rawValue: token & ~DiskToken.indexMask) else { unreachable("disk token \(token)") }
        if kind == .read {
            readDone(index, result: result)
            return
        }
        if hasFailed {
            if kind == .data { groups.drop(index) }
            return
        }
        guard result >= 0 else {
            if kind == .data { groups.drop(index) }
            fail("\(kind.what) failed with errno \(-result)")
            return
        }
        switch kind {
        case .read: unreachable("handled above")
        case .data: dataDone(index)
        case .log: logDone()
        case .flush: flushDone()
        case .segment: segmentDone()
        case .superblock: superblockDone()
        }
    }

    /// After a batch of calls: what waits goes to the disk together.
    public mutating func endBatch(now: Instant) {
        self.now = now
        if hasFailed {
            finishFailed()
            return
        }
        retryWaiting()
        emitDataWrites()
        applyFinished()
        continueLog()
        applyFinished()
        if state.needsSweep { state.sweep(pages: 8, number: appliedRecord) }
        continueSnapshot()
        continueBarrier()
        checkOrder()
    }

    /// When `endBatch` must be called although nothing happened; `.never` while idle.
    public var wakeAt: Instant {
        if hasFailed { return .never }
        if state.needsSweep { return now }
        var waits = Instant.never
        if !waiting.isEmpty { waits = slots[waiting.first].pointee.waitsUntil }
        if !waitingRewrites.isEmpty { waits = min(waits, slots[waitingRewrites.first].pointee.waitsUntil) }
        // While a batch is on its way there is nothing to do for the log: its end calls.
        let logs = log.isWriting ? Instant.never : min(barrier.noteDue, objectsWithMark.isEmpty ? .never : barrier.marksDue)
        return min(barrier.due, waits, logs)
    }

    private func checkOrder() {
        invariant(
            durableRecord <= appliedRecord && appliedRecord <= log.loggedRecord && log.loggedRecord < log.nextRecord,
            "records out of order: durable \(durableRecord), applied \(appliedRecord), logged \(log.loggedRecord), next \(log.nextRecord)")
    }

    /// Everything that must hold between two calls, at a price: for tests and the simulator.
    public func checkInvariants() {
        checkOrder()
        let held = state.map.mappedBlocks + state.freed.blocks + state.doubts.keptBlocks
        let used = superblock.geometry.dataBlocks - allocator.freeBlocks
        invariant(held <= used, "\(held) blocks are referred to, only \(used) are in use")
        invariant(hasFailed || used - held <= UInt64(admittedBlocks), "\(used - held) blocks are lost, \(admittedBlocks) are on their way")
        invariant(state.doubts.count + admittedDoubts <= doubtsMax, "more in doubt than the limit")
    }

    /// Nothing under way and nothing waiting: what a quiet store looks like.
    public var isQuiet: Bool {
        operationsUnderWay == 0 && slots.usedCount == 0 && reads.usedCount == 0 && effects.isEmpty && wakeAt == .never
    }

    // MARK: Failure

    /// Nothing is acknowledged any more. A failed write or flush is never retried into success: what is on the disk now is found out by
    /// loading the store again.
    mutating func fail(_ reason: String) {
        guard !hasFailed else { return }
        hasFailed = true
        failure = reason
        ownMarks.hit(.failed)
    }

    /// When the disk has let go of all memory, every request ends.
    private mutating func finishFailed() {
        guard operationsUnderWay == 0, let reason = failure else { return }
        failure = nil
        for index in 0..<UInt32(options.requestsMax) {
            if slots.isUsed(index) { finish(index, .diskFailed) }
            if reads.isUsed(index) { finishRead(index, .diskFailed) }
        }
        effects.append(.failed(reason))
    }

    /// A request ends.
    mutating func finish(_ index: UInt32, _ status: Status) {
        let tag = slots[index].pointee.tag
        slots.give(index)
        if tag != PartStore.noTag { effects.append(.finished(tag: tag, status)) }
    }

    mutating func finishRead(_ index: UInt32, _ status: Status) {
        let tag = reads[index].pointee.tag
        reads.give(index)
        effects.append(.finished(tag: tag, status))
    }

    struct Counters {
        var diskReads: UInt64 = 0
        var diskWrites: UInt64 = 0
        var diskWrittenBytes: UInt64 = 0
        var diskFlushes: UInt64 = 0
        var damagedReads: UInt64 = 0
        var snapshots: UInt64 = 0
    }
}

/// Space, and what the disk was asked for since the store was loaded.
public struct StoreStatistics: Hashable, Sendable {
    public var capacityBytes: UInt64
    public var freeBytes: UInt64
    public var usedBytes: UInt64
    public var diskReads: UInt64
    public var diskWrites: UInt64
    public var diskWrittenBytes: UInt64
    public var diskFlushes: UInt64
    public var damagedReads: UInt64
    /// Blocks that could not be read since the store was loaded, and have not been overwritten.
    public var damagedBlocks: UInt64
    /// Times that the state was written compactly.
    public var snapshots: UInt64
    /// Written since the mark, each with what it replaced.
    public var blocksInDoubt: UInt64
    public var requestsWaitingForSpace: UInt64
    /// Memory of the map.
    public var mapBytes: UInt64
}

/// What a disk effect was for, in the upper bits of its token.
enum DiskToken: UInt32 {
    case read = 0x1000_0000
    case data = 0x2000_0000
    case log = 0x3000_0000
    case flush = 0x4000_0000
    case segment = 0x5000_0000
    case superblock = 0x6000_0000

    static let indexMask: UInt32 = 0x0fff_ffff

    var what: String {
        switch self {
        case .read: "reading data"
        case .data: "writing data"
        case .log: "writing the log"
        case .flush: "flushing"
        case .segment: "writing a snapshot"
        case .superblock: "writing the superblock"
        }
    }
}
