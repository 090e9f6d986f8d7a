import Base
import Client
import Environment
import MDTDaemon
import Testing
import VolumeEngine
import Wire

/// What an operator is told of a volume: what is not as it should be, since when, and what is being done about it.
@Suite struct HealthTests {
    private func health(_ run: VolumeRun, _ servers: [Int]? = nil) throws -> VolumeHealthReply {
        let (bench, client) = (run.bench, run.bench.client)
        let addresses = servers.map { $0.map { bench.addresses[$0] } } ?? bench.addresses
        return try bench.run { () throws(Failure) in
            let catalogue = MDTCatalogue(client, addresses)
            defer { catalogue.close() }
            return try await catalogue.health(of: "vm1")
        }
    }

    private func member(_ run: VolumeRun, _ ost: Int, _ health: VolumeHealthReply) -> VolumeHealthReply.Member? {
        health.members.first { $0.store == run.bench.osts[ost].store }
    }

    @Test func aHealthyVolumeIsHealthy() throws {
        let run = try VolumeRun(seed: 1)
        let idle = try health(run)
        #expect(idle.writer == .nobody && idle.summary.reachableMin == 2 && idle.summary.away == 0)
        try run.open()
        run.bench.universe.run(for: .seconds(3))
        let open = try health(run)
        #expect(open.writer == .here && open.client.contains("librawstor") && open.silence < .seconds(3))
        #expect(open.members.allSatisfy { $0.sinceMilliseconds == 0 && $0.resync == nil && $0.stale + $0.filling == 0 })
        try run.close()
    }

    /// From the exclusion to the day on which everything is in sync again.
    @Test func aMemberThatIsAwayIsToldWithItsTimeAndWhatItsWriterDoes() throws {
        let run = try VolumeRun(seed: 2)
        try run.open()
        for block in 0..<32 { run.submit(.write, block * 16, 1) }
        try run.drain()
        let before = try health(run).nowMilliseconds
        run.bench.osts[1].kill()
        for block in 0..<32 { run.submit(.write, block * 16, 1) }
        try run.drain()
        run.bench.universe.run(for: .seconds(5))
        let sick = try health(run)
        guard let lost = member(run, 1, sick) else { throw Failure(.notFound, "the OST is not of the volume") }
        #expect(lost.stale > 0 && lost.inSync == 0 && lost.filling == 0)
        #expect((before...before + 3000).contains(lost.sinceMilliseconds), "\(before), \(lost.sinceMilliseconds)")
        #expect(lost.resync?.state == .waiting && lost.resync?.trouble.contains("cannot be reached") == true)
        #expect(sick.summary.inSyncMin == 1 && sick.summary.reachableMin == 1 && sick.summary.away == 0)
        #expect(sick.members.filter { $0.store != lost.store }.allSatisfy { $0.last > 0 && $0.sinceMilliseconds == 0 && $0.resync == nil })
        // The writer is gone: nobody does anything about it, and the time stays.
        try run.close()
        let left = try health(run)
        #expect(left.writer == .nobody && member(run, 1, left)?.sinceMilliseconds == lost.sinceMilliseconds)
        #expect(member(run, 1, left)?.resync == nil)
        try run.bench.osts[1].start()
        try run.open()
        try run.waitForHealth(writes: false)
        run.bench.universe.run(for: .seconds(3))
        let well = try health(run)
        #expect(well.members.allSatisfy { $0.sinceMilliseconds == 0 && $0.resync == nil && $0.inSync > 0 })
        try run.close()
    }

    /// Nobody has the volume open, so nobody has missed the OST: its members count as in sync, and cannot be reached.
    @Test func anOSTThatDiedWhileNobodyWroteIsTold() throws {
        let run = try VolumeRun(seed: 3)
        run.bench.osts[1].kill()
        run.bench.universe.run(for: .milliseconds(500))
        let sick = try health(run)
        #expect(sick.summary.inSyncMin == 2 && sick.summary.reachableMin == 1 && sick.summary.away > 0 && sick.summary.stale == 0)
        try run.bench.osts[1].start()
        try run.bench.waitUntil("it has registered") { run.bench.osts[1].isRegistered }
        #expect(try health(run).summary.away == 0)
        // With its machine, so that no connection ends: two heartbeats are missed.
        run.bench.osts[2].kill(silent: true)
        run.bench.universe.run(for: .seconds(11))
        #expect(try health(run).summary.away > 0)
        let connected = try run.bench.run { () throws(Failure) in
            let catalogue = MDTCatalogue(run.bench.client, run.bench.addresses)
            defer { catalogue.close() }
            return try await catalogue.osts().filter(\.isConnected).count
        }
        #expect(connected == 2)
    }

    /// How far it is the writer tells with its pings. What others tell, or an older one of its kind, counts for nothing.
    @Test func onlyTheWritersWordCounts() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1")
        let writer = try bench.connect()
        let map = try writer.open("vm1", nonce: 1)
        let store = bench.osts[0].store
        let exclusion = VolumeMembersRequest(id: map.object.id, generation: 1, stores: [store])
        _ = try writer.ask(.volumeExclude, exclusion)
        _ = try writer.ask(.volumeFill, exclusion)
        func report(_ generation: UInt64 = 1, of store: Identifier, done: UInt64) -> WriterReport {
            let progress = ResyncProgress(
                store: store, state: .copying, totalBytes: 4 << 30, doneBytes: done, copiedBytes: 5, elapsed: .seconds(3))
            return WriterReport(id: map.object.id, generation: generation, stalled: 7, resyncs: [progress])
        }
        func told() throws -> VolumeHealthReply {
            try bench.connect().ask(.volumeHealth, NameRequest(name: "vm1"), VolumeHealthReply.self)
        }
        _ = try writer.ask(.ping, report(of: store, done: 1))
        var health = try told()
        #expect(health.members.first { $0.store == store }?.resync?.doneBytes == 1 && health.summary.stalled == 7)
        _ = try bench.connect().ask(.ping, report(of: store, done: 2))
        _ = try writer.ask(.ping, report(0, of: store, done: 3))
        health = try told()
        #expect(health.members.first { $0.store == store }?.resync?.doneBytes == 1)
        // Of one that is in sync, or not of the volume, nothing is told.
        _ = try writer.ask(.ping, report(of: bench.osts[1].store, done: 4))
        #expect(try told().members.allSatisfy { $0.resync == nil })
        _ = try writer.ask(.ping, report(of: Identifier(high: 77, low: 77), done: 4))
        _ = try writer.exchange(FrameHeader(.ping))
        #expect(try told().summary.stalled == 7, "a ping without a word changes nothing")
        #expect(throws: Failure.self) { try writer.exchange(FrameHeader(.ping), [1, 2, 3]) }
        bench.universe.run(for: .seconds(3))
        #expect(try told().writer == .nobody)
    }

    /// Only the server that has the writer's session knows how far it is. It is found if its address is known, and named if not.
    @Test func theServerThatHasTheWriterIsFound() throws {
        let run = try VolumeRun(seed: 4, servers: 2)
        try run.open()
        run.submit(.write, 0, 64)
        try run.drain()
        run.bench.osts[1].kill()
        for block in 0..<32 { run.submit(.write, block * 16, 1) }
        try run.drain()
        run.bench.universe.run(for: .seconds(5))
        let elsewhere = try health(run, [1])
        #expect(elsewhere.writer == .elsewhere && elsewhere.client.contains("librawstor"))
        #expect(elsewhere.members.allSatisfy { $0.resync == nil } && elsewhere.members.contains { $0.sinceMilliseconds > 0 })
        let found = try health(run, [1, 0])
        #expect(found.writer == .here && member(run, 1, found)?.resync != nil)
        // Its server dies: the other one knows as much within two pings.
        run.bench.killMDT(0)
        run.bench.universe.run(for: .seconds(6))
        let moved = try health(run, [1])
        #expect(moved.writer == .here && member(run, 1, moved)?.resync?.state == .waiting)
        try run.close()
    }

    /// Below its floor a volume that says so fails writes in time, reads all the same, and gets above its floor again by itself.
    @Test func belowTheFloorWritesFailAndTheFloorIsReachedAgain() throws {
        let run = try VolumeRun(seed: 5, floor: 2, belowFloor: .fail(after: .seconds(5)))
        try run.open()
        for block in 0..<64 { run.submit(.write, block * 16, 1) }
        try run.drain()
        run.bench.osts[1].kill()
        let killed = run.bench.universe.now
        for block in 0..<64 { run.submit(.write, block * 16, 1) }
        for block in 0..<64 { run.submit(.read, 2048 + block * 16, 1) }
        try run.drain()
        let time = run.bench.universe.now - killed
        #expect(time >= .seconds(5) && time < .seconds(8), "\(time.milliseconds) ms")
        let failures = run.failures()
        #expect(!failures.isEmpty && failures.count < 64 && failures.allSatisfy { $0 == .unavailable }, "\(failures)")
        #expect(run.bench.logs.contains { $0.contains("writes fail, since fewer copies are up to date than the volume's floor") })
        try run.bench.osts[1].start()
        try run.waitForHealth(writes: false)
        for block in 0..<64 { run.submit(.write, block * 16, 1) }
        try run.drain()
        for block in 0..<64 { run.submit(.read, block * 16, 1) }
        try run.drain()
        #expect(run.failures() == failures)
        #expect(!run.errors.contains { $0.contains("reads") })
        try run.close()
        #expect(try run.differences() == [])
    }

    /// A volume that waits below its floor is opened there, although something is in doubt; and whoever has it open hears of another floor.
    @Test func aFloorIsChangedWhileWritesWait() throws {
        let run = try VolumeRun(seed: 6, floor: 2)
        try run.open()
        for block in 0..<32 { run.submit(.write, block * 16, 1) }
        run.bench.universe.run(for: .milliseconds(3))
        run.crash()
        run.bench.osts[1].kill()
        try run.open()
        run.submit(.write, 0, 1)
        for block in 0..<32 { run.submit(.write, block * 16, 1) }
        run.bench.universe.run(for: .seconds(10))
        #expect(run.underWay > 0)
        let map = try run.bench.connect().ask(.volumeSet, VolumeSetRequest(name: "vm1", floor: 1), VolumeMap.self)
        #expect(map.floor == 1 && map.belowFloor == .wait)
        try run.drain()
        #expect(run.failures() == [])
        let refusal = failure { _ = try run.bench.connect().ask(.volumeSet, VolumeSetRequest(name: "vm1", floor: 3)) }
        #expect(refusal?.status == .invalidArgument && refusal?.detail.contains("the floor is 1 to 2") == true)
        try run.close()
        #expect(try run.differences() == [])
    }

    private func failure(_ body: () throws -> Void) -> Failure? {
        do {
            try body()
            return nil
        } catch {
            return error as? Failure
        }
    }
}
