import Base
import Environment
import Simulation
import Testing

@testable import PartStore

@Suite struct StoreDamageTests {
    @Test func aFlippedBlockIsAnErrorUntilItIsOverwrittenAndItsNeighboursAreNot() throws {
        let bench = Bench()
        bench.format()
        for block in 0..<8 { #expect(bench.write(UInt32(block), 100 + UInt64(block)) == .ok) }
        let place = try #require(bench.find(103).first)
        bench.disk.media.flip(place + 77, bit: 3)
        #expect(bench.read(3).0 == .damaged)
        #expect(bench.damagedBlocks == [3] && bench.shell.use { $0.statistics.damagedBlocks } == 1)
        #expect(bench.write(2, 202) == .ok && bench.write(4, 204) == .ok)
        #expect(bench.read(3).0 == .damaged)
        #expect(bench.read(2) == (.ok, 202) && bench.read(4) == (.ok, 204))
        #expect(bench.restart() == nil)
        #expect(bench.read(3).0 == .damaged)
        #expect(bench.shell.use { $0.statistics.damagedBlocks } == 1, "met again, and counted once")
        #expect(bench.write(3, 203) == .ok)
        #expect(bench.read(3) == (.ok, 203) && bench.shell.use { $0.statistics.damagedBlocks } == 0)
    }

    /// What no other member could give either.
    @Test func lostBlocksAreErrorsThroughRestartsUntilTheyAreOverwritten() throws {
        let bench = Bench()
        bench.format()
        for block in 0..<8 { #expect(bench.write(UInt32(block), 100 + UInt64(block)) == .ok) }
        #expect(bench.zero(0, 2, count: 3, isLost: true) == .ok && bench.zero(0, 5) == .ok)
        for _ in 0..<2 {
            for block in 2..<5 as Range<UInt32> { #expect(bench.read(block).0 == .damaged) }
            #expect(bench.shell.use { $0.statistics.damagedBlocks } == 3)
            #expect(bench.read(1) == (.ok, 101) && bench.read(5) == (.ok, 0) && bench.read(6) == (.ok, 106))
            #expect(bench.restart() == nil)
        }
        #expect(bench.write(3, 203) == .ok && bench.zero(0, 4) == .ok)
        #expect(bench.read(2).0 == .damaged && bench.read(3) == (.ok, 203) && bench.read(4) == (.ok, 0))
    }

    @Test func verifyNamesEveryDamagedBlockByVolumeAndOffset() throws {
        let bench = Bench()
        bench.format()
        for block in 0..<20 { #expect(bench.write(UInt32(block), 100 + UInt64(block)) == .ok) }
        for value in [105, 106, 111] { bench.disk.media.flip(try #require(bench.find(UInt64(value)).first), bit: 0) }
        let unreadable = try #require(bench.find(117).first)
        bench.disk.media.makeUnreadable(sectorAt: unreadable + 512)
        (bench.shell.world as? SimWorld)?.kill()
        bench.universe.run(for: .milliseconds(10))
        bench.shell = StoreShell(bench.host.start("verify"), path: "/disk", options: PartStore.Options())
        var report = StoreVerifier.Report()
        var held: [StoreVerifier.Held] = []
        let failure = bench.run {
            let world = bench.shell.world
            let disk = try world.openDisk("/disk", .readOnly)
            report = try await StoreVerifier.verify(Operations(world), disk: disk, path: "/disk", found: { held.append($0) })
        }
        #expect(failure == nil)
        #expect(report.blocks == 20)
        held.sort { $0.block < $1.block }
        #expect(held.map(\.block) == Array(0..<20))
        #expect(held.filter(\.isDamaged).map(\.block) == [5, 6, 11, 17])
        #expect(Set(held.map(\.check)).count == 20)
        #expect(
            report.damaged.map { "\($0.volume) \($0.offset) \($0.bytes)" } == ["v 20480 8192", "v 45056 4096", "v 69632 4096"])
    }

    @Test func dataThatDoesNotMatchItsChecksIsNotWritten() {
        let bench = Bench()
        bench.format()
        #expect(bench.write(0, 1) == .ok)
        #expect(bench.write(0, 2, wrongCheck: true) == .checksumMismatch)
        #expect(bench.read(0) == (.ok, 1))
    }

    @Test func oneDamagedSuperblockIsSurvivedAndTwoAreNamed() {
        let bench = Bench()
        bench.format()
        #expect(bench.write(0, 1) == .ok)
        bench.disk.media.flip(100, bit: 1)
        #expect(bench.restart() == nil)
        #expect(bench.read(0) == (.ok, 1))
        bench.disk.media.flip(100, bit: 1)
        bench.disk.media.flip(4196, bit: 1)
        bench.disk.media.flip(101, bit: 1)
        bench.disk.media.flip(4197, bit: 1)
        let failure = bench.restart()
        #expect(failure?.status == .malformed)
        #expect(failure?.detail.contains("damaged") == true)
    }

    @Test func aLogThatRottedIsRefusedAndNotTakenForATornOne() {
        let bench = Bench()
        bench.format()
        for block in 0..<200 { #expect(bench.write(UInt32(block), 1000 + UInt64(block)) == .ok) }
        bench.disk.media.flip(16 * 4096 + 5000, bit: 2)
        let failure = bench.restart()
        #expect(failure?.status == .damaged)
        #expect(failure?.detail.contains("the log is damaged at record") == true)
    }

    @Test func aDiskThatHoldsSomethingIsNotFormatted() {
        let bench = Bench()
        bench.format()
        (bench.shell.world as? SimWorld)?.kill()
        bench.universe.run(for: .milliseconds(10))
        bench.shell = StoreShell(bench.host.start("again"), path: "/disk", options: PartStore.Options())
        let failure = bench.run { try await bench.shell.format() }
        #expect(failure?.status == .alreadyExists)
    }

    @Test func aStoreThatIsTooSmallOrTooLargeIsRefusedWithASentence() {
        #expect(throws: Failure.self) { try Geometry(diskBytes: 1 << 20) }
        #expect { try Geometry(diskBytes: 17 << 40) } throws: { "\($0)".contains("two partitions") }
    }

    @Test func aSnapshotThatRottedIsRefused() {
        let bench = Bench(bytes: 8 << 20)
        bench.format()
        var value: UInt64 = 1
        while bench.shell.use({ $0.statistics.snapshots }) == 0, value < 20000 {
            #expect(bench.write(UInt32(value % 500), value) == .ok)
            value += 1
        }
        let half = bench.shell.use { Int($0.superblock.snapshotHalf) }
        let start = bench.shell.use { $0.superblock.geometry.halfStart(half) }
        #expect(bench.restart() == nil)
        bench.disk.media.flip(start + 300, bit: 5)
        let failure = bench.restart()
        #expect(failure?.status == .damaged)
        #expect(failure?.detail.contains("snapshot") == true)
    }
}
