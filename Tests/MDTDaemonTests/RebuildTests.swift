import Base
import Client
import Environment
import MDTDaemon
import MetaStore
import Metadata
import Simulation
import Testing
import VolumeEngine
import Wire

/// A catalogue that is lost, and rebuilt from what the OSTs keep: with the shipping library, daemons and metadata server.
@Suite struct RebuildTests {
    /// Writes everything, then a part of it again without OST 1, which was excluded for it.
    private func excluded(_ run: VolumeRun) throws {
        try run.open()
        for block in 0..<64 { run.submit(.write, block * 64, 8) }
        try run.drain()
        run.submit(.flush, 0, 1)
        try run.drain()
        run.bench.osts[1].kill()
        for block in 0..<32 { run.submit(.write, block * 128, 8) }
        try run.drain()
        #expect(run.failures() == [])
    }

    /// Everything is read, by a new writer, and held against all that was written.
    private func readAll(_ run: VolumeRun) throws {
        try run.open()
        for start in stride(from: 0, to: VolumeRun.blocks, by: 64) { run.submit(.read, start, 64) }
        try run.drain()
        #expect(run.errors == [] && run.failures() == [])
    }

    @Test func aMemberThatWasExcludedStaysSo() throws {
        let run = try VolumeRun(seed: 1)
        try excluded(run)
        run.crash()
        let before = try run.map()
        try run.bench.osts[1].start()
        run.bench.killMDT()
        let made = try run.bench.rebuild()
        try run.bench.serveRebuilt()
        let after = try run.map()
        #expect(after.object.generation >= before.object.generation && after.object.map > before.object.map)
        #expect(after.object.bytes == before.object.bytes && after.object.name == "vm1" && after.level == before.level)
        #expect(after.entries.map(\.state) == before.entries.map(\.state) && after.entries.contains { $0.state == .stale })
        #expect(after.osts.map(\.store) == before.osts.map(\.store) && after.osts.map(\.endpoints) == before.osts.map(\.endpoints))
        #expect(made.notes.contains { $0.contains("not up to date") } && made.incarnation == 2)
        try readAll(run)
        try run.waitForHealth()
        #expect(try run.differences() == [])
        try run.close()
    }

    /// The writer never stops: its generation is the newest, and it hears of the new catalogue when it comes back to the server.
    @Test func aWriterGoesOnOverARebuild() throws {
        let run = try VolumeRun(seed: 2)
        try excluded(run)
        run.bench.killMDT()
        for block in 0..<16 { run.submit(.write, block * 16, 2) }
        try run.drain()
        try run.bench.osts[1].start()
        try run.bench.rebuild()
        for block in 0..<16 { run.submit(.write, block * 16, 2) }
        try run.drain()
        try run.bench.serveRebuilt()
        for block in 0..<16 { run.submit(.write, block * 16, 2) }
        try run.drain()
        try run.waitForHealth()
        run.bench.osts[0].kill()
        for block in 0..<32 { run.submit(.write, block * 16, 2) }
        try run.drain()
        #expect(run.volume?.isDead == false && run.failures() == [])
        try run.close()
        #expect(try run.differences() == [])
    }

    /// An old server that lives on excludes a member after the OSTs were asked: nothing may be acknowledged by that.
    private func decidesMeanwhile() throws -> Bool {
        let run = try VolumeRun(seed: 3)
        try run.open()
        for block in 0..<16 { run.submit(.write, block * 16, 2) }
        try run.drain()
        try run.bench.rebuild()
        run.bench.osts[1].kill()
        for block in 0..<16 { run.submit(.write, block * 16, 2) }
        run.bench.universe.run(for: .seconds(8))
        if run.underWay == 0 { return true }
        // The new one excludes it as well, and then they go on.
        try run.bench.serveRebuilt()
        try run.drain()
        #expect(run.failures() == [] && run.errors == [])
        #expect(try run.map().entries.contains { $0.state == .stale })
        try run.close()
        return false
    }

    @Test func anOldCatalogueExcludesNobodyAnyMore() throws {
        #expect(try !decidesMeanwhile())
    }

    #if MUTANTS
        @Test func theTestsCatchWhatTheyAreFor() throws {
            defer { Mutant.active = nil }
            Mutant.active = .rebuildsWithoutRaising
            #expect(try decidesMeanwhile(), "an old catalogue decides on")
            Mutant.active = .stampsOnlyTheNumber
            let run = try VolumeRun(seed: 4)
            try excluded(run)
            run.crash()
            try run.bench.osts[1].start()
            run.bench.killMDT()
            #expect(throws: Failure.self, "an exclusion that only the server has kept") { try run.bench.rebuild() }
        }

        /// The map of the exclusion is nowhere but in the catalogue that is lost: the member counts again, with what it had.
        @Test func anExclusionThatNoOSTHasHeardOfIsForgotten() throws {
            defer { Mutant.active = nil }
            Mutant.active = .excludesOnlyAtServer
            let run = try VolumeRun(seed: 5)
            try excluded(run)
            run.crash()
            #expect(try run.map().entries.contains { $0.state == .stale })
            try run.bench.osts[1].start()
            run.bench.killMDT()
            try run.bench.rebuild()
            try run.bench.serveRebuilt()
            #expect(try run.map().entries.allSatisfy { $0.state == .inSync })
            #expect(try run.differences() != [])
        }
    #endif

    @Test func whatIsMissingIsNamed() throws {
        let bench = try MDTBench()
        let map = try bench.create("vm1")
        let places = map.osts.map { ost in bench.osts.first { $0.store == ost.store }! }
        bench.killMDT()
        let refusal = failure { try bench.rebuild(asking: Array(places.dropFirst())) }
        #expect(refusal?.contains("store \(places[0].store) is in sync") == true)
        #expect(refusal?.contains("\(places[0].address)") == true && refusal?.contains(places[0].host.name) == true)
        places[0].kill()
        #expect(failure { try bench.rebuild(asking: places) }?.contains("\(places[0].address) cannot be asked") == true)
        // Its disk is gone for good: what only it knew is given up, by name.
        let made = try bench.rebuild(asking: Array(places.dropFirst()), lost: [places[0].store])
        #expect(made.volumes[0].entries.allSatisfy { ($0.state == .stale) == (made.volumes[0].stores[$0.ost] == places[0].store) })
        #expect(made.notes.contains { $0.contains("given up") })
    }

    @Test func aVolumeThatWasHalfRemovedDoesNotComeBack() throws {
        let bench = try MDTBench()
        let (gone, kept) = (try bench.create("gone"), try bench.create("kept"))
        let away = bench.osts.first { $0.store == gone.osts[0].store }!
        away.kill()
        try bench.connect().ask(.volumeRemove, NameRequest(name: "gone"))
        bench.killMDT()
        try away.start()
        let refusal = failure { try bench.rebuild() }
        #expect(refusal?.contains("'gone'") == true && refusal?.contains("--without \(gone.object.id)") == true)
        let made = try bench.rebuild(without: ["gone"])
        #expect(made.volumes.map(\.id) == [kept.object.id])
        #expect(made.notes.contains { $0.contains("ost://\(away.address)/\(gone.object.id)") })
        #expect(failure { try bench.rebuild(without: ["gone", "never"]) }?.contains("'never'") == true)
    }

    @Test func anOldCopyOfTheCatalogueIsRefusedAfterwards() throws {
        let bench = try MDTBench()
        let map = try bench.create("vm1")
        bench.killMDT()
        try bench.rebuild()
        try bench.serveRebuilt()
        // The same incarnation twice: of two who rebuild at once one is told.
        let race = failure { try bench.rebuild { try bench.rebuild() } }
        #expect(race?.contains("somebody else rebuilds") == true)
        bench.killMDT()
        let old = bench.mds.start("old")
        let server = try bench.run(old) { () throws(Failure) in
            let store = try await MemoryMetaStore.create(MemoryMetaContents(), in: old)
            let server = MDTServer(world: old, catalogue: try await ClusterCatalogue.create(in: store, old, cluster: MDTBench.cluster))
            try server.listen(on: MDTBench.address)
            return server
        }
        try bench.waitUntil("it refuses the OSTs") { bench.osts.allSatisfy { $0.refusal?.detail.contains("an old copy") == true } }
        #expect(!server.isStopped)
        // And the OSTs refuse a client that comes with its map.
        var stale = map
        stale.incarnation = 1
        let address = bench.osts[0].address
        let refusal = failure {
            try bench.run { () throws(Failure) in
                let connection = try await ControlConnection.open(
                    bench.client, address, incarnation: stale.incarnation, deadline: bench.client.now + .seconds(5))
                connection.close()
            }
        }
        #expect(refusal?.contains("was rebuilt") == true)
    }

    /// A size that was half way is ended as the server would have: nobody waits for a volume to grow any more, and nothing comes back.
    @Test func aResizeThatWasHalfWayIsEnded() throws {
        let bench = try MDTBench(osts: 2)
        _ = try bench.create("vm1", bytes: 64 << 20)
        bench.osts[1].kill()
        bench.universe.run(for: .seconds(35))
        let peer = try bench.connect()
        #expect(failure { try peer.resize("vm1", 128 << 20) } != nil)
        bench.universe.run(for: .seconds(3))
        #expect(try peer.resize("vm1", 32 << 20).object.bytes == 32 << 20)
        bench.killMDT()
        try bench.osts[1].start()
        let made = try bench.rebuild()
        #expect(made.volumes[0].object.bytes == 32 << 20 && made.volumes[0].unresized.map(\.store) == [bench.osts[1].store])
        try bench.serveRebuilt()
        try bench.waitUntil("it has learned the size") { bench.server?.counters.workFinished ?? 0 > 0 }
        #expect(try bench.objects().allSatisfy { $0[0].bytes == 32 << 20 })
    }

    private func failure(_ body: () throws -> some Any) -> String? {
        do {
            _ = try body()
            return nil
        } catch {
            return (error as? Failure)?.detail ?? "\(error)"
        }
    }
}
