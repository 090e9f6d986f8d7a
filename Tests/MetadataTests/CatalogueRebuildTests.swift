import Base
import MetaStore
import Testing
import Wire

@testable import Metadata

private let stores = (1...3).map { Identifier(high: 7, low: UInt64($0)) }
private let id = Identifier(high: 1, low: 9)

/// Two placements: members of the first on OSTs 0 and 1, of the second on 1 and 2.
private func map(_ number: UInt64 = 1, name: String = "vm1", id: Identifier = id, _ change: (inout VolumeMap) -> Void = { _ in })
    -> VolumeMap
{
    var map = VolumeMap(
        object: ObjectRecord(
            id: id, name: name, bytes: 1 << 20, layout: Layout(dataMembers: 2), generation: 3, map: number, createdMilliseconds: 5),
        floor: 1,
        osts: stores.enumerated().map { OSTEntry(store: $1, mountCounter: 4, host: "h\($0)", endpoints: ["h\($0):7710"]) },
        membersPerPlacement: 2,
        entries: [0, 1, 1, 2].map { MemberEntry(ost: $0, changed: 1, incarnation: 1) }, incarnation: 1)
    change(&map)
    return map
}

private func object(_ map: VolumeMap?, id: Identifier = id, resizes: UInt64 = 0) -> CatalogueRebuild.ScannedObject {
    var object = ObjectRecord(id: id, name: "\(id)", bytes: 1 << 20, layout: Layout(dataMembers: 2))
    object.generation = 8
    object.map = map?.object.map ?? 0
    return CatalogueRebuild.ScannedObject(object, map: map, resizes: resizes)
}

private func scan(_ ost: Int, incarnation: UInt64 = 1, _ objects: [CatalogueRebuild.ScannedObject]) -> CatalogueRebuild.Scan {
    CatalogueRebuild.Scan(
        endpoint: "10.0.0.\(ost):7710",
        hello: Hello(role: .ost, store: stores[ost], mountCounter: 5, boot: stores[ost], incarnation: incarnation),
        capacityBytes: 1 << 30, freeBytes: 1 << 20, objects: objects)
}

private func rebuild(
    _ scans: [CatalogueRebuild.Scan], without: [String] = [], lost: Set<Identifier> = []
) -> CatalogueRebuild {
    CatalogueRebuild(scans, without: without, lost: lost, wallClockMilliseconds: 1)
}

/// What comes of what the disks say, and each reason why nothing does.
@Suite struct CatalogueRebuildTests {
    private func refuses(
        _ sentence: String, _ outcome: CatalogueRebuild, at location: SourceLocation = #_sourceLocation
    ) {
        #expect(outcome.refusals.contains { $0.contains(sentence) }, "\(outcome.refusals)", sourceLocation: location)
    }

    @Test func theHighestMapCounts() {
        let newest = map(6) { map in
            map.entries[0].state = .stale
            map.entries[0].changed = 6
        }
        let outcome = rebuild([
            scan(0, incarnation: 4, [object(map(2))]), scan(1, [object(newest)]), scan(2, incarnation: 2, [object(map(5))]),
        ])
        #expect(outcome.refusals == [] && outcome.incarnation == 5)
        let volume = outcome.volumes[0]
        #expect(volume.entries.map(\.state) == [.stale, .inSync, .inSync, .inSync] && volume.entries[0].changed == 6)
        #expect(volume.object.generation == 8 && volume.object.map == 1 << 32 && volume.state == .ready && volume.nonce == .zero)
        #expect(volume.object.name == "vm1" && volume.object.createdMilliseconds == 5 && volume.stores == stores)
        #expect(outcome.osts.map(\.store) == stores && outcome.osts[1].registration.endpoints == ["h1:7710"])
        #expect(outcome.osts[1].registration.domain == "h1" && outcome.osts[1].registration.capacityBytes == 1 << 30)
        // What is registered from wherever the OST is now is believed.
        var record = outcome.osts[1]
        var next = record.registration
        (next.mountCounter, next.endpoints) = (5, ["elsewhere:7710"])
        #expect(throws: Never.self) { _ = try record.renew(next) }
    }

    /// Nothing becomes better than it was.
    @Test func whatWasBeingFilledIsStale() {
        let filling = map(6) { map in
            map.entries[1].state = .filling
            map.bases = [VolumeMap.FillBase(ost: 1, version: Version(generation: 2, sequence: 7))]
        }
        let volume = rebuild((0..<3).map { scan($0, [object(filling)]) }).volumes[0]
        #expect(volume.entries.map(\.state) == [.inSync, .stale, .inSync, .inSync] && volume.entries[1].changed == 1 << 32)
        #expect(volume.bases == [VolumeRecord.FillBase(store: stores[1], version: Version(generation: 2, sequence: 7))])
        let again = map((1 << 32) + 4)
        #expect(rebuild((0..<3).map { scan($0, [object(again)]) }).volumes[0].object.map == 2 << 32)
    }

    /// Who was being filled when this OST heard of it last may be the one that counts since.
    @Test func whoWasBeingFilledMustBeAsked() {
        let filling = map(6) {
            $0.entries[1].state = .filling; $0.entries[2].state = .stale
        }
        refuses(
            "store \(stores[1]) is being filled, or up to date since, in 1 placements and was not asked",
            rebuild([scan(0, [object(filling)]), scan(2, [object(filling)])]))
        let moving = map(6) { map in
            map.moves = [MemberMove(placement: 0, member: 0, entry: MemberEntry(ost: 2, state: .filling, changed: 6, incarnation: 5))]
            map.entries[3].state = .stale
        }
        refuses(
            "store \(stores[2]) is being filled, or up to date since, in 1 placements and was not asked",
            rebuild([scan(0, [object(moving)]), scan(1, [object(moving)])]))
        let whole = rebuild((0..<3).map { scan($0, [object(moving)]) })
        #expect(whole.refusals == [] && whole.volumes[0].moves.map(\.entry.state) == [.stale])
        // It has moved: the one that was left is no member, and its object goes when everybody knows.
        let moved = map(7) { map in
            map.osts.removeFirst()
            map.entries = [1, 0, 0, 1].map { MemberEntry(ost: $0, changed: 7, incarnation: 5) }
        }
        let after = rebuild([scan(0, [object(moving)]), scan(1, [object(moved)]), scan(2, [object(moved)])])
        #expect(after.refusals == [] && after.volumes[0].stores == [stores[1], stores[2]])
        #expect(after.volumes[0].strays == [VolumeRecord.Stray(store: stores[0], since: 1 << 32)])
    }

    @Test func aMemberThatCountsMustBeAsked() {
        let two = [scan(0, [object(map())]), scan(1, [object(map())])]
        refuses("store \(stores[2]) is in sync in 1 placements and was not asked; it was last at h2:7710 on h2", rebuild(two))
        // One that does not count need not be there.
        let without = map(4) { $0.entries[3].state = .stale }
        let outcome = rebuild([scan(0, [object(without)]), scan(1, [object(without)])])
        #expect(outcome.refusals == [] && outcome.volumes[0].count(.stale) == 1)
        // Nor one that is given up; but somebody must be left.
        let given = rebuild(two, lost: [stores[2]])
        #expect(given.refusals == [] && given.volumes[0].entries[3].state == .stale && given.notes.contains { $0.contains("given up") })
        // Should it come back, all that it has is compared.
        #expect(given.volumes[0].bases.map(\.store) == [stores[2]] && given.volumes[0].bases.map(\.version) == [.zero])
        refuses("nobody is left in sync in placement 1", rebuild([two[0]], lost: [stores[1], stores[2]]))
        refuses("is not lost", rebuild(two, lost: [stores[1], stores[2]]))
    }

    @Test func aMemberThatCountsHasItsObject() {
        let halves = [scan(0, [object(map())]), scan(1, [object(map())]), scan(2, [])]
        refuses("--without \(id)", rebuild(halves))
        for name in ["vm1", "\(id)"] {
            let outcome = rebuild(halves, without: [name])
            #expect(outcome.refusals == [] && outcome.volumes.isEmpty)
            #expect(outcome.notes.contains { $0.contains("ost://10.0.0.0:7710/\(id)") && $0.contains("10.0.0.1") })
        }
        refuses("no volume 'vm2'", rebuild(halves, without: ["vm1", "vm2"]))
        // One that never got its record was never told to be made: the creation did not end.
        refuses("--without", rebuild([halves[0], halves[1], scan(2, [object(nil)])]))
    }

    @Test func whatContradictsItselfIsRefused() {
        let other = map(3) { $0.entries[0].state = .stale }
        refuses("decided twice", rebuild([scan(0, [object(map(3))]), scan(1, [object(other)]), scan(2, [object(map(3))])]))
        // What changes without a number is no contradiction.
        let elsewhere = map(3) { map in
            map.osts[0].endpoints = []
            map.object.generation = 4
        }
        #expect(rebuild([scan(0, [object(map(3))]), scan(1, [object(elsewhere)]), scan(2, [object(map(3))])]).refusals == [])
        refuses("both serve store \(stores[0])", rebuild([scan(0, []), scan(0, [])]))
        var bare = object(map(3))
        bare.object.map = 4
        refuses("at map 4, has a record of map 3", rebuild([scan(0, [bare])]))
        bare.map = nil
        refuses("has no record of it", rebuild([scan(0, [bare])]))
        refuses("resize 2, the newest record knows 0", rebuild((0..<3).map { scan($0, [object(map(), resizes: 2)]) }))
    }

    @Test func aNameIsOneVolumes() {
        let second = Identifier(high: 1, low: 10)
        let scans = (0..<3).map { scan($0, [object(map()), object(map(id: second), id: second)]) }
        refuses("two volumes are named 'vm1'", rebuild(scans))
        let outcome = rebuild(scans, without: ["\(second)"])
        #expect(outcome.refusals == [] && outcome.volumes.map(\.id) == [id])
    }

    @Test func objectsOfNoVolumeAreLeftAlone() {
        let alone = CatalogueRebuild.ScannedObject(ObjectRecord(id: id, name: "mine", bytes: 512), map: nil, resizes: 0)
        let outcome = rebuild([scan(0, [alone])])
        #expect(outcome.refusals == [] && outcome.volumes.isEmpty && outcome.notes.contains { $0.contains("'mine'") })
    }

    /// Sizes: who has gone along with the last resize is known by its number, not by its size.
    @Test func aResizeGoesOnWhereItWas() {
        let growing = map(4) { map in
            (map.objectBytes, map.resizes) = (4 << 20, 2)
            map.unresized = (0..<3).map { VolumeMap.Unresized(ost: $0, cut: 1 << 20) }
        }
        func sizes(_ resizes: [UInt64]) -> (bytes: UInt64, unresized: [Identifier]) {
            let volume = rebuild((0..<3).map { scan($0, [object(growing, resizes: resizes[$0])]) }).volumes[0]
            return (volume.object.bytes, volume.unresized.map(\.store))
        }
        #expect(sizes([2, 2, 2]) == (4 << 20, []))
        #expect(sizes([2, 1, 2]) == (1 << 20, [stores[1]]))
        // A member that does not count does not keep the volume small.
        let stale = map(5) { map in
            (map.objectBytes, map.resizes) = (4 << 20, 2)
            map.unresized = [VolumeMap.Unresized(ost: 2, cut: 1 << 19)]
            map.entries[3].state = .stale
        }
        let volume = rebuild([scan(0, [object(stale, resizes: 2)]), scan(1, [object(stale, resizes: 2)])]).volumes[0]
        #expect(volume.object.bytes == 4 << 20 && volume.unresized == [VolumeRecord.Unresized(store: stores[2], cut: 1 << 19)])
    }

    /// A catalogue that is broken off half way is none; one that is whole is read back as it was put.
    @Test func whatIsWrittenIsWhole() throws {
        let outcome = rebuild((0..<3).map { scan($0, [object(map())]) })
        try CatalogueBench.run { bench in
            let contents = MemoryMetaContents()
            let world = bench.worlds[0]
            let store = try await MemoryMetaStore.create(contents, in: world)
            for transaction in outcome.contents.dropLast() { _ = try await store.commit(transaction) }
            let broken = await failure { try await ClusterCatalogue.open(store, world) }
            #expect(broken?.detail.contains("not finished") == true)
            let other = MemoryMetaContents()
            let fresh = try await MemoryMetaStore.create(other, in: world)
            let made = try await ClusterCatalogue.create(
                in: fresh, world, cluster: CatalogueBench.cluster, incarnation: outcome.incarnation, contents: outcome.contents)
            #expect(made.incarnation == 2)
            let volume = try await made.volume(named: "vm1")
            #expect(volume == outcome.volumes[0])
            let osts = try await made.osts()
            #expect(osts == outcome.osts)
            let again = try await ClusterCatalogue.open(fresh, world)
            #expect(again.incarnation == 2)
        }
    }
}
