import Base
import Environment
import Simulation
import Testing

@testable import PartStore

/// A store on one simulated disk, driven a request at a time.
private final class Bench {
    let universe = Universe(seed: 1, timing: .constant)
    let host: SimHost
    let disk: SimDisk
    var shell: StoreShell
    private var statuses: [UInt32: Status] = [:]
    private var nextTag: UInt32 = 1
    private(set) var object = ObjectNumber(0)
    private var sequence: UInt64 = 0
    private(set) var damagedBlocks: [UInt32] = []

    init(bytes: UInt64 = 16 << 20) {
        host = universe.addHost("ost")
        disk = host.addDisk("/disk", bytes: bytes)
        shell = StoreShell(host.start("ost"), path: "/disk", options: PartStore.Options())
    }

    /// Runs asynchronous code to its end; the failure, if it threw one.
    @discardableResult
    func run(_ body: @escaping () async throws -> Void) -> Failure? {
        var outcome: Result<Void, any Error>?
        shell.world.spawn {
            do {
                try await body()
                outcome = .success(())
            } catch { outcome = .failure(error) }
        }
        _ = universe.run(while: { outcome == nil }, limit: .seconds(60))
        guard case .failure(let failure) = outcome else { return nil }
        return failure as? Failure
    }

    func format(volumeBytes: UInt64 = 8 << 20) {
        let failure = run { [self] in try await shell.format() }
        #expect(failure == nil)
        #expect(mount() == nil)
        #expect(request { $0.create(tag: $1, ObjectRecord(id: Identifier(high: 1, low: 1), name: "v", bytes: volumeBytes)) } == .ok)
        object = shell.use { $0.find(name: "v") } ?? ObjectNumber(0)
        #expect(request { $0.fence(tag: $1, self.object, generation: 1, map: 0, settles: true) } == .ok)
    }

    func mount() -> Failure? {
        shell.onFinished = { [unowned self] in statuses[$0] = $1 }
        shell.onDamaged = { [unowned self] in damagedBlocks.append($0) }
        return run { [self] in try await shell.mount() }
    }

    func restart() -> Failure? {
        (shell.world as? SimWorld)?.kill()
        universe.run(for: .milliseconds(10))
        shell = StoreShell(host.start("ost"), path: "/disk", options: PartStore.Options())
        return mount()
    }

    func request(_ body: (inout PartStore, UInt32) -> Status) -> Status? {
        let tag = nextTag
        nextTag += 1
        let status = shell.use { body(&$0, tag) }
        guard status == .ok else { return status }
        _ = universe.run(while: { statuses[tag] == nil }, limit: .seconds(60))
        return statuses[tag]
    }

    func write(_ block: UInt32, _ value: UInt64, count: Int = 1, wrongCheck: Bool = false) -> Status? {
        sequence += 1
        let data = UnsafeMutableRawBufferPointer.allocate(byteCount: count * Block.bytes, alignment: Block.bytes)
        defer { data.deallocate() }
        data.initializeMemory(as: UInt64.self, repeating: value)
        var checks = (0..<count).map { Checksum.of(UnsafeRawBufferPointer(rebasing: data[($0 * Block.bytes)..<(($0 + 1) * Block.bytes)])) }
        if wrongCheck { checks[0] ^= 1 }
        return checks.withUnsafeBytes { checks in
            request {
                let target = WriteTarget(
                    object: object, part: PartAddress(chunk: 0), firstBlock: block, blockCount: UInt32(count),
                    version: Version(generation: 1, sequence: sequence), mark: sequence - 1, isDurable: true)
                return $0.write(tag: $1, target, memory: data.baseAddress!, checks: checks.baseAddress!)
            }
        }
    }

    func zero(_ chunk: UInt32, _ block: UInt32) -> Status? {
        sequence += 1
        let target = WriteTarget(
            object: object, part: PartAddress(chunk: chunk), firstBlock: block, blockCount: 1,
            version: Version(generation: 1, sequence: sequence), mark: sequence - 1)
        return request { $0.zero(tag: $1, target) }
    }

    func read(_ block: UInt32) -> (Status?, UInt64) {
        let data = UnsafeMutableRawBufferPointer.allocate(byteCount: Block.bytes + 8, alignment: Block.bytes)
        defer { data.deallocate() }
        let status = request {
            $0.read(
                tag: $1, object, PartAddress(chunk: 0), firstBlock: block, blockCount: 1, memory: data.baseAddress!,
                checks: data.baseAddress! + Block.bytes)
        }
        return (status, data.load(as: UInt64.self))
    }

    /// Where this content stands on the disk: every copy.
    func find(_ value: UInt64) -> [UInt64] {
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Block.bytes, alignment: 8)
        defer { block.deallocate() }
        return stride(from: UInt64(0), to: disk.media.bytes, by: Block.bytes).filter {
            disk.media.read($0, into: block.baseAddress!, Block.bytes)
            return block.load(as: UInt64.self) == value && block.load(fromByteOffset: 2048, as: UInt64.self) == value
        }
    }
}

@Suite struct StoreDamageTests {
    @Test func aFlippedBlockIsAnErrorUntilItIsOverwrittenAndItsNeighboursAreNot() throws {
        let bench = Bench()
        bench.format()
        for block in 0..<8 { #expect(bench.write(UInt32(block), 100 + UInt64(block)) == .ok) }
        let place = try #require(bench.find(103).first)
        bench.disk.media.flip(place + 77, bit: 3)
        #expect(bench.read(3).0 == .damaged)
        #expect(bench.damagedBlocks == [3])
        #expect(bench.write(2, 202) == .ok && bench.write(4, 204) == .ok)
        #expect(bench.read(3).0 == .damaged)
        #expect(bench.read(2) == (.ok, 202) && bench.read(4) == (.ok, 204))
        #expect(bench.restart() == nil)
        #expect(bench.read(3).0 == .damaged)
        #expect(bench.write(3, 203) == .ok)
        #expect(bench.read(3) == (.ok, 203))
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
        let failure = bench.run {
            let world = bench.shell.world
            report = try await StoreVerifier.verify(Operations(world), disk: try world.openDisk("/disk", .readOnly), path: "/disk")
        }
        #expect(failure == nil)
        #expect(report.blocks == 20)
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

@Suite struct StoreRoomTests {
    /// Each lone zero block takes its room in a snapshot, although it takes none among the data.
    @Test func everyOtherBlockZeroedFillsTheStoreAndNotMoreThanTheLogArea() {
        let bench = Bench(bytes: 8 << 20)
        bench.format(volumeBytes: 1 << 30)
        var status: Status? = .ok
        var zeroed: UInt32 = 0
        while status == .ok, zeroed < 20_000 {
            status = bench.zero(zeroed / 512, zeroed % 512 * 2)
            zeroed += 1
        }
        #expect(status == .noSpace)
        // Overwrites go on, and the log moves on with them.
        let before = bench.shell.use { $0.statistics.snapshots }
        for step in 0..<3000 as Range<UInt32> where status == .noSpace { #expect(bench.zero(step % 8, step % 512 * 2) == .ok) }
        #expect(bench.shell.use { $0.statistics.snapshots } > before)
        #expect(bench.restart() == nil)
        #expect(bench.zero(0, 0) == .ok)
    }

    @Test func aZeroThatASmallStoreCannotHoldInDoubtIsRefused() {
        let bench = Bench(bytes: 4 << 20)
        bench.format()
        let target = WriteTarget(
            object: bench.object, part: PartAddress(chunk: 0), firstBlock: 0, blockCount: 1024, version: Version(generation: 1, sequence: 1)
        )
        #expect(bench.request { $0.zero(tag: $1, target) } == .noSpace)
    }
}

@Suite struct AllocatorTests {
    @Test func spaceIsHandedOutOnceAndComesBack() {
        var allocator = Allocator(first: 100, end: 1000)
        let extents = UnsafeMutablePointer<Allocator.Extent>.allocate(capacity: 900)
        defer { extents.deallocate() }
        var seen = Set<UInt32>()
        var random = Random(seed: 1)
        while allocator.freeBlocks > 0 {
            let count = min(Int(allocator.freeBlocks), 1 + random.below(40))
            let used = allocator.allocate(count, into: extents)
            var total = 0
            for extent in UnsafeBufferPointer(start: extents, count: used) {
                for block in extent.first..<extent.first + extent.count {
                    #expect(seen.insert(block).inserted && block >= 100 && block < 1000)
                }
                total += Int(extent.count)
            }
            #expect(total == count)
        }
        #expect(seen.count == 900)
        for block in seen { allocator.release(block) }
        #expect(allocator.freeBlocks == 900)
        #expect(allocator.allocate(256, into: extents) == 1)
    }
}
