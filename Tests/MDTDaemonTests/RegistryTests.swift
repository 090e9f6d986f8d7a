import Base
import Client
import Environment
import MDTDaemon
import Simulation
import Testing
import Wire

@Suite struct RegistryTests {
    private func osts(_ bench: MDTBench) throws -> [OSTStatus] {
        try bench.connect().ask(.ostList, OSTListRequest(), OSTListReply.self).osts
    }

    @Test func registeredOSTsAreListed() throws {
        let bench = try MDTBench()
        let listed = try osts(bench)
        #expect(listed.map(\.registration.store) == bench.osts.map(\.store).sorted())
        #expect(listed.allSatisfy { $0.isAlive && !$0.isDrained && $0.silence < .seconds(6) && $0.registration.freeBytes > 0 })
        let rest = try bench.connect().ask(.ostList, OSTListRequest(after: listed[1].registration.store), OSTListReply.self).osts
        #expect(rest.map(\.registration.store) == [listed[2].registration.store])
    }

    @Test func silenceIsSeen() throws {
        let bench = try MDTBench()
        let store = bench.osts[1].store
        bench.osts[1].kill(silent: true)
        bench.universe.run(for: .seconds(40))
        let listed = try osts(bench)
        for ost in listed { #expect(ost.isAlive == (ost.registration.store != store)) }
        bench.killMDT()
        try bench.startMDT()
        try bench.waitUntil("the others are back") { [0, 2].allSatisfy { bench.osts[$0].isRegistered } }
        bench.universe.run(for: .seconds(6))
        let after = try osts(bench).first { $0.registration.store == store }
        #expect(after?.isAlive == false && after?.silence.nanoseconds == .max)
    }

    @Test func anOSTComesBackByItself() throws {
        let bench = try MDTBench()
        bench.killMDT()
        try bench.waitUntil("the OST notices") { bench.osts[0].refusal?.status == .unreachable }
        try bench.startMDT()
        try bench.waitUntil("all are back") { bench.osts.allSatisfy(\.isRegistered) }
        let mounts = { try self.osts(bench).first { $0.registration.store == bench.osts[0].store }?.registration.mountCounter ?? 0 }
        let before = try mounts()
        bench.osts[0].kill()
        try bench.osts[0].start()
        try bench.waitUntil("it is back", seconds: 5) { bench.osts[0].isRegistered }
        let after = try mounts()
        #expect(after == before + 1)
    }

    @Test func anOSTOfAnotherClusterIsRefused() throws {
        let bench = try MDTBench(osts: 1)
        let stranger = try bench.addOST(cluster: Identifier(high: 2, low: 2))
        try bench.waitUntil("it is refused") { stranger.refusal?.status == .wrongCluster }
        #expect(stranger.refusal?.detail.contains("rawstor-ost init PATH --cluster \(MDTBench.cluster)") == true)
        #expect(try osts(bench).count == 1)
        #expect(bench.logs.contains { $0.contains("warning the metadata server refuses this OST") })
    }

    /// A copy of the disk from before: it serves clients of its own, but not this cluster.
    @Test func anOldCopyOfADiskIsRefused() throws {
        let bench = try MDTBench(osts: 1)
        guard let disk = bench.osts[0].host.disk("/d") else { throw Failure(.notFound) }
        let old = disk.media.clone()
        bench.osts[0].kill()
        for _ in 0..<3 {
            try bench.osts[0].start()
            try bench.waitUntil("it has registered") { bench.osts[0].isRegistered }
            bench.osts[0].kill()
        }
        let copy = try bench.addOST(media: old)
        try bench.waitUntil("the copy is refused") { copy.refusal?.status == .wrongStore }
        #expect(copy.refusal?.detail.contains("old copy") == true)
    }

    @Test func theSecondOfTwoDisksOfOneIdentityIsRefused() throws {
        let bench = try MDTBench(osts: 1)
        guard let disk = bench.osts[0].host.disk("/d") else { throw Failure(.notFound) }
        let copy = try bench.addOST(media: disk.media.clone())
        try bench.waitUntil("the copy is refused") { copy.refusal?.status == .wrongStore }
        #expect(copy.refusal?.detail.contains("served at oss0:7710 already") == true)
        bench.universe.run(for: .seconds(60))
        #expect(bench.osts[0].isRegistered && copy.refusal?.status == .wrongStore)
        #expect(try osts(bench).map(\.registration.endpoints) == [["oss0:7710"]])
        // When the first is gone, the disk may be elsewhere.
        bench.osts[0].kill()
        try bench.waitUntil("the copy takes its place", seconds: 30) { copy.isRegistered }
        #expect(try osts(bench).map(\.registration.endpoints) == [["oss1:7710"]])
    }

    /// Only one that keeps nothing, and that nobody is about to place anything on.
    @Test func anOSTIsForgottenWhenNothingIsThere() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1", replicas: 3)
        let store = bench.osts[1].store
        func refusal(_ store: Identifier) -> Failure? {
            do {
                try bench.connect().ask(.ostRemove, OSTRemoveRequest(store: store))
                return nil
            } catch { return error as? Failure }
        }
        #expect(refusal(Identifier(high: 3, low: 3))?.status == .notFound)
        #expect(refusal(store)?.detail.contains("stop it, wait until") == true)
        bench.osts[1].kill()
        bench.universe.run(for: .seconds(61))
        #expect(refusal(store)?.detail.contains("keeps members of 1 volumes: 'vm1';") == true)
        // The last one in sync is told.
        let peer = try bench.connect()
        let writer = try peer.open("vm1", nonce: 1)
        let others = [bench.osts[0].store, bench.osts[2].store]
        try peer.ask(
            .volumeExclude, VolumeMembersRequest(id: writer.object.id, generation: writer.object.generation, stores: others))
        #expect(refusal(store)?.detail.contains("'vm1' (the last copy in sync of") == true)
        try peer.ask(.volumeClose, VolumeCloseRequest(id: writer.object.id, generation: writer.object.generation))
        try peer.ask(.volumeRemove, NameRequest(name: "vm1"))
        #expect(refusal(store) == nil, "what is left there of a volume in removal keeps nobody")
        #expect(try osts(bench).count == 2)
        #expect(refusal(store)?.status == .notFound)
        // That is not forgotten.
        try bench.osts[1].start()
        try bench.waitUntil("it is a new one") { bench.osts[1].isRegistered }
        #expect(try osts(bench).count == 3)
        try bench.waitUntil("the object is gone") { bench.server?.counters.workFinished ?? 0 > 0 }
        #expect(try bench.objects().allSatisfy(\.isEmpty))
    }

    @Test func aClientIsNoOST() throws {
        let bench = try MDTBench(osts: 1)
        guard let registration = bench.osts[0].registration else { throw Failure(.notFound) }
        let peer = try bench.connect()
        #expect { try peer.ask(.ostRegister, registration) } throws: { ($0 as? Failure)?.status == .permissionDenied }
    }
}
