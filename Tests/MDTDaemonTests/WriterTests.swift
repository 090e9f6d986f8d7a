import Base
import Client
import Environment
import MDTDaemon
import MetaStore
import Simulation
import Testing
import Wire

@Suite struct WriterTests {
    private func failure<Value>(_ body: () throws -> Value) -> Failure? {
        do {
            _ = try body()
            return nil
        } catch {
            return error as? Failure
        }
    }

    @Test func everyOpenForWritingRaisesTheGeneration() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1")
        let peer = try bench.connect()
        #expect(try peer.open("vm1", [], nonce: 0).object.generation == 0)
        #expect(try peer.open("vm1", nonce: 1).object.generation == 1)
        #expect(try peer.open("vm1", nonce: 1).object.generation == 1)
        #expect(try peer.open("vm1", nonce: 2).object.generation == 2)
        #expect(failure { try peer.open("vm2", nonce: 3) }?.status == .notFound)
        #expect(try peer.ask(.volumeMap, VolumeMapRequest(name: "vm1")).argument & 1 == 1)
    }

    @Test func aSecondWriterIsRefusedWhileTheFirstIsThere() throws {
        let bench = try MDTBench()
        let id = try bench.create("vm1").object.id
        let first = try bench.connect()
        #expect(try first.open("vm1", nonce: 1).object.generation == 1)
        keepAlive(first)
        let second = try bench.connect()
        let asked = bench.universe.now
        let refusal = failure { try second.open("vm1", nonce: 2) }
        #expect(refusal?.status == .busy && refusal?.detail.contains("librawstor") == true)
        #expect(bench.universe.now - asked <= .seconds(3))
        #expect(try second.open("vm1", [], nonce: 0).object.generation == 1, "a reader disturbs nobody")
        #expect(failure { try second.ask(.volumeRemove, NameRequest(name: "vm1")) }?.status == .busy)
        // Closing frees it at once.
        isPinging = false
        bench.universe.run(for: Limits.writerPingInterval)
        try first.ask(.volumeClose, VolumeCloseRequest(id: id, generation: 1))
        #expect(try second.open("vm1", nonce: 2).object.generation == 2)
        // And so does the end of the connection.
        second.close()
        bench.universe.run(for: .milliseconds(50))
        let third = try bench.connect()
        let before = bench.universe.now
        #expect(try third.open("vm1", nonce: 3).object.generation == 3)
        #expect(bench.universe.now - before < .seconds(1))
    }

    private func opening(generation: UInt64 = 0) -> [UInt8] {
        var header = FrameHeader(.volumeOpen)
        header.generation = generation
        return frame(header, VolumeOpenRequest(name: "vm1", flags: .write, nonce: Identifier(high: 99, low: 1)).encoded)
    }

    /// The request goes on without it.
    @Test func aWriterThatLeavesInTheMiddleOfALongRequestFreesTheVolumeAtOnce() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1")
        for ost in bench.osts { bench.universe.partition(ost.host, bench.mds) }
        var resize = FrameHeader(.volumeResize)
        resize.argument = 128 << 20
        _ = try send(hello + opening() + frame(resize, NameRequest(name: "vm1").encoded), to: bench, for: .seconds(1))
        let second = try bench.connect()
        let asked = bench.universe.now
        #expect(try second.open("vm1", nonce: 2).object.generation == 2)
        #expect(bench.universe.now - asked < .seconds(1))
    }

    /// Its session must not stay behind: the server is alive, so no other one would ever give the volume away.
    @Test(arguments: UInt64(1)...16, [false, true])
    func aWriterThatLeavesWhileItOpensOrComesBackLeavesNothing(seed: UInt64, comesBack: Bool) throws {
        let bench = try MDTBench(seed: seed, servers: 2)
        _ = try bench.create("vm1")
        if comesBack {
            let first = try bench.connect(to: 1)
            #expect(try first.open("vm1", nonce: 1).object.generation == 1)
            first.close()
            bench.universe.run(for: .seconds(1))
        }
        _ = try send(hello + opening(generation: comesBack ? 1 : 0), to: bench, for: .milliseconds(seed))
        bench.universe.run(for: .seconds(1))
        try expectFree(bench)
    }

    /// The catalogue has taken it, and the writer was told that it had not.
    @Test func anOpenWithoutAnAnswerOfTheCatalogueLeavesNothing() throws {
        let bench = try MDTBench(servers: 2)
        _ = try bench.create("vm1")
        bench.contents.faults.late = 1_000_000
        let first = try bench.connect()
        #expect(failure { try first.open("vm1", nonce: 1) } != nil)
        bench.contents.faults = MemoryMetaContents.Faults()
        first.close()
        bench.universe.run(for: .seconds(5))
        try expectFree(bench)
    }

    /// Who was there before is put back, but for one that has left meanwhile.
    @Test(arguments: [100, 200, 300, 400, 500, 600])
    func aForcedOpenWithoutAnAnswerBringsNobodyBackWhoHasLeft(milliseconds: UInt64) throws {
        let bench = try MDTBench(servers: 2)
        _ = try bench.create("vm1")
        let first = try bench.connect()
        #expect(try first.open("vm1", nonce: 1).object.generation == 1)
        let second = try bench.connect()
        bench.contents.faults.late = 1_000_000
        (bench.contents.delayMin, bench.contents.delayMax) = (.milliseconds(100), .milliseconds(100))
        first.world.spawn {
            await Operations(first.world).sleep(.milliseconds(milliseconds))
            first.close()
        }
        #expect(failure { try second.open("vm1", [.write, .force], nonce: 2) } != nil)
        bench.contents.faults = MemoryMetaContents.Faults()
        (bench.contents.delayMin, bench.contents.delayMax) = (.milliseconds(1), .milliseconds(1))
        second.close()
        bench.universe.run(for: .seconds(5))
        try expectFree(bench, within: 3)
    }

    /// The older one comes back, for a moment, while the newer one opens: it is refused, and the newer one has its session at both servers.
    @Test(arguments: [10, 60, 110, 160, 210, 260, 310])
    func aWriterThatComesBackTakesNoSessionFromTheNextOne(milliseconds: UInt64) throws {
        let bench = try MDTBench(servers: 2)
        let id = try bench.create("vm1").object.id
        #expect(try bench.connect().open("vm1", nonce: 1).object.generation == 1)
        let (again, next) = (try bench.connect(), try bench.connect())
        (bench.contents.delayMin, bench.contents.delayMax) = (.milliseconds(50), .milliseconds(50))
        again.world.spawn {
            await Operations(again.world).sleep(.milliseconds(milliseconds))
            var header = FrameHeader(.volumeOpen)
            header.generation = 1
            let request = VolumeOpenRequest(name: "vm1", flags: .write)
            do throws(Failure) {
                _ = try await again.connection.exchange(header, request.encoded, deadline: again.world.now + .seconds(5))
            } catch {}
        }
        #expect(try next.open("vm1", [.write, .force], nonce: 2).object.generation == 2)
        (bench.contents.delayMin, bench.contents.delayMax) = (.milliseconds(1), .milliseconds(1))
        keepAlive(next)
        bench.universe.run(for: .seconds(1))
        let other = try bench.connect(to: 1)
        #expect(failure { try other.open("vm1", nonce: 3) }?.status == .busy)
        isPinging = false
        bench.universe.run(for: Limits.writerPingInterval)
        try next.ask(.volumeClose, VolumeCloseRequest(id: id, generation: 2))
        again.close()
        try expectFree(bench, within: 3)
    }

    @Test func whoLeavesWhileItWaitsForItsTurnOpensNothing() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1")
        try openAndVanish(bench, nonce: 2)
        _ = try send(hello + opening(), to: bench, for: .seconds(1))
        bench.universe.run(for: Limits.writerSilenceMax)
        let third = try bench.connect()
        #expect(try third.open("vm1", nonce: 3).object.generation == 2)
    }

    /// The machine of a writer dies.
    private func openAndVanish(_ bench: MDTBench, nonce: UInt64) throws {
        let machine = bench.universe.addHost("doomed")
        _ = try bench.connect(from: machine.start("client")).open("vm1", nonce: nonce)
        machine.losePower()
    }

    /// Whether the writer is there is not known yet when who asks for it leaves.
    @Test func aRemovalThatNobodyWaitsForRemovesNothing() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1")
        let first = try bench.connect()
        _ = try first.open("vm1", nonce: 2)
        bench.universe.run(for: .milliseconds(200))
        _ = try send(hello + frame(FrameHeader(.volumeRemove), NameRequest(name: "vm1").encoded), to: bench, for: .milliseconds(500))
        bench.universe.run(for: .milliseconds(500))
        #expect(try first.open("vm1", nonce: 2, generation: 1).object.generation == 1)
    }

    /// At the other server, which only the catalogue tells.
    private func expectFree(_ bench: MDTBench, within generation: UInt64 = 2) throws {
        let second = try bench.connect(to: 1)
        let asked = bench.universe.now
        #expect(try second.open("vm1", nonce: 3).object.generation <= generation)
        #expect(bench.universe.now - asked < .seconds(1))
    }

    @Test func forceDoesNotAsk() throws {
        let bench = try MDTBench()
        let id = try bench.create("vm1").object.id
        let first = try bench.connect()
        _ = try first.open("vm1", nonce: 1)
        keepAlive(first)
        let second = try bench.connect()
        #expect(try second.open("vm1", [.write, .force], nonce: 2).object.generation == 2)
        isPinging = false
        bench.universe.run(for: Limits.writerPingInterval)
        let exclude = VolumeMembersRequest(id: id, generation: 1, stores: [bench.osts[0].store])
        #expect(failure { try first.ask(.volumeExclude, exclude) }?.status == .fenced)
        #expect(failure { try first.open("vm1", nonce: 1, generation: 1) }?.status == .fenced)
        #expect(try second.open("vm1", nonce: 2, generation: 2).object.generation == 2)
        // What the first closes is not the second's.
        try first.ask(.volumeClose, VolumeCloseRequest(id: id, generation: 1))
        #expect(try first.ask(.volumeMap, VolumeMapRequest(id: id)).argument & 1 == 1)
    }

    @Test func aWriterThatHasVanishedGivesWayWithinTenSeconds() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1")
        try openAndVanish(bench, nonce: 1)
        let second = try bench.connect()
        let asked = bench.universe.now
        #expect(try second.open("vm1", nonce: 2).object.generation == 2)
        let taken = bench.universe.now - asked
        #expect(taken > .seconds(6) && taken < .seconds(10), "\(taken.milliseconds) ms")
        try bench.waitUntil("the old connection has ended", seconds: 5) { bench.logs.contains { $0.contains("while it was silent") } }
    }

    /// The same open again over another connection, since the answer was lost with the first: nobody else's.
    @Test func aWriterDoesNotWaitForItself() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1")
        let first = try bench.connect()
        _ = try first.open("vm1", nonce: 1)
        let again = try bench.connect()
        let asked = bench.universe.now
        #expect(try again.open("vm1", nonce: 1).object.generation == 1)
        #expect(bench.universe.now - asked < .seconds(1))
    }

    /// After a restart of the server nobody has a session, until the writers come back.
    @Test func aWriterComesBackToAServerThatWasKilled() throws {
        let bench = try MDTBench()
        let id = try bench.create("vm1").object.id
        let first = try bench.connect()
        #expect(try first.open("vm1", nonce: 1).object.generation == 1)
        bench.killMDT()
        try bench.startMDT()
        let again = try bench.connect()
        #expect(try again.open("vm1", nonce: 1, generation: 1).object.generation == 1)
        keepAlive(again)
        let other = try bench.connect()
        #expect(failure { try other.open("vm1", nonce: 2) }?.status == .busy)
        #expect(failure { try other.open("vm1", nonce: 2, generation: 5) }?.status == .wrongStore)
        isPinging = false
        bench.universe.run(for: Limits.writerPingInterval)
        let stale = try again.ask(
            .volumeExclude, VolumeMembersRequest(id: id, generation: 1, stores: [bench.osts[0].store]), VolumeMap.self)
        #expect(stale.object.map == 2 && stale.entries.contains { $0.state == .stale })
        let same = try again.ask(
            .volumeExclude, VolumeMembersRequest(id: id, generation: 1, stores: [bench.osts[0].store]), VolumeMap.self)
        #expect(same == stale)
        // The last one of each placement stays.
        let all = VolumeMembersRequest(id: id, generation: 1, stores: bench.osts.map(\.store))
        let least = try again.ask(.volumeExclude, all, VolumeMap.self)
        #expect((0..<least.placementCount).allSatisfy { least.count(.inSync, in: $0) == 1 })
        #expect(try again.ask(.volumeExclude, all, VolumeMap.self) == least)
        #expect(try again.ask(.volumeMap, VolumeMapRequest(id: id), VolumeMap.self) == least)
    }

    /// Sends a ping as often as a writer must.
    private func keepAlive(_ peer: Peer) {
        isPinging = true
        let connection = peer.connection
        let world = peer.world
        world.spawn { [pinging] in
            while pinging.isOn {
                do throws(Failure) {
                    _ = try await connection.exchange(FrameHeader(.ping), [], deadline: world.now + .seconds(5))
                } catch {
                    return
                }
                await Operations(world).sleep(until: world.now + Limits.writerPingInterval)
            }
        }
    }

    private final class Pinging { var isOn = false }
    private let pinging = Pinging()
    private var isPinging: Bool {
        get { pinging.isOn }
        nonmutating set { pinging.isOn = newValue }
    }
}
