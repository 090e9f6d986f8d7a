import Base
import Environment
import Simulation
import Testing

@testable import PartStore

@Suite struct StoreRestartTests {
    /// Writes until the log has moved to its other half and records stand there, while the snapshot is not finished.
    private func bringToMidSnapshot(_ bench: Bench) -> Bool {
        let data = UnsafeMutableRawBufferPointer.allocate(byteCount: Block.bytes, alignment: Block.bytes)
        defer { data.deallocate() }
        data.initializeMemory(as: UInt64.self, repeating: 77)
        let check = [Checksum.of(UnsafeRawBufferPointer(data))]
        var sequence: UInt64 = 1
        for round in 0..<60_000 {
            bench.shell.use { store in
                for _ in 0..<4 where store.slots.usedCount < 40 {
                    sequence += 1
                    let target = WriteTarget(
                        object: bench.object, part: PartAddress(chunk: 0), firstBlock: UInt32(sequence % 500), blockCount: 1,
                        version: Version(generation: 1, sequence: sequence), mark: store.durableSequence(of: bench.object))
                    _ = check.withUnsafeBytes {
                        store.write(tag: 1_000_000 + UInt32(sequence), target, memory: data.baseAddress!, checks: $0.baseAddress!)
                    }
                }
            }
            bench.universe.run(for: .microseconds(3))
            let isThere = bench.shell.use {
                switch $0.snapshot.phase {
                case .waiting, .objects, .volumes, .pages, .written, .flushing: $0.log.loggedRecord >= $0.snapshot.tailRecord && round > 0
                case .idle, .superblock, .superblockWritten, .superblockFlushing, .secondSuperblock: false
                }
            }
            if isThere {
                // Every write's memory must outlive its disk operation.
                bench.universe.run(for: .microseconds(1))
                (bench.shell.world as? SimWorld)?.kill()
                return true
            }
        }
        return false
    }

    @Test func aSnapshotThatACrashBrokeOffIsFinishedAndLosesNothing() {
        let bench = Bench(bytes: 8 << 20)
        bench.format()
        #expect(bringToMidSnapshot(bench))
        #expect(bench.restart() == nil)
        #expect(bench.request { $0.fence(tag: $1, bench.object, generation: 2, map: 0, settles: true) } == .ok)
        bench.universe.run(for: .seconds(3))
        #expect(bench.shell.use { $0.statistics.snapshots } == 1)
        #expect(bench.restart() == nil)
        #expect(bench.shell.use { $0.generation(of: bench.object) } == 2)
    }

    @Test func scatteredDiscardsFillTheStoreWithoutEndingIt() {
        let bench = Bench(bytes: 8 << 20)
        bench.format()
        #expect(bench.request { $0.resize(tag: $1, bench.object, bytes: 1 << 30) } == .ok)
        var refusals = 0
        for block in 0..<UInt32(40_000) where refusals < 3 {
            if bench.zero(block * 2 / 1024, block * 2 % 1024) == .noSpace { refusals += 1 }
        }
        // The map takes more room than the log has for its snapshot: an answer, not a crash, also after a restart.
        #expect(refusals == 3)
        #expect(bench.restart() == nil)
        #expect(bench.read(1).0 == .ok)
    }

    /// Pages are captured one after the other: what a mark takes from those before is discarded anew in those that come.
    @Test func discardsAheadOfASnapshotStayWithinItsRoom() {
        let bench = Bench(bytes: 64 << 20, isVolatile: false)
        bench.format()
        #expect(bench.request { $0.resize(tag: $1, bench.object, bytes: 1 << 40) } == .ok)
        let pages: UInt32 = 1536
        for page in 0..<pages { #expect(bench.zero(page, 0) == .ok) }
        var value: UInt64 = 1
        while bench.shell.use({ $0.snapshot.phase != .pages }), value < 60_000 {
            #expect(bench.write(UInt32(value % 500), value, isDurable: false) == .ok)
            value += 1
        }
        var discards = 0
        while let next = bench.shell.use({ $0.snapshot.phase == .pages ? $0.snapshot.nextPage : nil }) {
            let page = min(next + 24, pages - 2)
            for chunk in page..<page + 2 {
                #expect(bench.zero(chunk, 0, count: UInt32(Block.perPage), isDurable: true) == .ok)
            }
            discards += 1
        }
        #expect(discards > 1)
        bench.universe.run(for: .seconds(3))
        let geometry = bench.shell.use { $0.superblock.geometry }
        #expect(bench.shell.use { $0.statistics.snapshots } == 1)
        #expect(bench.shell.use { $0.snapshot.doubts } > geometry.capturedDoubtsMax)
        #expect(bench.restart() == nil)
    }

    @Test func aMapThatMayNotGrowRefusesNewBlocksAndTakesOverwrites() {
        let bench = Bench(bytes: 64 << 20)
        bench.format()
        #expect(bench.request { $0.resize(tag: $1, bench.object, bytes: 1 << 40) } == .ok)
        let empty = bench.shell.use { $0.statistics.mapBytes }
        bench.options.mapBytesMax = empty + (1 << 20)
        #expect(bench.restart() == nil)
        #expect(bench.request { $0.fence(tag: $1, bench.object, generation: 1, map: 0, settles: true) } != .diskFailed)
        #expect(bench.write(0, 1) == .ok)
        // One block in each 4 MiB: a page and a leaf each time.
        var taken: UInt32 = 0
        while taken < 10_000, bench.zero(taken + 1, 0) == .ok { taken += 1 }
        #expect(taken > 500 && taken < 10_000)
        #expect(bench.zero(taken + 2, 0) == .noSpace)
        #expect(bench.write(0, 2) == .ok)
        #expect(bench.read(0) == (.ok, 2))
        #expect(bench.zero(1, 0) == .ok)
        bench.options.loadBytesMax = 1 << 20
        let refusal = bench.restart()
        #expect(refusal?.status == .outOfMemory && refusal?.detail.contains("--memory") == true)
        bench.options.loadBytesMax = .max
        #expect(bench.restart() == nil)
        #expect(bench.read(0) == (.ok, 2))
        // What a removed object took is free for others.
        #expect(bench.request { $0.remove(tag: $1, bench.object) } == .ok)
        bench.universe.run(for: .seconds(10))
        #expect(bench.shell.use { $0.statistics.mapBytes } < empty + 100_000)
    }

    @Test func dataThatRotsBeforeTheNextBatchIsDamageAfterACrashAndNotALostTail() throws {
        let bench = Bench()
        bench.format()
        for block in 0..<8 { #expect(bench.write(UInt32(block), 100 + UInt64(block), isDurable: false) == .ok) }
        #expect(bench.write(20, 120, isDurable: false) == .ok)
        bench.disk.media.flip(try #require(bench.find(104).first) + 9, bit: 2)
        #expect(bench.restart() == nil)
        #expect(bench.read(4).0 == .damaged)
        #expect(bench.read(3) == (.ok, 103) && bench.read(7) == (.ok, 107) && bench.read(5) == (.ok, 105))
    }

    @Test func anIdleStoreSaysInItsLogWhatIsDurable() throws {
        let bench = Bench()
        bench.format()
        #expect(bench.write(4, 104) == .ok)
        bench.universe.run(for: .seconds(4))
        #expect(bench.shell.use { $0.isQuiet })
        bench.disk.media.flip(try #require(bench.find(104).first) + 9, bit: 2)
        // Not even a loss of power makes the last write of a store a lost one once it was idle.
        bench.host.losePower()
        bench.host.restorePower()
        #expect(bench.restart() == nil)
        #expect(bench.read(4).0 == .damaged)
    }

    /// The reload that follows a failure is broken off; the daemon that is started then cannot know of the failure but from the disk.
    @Test func aFailedDiskIsDistrustedAlsoByTheNextProcess() {
        let bench = Bench()
        bench.format()
        #expect(bench.write(4, 104) == .ok)
        let boot = bench.shell.use { $0.boot }
        #expect(bench.restart() == nil)
        #expect(bench.shell.use { $0.boot } == boot)
        bench.disk.fails = { $0.kind == .flush }
        #expect(bench.write(4, 105) == .diskFailed)
        // Not those of superblocks, which follow a write.
        var last = SimDisk.Kind.free
        bench.disk.fails = { access in
            defer { last = access.kind }
            return access.kind == .flush && last != .write
        }
        #expect(bench.run { try await bench.shell.mount(afterFailure: true) } != nil)
        bench.disk.fails = nil
        #expect(bench.restart() == nil)
        #expect(bench.shell.use { $0.boot } != boot)
    }

    /// A start after a loss of power is broken off before it has written down what was lost.
    @Test func whatWasLostWithThePowerIsLostForTheSecondStartToo() throws {
        let bench = Bench()
        bench.format()
        #expect(bench.write(4, 104) == .ok)
        #expect(bench.write(4, 105, isDurable: false) == .ok)
        // The log says that the other one is complete, and not that it is durable.
        #expect(bench.write(5, 106, isDurable: false) == .ok)
        let place = try #require(bench.find(105).first)
        let log = bench.shell.use { $0.superblock.geometry.halfStart(0) }
        bench.disk.media.flush(upTo: bench.disk.media.mark)
        bench.host.losePower()
        bench.host.restorePower()
        bench.disk.media.flip(place + 9, bit: 2)
        bench.disk.fails = { $0.kind == .write && $0.offset >= log }
        #expect(bench.restart() != nil)
        bench.disk.fails = nil
        #expect(bench.restart() == nil)
        #expect(bench.read(4) == (.ok, 104))
    }

    @Test func anUnreadableSectorBehindTheLogIsNoHarm() {
        let bench = Bench()
        bench.format()
        for block in 0..<8 { #expect(bench.write(UInt32(block), 100 + UInt64(block)) == .ok) }
        let end = bench.shell.use { $0.superblock.geometry.halfStart($0.log.half) + UInt64($0.log.offset) }
        bench.disk.media.makeUnreadable(sectorAt: end + 65_536)
        #expect(bench.restart() == nil)
        #expect(bench.read(7) == (.ok, 107))
    }

    @Test func theSecondSuperblockIsNeverOld() {
        let bench = Bench(bytes: 8 << 20)
        bench.format()
        var value: UInt64 = 1
        while bench.shell.use({ $0.statistics.snapshots }) < 3, value < 60_000 {
            _ = bench.write(UInt32(value % 500), value, isDurable: false)
            value += 1
        }
        #expect(bench.shell.use { $0.statistics.snapshots } == 3)
        for copy in [0, 1] {
            bench.disk.media.flip(UInt64(copy) * 4096 + 200, bit: 1)
            #expect(bench.restart() == nil, "with copy \(copy) damaged")
            #expect(bench.read(UInt32((value - 1) % 500)) == (.ok, value - 1))
        }
    }
}
