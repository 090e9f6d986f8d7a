import Base
import Client
import Environment
import MDTDaemon
import Simulation
import Testing
import Wire

/// Several metadata servers of one catalogue: a writer at one of them is known at the others, and what one works on is left to it.
@Suite struct SharingTests {
    private func failure<Value>(_ body: () throws -> Value) -> Failure? {
        do {
            _ = try body()
            return nil
        } catch {
            return error as? Failure
        }
    }

    private func hasWriter(_ bench: MDTBench, _ server: Int) throws -> Bool {
        let peer = try bench.connect(to: server)
        defer { peer.close() }
        return try peer.ask(.volumeMap, VolumeMapRequest(name: "vm1")).argument & 1 == 1
    }

    /// What was created there, and whether it went well, some time later.
    private func beginCreating(_ bench: MDTBench, at server: Int, replicas: UInt16 = 2) -> () -> Result<VolumeMap, Failure>? {
        var outcome: Result<VolumeMap, Failure>?
        let (world, address) = (bench.universe.addHost("creator\(server)").start("client"), bench.addresses[server])
        world.spawn {
            let catalogue = MDTCatalogue(world, [address])
            let request = VolumeCreateRequest(name: "vm1", bytes: 64 << 20, layout: Layout(dataMembers: replicas))
            do throws(Failure) { outcome = .success(try await catalogue.create(request)) } catch { outcome = .failure(error) }
            catalogue.close()
        }
        return { outcome }
    }

    // Creations

    @Test(arguments: UInt64(1)...10) func oneOfTwoCreationsWins(seed: UInt64) throws {
        let bench = try MDTBench(seed: seed, servers: 2)
        let creations = [beginCreating(bench, at: 0), beginCreating(bench, at: 1)]
        try bench.waitUntil("both have ended") { creations.allSatisfy { $0() != nil } }
        let made = creations.compactMap { if case .success(let map)? = $0() { map } else { nil } }
        let refusals = creations.compactMap { if case .failure(let failure)? = $0() { failure } else { nil } }
        #expect(made.count == 1 && refusals.map(\.status) == [.alreadyExists], "\(refusals)")
        bench.universe.run(for: .seconds(12))
        #expect(try bench.names() == ["vm1"])
        #expect(try bench.objects().joined().allSatisfy { $0.name == "\(made[0].object.id)" }, "the loser leaves nothing")
    }

    /// A creation that takes long is not taken for one that was left behind.
    @Test(arguments: [0, 1], [0, 3]) func whatOneServerIsAtIsLeftToIt(server: Int, seconds: UInt64) throws {
        let bench = try MDTBench(servers: 2)
        // The others know of one that was just started what the catalogue says, not yet what they have seen.
        bench.universe.run(for: .seconds(seconds))
        bench.universe.partition(bench.osts[1].host, try #require(bench.universe.host(server == 0 ? "mds" : "mds1")))
        let creation = beginCreating(bench, at: server, replicas: 3)
        bench.universe.run(for: .seconds(1))
        #expect(try bench.objects().map(\.count) == [1, 0, 1])
        // One that comes makes all servers look for work.
        let ost = try bench.addOST()
        try bench.waitUntil("it has registered", seconds: 2) { ost.isRegistered }
        bench.universe.run(for: .seconds(1))
        #expect(creation() == nil)
        bench.universe.heal()
        try bench.waitUntil("it has ended") { creation() != nil }
        #expect(try creation()?.get().object.name == "vm1")
        #expect(!bench.logs.contains { $0.contains("undoing a creation") })
    }

    @Test func theWorkOfADeadServerIsTakenOver() throws {
        let bench = try MDTBench(servers: 2)
        bench.universe.run(for: .seconds(3))
        let doomed = try #require(bench.universe.host("mds1"))
        bench.universe.partition(bench.osts[2].host, doomed)
        _ = beginCreating(bench, at: 1, replicas: 3)
        bench.universe.run(for: .seconds(1))
        #expect(try bench.objects().map(\.count) == [1, 1, 0])
        bench.killMDT(1)
        let died = bench.universe.now
        #expect(failure { try bench.create("vm1") }?.status == .alreadyExists)
        try bench.waitUntil("the other one undoes it") { bench.logs.contains { $0.contains("undoing a creation") } }
        let taken = bench.universe.now - died
        #expect(taken > .seconds(15) && taken < .seconds(30), "\(taken.milliseconds) ms")
        bench.universe.run(for: .seconds(1))
        #expect(try bench.objects().allSatisfy(\.isEmpty))
        _ = try bench.create("vm1")
    }

    /// A server that did not run for so long that others have taken over its work, wherever it was in it, asks nothing of any OST when it
    /// runs again: all of the volume is there in the end, or nothing of it anywhere.
    @Test func aServerThatDidNotRunHasLostItsWork() throws {
        var (undone, made) = (0, 0)
        for step in UInt64(1)...24 {
            let bench = try MDTBench(seed: step, servers: 2)
            bench.universe.run(for: .seconds(3))
            (bench.contents.delayMin, bench.contents.delayMax) = (.milliseconds(100), .milliseconds(120))
            let creation = beginCreating(bench, at: 1, replicas: 3)
            bench.universe.run(for: .milliseconds(step * 140))
            bench.stallMDT(1, for: .seconds(27))
            bench.universe.run(for: .seconds(50))
            try bench.waitUntil("it has ended", seconds: 30) { creation() != nil }
            let names = try bench.names()
            #expect(try bench.objects().map(\.count) == (names.isEmpty ? [0, 0, 0] : [1, 1, 1]), "step \(step): \(names)")
            if !names.isEmpty { made += 1 }
            undone += bench.logs.count { $0.contains("undoing a creation") }
        }
        #expect(undone > 2 && made > 2, "\(undone) undone, \(made) made")
    }

    /// One that was asked to stop has said so.
    @Test func theWorkOfAServerThatLeftIsTakenOverAtOnce() throws {
        let bench = try MDTBench(servers: 2)
        bench.universe.run(for: .seconds(3))
        _ = try bench.create("vm1")
        let peer = try bench.connect(to: 1)
        bench.osts[2].kill()
        try peer.ask(.volumeRemove, NameRequest(name: "vm1"))
        try bench.stopMDT(1)
        try bench.osts[2].start()
        bench.universe.run(for: .seconds(8))
        #expect(try bench.objects().allSatisfy(\.isEmpty))
    }

    // Writers

    @Test func aWriterIsKnownAtAllServers() throws {
        let bench = try MDTBench(servers: 2)
        let id = try bench.create("vm1").object.id
        let first = try bench.connect()
        #expect(try first.open("vm1", nonce: 1).object.generation == 1)
        bench.universe.run(for: .seconds(1))
        #expect(try hasWriter(bench, 0) && hasWriter(bench, 1))
        let second = try bench.connect(to: 1)
        let asked = bench.universe.now
        let refusal = failure { try second.open("vm1", nonce: 2) }
        #expect(
            refusal?.status == .busy && refusal?.detail.contains("at another metadata server") == true, "\(String(describing: refusal))")
        #expect(bench.universe.now - asked < .seconds(4))
        #expect(failure { try second.ask(.volumeRemove, NameRequest(name: "vm1")) }?.status == .busy)
        #expect(try second.open("vm1", [], nonce: 0).object.generation == 1, "a reader disturbs nobody")
        // Closing frees it at once, and so does the end of the connection.
        try first.ask(.volumeClose, VolumeCloseRequest(id: id, generation: 1))
        #expect(try second.open("vm1", nonce: 2).object.generation == 2)
        second.close()
        bench.universe.run(for: .milliseconds(200))
        #expect(try bench.connect().open("vm1", nonce: 3).object.generation == 3)
    }

    /// The same instant at both: exactly one has it.
    @Test(arguments: UInt64(1)...10) func oneOfTwoOpensWins(seed: UInt64) throws {
        let bench = try MDTBench(seed: seed, servers: 2)
        _ = try bench.create("vm1")
        let peers = [try bench.connect(), try bench.connect(to: 1)]
        var outcomes: [Failure?] = []
        for (index, peer) in peers.enumerated() {
            let request = VolumeOpenRequest(name: "vm1", flags: .write, nonce: Identifier(high: 7, low: UInt64(index)))
            bench.client.spawn {
                do throws(Failure) {
                    let end = bench.client.now + .seconds(30)
                    _ = try await peer.connection.exchange(FrameHeader(.volumeOpen), request.encoded, deadline: end)
                    outcomes.append(nil)
                } catch { outcomes.append(error) }
            }
        }
        try bench.waitUntil("both have an answer") { outcomes.count == 2 }
        #expect(outcomes.compactMap { $0?.status } == [.busy], "\(outcomes)")
        #expect(try bench.connect().ask(.volumeMap, VolumeMapRequest(name: "vm1"), VolumeMap.self).object.generation == 1)
    }

    @Test func forceFencesAtAnyServer() throws {
        let bench = try MDTBench(servers: 2)
        let id = try bench.create("vm1").object.id
        let first = try bench.connect()
        _ = try first.open("vm1", nonce: 1)
        let second = try bench.connect(to: 1)
        #expect(try second.open("vm1", [.write, .force], nonce: 2).object.generation == 2)
        let exclude = VolumeMembersRequest(id: id, generation: 1, stores: [bench.osts[0].store])
        #expect(failure { try first.ask(.volumeExclude, exclude) }?.status == .fenced)
        #expect(failure { try second.open("vm1", nonce: 1, generation: 1) }?.status == .fenced)
        // What the first closes is not the second's.
        try first.ask(.volumeClose, VolumeCloseRequest(id: id, generation: 1))
        first.close()
        bench.universe.run(for: .milliseconds(500))
        #expect(failure { try bench.connect().open("vm1", nonce: 3) }?.status == .busy)
    }

    /// Its server is killed: it is waited for, comes back to the other one, and is known there.
    @Test func aWriterWhoseServerDiedIsNotNobody() throws {
        let bench = try MDTBench(servers: 2)
        _ = try bench.create("vm1")
        _ = try bench.connect().open("vm1", nonce: 1)
        bench.killMDT(0)
        let other = try bench.connect(to: 1)
        var outcome: Failure??
        let request = VolumeOpenRequest(name: "vm1", flags: .write, nonce: Identifier(high: 7, low: 7))
        bench.client.spawn {
            do throws(Failure) {
                let end = bench.client.now + .seconds(30)
                _ = try await other.connection.exchange(FrameHeader(.volumeOpen), request.encoded, deadline: end)
                outcome = .some(nil)
            } catch { outcome = error }
        }
        bench.universe.run(for: .seconds(2))
        #expect(outcome == nil, "it waits for the first")
        let again = try bench.connect(to: 1)
        #expect(try again.open("vm1", nonce: 1, generation: 1).object.generation == 1)
        for _ in 0..<4 where outcome == nil {
            bench.universe.run(for: .seconds(1))
            try again.exchange(FrameHeader(.ping))
        }
        #expect(outcome??.status == .busy)
    }

    /// And if it does not come back, the next one does not wait for ever.
    @Test func aWriterThatDiedWithItsServerGivesWay() throws {
        let bench = try MDTBench(servers: 2)
        _ = try bench.create("vm1")
        _ = try bench.connect().open("vm1", nonce: 1)
        bench.killMDT(0)
        let other = try bench.connect(to: 1)
        let asked = bench.universe.now
        #expect(try other.open("vm1", nonce: 2).object.generation == 2)
        let taken = bench.universe.now - asked
        #expect(taken > .seconds(6) && taken < .seconds(10), "\(taken.milliseconds) ms")
    }

    /// The server that has its session ends it.
    @Test func aWriterThatIsSilentGivesWayAtOtherServers() throws {
        let bench = try MDTBench(servers: 2)
        _ = try bench.create("vm1")
        let machine = bench.universe.addHost("doomed")
        _ = try bench.connect(from: machine.start("client")).open("vm1", nonce: 1)
        machine.losePower()
        bench.universe.run(for: .seconds(11))
        let asked = bench.universe.now
        #expect(try bench.connect(to: 1).open("vm1", nonce: 2).object.generation == 2)
        #expect(bench.universe.now - asked < .seconds(1))
    }

    /// The answer was lost with its server: the same open at another one is nobody else's, and is not waited for.
    @Test func aRepeatedOpenIsTheSameAtAnotherServer() throws {
        let bench = try MDTBench(servers: 2)
        _ = try bench.create("vm1")
        _ = try bench.connect().open("vm1", nonce: 1)
        bench.killMDT(0)
        let other = try bench.connect(to: 1)
        let asked = bench.universe.now
        #expect(try other.open("vm1", nonce: 1).object.generation == 1)
        #expect(bench.universe.now - asked < .seconds(1))
        try bench.startMDT(0)
        #expect(failure { try bench.connect().open("vm1", nonce: 2) }?.status == .busy)
    }
}
