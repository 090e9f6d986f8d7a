import Base
import Environment
import Simulation
import Testing

@testable import PartStore

/// What an OST keeps of its volumes: the newest record, whole, with the number that it belongs to. `StoreModelTests` cuts the power between
/// any two steps of it.
@Suite struct VolumeRecordTests {
    private static func bytes(_ count: Int, _ seed: UInt8) -> [UInt8] { (0..<count).map { seed &+ UInt8(truncatingIfNeeded: $0 / 3) } }

    private func stamp(_ bench: Bench, _ map: UInt64, _ volume: [UInt8]) -> Status? {
        bench.request { $0.stamp(tag: $1, bench.object, map: map, volume: volume) }
    }

    private func expect(_ bench: Bench, _ map: UInt64, _ volume: [UInt8], _ what: Comment) {
        let found = bench.shell.use { ($0.record(of: bench.object).map, $0.volume(of: bench.object)) }
        #expect(found.0 == map && found.1.map == map && found.1.record == volume, what)
    }

    @Test func theNewestRecordIsKeptAndAnOlderOneNeverReplacesIt() {
        let bench = Bench()
        bench.format()
        let (first, second) = (Self.bytes(500, 1), Self.bytes(70, 2))
        #expect(stamp(bench, 5, first) == .ok)
        #expect(stamp(bench, 4, second) == .ok)
        #expect(stamp(bench, 5, second) == .ok)
        expect(bench, 5, first, "older and equal numbers change nothing")
        #expect(stamp(bench, 6, second) == .ok)
        expect(bench, 6, second, "a newer one does")
        #expect(bench.restart() == nil)
        expect(bench, 6, second, "after a restart")
    }

    /// 1,024 placements of 3 members and a few OSTs: nearly the largest there can be.
    @Test func aLargeRecordSurvivesRestartsLossOfPowerAndTheCompactionOfTheLog() {
        let bench = Bench(bytes: 320 << 20)
        bench.format()
        let volume = Self.bytes(Limits.volumeRecordBytesMax, 7)
        #expect(stamp(bench, 9, volume) == .ok)
        bench.host.losePower()
        bench.host.restorePower()
        #expect(bench.restart() == nil)
        expect(bench, 9, volume, "after a loss of power")
        // Each is a part of the log: it moves to its other half.
        var map: UInt64 = 10
        while bench.shell.use({ $0.statistics.snapshots }) < 2, map < 400 {
            #expect(stamp(bench, map, Self.bytes(60_000, UInt8(truncatingIfNeeded: map))) == .ok)
            map += 1
        }
        bench.universe.run(for: .seconds(5))
        #expect(bench.shell.use { $0.statistics.snapshots } >= 2)
        #expect(bench.restart() == nil)
        expect(bench, map - 1, Self.bytes(60_000, UInt8(truncatingIfNeeded: map - 1)), "after the log has moved")
        bench.shell.use { $0.checkInvariants() }
    }

    @Test func manyObjectsKeepTheirRecordsOverACompactionOfTheLog() {
        let bench = Bench(bytes: 256 << 20)
        bench.format()
        for number in 0..<UInt64(200) {
            let record = ObjectRecord(id: Identifier(high: 2, low: number + 1), name: "o\(number)", bytes: 1 << 20)
            let volume = Self.bytes(3_000 + Int(number), UInt8(number))
            #expect(bench.request { $0.create(tag: $1, record, map: 1, volume: volume) } == .ok)
        }
        var value: UInt64 = 1
        while bench.shell.use({ $0.statistics.snapshots }) < 1, value < 60_000 {
            _ = bench.write(UInt32(value % 500), value, isDurable: false)
            value += 1
        }
        bench.universe.run(for: .seconds(5))
        #expect(bench.restart() == nil)
        for number in 0..<200 {
            let found = bench.shell.use { store in store.find(name: "o\(number)").map { store.volume(of: $0) } }
            #expect(found?.map == 1 && found?.record == Self.bytes(3_000 + number, UInt8(number)), "object \(number)")
        }
    }

    @Test func whatIsTooLargeIsRefused() {
        let bench = Bench(bytes: 8 << 20)
        bench.format()
        #expect(stamp(bench, 3, Self.bytes(20_000, 1)) == .noSpace)
        expect(bench, 0, [], "nothing has changed")
        #expect(stamp(bench, 3, Self.bytes(16_000, 1)) == .ok)
    }

    /// The record is in the log before what it comes with.
    @Test func aFenceAndAResizeBringTheirRecord() {
        let bench = Bench()
        bench.format()
        let (first, second) = (Self.bytes(100, 1), Self.bytes(100, 2))
        #expect(bench.request { $0.fence(tag: $1, bench.object, generation: 2, map: 4, volume: first, settles: false) } == .ok)
        expect(bench, 4, first, "of the fence")
        #expect(bench.request { $0.resize(tag: $1, bench.object, bytes: 4 << 20, number: 3, map: 5, volume: second) } == .ok)
        expect(bench, 5, second, "of the resize")
        #expect(bench.restart() == nil)
        expect(bench, 5, second, "after a restart")
        #expect(bench.shell.use { $0.resizes(of: bench.object) } == 3)
        #expect(bench.request { $0.remove(tag: $1, bench.object) } == .ok)
        #expect(bench.shell.use { $0.state.objects.volumeImageBytes } == 0)
    }

    @Test func theIncarnationIsComparedAndKept() {
        let bench = Bench(bytes: 8 << 20)
        bench.format()
        #expect(bench.request { $0.adopt(tag: $1, from: 0, to: 4) } == .ok)
        #expect(bench.request { $0.adopt(tag: $1, from: 0, to: 5) } == .staleMap)
        #expect(bench.request { $0.adopt(tag: $1, from: 4, to: 4) } == .invalidArgument)
        bench.host.losePower()
        bench.host.restorePower()
        #expect(bench.restart() == nil)
        #expect(bench.shell.use { $0.incarnation } == 4)
        var value: UInt64 = 1
        while bench.shell.use({ $0.statistics.snapshots }) < 2, value < 60_000 {
            _ = bench.write(UInt32(value % 500), value, isDurable: false)
            value += 1
        }
        #expect(bench.restart() == nil)
        #expect(bench.shell.use { $0.incarnation } == 4)
    }
}
