import Base
import Environment
import Simulation
import Testing
import VolumeEngine
import Wire

/// What an open after a crash and an exclusion cost does not grow with the volume: here it has 1 TiB, and as many placements as there can
/// be.
@Suite struct SizeTests {
    private static let chunkBytes: UInt64 = 4 << 20
    /// Chunks far from each other, on all placements.
    private static let stride = Int(chunkBytes) / Block.bytes * 257

    private func run(seed: UInt64) throws -> VolumeRun {
        try VolumeRun(seed: seed, placements: Limits.placementsMax, bytes: 1 << 40, chunkBytes: SizeTests.chunkBytes)
    }

    @Test func itIsOpenedWithinTwoSecondsOfACrash() throws {
        let run = try run(seed: 41)
        #expect(try run.map().placementCount == Limits.placementsMax)
        try run.open()
        for round in 0..<4 {
            for write in 0..<200 { run.submit(.write, (round * 200 + write) * SizeTests.stride, 1) }
            if round < 3 { try run.drain() }
        }
        run.bench.universe.run(for: .milliseconds(1))
        #expect(run.failures() == [])
        run.crash()
        let asked = run.bench.universe.now
        try run.open()
        #expect(run.bench.universe.now - asked < .seconds(2))
        #expect(run.bench.logs.contains { $0.contains("reconcil") }, "it left nothing to be made equal")
        try run.close()
    }

    @Test func anExclusionIsOneTransaction() throws {
        let run = try run(seed: 42)
        try run.open()
        for write in 0..<200 { run.submit(.write, write * SizeTests.stride, 1) }
        try run.drain()
        let (id, before) = (try run.map().object.id, run.bench.contents.revision)
        run.bench.osts[1].kill()
        for write in 0..<200 { run.submit(.write, write * SizeTests.stride, 1) }
        try run.bench.waitUntil("it is excluded") { run.states(id).contains(.stale) }
        #expect(run.bench.contents.revision.number == before.number + 1)
        try run.drain()
        #expect(run.failures() == [])
        #expect(try run.map().entries.count { $0.state == .stale } > Limits.placementsMax / 2)
        try run.close()
    }
}
