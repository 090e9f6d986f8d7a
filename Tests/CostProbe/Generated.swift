import Base
import Environment
import Glibc
import PartStore
import Reactor
import Simulation

/// Bytes to disk per write, log, snapshots and superblocks included: 8 GiB of store, 4 GiB of volume.
func measureAmplification(writes: Int, depth: Int) throws(Failure) -> String {
    let bytes: UInt64 = 8 << 30
    let disk = CountingDisk(try emptyStore(bytes: bytes), geometry: try Geometry(diskBytes: bytes))
    let volumeBlocks: UInt64 = (4 << 30) / UInt64(Block.bytes)
    let writer = Writer(disk, volumeBytes: volumeBlocks * UInt64(Block.bytes), depth: depth)
    let before = disk.writtenBytes
    for _ in 0..<writes { writer.write(disk.draw() % volumeBlocks) }
    writer.finish()
    let perWrite = Double(disk.writtenBytes - before) / Double(writes)
    let snapshots = disk.store.statistics.snapshots
    return "{\"writes\":\(writes),\"depth\":\(depth),\"disk_bytes_per_write\":\(rounded(perWrite)),"
        + "\"ratio\":\(rounded(perWrite / Double(Block.bytes))),\"snapshots\":\(snapshots)}"
}

private func rounded(_ value: Double) -> Double { (value * 1000).rounded() / 1000 }

/// A new store in the simulated world, where a disk takes no space until it is written.
private func emptyStore(bytes: UInt64) throws(Failure) -> PartStore {
    let universe = Universe(seed: 1, timing: .constant)
    let host = universe.addHost("oss")
    host.addDisk("/disk", bytes: bytes)
    let world = host.start("ost")
    let loading = Loading()
    world.spawn { await loading.run(world, "/disk", initializing: true) }
    universe.run(while: { !loading.hasEnded }, limit: .seconds(60))
    return try loading.take()
}

/// Where a task leaves the store that it has loaded.
private final class Loading {
    private var store: PartStore?
    private var failure: Failure?
    private(set) var seconds = 0.0
    private(set) var hasEnded = false

    func run(_ world: any World, _ path: String, initializing: Bool) async {
        do throws(Failure) {
            let operations = Operations(world)
            let disk = try world.openDisk(path, .readWrite)
            if initializing {
                try await StoreFile.initialize(operations, disk: disk, path: path, cluster: Identifier(high: 1, low: 1))
            }
            let began = world.now
            store = .some(try await StoreFile.load(operations, disk: disk, path: path))
            seconds = Double((world.now - began).nanoseconds) / 1e9
            world.closeDisk(disk)
        } catch { failure = error }
        hasEnded = true
    }

    func take() throws(Failure) -> PartStore {
        if let failure { throw failure }
        guard let store = store.take() else { unreachable("the store is taken once") }
        return store
    }
}

private func loadForReal(_ path: String, initializing: Bool) throws(Failure) -> Loading {
    let reactor = try Reactor()
    let loading = Loading()
    reactor.spawn {
        await loading.run(reactor, path, initializing: initializing)
        reactor.stop()
    }
    reactor.run()
    reactor.close()
    return loading
}

/// A store whose volume was written in random order, a block at a time: the worst that a snapshot can be.
func generate(_ path: String, storeGiB: Int, mappedGiB: Int) throws(Failure) {
    let bytes = UInt64(storeGiB) << 30
    let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644)
    guard descriptor >= 0, ftruncate(descriptor, off_t(bytes)) == 0 else { throw Failure(.invalidArgument, "\(path) cannot be made") }
    let store = try loadForReal(path, initializing: true).take()
    let disk = CountingDisk(store, geometry: try Geometry(diskBytes: bytes), descriptor: descriptor)
    let blocks = UInt64(mappedGiB) << 30 / UInt64(Block.bytes)
    let writer = Writer(disk, volumeBytes: blocks * UInt64(Block.bytes), depth: 256)
    // A step without a common divisor visits each block once.
    var step = blocks * 618 / 1000 | 1
    while !areCoprime(step, blocks) { step += 2 }
    var block: UInt64 = 0
    for _ in 0..<blocks {
        block = (block + step) % blocks
        writer.write(block)
    }
    writer.finish()
    close(descriptor)
}

private func areCoprime(_ left: UInt64, _ right: UInt64) -> Bool {
    var (left, right) = (left, right)
    while right != 0 { (left, right) = (right, left % right) }
    return left == 1
}

func writeFile(_ descriptor: Int32, _ base: UnsafeRawPointer, _ count: Int, _ offset: UInt64) {
    let written = pwrite(descriptor, base, count, off_t(offset))
    invariant(written == count, "only \(written) of \(count) bytes could be written")
}

func measureOpening(_ path: String) throws(Failure) -> String {
    let loading = try loadForReal(path, initializing: false)
    let store = try loading.take()
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    let mapped = Double(store.statistics.usedBytes) / Double(1 << 30)
    return "{\"mapped_gib\":\(rounded(mapped)),\"open_seconds\":\(rounded(loading.seconds)),\"memory_mib\":\(usage.ru_maxrss / 1024)}"
}
