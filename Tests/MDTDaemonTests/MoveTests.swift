import Base
import Client
import Environment
import MDTDaemon
import Simulation
import Testing
import VolumeEngine
import Wire

/// Members that move to other OSTs while the volume's writer goes on: the shipping library, daemons and metadata server.
@Suite struct MoveTests {
    private func write(_ run: VolumeRun, blocks: Int = 1024) throws {
        try run.open()
        for block in 0..<blocks { run.submit(.write, block * 4 % VolumeRun.blocks, 1) }
        try run.drain()
        run.submit(.flush, 0, 1)
        try run.drain()
    }

    private func readAll(_ run: VolumeRun) throws {
        for start in stride(from: 0, to: VolumeRun.blocks, by: 64) { run.submit(.read, start, 64) }
        try run.drain()
        #expect(run.errors == [] && run.failures() == [])
    }

    private func drain(_ run: VolumeRun, _ ost: OST, _ isDrained: Bool = true) throws {
        var header = FrameHeader(.ostDrain)
        header.argument = isDrained ? 1 : 0
        let peer = try run.bench.connect()
        defer { peer.close() }
        try peer.exchange(header, OSTRemoveRequest(store: ost.store).encoded)
    }

    /// With writes going on, until the OST has no place and nothing moves; `each` looks at every map on the way.
    private func wait(
        _ run: VolumeRun, toLeave store: Identifier, seconds: UInt64 = 90, _ each: (VolumeMap) throws -> Void = { _ in }
    ) throws {
        let end = run.bench.universe.now + .seconds(seconds)
        while true {
            let map = try run.map()
            try each(map)
            if map.index(of: store) == nil, map.moves.isEmpty, map.entries.allSatisfy({ $0.state == .inSync }) { return }
            guard run.bench.universe.now < end else {
                throw Failure(.deadlineExceeded, "members do not move: \(map.entries.map(\.state)) \(map.moves)")
            }
            for _ in 0..<10 {
                if run.underWay < 8 { run.submit(.write, run.below(VolumeRun.blocks - 8), 1 + run.below(4)) }
                run.bench.universe.run(for: .milliseconds(20))
            }
        }
    }

    /// Where members are moving to, in the catalogue as it is at this moment.
    private func targets(_ run: VolumeRun, _ id: Identifier) throws -> [Identifier] {
        guard let volume = try run.bench.contents.volume(id) else { return [] }
        return volume.moves.map { volume.stores[$0.entry.ost] }
    }

    private func objects(_ run: VolumeRun, on ost: OST) throws -> Int {
        let client = run.bench.client
        return try run.bench.run { () throws(Failure) in
            let catalogue = OSTCatalogue(client, ost.address)
            defer { catalogue.close() }
            return try await catalogue.list().count
        }
    }

    /// An empty OST comes in the place of one whose disk is gone. The writer fills it by itself, with what is written and no more.
    @Test func aLostDiskIsFilledOntoAnEmptyOST() throws {
        let run = try VolumeRun(seed: 1, spareAfter: .seconds(12))
        try write(run, blocks: 256)
        let lost = run.bench.osts[1].store
        run.bench.osts[1].kill()
        let spare = try run.bench.addOST()
        try wait(run, toLeave: lost)
        try run.drain()
        #expect(try run.map().index(of: spare.store) != nil)
        #expect(try run.differences() == [])
        // Less than half of the volume was ever written, and two thirds of it had a copy there.
        let copied = run.volume?.resyncedBytes ?? 0
        #expect(copied > 0 && copied < UInt64(VolumeRun.blocks * Block.bytes) / 2, "\(copied) bytes were copied")
        try readAll(run)
        // What it was filled with is all there is.
        run.bench.osts[0].kill()
        run.bench.universe.run(for: .seconds(3))
        try readAll(run)
        try run.bench.osts[0].start()
        try run.close()
    }

    /// A living OST is emptied, and all the time each placement has as many members in sync as before. Its objects go, and it can be
    /// forgotten.
    @Test func aDrainedOSTCountsUntilAnotherOneHasEverything() throws {
        let run = try VolumeRun(seed: 2)
        try write(run)
        let spare = try run.bench.addOST()
        try run.bench.waitUntil("the new OST has registered") { spare.isRegistered }
        let leaving = run.bench.osts[0]
        try drain(run, leaving)
        var seen = 0
        try wait(run, toLeave: leaving.store) { map in
            #expect(map.entries.allSatisfy { $0.state == .inSync })
            seen = max(seen, map.moves.count)
        }
        try run.drain()
        #expect(seen > 0, "members were seen on their way")
        #expect(try run.differences() == [])
        try run.bench.waitUntil("its object is removed") { run.bench.logs.contains { $0.contains("objects without members removed") } }
        #expect(try objects(run, on: leaving) == 0)
        try readAll(run)
        leaving.kill()
        run.bench.universe.run(for: .seconds(61))
        try readAll(run)
        try run.bench.connect().ask(.ostRemove, OSTRemoveRequest(store: leaving.store))
        try run.close()
    }

    /// The only copy moves, and then another one: nothing is lost on the way, and the writer never knows.
    @Test func theOnlyCopyMoves() throws {
        let run = try VolumeRun(seed: 3, replicas: 1)
        try write(run)
        for number in [0, 1] {
            let leaving = run.bench.osts[number]
            try drain(run, leaving)
            try wait(run, toLeave: leaving.store) { map in #expect(map.entries.allSatisfy { $0.state == .inSync }) }
            try readAll(run)
        }
        #expect(try run.map().osts.map(\.store) == [run.bench.osts[2].store])
        try run.close()
        try run.open()
        try readAll(run)
        try run.close()
    }

    /// There is nowhere to go: the sentence says what is missing, and nothing changes until there is.
    @Test func whereNoOSTIsLeftItIsSaid() throws {
        let run = try VolumeRun(seed: 4)
        try write(run)
        try drain(run, run.bench.osts[0])
        try drain(run, run.bench.osts[1])
        run.bench.universe.run(for: .seconds(20))
        #expect(run.bench.logs.contains { $0.contains("members cannot move yet") && $0.contains("no OST to put a member of 'vm1' on") })
        // It is not to be left any more.
        try drain(run, run.bench.osts[1], false)
        try wait(run, toLeave: run.bench.osts[0].store, seconds: 120)
        try readAll(run)
        try run.close()
    }

    /// The one that is filled dies half way, the writer dies, the server dies: in the end nothing is anywhere but where the map says.
    @Test(arguments: UInt64(1)...6) func movesAreBrokenOffAndEndAllTheSame(seed: UInt64) throws {
        let run = try VolumeRun(seed: seed * 31, spareAfter: .seconds(12))
        try write(run)
        _ = try run.bench.addOST()
        _ = try run.bench.addOST()
        let leaving = run.bench.osts[Int(seed) % 3]
        try drain(run, leaving)
        for _ in 0..<6 {
            run.bench.universe.run(for: .milliseconds(UInt64(run.below(4000))))
            switch run.below(4) {
            case 0:
                run.crash()
                try run.open()
            case 1:
                run.bench.killMDT()
                run.bench.universe.run(for: .milliseconds(UInt64(run.below(2000))))
                try run.bench.startMDT()
            case _:
                let moving = try run.map().moves.first.map { $0.entry.ost }
                let store = try moving.map { try run.map().osts[$0].store }
                let victim = run.bench.osts.first { $0.store == store && $0.isRunning } ?? run.bench.osts[3]
                guard victim.isRunning else { break }
                victim.kill()
                run.bench.universe.run(for: .milliseconds(UInt64(run.below(6000))))
                try victim.start()
            }
            for _ in 0..<20 { run.submit(.write, run.below(VolumeRun.blocks - 8), 1 + run.below(4)) }
        }
        try wait(run, toLeave: leaving.store, seconds: 180)
        try run.drain()
        #expect(try run.differences() == [])
        try readAll(run)
        try run.close()
        run.bench.universe.run(for: .seconds(20))
        let map = try run.map()
        for ost in run.bench.osts { #expect(try objects(run, on: ost) == (map.index(of: ost.store) == nil ? 0 : 1), "on \(ost.host.name)") }
    }

    /// The connections to the OST that a member moves to break in the middle. What that OST has of other placements goes on to count.
    @Test func aFillThatFailsTakesNothingElseAway() throws {
        let run = try VolumeRun(seed: 13)
        let (bench, leaving) = (run.bench, run.bench.osts[0])
        try write(run)
        try drain(run, leaving)
        try bench.waitUntil("something is copied") { (run.volume?.resyncedBytes ?? 0) > 0 }
        for ost in bench.osts where ost !== leaving { bench.universe.breakConnections(run.clientHost, ost.host) }
        try bench.waitUntil("the fill has failed") { bench.logs.contains { $0.contains("cannot be brought up to date yet") } }
        try wait(run, toLeave: leaving.store) { map in
            #expect(map.entries.allSatisfy { $0.state == .inSync }, "\(map.entries.map(\.state))")
        }
        #expect(bench.logs.contains { $0.contains("a fill was given up") } && !bench.logs.contains { $0.contains("members excluded") })
        #expect(try run.differences() == [])
        try readAll(run)
        try run.close()
    }

    /// It looked as if there were room; what has come is given up, its user notices nothing, and the member goes to another one.
    @Test func aMemberLeavesAnOSTThatTurnsOutToBeFull() throws {
        let run = try VolumeRun(seed: 10, replicas: 3)
        try run.open()
        for start in stride(from: 0, to: VolumeRun.blocks, by: 32) { run.submit(.write, start, 32) }
        run.submit(.flush, 0, 1)
        try run.drain()
        let full = try run.bench.addOST(bytes: 16 << 20)
        try run.bench.waitUntil("the new OST has registered") { full.isRegistered }
        let (id, leaving) = (try run.map().object.id, run.bench.osts[0])
        try drain(run, leaving)
        try run.bench.waitUntil("members move there") {
            do { return try targets(run, id).contains(full.store) } catch { return true }
        }
        try run.bench.waitUntil("it is full", seconds: 120) {
            run.bench.logs.contains { $0.contains("cannot be brought up to date yet") && $0.contains("\(full.store)") }
        }
        for block in 0..<64 { run.submit(.write, block * 64, 2) }
        try run.drain()
        #expect(run.failures() == [])
        _ = try run.bench.addOST()
        try wait(run, toLeave: leaving.store, seconds: 120)
        #expect(try run.map().index(of: full.store) == nil)
        #expect(try run.differences() == [])
        try readAll(run)
        try run.close()
    }

    /// An OST is away that has the last copy of something. It is forgotten only by who says so, and then the volume cannot be written.
    /// Should it be served again after all, everything is there.
    @Test func whatIsLostWithAnOSTIsGivenUpOnlyWhenThatIsSaid() throws {
        let run = try VolumeRun(seed: 11, spareAfter: .seconds(12))
        let (bench, lost) = (run.bench, run.bench.osts[0])
        try write(run)
        // The placements of both have one copy then, on the first.
        bench.osts[1].kill()
        for block in 0..<VolumeRun.blocks / 16 { run.submit(.write, block * 16, 1) }
        try run.drain()
        lost.kill()
        try bench.osts[1].start()
        _ = try bench.addOST()
        func forget(losingData: Bool) throws {
            var header = FrameHeader(.ostRemove)
            header.argument = losingData ? 1 : 0
            let peer = try bench.connect()
            defer { peer.close() }
            try peer.exchange(header, OSTRemoveRequest(store: lost.store).encoded)
        }
        bench.universe.run(for: .seconds(61))
        #expect { try forget(losingData: false) } throws: {
            ($0 as? Failure)?.status == .busy && "\($0)".contains("last copy in sync of")
        }
        try forget(losingData: true)
        #expect(
            try bench.connect().ask(.ostList, OSTListRequest(), OSTListReply.self).osts.allSatisfy { $0.registration.store != lost.store })
        #expect(try run.map().index(of: lost.store) != nil, "it still has what nobody else has")
        run.crash()
        #expect { try run.open() } throws: { ($0 as? Failure)?.status == .unavailable && "\($0)".contains("\(lost.store)") }
        try lost.start()
        try bench.waitUntil("it is taken as it was") { lost.isRegistered }
        try run.open()
        try run.waitForHealth(writes: false)
        #expect(try run.differences() == [])
        try readAll(run)
        try run.close()
    }

    /// However it comes that the object is not there: the member goes elsewhere.
    @Test func anOSTWithoutTheObjectIsNotWaitedFor() throws {
        let run = try VolumeRun(seed: 9)
        try write(run, blocks: 64)
        let spares = [try run.bench.addOST(), try run.bench.addOST()]
        try run.bench.waitUntil("the new OSTs have registered") { spares.allSatisfy(\.isRegistered) }
        let id = try run.map().object.id
        try drain(run, run.bench.osts[0])
        var found: [Identifier] = []
        for _ in 0..<20_000 where found.isEmpty {
            run.bench.universe.run(for: .milliseconds(1))
            found = try targets(run, id)
        }
        let target = run.ost(try #require(found.first { store in spares.contains { $0.store == store } }))
        let client = run.bench.client
        try run.bench.run { () throws(Failure) in
            let catalogue = OSTCatalogue(client, target.address)
            defer { catalogue.close() }
            try await catalogue.remove("\(id)")
        }
        try wait(run, toLeave: run.bench.osts[0].store)
        #expect(try run.map().index(of: target.store) == nil)
        try readAll(run)
        try run.close()
    }

    /// The only copy has moved, and was written since. The OST that it has left knows only that another one was being filled.
    private func believesTheOldPlace() throws -> Bool {
        let run = try VolumeRun(seed: 6, replicas: 1, placements: 1)
        try write(run)
        let leaving = try #require(run.bench.osts.first { try run.map().index(of: $0.store) != nil })
        try drain(run, leaving)
        // It is off the network the moment that it has lost its places, before its object is removed.
        let end = run.bench.universe.now + .seconds(60)
        while try run.map().index(of: leaving.store) != nil, run.bench.universe.now < end { run.bench.universe.run(for: .milliseconds(1)) }
        leaving.kill()
        let map = try run.map()
        #expect(map.index(of: leaving.store) == nil)
        run.crash()
        run.bench.killMDT()
        for ost in run.bench.osts where map.index(of: ost.store) != nil { ost.kill() }
        try leaving.start()
        do {
            try run.bench.rebuild()
            return true
        } catch {
            #expect("\(error)".contains("being filled, or up to date since"), "\(error)")
            return false
        }
    }

    @Test func anOSTThatLostItsPlaceIsNotBelievedInARebuild() throws {
        #expect(try !believesTheOldPlace())
    }

    #if MUTANTS
        @Test func theTestsCatchWhatTheyAreFor() throws {
            defer { Mutant.active = nil }
            Mutant.active = .rebuildsWithoutFilling
            #expect(try believesTheOldPlace(), "who was being filled is not asked")
        }
    #endif
}
