import Base
import Environment
import MetaStore
import Metadata
import Simulation
import Testing
import Wire

@Suite struct CatalogueTests {
    @Test func theClusterIsKept() throws {
        try CatalogueBench.run(servers: 2) { bench in
            #expect(bench.catalogues[1].cluster == CatalogueBench.cluster)
            let store = try await MemoryMetaStore.open(bench.contents, in: bench.worlds[0])
            let other = Identifier(high: 2, low: 2)
            let refusal = await failure { try await ClusterCatalogue.create(in: store, bench.worlds[0], cluster: other) }
            #expect(refusal?.status == .alreadyExists && refusal?.detail.contains("\(CatalogueBench.cluster)") == true)
            let again = try await ClusterCatalogue.create(in: store, bench.worlds[0], cluster: CatalogueBench.cluster)
            #expect(again.cluster == CatalogueBench.cluster)
        }
    }

    @Test func aVolumeIsFoundByNameAndId() throws {
        try CatalogueBench.run { bench in
            let stores = try await bench.register(3)
            let volume = try await bench.volume("vm1", bytes: 1 << 30, replicas: 2)
            let found = try await bench.catalogue.volume(named: "vm1")
            let same = try await bench.catalogue.volume(volume.id)
            #expect(found == volume && same == volume)
            #expect(found.stores == stores && found.placementCount == 96)
            let osts = try await bench.catalogue.osts(found.stores)
            let map = found.map(osts)
            try map.check()
            #expect(map.osts.map(\.endpoints) == [["10.0.0.1:7710"], ["10.0.0.2:7710"], ["10.0.0.3:7710"]])
            for name in ["vm2", "VM1", "vm1/x"] {
                #expect(await failure { try await bench.catalogue.volume(named: name) }?.status == .notFound)
            }
            #expect(await failure { try await bench.volume("vm1") }?.status == .alreadyExists)
        }
    }

    @Test func volumesAreListedInTheOrderOfTheirNames() throws {
        try CatalogueBench.run { bench in
            _ = try await bench.register(1)
            for name in ["b", "a/c", "a", "z", "B"] { _ = try await bench.volume(name, replicas: 1) }
            var names: [String] = []
            while true {
                let page = try await bench.catalogue.volumes(after: names.last ?? "", limit: 2)
                if page.isEmpty { break }
                names += page.map(\.object.name)
            }
            #expect(names == ["B", "a", "a/c", "b", "z"])
        }
    }

    @Test func whatCannotBePlacedIsRefusedWithWhatIsMissing() throws {
        try CatalogueBench.run { bench in
            let catalogue = bench.catalogue
            func refusal(
                named name: String = "a", bytes: UInt64 = 1 << 30, _ layout: Layout = Layout(), level: SpreadLevel = .host, floor: Int = 0,
                placements: Int = 0, isAlive: @escaping (Identifier) -> Bool = { _ in true }
            ) async -> Failure? {
                let request = VolumeCreateRequest(
                    name: name, bytes: bytes, layout: layout, level: level, floor: floor, placements: placements)
                return await failure { try await catalogue.place(request, maker: .zero, isAlive: isAlive) }
            }
            #expect(await refusal()?.detail.contains("has no OST") == true)
            let stores = try await bench.register(3)
            #expect(await refusal(named: "a b")?.detail.contains("is no name") == true)
            #expect(await refusal(bytes: 100)?.detail.contains("multiple of 512") == true)
            #expect(await refusal(bytes: 1 << 50, Layout(chunkBytes: 1 << 16))?.detail.contains("larger chunks") == true)
            #expect(await refusal(Layout(chunkBytes: 5 << 20))?.detail.contains("power of two") == true)
            #expect(await refusal(Layout(dataMembers: 4))?.detail.contains("4 replicas on different hosts need 4 hosts") == true)
            #expect(await refusal(Layout(dataMembers: 3), level: .rack)?.detail.contains("there are 2: r0, r1") == true)
            #expect(await refusal(Layout(dataMembers: 2), floor: 3)?.detail.contains("floor is 1 to 2") == true)
            #expect(await refusal(Layout(dataMembers: 2), placements: 1025)?.detail.contains("at most 1024") == true)
            #expect(await refusal(Layout(kind: .erasure, dataMembers: 2, parityMembers: 1))?.status == .unsupported)
            #expect(await refusal(Layout(dataMembers: 2, parityMembers: 1))?.status == .invalidArgument)
            let away = await refusal(Layout(dataMembers: 3)) { $0 != stores[1] }
            #expect(away?.status == .noSpace && away?.detail.contains("draining or away: r0/h2") == true)
            try await catalogue.setDrained(stores[2], true)
            #expect(await refusal(Layout(dataMembers: 3))?.detail.contains("draining or away: r1/h3 (drained)") == true)
            let full = await failure {
                let request = VolumeCreateRequest(name: "a", bytes: 1 << 30, layout: Layout(dataMembers: 3))
                _ = try await catalogue.place(request, maker: .zero, isFull: { $0 == stores[1] }, isAlive: { _ in true })
            }
            #expect(full?.detail.contains("there is 1: ") == true && full?.detail.contains("r0/h2 (full), r1/h3 (drained)") == true)
            try await catalogue.setDrained(stores[2], false)
            #expect(await refusal(Layout(dataMembers: 3)) == nil)
            #expect(await failure { try await catalogue.setDrained(.zero, true) }?.status == .notFound)
        }
    }

    /// Many OSTs with long names and many members: fewer placements, but a map that travels in one message.
    @Test func aMapAlwaysFitsAMessage() throws {
        try CatalogueBench.run { bench in
            for number in 1...200 {
                var registration = CatalogueBench.registration(number)
                registration.host = String(repeating: "h", count: Limits.hostNameBytesMax)
                registration.endpoints = [String(repeating: "e", count: Limits.endpointsBytesMax - 5) + ":7710"]
                try await bench.catalogue.register(registration)
            }
            for replicas: UInt16 in [1, 2, 3, 64] {
                let volume = try await bench.volume("r\(replicas)", bytes: 1 << 40, replicas: replicas)
                let osts = try await bench.catalogue.osts(volume.stores)
                #expect(volume.map(osts).encoded.count <= Limits.volumeRecordBytesMax, "\(replicas) replicas")
                #expect(volume.placementCount >= 6)
            }
        }
    }

    @Test func anOldCopyOfADiskIsRefused() throws {
        try CatalogueBench.run { bench in
            let catalogue = bench.catalogue
            try await catalogue.register(CatalogueBench.registration(1, mounts: 5))
            let old = await failure { try await catalogue.register(CatalogueBench.registration(1, mounts: 4)) }
            #expect(old?.status == .wrongStore && old?.detail.contains("mounted 5 times") == true)
            let second = await failure { try await catalogue.register(CatalogueBench.registration(1, mounts: 5, port: 7777)) }
            #expect(second?.status == .wrongStore && second?.detail.contains("two disks of one identity") == true)
            try await catalogue.register(CatalogueBench.registration(1, mounts: 6, port: 7777))
            let osts = try await catalogue.osts()
            #expect(osts.map(\.registration) == [CatalogueBench.registration(1, mounts: 6, port: 7777)])
        }
    }

    @Test func aHeartbeatIsNoTransaction() throws {
        try CatalogueBench.run { bench in
            let catalogue = bench.catalogue
            var registration = CatalogueBench.registration(1)
            try await catalogue.register(registration)
            let before = try await bench.everything()
            registration.freeBytes -= 4096
            try await catalogue.register(registration)
            let after = try await bench.everything()
            #expect(before == after)
        }
    }

    @Test func badRegistrationsAreRefused() throws {
        try CatalogueBench.run { bench in
            let catalogue = bench.catalogue
            func refuses(_ text: String, _ change: (inout OSTRegisterRequest) -> Void) async {
                var registration = CatalogueBench.registration(1)
                change(&registration)
                let bad = registration
                let refusal = await failure { try await catalogue.register(bad) }
                #expect(refusal?.status == .invalidArgument && refusal?.detail.contains(text) == true, "\(text)")
            }
            await refuses("id of its store") { $0.store = .zero }
            await refuses("failure domain") { $0.domain = "" }
            await refuses("failure domain") { $0.domain = "a/b/c/d" }
            await refuses("host's name") { $0.host = String(repeating: "h", count: 65) }
            await refuses("--advertise") { $0.endpoints = [] }
            await refuses("--advertise") { $0.endpoints = ["h:0"] }
            await refuses("--advertise") { $0.endpoints = ["nobody"] }
            await refuses("--advertise") { $0.endpoints = ["a b:1"] }
            await refuses("--advertise") { $0.endpoints = ["a:1", "b:1", "c:1", "d:1", "e:1"] }
            await refuses("160") { $0.endpoints = [String(repeating: "h", count: 160) + ":1"] }
            await refuses("bytes are free") { $0.freeBytes = $0.capacityBytes + 1 }
        }
    }

    @Test func aRemovedVolumeLeavesNothing() throws {
        try CatalogueBench.run { bench in
            let catalogue = bench.catalogue
            let stores = try await bench.register(3)
            let before = try await bench.everything()
            let volume = try await bench.volume("vm1", replicas: 3)
            _ = try await catalogue.beginRemoval(volume.id)
            var unfinished = try await catalogue.unfinished()
            #expect(unfinished == [volume.id])
            #expect(await failure { try await catalogue.volume(named: "vm1") }?.status == .notFound)
            #expect(await failure { try await catalogue.open(volume.id, nonce: volume.id) }?.status == .notFound)
            // The name is free although an object is left on an OST that is away.
            try await catalogue.removed(volume.id, from: [stores[0], stores[2]])
            let second = try await bench.volume("vm1", replicas: 3)
            #expect(await failure { try await catalogue.cancelRemoval(volume.id, by: second.id) } == nil)
            #expect(try await catalogue.volume(named: "vm1").id == second.id)
            try await catalogue.removed(volume.id, from: [stores[1]])
            try await catalogue.removed(volume.id, from: [stores[1]])
            #expect(await failure { try await catalogue.volume(volume.id) }?.status == .notFound)
            _ = try await catalogue.beginRemoval(second.id)
            #expect(await failure { try await bench.volume("vm1") } == nil)
            // Only who has it in hand may take it back: another one may be removing objects.
            let (holder, heir) = (stores[0], stores[1])
            #expect(try await catalogue.takeInHand(second.id, holder, isGone: { _, _ in false }))
            #expect(try await catalogue.takeInHand(second.id, heir, isGone: { _, _ in false }), "the first has shown no sign of life")
            #expect(await failure { try await catalogue.cancelRemoval(second.id, by: holder) }?.status == .closed)
            let refusal = await failure { try await catalogue.cancelRemoval(second.id, by: heir) }
            #expect(refusal?.status == .alreadyExists)
            try await catalogue.letGo(second.id, holder)
            try await catalogue.letGo(second.id, heir)
            try await catalogue.removed(second.id, from: Set(stores))
            let third = try await catalogue.volume(named: "vm1")
            _ = try await catalogue.beginRemoval(third.id)
            try await catalogue.beat(heir, ServerRecord(startedMilliseconds: 1))
            #expect(try await catalogue.takeInHand(third.id, heir, isGone: { _, _ in false }))
            #expect(try await catalogue.takeInHand(third.id, holder, isGone: { _, _ in false }) == false)
            try await catalogue.cancelRemoval(third.id, by: heir)
            #expect(try await catalogue.takeInHand(third.id, holder, isGone: { _, _ in true }))
            try await catalogue.letGo(third.id, holder)
            try await catalogue.forget(heir)
            #expect(try await catalogue.volume(named: "vm1") == third)
            _ = try await catalogue.beginRemoval(third.id)
            try await catalogue.removed(third.id, from: Set(stores))
            unfinished = try await catalogue.unfinished()
            #expect(unfinished.isEmpty)
            let after = try await bench.everything()
            #expect(before == after)
        }
    }

    /// A server makes an object for a member that is about to move, and does not run; another one takes over and removes it. What the first
    /// knows then of objects is not true any more.
    @Test func onlyWhoHasAVolumeInHandMovesItsMembers() throws {
        try CatalogueBench.run { bench in
            let catalogue = bench.catalogue
            _ = try await bench.register(3)
            let (holder, heir) = (Identifier(high: 5, low: 1), Identifier(high: 5, low: 2))
            let volume = try await bench.volume("vm1", replicas: 3)
            let target = try #require(try await bench.register(4).last)
            let generation = try await catalogue.open(volume.id, nonce: holder).object.generation
            let leaving = volume.stores[0]
            let around = VolumeRecord.Surroundings(
                candidates: try await catalogue.osts().map { try $0.candidate(weight: 1 << 30, isAlive: true) }, leaving: [leaving],
                lost: [], unfit: [leaving])
            let plan = try volume.plan(around)
            #expect(plan.targets == [target])
            #expect(try await catalogue.takeInHand(volume.id, holder, isGone: { _, _ in false }))
            _ = try await catalogue.expect([target], for: volume.id, by: holder)
            #expect(try await catalogue.takeInHand(volume.id, heir, isGone: { _, _ in true }))
            try await catalogue.tidied(volume.id, [target], by: heir)
            let late = await failure {
                try await catalogue.move(plan, of: volume.id, ready: [target], generation: generation, by: holder)
            }
            #expect(late?.status == .closed)
            #expect(await failure { try await catalogue.expect([target], for: volume.id, by: holder) }?.status == .closed)
            #expect(try await catalogue.volume(volume.id).moves.isEmpty)
            _ = try await catalogue.expect([target], for: volume.id, by: heir)
            #expect(await failure { try await catalogue.tidied(volume.id, [target], by: holder) }?.status == .closed)
            #expect(try await catalogue.move(plan, of: volume.id, ready: [target], generation: generation, by: heir).moves.isEmpty == false)
        }
    }

    /// Several writers open the same volume through several servers at once, over a store that loses answers.
    @Test(arguments: UInt64(1)...20)
    func everyOpenGetsAGenerationOfItsOwn(seed: UInt64) throws {
        try CatalogueBench.run(seed: seed, servers: 3) { bench in
            let stores = try await bench.register(3)
            let volume = try await bench.volume("vm1", replicas: 3)
            bench.makeFaulty()
            let grants = Grants()
            let countdown = Countdown(6)
            for number in 0..<6 {
                let catalogue = bench.catalogues[number % 3]
                bench.worlds[number % 3].spawn {
                    for round in 0..<8 {
                        let nonce = Identifier(high: UInt64(number + 1), low: UInt64(round + 1))
                        do throws(Failure) {
                            let opened = try await catalogue.open(volume.id, nonce: nonce)
                            grants.add(nonce, opened.object.generation)
                            let left = try await catalogue.exclude(
                                [stores[number % 2]], from: volume.id, generation: opened.object.generation, base: .zero)
                            #expect(left.count(.stale) > 0 && left.inSyncMin >= 1)
                        } catch {
                            #expect([.fenced, .unavailable].contains(error.status), "\(error)")
                        }
                    }
                    countdown.done()
                }
            }
            await countdown.wait()
            bench.contents.faults = MemoryMetaContents.Faults()
            let last = try await bench.catalogue.volume(volume.id)
            #expect(grants.all.count == 48 && Set(grants.all.map(\.1)).count == 48, "a generation was granted twice")
            // An open whose answer was lost is made twice if another came between; the one that was lost is nobody's.
            #expect(last.object.generation == grants.all.map(\.1).max())
            #expect(last.inSyncMin >= 1)
        }
    }
}

/// What several tasks of one universe were granted.
private final class Grants: @unchecked Sendable {
    private(set) var all: [(Identifier, UInt64)] = []
    func add(_ nonce: Identifier, _ generation: UInt64) { all.append((nonce, generation)) }
}
