import Base
import Environment

/// The rare work on a whole store: making one, mounting it, checking it. Straight-line code; the engine is not running meanwhile.
public enum StoreFile {
    /// Makes an empty store on a disk that holds none.
    public static func initialize(
        _ operations: Operations, disk: DiskID, path: String, cluster: Identifier
    ) async throws(Failure) {
        let world = operations.world
        let geometry = try Geometry(diskBytes: world.traits(of: disk).bytes)
        let buffer = PageBuffer(bytes: 2 * Block.bytes)
        try await operations.read(disk, at: 0, into: buffer.bytes)
        guard buffer.bytes.allSatisfy({ $0 == 0 }) else {
            throw Failure(.alreadyExists, "\(path) is not empty; 'wipefs --all' or 'blkdiscard' clears a device, a file is removed first")
        }
        var superblock = Superblock(
            cluster: cluster,
            store: Identifier(wallClockMilliseconds: world.wallClockMilliseconds, random: (world.random(), world.random())),
            geometry: geometry)
        superblock.createdMilliseconds = world.wallClockMilliseconds
        // An old log that happens to stand here belongs to another store and is never taken for ours; nothing else needs clearing.
        superblock.encode(to: buffer.base)
        superblock.revision = 0
        superblock.encode(to: buffer.base + Block.bytes)
        superblock.revision = 1
        superblock.encode(to: buffer.base)
        try await operations.write(disk, at: 0, from: buffer.bytes)
        try await operations.flush(disk)
    }

    /// Mounts a store: rebuilds its state, raises the mount counter, and makes everything that was found durable.
    public static func load(
        _ operations: Operations, disk: DiskID, path: String, options: PartStore.Options = PartStore.Options(), afterFailure: Bool = false
    ) async throws(Failure) -> PartStore {
        let world = operations.world
        if afterFailure, !mutated(.keepsBootAfterFailure) { try await distrust(operations, disk, path) }
        var loader = try await StoreLoader(operations, disk: disk, path: path, bytesMax: options.loadBytesMax)
        var state = try await loader.rebuild()
        if mutated(.forgetsDoubtAfterPowerLoss), loader.lostPower { state.forgetDoubts() }
        let allocator = try allocator(for: &state, loader.superblock.geometry)
        // The daemon ended while it wrote a snapshot. It is written anew, to the room that was kept for it.
        let goesOn = loader.half != Int(loader.superblock.snapshotHalf)
        let bound = Int(state.imageBytesBound) + state.doubts.count * PageImage.doubtBytes
        let doubtsMax = max(loader.superblock.geometry.doubtsMax, state.doubts.count)
        guard !goesOn || bound <= loader.tailStart,
            PartStore.snapshotReserve(state, doubtsMax: doubtsMax, loader.superblock.geometry) < Int(loader.superblock.geometry.halfBytes)
        else {
            throw Failure(.damaged, "the log leaves no room for a snapshot; the store was not written by this program")
        }
        state.freed.removeAll()
        state.forgetImages()
        try await operations.flush(disk)

        var superblock = loader.superblock
        superblock.revision += 1
        superblock.mountCounter += 1
        if loader.lostPower {
            superblock.boot = Identifier(wallClockMilliseconds: world.wallClockMilliseconds, random: (world.random(), world.random()))
        }
        superblock.hostBoot = world.hostBoot
        superblock.nextObject = max(superblock.nextObject, state.objects.next)
        superblock.incarnation = state.incarnation

        var log = LogWriter(
            half: loader.half, offset: loader.offset, chain: loader.chain, nextRecord: loader.nextRecord, tailStart: loader.tailStart,
            tailRecord: loader.tailRecord, tailChain: loader.tailChain)
        let lastBlock = PageBuffer(bytes: Block.bytes)
        if loader.offset % Block.bytes != 0 {
            let start = superblock.geometry.halfStart(loader.half) + UInt64(loader.offset / Block.bytes * Block.bytes)
            try await operations.read(disk, at: start, into: lastBlock.bytes)
            log.restore(lastBlock: UnsafeRawPointer(lastBlock.base))
        }
        // The superblock comes after it: whoever finds only the first of them distrusts the disk as this one did.
        if let void = loader.newVoid { try await writeVoid(from: void, &log, superblock, operations, disk) }
        try await write(superblock, operations, disk)
        let isVolatile = world.traits(of: disk).isVolatile
        var store = PartStore(
            state: state, allocator: allocator, superblock: superblock, log: log, isVolatile: isVolatile, options: options)
        if goesOn { store.beginSnapshot() }
        if loader.isTorn { store.ownMarks.hit(.tailTorn) }
        if loader.newVoid != nil { store.ownMarks.hit(.recordsVoided) }
        if goesOn { store.ownMarks.hit(.snapshotRestarted) }
        if !loader.lostPower { store.ownMarks.hit(.mountedUnderOldBoot) }
        if afterFailure { store.ownMarks.hit(.mountedAfterFailure) }
        return store
    }

    /// The disk may have lost what it had taken. Only the process that saw it fail knows that: before anything else it tells the one that
    /// comes after it, should it end before the store is back.
    private static func distrust(_ operations: Operations, _ disk: DiskID, _ path: String) async throws(Failure) {
        var superblock = try await StoreLoader(operations, disk: disk, path: path).superblock
        guard superblock.hostBoot != .zero else { return }
        superblock.revision += 1
        superblock.hostBoot = .zero
        try await write(superblock, operations, disk)
    }

    /// Says in the log, before anything else is added to it, that records were lost with the power.
    private static func writeVoid(
        from first: UInt64, _ log: inout LogWriter, _ superblock: Superblock, _ operations: Operations, _ disk: DiskID
    ) async throws(Failure) {
        let buffer = PageBuffer(bytes: Block.bytes)
        var record = LogRecord(.void, ObjectNumber(0))
        record.argument = first
        record.encode(to: buffer.base, bytes: LogRecord.headBytes)
        log.begin()
        _ = log.add(buffer.base, LogRecord.headBytes)
        guard
            let batch = log.seal(
                store: superblock.store, mountCounter: superblock.mountCounter, durableRecord: first - 1, appliedRecord: first - 1)
        else { unreachable("the batch holds a record") }
        let memory = UnsafeMutableRawBufferPointer(start: batch.memory, count: batch.bytes)
        try await operations.write(disk, at: superblock.geometry.halfStart(log.half) + UInt64(batch.offset), from: memory)
        try await operations.flush(disk)
        log.written()
    }

    private static func write(_ superblock: Superblock, _ operations: Operations, _ disk: DiskID) async throws(Failure) {
        let buffer = PageBuffer(bytes: Block.bytes)
        superblock.encode(to: buffer.base)
        // One after the other: at any time one copy is whole, and afterwards both are current.
        for copy in Geometry.superblocks {
            try await operations.write(disk, at: copy * UInt64(Block.bytes), from: buffer.bytes)
            try await operations.flush(disk)
        }
    }

    /// Every block that the state refers to is in use, once.
    static func allocator(for state: inout StoreState, _ geometry: Geometry) throws(Failure) -> Allocator {
        var allocator = Allocator(first: geometry.firstDataBlock, end: geometry.blocks)
        var collision: BlockMap.Address?
        for index in 0..<state.map.pageEnd where state.map.page(index).pointee.isUsed {
            let page = state.map.page(index).pointee
            guard state.objects.contains(page.key.object) else { continue }
            for block in 0..<Block.perPage {
                let address = state.map.lookup(index, block).address
                if address.isData, !allocator.markUsed(address.raw) { collision = address }
                guard page.doubts > 0 else { continue }
                state.doubts.forEach(index, block) { entry in
                    if entry.oldAddress.isData, !allocator.markUsed(entry.oldAddress.raw) { collision = entry.oldAddress }
                }
            }
        }
        if let collision { throw Failure(.damaged, "block \(collision.raw) has two owners; restore the store from its other members") }
        state.dropOrphanedPages()
        return allocator
    }
}
