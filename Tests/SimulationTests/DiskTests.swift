import Base
import Environment
import Simulation
import Testing

@Suite struct DiskTests {
    @Test func readsBackWhatWasWritten() throws {
        let bench = try DiskBench(seed: 1)
        let written = Memory(8192, filledWith: 7)
        bench.write(written, at: 4096, 1)
        #expect(bench.finish(1) == 0)
        let back = Memory(16384, filledWith: 1)
        bench.read(back, at: 0, 2)
        #expect(bench.finish(2) == 0)
        #expect(back.contents == [UInt8](repeating: 0, count: 4096) + written.contents + [UInt8](repeating: 0, count: 4096))
        #expect(bench.disk.statistics.writes == 1)
        #expect(bench.disk.statistics.bytesWritten == 8192)
        #expect(bench.disk.statistics.reads == 1)
    }

    @Test func neverCompletesFromWithinTheCall() throws {
        let bench = try DiskBench(seed: 1)
        bench.world.flush(bench.id, bench.recorder.ticket(1))
        #expect(bench.recorder.completions.isEmpty)
        #expect(bench.world.outstanding.diskOperations == 1)
        #expect(bench.finish(1) == 0)
        #expect(bench.world.outstanding.operations == 0)
    }

    @Test func completesInAnyOrder() throws {
        let bench = try DiskBench(seed: 3)
        let memory = Memory(512)
        for token in UInt32(0)..<32 { bench.write(memory, at: UInt64(token) * 512, token) }
        #expect(bench.universe.runUntilQuiet(limit: .seconds(1)))
        let tokens = bench.recorder.completions.map(\.token)
        #expect(tokens.sorted() == Array(0..<32))
        #expect(tokens != Array(0..<32))
    }

    @Test func lossOfPowerKeepsWhatWasFlushed() throws {
        var kept = 0
        var dropped = 0
        var torn = 0
        for seed in UInt64(0)..<60 {
            let bench = try DiskBench(seed: seed)
            let flushed = Memory(4096, filledWith: 1)
            let unflushed = Memory(4096, filledWith: 2)
            bench.write(flushed, at: 0, 1)
            bench.write(flushed, at: 8192, 2)
            #expect(bench.universe.runUntilQuiet(limit: .seconds(1)))
            bench.world.flush(bench.id, bench.recorder.ticket(3))
            #expect(bench.finish(3) == 0)
            bench.write(unflushed, at: 8192, 4)
            #expect(bench.finish(4) == 0)
            #expect(bench.disk.media.contents(8192, 4096) == unflushed.contents)
            bench.host.losePower()
            #expect(bench.disk.media.contents(0, 4096) == flushed.contents)
            let now = bench.disk.media.contents(8192, 4096)
            for sector in stride(from: 0, to: 4096, by: 512) { #expect(Set(now[sector..<sector + 512]).count == 1, "torn within a sector") }
            if now == unflushed.contents { kept += 1 } else if now == flushed.contents { dropped += 1 } else { torn += 1 }
            #expect(bench.disk.media.stableContents(8192, 4096) == now)
        }
        #expect(kept > 5)
        #expect(dropped > 5)
        #expect(torn > 5)
    }

    @Test func flushDoesNotCoverWhatCompletedAfterItsStart() throws {
        var lost = 0
        for seed in UInt64(0)..<200 {
            let bench = try DiskBench(seed: seed)
            let memory = Memory(512, filledWith: 9)
            bench.world.flush(bench.id, bench.recorder.ticket(1))
            bench.write(memory, at: 0, 2)
            bench.universe.run(while: { bench.recorder.completions.count < 2 }, limit: .seconds(1))
            bench.host.losePower()
            if bench.disk.media.contents(0, 512) != memory.contents { lost += 1 }
        }
        #expect(lost > 50)
    }

    @Test func diskWithoutVolatileCacheLosesNothingCompleted() throws {
        for seed in UInt64(0)..<20 {
            let bench = try DiskBench(seed: seed, isVolatile: false)
            let memory = Memory(4096, filledWith: 5)
            bench.write(memory, at: 0, 1)
            #expect(bench.finish(1) == 0)
            bench.host.losePower()
            #expect(bench.disk.media.contents(0, 4096) == memory.contents)
        }
    }

    @Test func killKeepsCompletedWrites() throws {
        var landed = 0
        var missing = 0
        var torn = 0
        for seed in UInt64(0)..<60 {
            let bench = try DiskBench(seed: seed)
            let first = Memory(4096, filledWith: 1)
            let second = Memory(4096, filledWith: 2)
            bench.write(first, at: 0, 1)
            #expect(bench.finish(1) == 0)
            bench.write(second, at: 4096, 2)
            bench.world.kill()
            #expect(bench.disk.media.contents(0, 4096) == first.contents)
            let now = bench.disk.media.contents(4096, 4096)
            if now == second.contents { landed += 1 } else if now.allSatisfy({ $0 == 0 }) { missing += 1 } else { torn += 1 }
            // The next process has it at once.
            let next = bench.host.start("next")
            _ = try next.openDisk("/disk", .readWrite)
        }
        #expect(landed > 5)
        #expect(missing > 5)
        #expect(torn > 5)
    }

    @Test func readBesideAWriteSeesOldOrNewPerSector() throws {
        var mixed = 0
        for seed in UInt64(0)..<60 {
            let bench = try DiskBench(seed: seed)
            let written = Memory(4096, filledWith: 1)
            let back = Memory(4096, filledWith: 9)
            bench.write(written, at: 0, 1)
            bench.read(back, at: 0, 2)
            #expect(bench.universe.runUntilQuiet(limit: .seconds(1)))
            let contents = back.contents
            for sector in stride(from: 0, to: 4096, by: 512) {
                #expect(contents[sector..<sector + 512].allSatisfy { $0 == contents[sector] } && contents[sector] <= 1)
            }
            if Set(contents).count > 1 { mixed += 1 }
        }
        #expect(mixed > 5)
    }

    @Test func oneProcessAtATime() throws {
        let bench = try DiskBench(seed: 1)
        let other = bench.host.start("other")
        #expect(throws: Failure.self) { try other.openDisk("/disk", .readWrite) }
        bench.world.closeDisk(bench.id)
        _ = try other.openDisk("/disk", .readOnly)
        #expect(throws: Failure.self) { try bench.world.openDisk("/none", .readWrite) }
        #expect(throws: Failure.self) { try bench.world.openDisk("/disk", .create(bytes: 4096)) }
        let made = try bench.world.openDisk("/new", .create(bytes: 8192))
        #expect(bench.world.traits(of: made).bytes == 8192)
        #expect(bench.world.outstanding.openDisks == 1)
    }

    @Test func readsAndWritesBeyondTheEndFail() throws {
        let bench = try DiskBench(seed: 1, bytes: 8192)
        let memory = Memory(8192)
        bench.read(memory, at: 4096, 1)
        bench.write(memory, at: 4096, 2)
        bench.read(memory, at: 0, 3)
        #expect(bench.finish(1) == -5)
        #expect(bench.finish(2) == -28)
        #expect(bench.finish(3) == 0)
    }

    @Test func historyReplaysToAnyCut() throws {
        let bench = try DiskBench(seed: 1)
        bench.disk.startHistory()
        for round in UInt32(0)..<8 {
            let memory = Memory(4096, filledWith: UInt8(round + 1))
            bench.write(memory, at: UInt64(round) * 4096, 2 * round)
            #expect(bench.finish(2 * round) == 0)
            bench.world.flush(bench.id, bench.recorder.ticket(2 * round + 1))
            #expect(bench.finish(2 * round + 1) == 0)
        }
        let history = try #require(bench.disk.history)
        #expect(history.count == 16)
        var random = Random(seed: 1)
        for cut in 0...history.count {
            let media = history.media(cut: cut, &random)
            let flushes = history.flushes(before: cut)
            #expect(flushes == cut / 2)
            for round in 0..<flushes { #expect(media.contents(UInt64(round) * 4096, 4096).allSatisfy { $0 == UInt8(round + 1) }) }
            for round in (flushes + 1)..<9 where round < 8 { #expect(media.contents(UInt64(round) * 4096, 4096).allSatisfy { $0 == 0 }) }
        }
        let other = bench.universe.addHost("b")
        other.addDisk("/cut", media: history.media(cut: 4, &random))
        _ = try other.start("b").openDisk("/cut", .readWrite)
    }
}
