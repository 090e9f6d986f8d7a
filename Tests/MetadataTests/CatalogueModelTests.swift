import Base
import MetaStore
import Metadata
import Placement
import Simulation
import Testing
import Wire

/// Random calls through several servers over a store that loses requests and answers, and answers late, held against a model that has only
/// what a user is promised. Each call is made again until it has an answer; that must come to the same as if it had been made once.
@Suite struct CatalogueModelTests {
    @Test(arguments: UInt64(1)...30)
    func lostAnswersChangeNothing(seed: UInt64) throws {
        try CatalogueBench.run(seed: seed, servers: 2) { bench in
            let stores = try await bench.register(4)
            bench.makeFaulty()
            let run = ModelRun(bench, stores)
            for _ in 0..<120 {
                try await run.step()
                try await run.compare()
            }
            #expect(run.excluded > 0 && run.refused > 0 && run.opened > 0 && run.created > 3 && run.removed > 0 && run.resized > 0)
            #expect(run.moved > 0)
        }
    }
}

/// What a user believes of a volume.
private struct ModelVolume {
    var id: Identifier
    var bytes: UInt64
    var generation: UInt64 = 0
    var map: UInt64 = 1
    var nonce = Identifier.zero
    /// Of each placement the stores of its members, and which of them are stale.
    var placements: [[Identifier]]
    var stale: [Set<Identifier>]
}

private final class ModelRun {
    let bench: CatalogueBench
    let stores: [Identifier]
    var volumes: [String: ModelVolume] = [:]
    var (excluded, refused, opened, created, removed, resized, moved) = (0, 0, 0, 0, 0, 0, 0)

    init(_ bench: CatalogueBench, _ stores: [Identifier]) {
        self.bench = bench
        self.stores = stores
    }

    var catalogue: ClusterCatalogue { bench.catalogues[bench.below(2)] }

    func step() async throws {
        let name = "v\(bench.below(4))"
        guard let volume = volumes[name] else { return try await create(name) }
        switch bench.below(12) {
        case 0: try await remove(name, volume)
        case 1, 2: try await resize(name, volume)
        case 3: try await move(name, volume)
        case 4, 5, 6: try await open(name, volume)
        case _: try await exclude(name, volume)
        }
    }

    private func create(_ name: String) async throws {
        let bytes = UInt64(1 + bench.below(100)) << 20
        let record = try await bench.volume(name, bytes: bytes, replicas: UInt16(1 + bench.below(3)), by: bench.below(2))
        let placements = (0..<record.placementCount).map { placement in
            (0..<record.members).map { record.stores[record.entries[placement * record.members + $0].ost] }
        }
        volumes[name] = ModelVolume(
            id: record.id, bytes: bytes, placements: placements, stale: placements.map { _ in [] })
        created += 1
    }

    private func open(_ name: String, _ volume: ModelVolume) async throws {
        let repeats = volume.nonce != .zero && bench.chance(30)
        let nonce = repeats ? volume.nonce : bench.identifier()
        let record = try await catalogue.open(volume.id, nonce: nonce)
        if !repeats { volumes[name]?.generation += 1 }
        volumes[name]?.nonce = nonce
        #expect(record.object.generation == volume.generation + (repeats ? 0 : 1))
        opened += 1
    }

    private func exclude(_ name: String, _ volume: ModelVolume) async throws {
        let generation = volume.generation > 0 && bench.chance(20) ? volume.generation - 1 : volume.generation
        let leaving = Set(stores.filter { _ in bench.chance(25) })
        // The last one of a placement stays.
        var stale = volume.stale
        var asksForMore = false
        for (placement, stores) in volume.placements.enumerated() {
            for store in stores where leaving.contains(store) && !stale[placement].contains(store) {
                asksForMore = true
                if stale[placement].count < stores.count - 1 { stale[placement].insert(store) }
            }
        }
        let isKnown = zip(volume.placements, volume.stale).contains { !$1.intersection(leaving).isEmpty }
        let keepsAll = !asksForMore || stale != volume.stale || isKnown
        let outcome = await failure { try await catalogue.exclude(leaving, from: volume.id, generation: generation, base: .zero) }
        if generation < volume.generation {
            #expect(outcome?.status == .fenced)
            refused += 1
        } else if !keepsAll {
            #expect(outcome?.status == .unavailable)
            refused += 1
        } else {
            #expect(outcome == nil)
            if stale != volume.stale {
                volumes[name]?.stale = stale
                volumes[name]?.map += 1
                excluded += 1
            }
        }
    }

    /// Off one OST, to wherever there is room; what else those OSTs have to catch up with comes along.
    private func move(_ name: String, _ volume: ModelVolume) async throws {
        let leaving: Set = [stores[bench.below(stores.count)]]
        let candidates = try await catalogue.osts().map { try $0.candidate(weight: 1 << 30, isAlive: true) }
        let around = VolumeRecord.Surroundings(candidates: candidates, leaving: leaving, lost: [], unfit: leaving)
        let plan = try await catalogue.volume(volume.id).plan(around)
        let holder = CatalogueBench.cluster
        #expect(try await catalogue.takeInHand(volume.id, holder, isGone: { _, _ in true }))
        let expected = try await catalogue.expect(plan.targets, for: volume.id, by: holder)
        #expect(expected.object.map == volume.map && expected.hasWork == !Set(plan.targets).isSubset(of: expected.stores))
        let begun = try await catalogue.move(plan, of: volume.id, ready: Set(stores), generation: volume.generation, by: holder)
        #expect(begun.moves.count == plan.wishes.count && begun.object.map == volume.map + (plan.isEmpty ? 0 : 1))
        var map = begun.object.map
        for target in plan.targets {
            // Begun again after an answer that was lost it is another fill.
            let number = try await catalogue.beginFill([target], of: volume.id, generation: volume.generation, base: .zero).object.map
            #expect(number > map)
            map = try await catalogue.endFill([target], of: volume.id, generation: volume.generation, number: number).object.map
            #expect(map == number + 1)
        }
        let end = try await catalogue.volume(volume.id)
        #expect(end.moves.isEmpty)
        try await catalogue.tidied(volume.id, Set(end.strays.map(\.store)), by: holder)
        try await catalogue.letGo(volume.id, holder)
        var (placements, stale) = (volume.placements, volume.stale)
        for wish in plan.wishes {
            placements[wish.placement][wish.member] = wish.to
            stale[wish.placement].remove(wish.from)
        }
        for placement in stale.indices { stale[placement].subtract(plan.targets) }
        volumes[name]?.placements = placements
        volumes[name]?.stale = stale
        volumes[name]?.map = map
        if !plan.isEmpty { moved += 1 }
    }

    private func resize(_ name: String, _ volume: ModelVolume) async throws {
        let bytes = UInt64(1 + bench.below(100)) << 20
        let before = try await catalogue.volume(volume.id).resizes
        var record = try await catalogue.beginResize(volume.id, to: bytes)
        #expect(record.object.bytes == min(volume.bytes, bytes))
        // Somebody else begins with another size meanwhile: what is said of the first counts for nothing.
        let number = record.resizes
        if bench.chance(20) {
            record = try await catalogue.beginResize(volume.id, to: bytes + 512)
            let late = try await catalogue.resized(volume.id, Set(stores), number: number)
            #expect(late.object.bytes == record.object.bytes && late.resizes == record.resizes)
        }
        if record.objectBytes > record.object.bytes, bench.chance(20) {
            record = try await catalogue.cancelResize(volume.id, number: record.resizes)
        }
        let end = try await catalogue.resized(volume.id, Set(stores), number: record.resizes)
        #expect(end.object.bytes == record.objectBytes && !end.hasWork)
        volumes[name]?.bytes = record.objectBytes
        // Every size of the objects is a map of its own.
        volumes[name]?.map += record.resizes - before
        resized += 1
    }

    private func remove(_ name: String, _ volume: ModelVolume) async throws {
        _ = try await catalogue.beginRemoval(volume.id)
        let first = bench.below(stores.count)
        for store in stores[first...] + stores[..<first] { try await catalogue.removed(volume.id, from: [store]) }
        volumes[name] = nil
        removed += 1
    }

    func compare() async throws {
        let catalogue = catalogue
        let listed = try await catalogue.volumes(after: "", limit: 100)
        #expect(listed.map(\.object.name) == volumes.keys.sorted())
        for record in listed {
            guard let volume = volumes[record.object.name] else { continue }
            #expect(record.id == volume.id && record.state == .ready && record.nonce == volume.nonce)
            #expect(record.object.generation == volume.generation && record.object.map == volume.map, "\(record.object.name)")
            #expect(record.object.bytes == volume.bytes)
            for (index, entry) in record.entries.enumerated() {
                let store = volume.placements[index / record.members][index % record.members]
                #expect(record.stores[entry.ost] == store)
                #expect((entry.state == .stale) == volume.stale[index / record.members].contains(store))
            }
        }
        let unfinished = try await catalogue.unfinished()
        #expect(unfinished.isEmpty)
    }
}
