import Base
import Environment
import Simulation
import Testing

@testable import PartStore

/// The map number of an object: it only rises, and what was answered survives.
@Suite struct MapTests {
    private func bench() -> Bench {
        let bench = Bench(bytes: 8 << 20)
        bench.format()
        return bench
    }

    private func map(_ bench: Bench) -> UInt64 { bench.shell.use { $0.record(of: bench.object).map } }

    @Test func aCreatedObjectKeepsItsMap() {
        let bench = bench()
        let record = ObjectRecord(id: Identifier(high: 1, low: 2), name: "m", bytes: 8 << 20, map: 6)
        #expect(bench.request { $0.create(tag: $1, record) } == .ok)
        #expect(bench.restart() == nil)
        #expect(bench.shell.use { $0.record(of: $0.find(name: "m") ?? ObjectNumber(0)).map } == 6)
        #expect(map(bench) == 0)
    }

    @Test func aFenceRaisesTheMapAndNeverLowersIt() {
        let bench = bench()
        #expect(bench.request { $0.fence(tag: $1, bench.object, generation: 5, map: 9, settles: false) } == .ok)
        #expect(map(bench) == 9)
        #expect(bench.request { $0.fence(tag: $1, bench.object, generation: 6, map: 4, settles: false) } == .ok)
        #expect(map(bench) == 9)
        #expect(bench.restart() == nil)
        #expect(map(bench) == 9)
        #expect(bench.shell.use { $0.generation(of: bench.object) } == 6)
    }

    @Test func drainsAndStampsBringAMapThatSurvivesRestartsAndSnapshots() {
        let bench = bench()
        #expect(bench.request { $0.drain(tag: $1, bench.object, map: 3) } == .ok)
        #expect(bench.request { $0.drain(tag: $1, bench.object, map: 2) } == .ok)
        #expect(map(bench) == 3)
        #expect(bench.request { $0.stamp(tag: $1, bench.object, map: 4) } == .ok)
        #expect(map(bench) == 4)
        #expect(bench.restart() == nil)
        #expect(map(bench) == 4)
        var value: UInt64 = 1
        while bench.shell.use({ $0.statistics.snapshots }) == 0, value < 60_000 {
            _ = bench.write(UInt32(value % 500), value, isDurable: false)
            value += 1
        }
        #expect(bench.shell.use { $0.statistics.snapshots } == 1)
        #expect(bench.restart() == nil)
        #expect(map(bench) == 4)
    }

    @Test func aDumpNamesStamps() {
        let bench = bench()
        #expect(bench.request { $0.stamp(tag: $1, bench.object, map: 4) } == .ok)
        (bench.shell.world as? SimWorld)?.kill()
        let world = bench.host.start("dump")
        let operations = Operations(world)
        var lines: [String] = []
        var failure: Failure?
        var isDone = false
        world.spawn {
            do throws(Failure) {
                let disk = try world.openDisk("/disk", .readOnly)
                try await StoreInspector.describeLog(operations, disk: disk, path: "/disk") { lines.append($0) }
            } catch { failure = error }
            isDone = true
        }
        _ = bench.universe.run(while: { !isDone }, limit: .seconds(60))
        #expect(failure == nil)
        #expect(lines.contains { $0.contains("stamp object 1") && $0.contains("argument 4") }, "\(lines)")
    }
}
