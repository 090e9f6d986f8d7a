import Base
import Client
import Environment
import Simulation
import Testing
import Wire

/// Bringing members up to date, where it takes a scene to see that a rule is needed. One simulation at a time: mutants are switched for all
/// of them.
@Suite(.serialized) struct ResyncTests {
    /// Three members. B misses a write and the write that undoes it, so B is found equal; C has the first of the two, and is filled from B.
    private func pageFoundEqualIsNotMissed() throws -> Bool {
        let run = try VolumeRun(seed: 21, replicas: 3)
        let osts = run.bench.osts
        func flush() throws {
            run.submit(.flush, 0, 1)
            try run.drain()
            // The mark follows within a second.
            run.bench.universe.run(for: .seconds(3))
        }
        try run.open()
        run.submit(.write, 100, 1)
        try flush()
        osts[1].kill()
        run.submit(.write, 0, 1)
        try flush()
        osts[2].kill()
        run.submit(.writeZeroes, 0, 1)
        try flush()
        try osts[1].start()
        try run.waitForHealth(of: osts[1])
        osts[0].kill()
        run.submit(.write, 100, 1)
        try flush()
        try osts[2].start()
        try run.waitForHealth(of: osts[2])
        run.submit(.read, 0, 1)
        try run.drain()
        #expect(run.failures() == [])
        let isEqual = try run.differences() == []
        return isEqual && run.errors == []
    }

    @Test func aPageThatIsFoundEqualIsNotMissedByTheNextMember() throws { #expect(try pageFoundEqualIsNotMissed()) }

    /// What is in doubt on the source may be gone with its power before it is rewritten, and then only the target would have it.
    private func nothingIsFilledBeforeAllIsReconciled() throws -> Bool {
        let run = try VolumeRun(seed: 22)
        let (bench, osts) = (run.bench, run.bench.osts)
        try run.open()
        for block in 0..<64 { run.submit(.write, block * 64, 1) }
        try run.drain()
        osts[1].kill()
        for block in 0..<64 { run.submit(.write, block * 64, 1) }
        try run.drain()
        for block in 0..<64 { run.submit(.write, block * 64, 1) }
        bench.universe.run(for: .milliseconds(1))
        run.crash()
        try osts[1].start()
        let client = bench.universe.addHost("other").start("client")
        var isOpen = false
        client.spawn {
            do throws(Failure) {
                let volume = try await Volume.open(client, Address(cluster: bench.addresses, name: "vm1"), OpenOptions(force: true))
                isOpen = true
                await volume.close()
            } catch { Issue.record("the open ends with \(error.status): \(error.detail)") }
        }
        try bench.waitUntil("there is something in doubt") { bench.logs.contains { $0.contains("reconciling") } }
        for ost in [osts[0], osts[2]] { ost.host.disk("/d")?.stick() }
        var isFilling = false
        for _ in 0..<30 {
            bench.universe.run(for: .milliseconds(100))
            isFilling = try isFilling || run.map().entries.contains { $0.state == .filling }
        }
        #expect(!isOpen)
        for ost in [osts[0], osts[2]] { ost.host.disk("/d")?.heal() }
        try bench.waitUntil("the volume is open") { isOpen }
        return !isFilling
    }

    @Test func noMemberIsFilledBeforeEverythingInDoubtIsEqual() throws { #expect(try nothingIsFilledBeforeAllIsReconciled()) }

    /// What the source had acknowledged it has no more; the member that was filled from it has.
    private func fillBeginsAnewWhenItsSourceLosesPower() throws -> Bool {
        let run = try VolumeRun(seed: 23, placements: 1)
        let (map, universe) = (try run.map(), run.bench.universe)
        let (source, target) = (run.ost(map.ost(0, 0).store), run.ost(map.ost(0, 1).store))
        try run.open()
        run.submit(.write, 0, 16)
        try run.drain()
        // A connection that was there for long is made again at once.
        universe.run(for: .seconds(10))
        target.kill()
        // Of one page, so that all is compared before any of it has come.
        for block in stride(from: 0, to: 16, by: 2) { run.submit(.write, block, 1) }
        run.submit(.flush, 0, 1)
        try run.drain()
        try target.start()
        // The map of the fill is on stable media with everything before it.
        try run.bench.waitUntil("it is being filled") { run.states(map.object.id).contains(.filling) }
        // What is written behind the comparison is on no list. What is not acknowledged yet is sent again: not to all blocks.
        for round in 0..<100_000 where run.volume?.resyncedBytes == 0 {
            if run.underWay < 2 { run.submit(.write, 1 + round % 8 * 2, 1) }
            universe.run(for: .microseconds(20))
        }
        let copied = run.volume?.resyncedBytes ?? 0
        #expect(copied > 0 && copied < UInt64(8 * Block.bytes), "the first block has come, and not the last")
        universe.partition(source.host, run.clientHost)
        source.kill(silent: true)
        source.host.restorePower()
        try source.start()
        universe.healPartition(source.host, run.clientHost)
        universe.run(for: .seconds(1))
        try run.waitForHealth(writes: false)
        return try run.differences() == []
    }

    @Test func aFillBeginsAnewWhenItsSourceHasLostPower() throws { #expect(try fillBeginsAnewWhenItsSourceLosesPower()) }

    /// The power of the member that was filled goes as soon as it counts, the writer dies with it, and the one that it was filled from as
    /// well: nobody else has what is gone.
    private func whatAFillHasBroughtIsThere(seed: UInt64) throws -> Bool {
        let run = try VolumeRun(seed: seed, placements: 1)
        let map = try run.map()
        let (source, target) = (run.ost(map.ost(0, 0).store), run.ost(map.ost(0, 1).store))
        try run.open()
        run.submit(.write, 0, 16)
        try run.drain()
        target.kill()
        for block in stride(from: 0, to: 16, by: 2) { run.submit(.write, block, 1) }
        run.submit(.flush, 0, 1)
        try run.drain()
        // Long enough for the mark to pass it, so that no open looks at it again.
        run.bench.universe.run(for: .seconds(3))
        try target.start()
        // Before the writer hears of it: with the map that it tells everything before is on stable media.
        try run.bench.waitUntil("it is in sync at the metadata server") { run.states(map.object.id).allSatisfy { $0 == .inSync } }
        run.crash()
        target.kill(silent: true)
        source.kill()
        target.host.restorePower()
        try target.start()
        try run.open()
        for block in 0..<16 { run.submit(.read, block, 1) }
        try run.drain()
        return run.errors == []
    }

    /// What the power takes is chance.
    private func whatAFillHasBroughtIsThere() throws -> Bool {
        try (UInt64(24)...28).allSatisfy { try whatAFillHasBroughtIsThere(seed: $0) }
    }

    @Test func whatAFillHasBroughtSurvivesItsMembersPower() throws { #expect(try whatAFillHasBroughtIsThere()) }

    /// It is not asked what it lacks, and not filled: what a newer one has it would lack for ever.
    @Test func anOldCopyOfADiskIsNotFilled() throws {
        let run = try VolumeRun(seed: 29)
        let (id, ost) = (try run.map().object.id, run.bench.osts[1])
        try run.open()
        for block in 0..<8 { run.submit(.write, block * 16, 1) }
        try run.drain()
        ost.kill()
        let copy = try #require(ost.host.disk("/d")).media.clone()
        for _ in 0..<2 {
            try ost.start()
            try run.bench.waitUntil("it has registered") { ost.isRegistered }
            try run.waitForHealth(writes: false)
            run.bench.universe.run(for: .seconds(6))
            ost.kill()
        }
        for block in 0..<8 { run.submit(.write, block * 16, 1) }
        try run.drain()
        ost.putBack(copy)
        try ost.start()
        for _ in 0..<100 {
            run.bench.universe.run(for: .milliseconds(100))
            #expect(!run.states(id).contains(.filling))
        }
        #expect(run.bench.logs.contains { $0.contains("cannot be brought up to date yet") && $0.contains("an old copy of the disk") })
    }

    /// The copy is from before the writer opened the volume, and was mounted as often as the newest disk: only the writer can tell. What
    /// an earlier one has written since is missing there, too.
    private func oldCopyIsNotTakenForTheNewestDisk(writes: Bool) throws -> Bool {
        let run = try VolumeRun(seed: 30)
        let ost = run.bench.osts[1]
        func write(_ blocks: Range<Int>) throws {
            for block in blocks { run.submit(.write, block * 32, 1) }
            run.submit(.flush, 0, 1)
            try run.drain()
        }
        try run.open()
        try write(0..<64)
        // The mark has passed everything there: nothing that is in doubt tells from where on something may be missing.
        run.bench.universe.run(for: .seconds(10))
        ost.kill()
        let copy = try #require(ost.host.disk("/d")).media.clone()
        try ost.start()
        try run.bench.waitUntil("it has registered") { ost.isRegistered }
        try write(0..<64)
        run.bench.universe.run(for: .seconds(3))
        try run.close()
        try run.open()
        if writes { try write(64..<66) }
        ost.kill()
        ost.putBack(copy)
        try ost.start()
        try run.bench.waitUntil("it has registered") { ost.isRegistered }
        try write(1..<3)
        try run.waitForHealth(of: ost)
        for block in 0..<66 { run.submit(.read, block * 32, 1) }
        try run.drain()
        let isEqual = try run.differences() == []
        return isEqual && run.errors == []
    }

    @Test(arguments: [false, true]) func anOldCopyIsNotTakenForTheNewestDiskByTheWriterThatFencedThat(writes: Bool) throws {
        #expect(try oldCopyIsNotTakenForTheNewestDisk(writes: writes))
    }

    #if MUTANTS
        @Test func theScenesEndOtherwiseWithoutTheirRules() throws {
            defer { Mutant.active = nil }
            Mutant.active = .equalPageKeepsVersion
            #expect(try !pageFoundEqualIsNotMissed())
            Mutant.active = .fillsBeforeReconciling
            #expect(try !nothingIsFilledBeforeAllIsReconciled())
            Mutant.active = .fillSurvivesLossOfSource
            #expect(try !fillBeginsAnewWhenItsSourceLosesPower())
            Mutant.active = .fillSkipsFlush
            #expect(try !whatAFillHasBroughtIsThere())
            Mutant.active = .fencesOldCopies
            #expect(try !oldCopyIsNotTakenForTheNewestDisk(writes: false))
            #expect(try !oldCopyIsNotTakenForTheNewestDisk(writes: true))
        }
    #endif
}
