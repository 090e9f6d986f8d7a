import Base
import Environment
import MetaStore
import Metadata
import Simulation
import Testing
import Wire

/// Several servers' catalogues over one store in memory, each in a process of its own.
final class CatalogueBench: @unchecked Sendable {
    static let cluster = Identifier(high: 1, low: 1)

    let contents: MemoryMetaContents
    let worlds: [SimWorld]
    let catalogues: [ClusterCatalogue]
    var random: Random

    private init(_ contents: MemoryMetaContents, _ worlds: [SimWorld], _ catalogues: [ClusterCatalogue], _ random: Random) {
        self.contents = contents
        self.worlds = worlds
        self.catalogues = catalogues
        self.random = random
    }

    var catalogue: ClusterCatalogue { catalogues[0] }

    static func run(
        seed: UInt64 = 1, servers: Int = 1, _ body: @escaping @Sendable (CatalogueBench) async throws -> Void
    ) throws {
        let universe = Universe(seed: seed)
        let host = universe.addHost("mds")
        let worlds = (0..<servers).map { host.start("mdt\($0)") }
        let contents = MemoryMetaContents(isShared: true)
        var random = Random(seed: seed)
        let first = random.split()
        let outcome = Outcome()
        worlds[0].spawn {
            do {
                var catalogues: [ClusterCatalogue] = []
                for (index, world) in worlds.enumerated() {
                    if index == 0 {
                        let store = try await MemoryMetaStore.create(contents, in: world)
                        catalogues.append(try await ClusterCatalogue.create(in: store, world, cluster: cluster))
                    } else {
                        let store = try await MemoryMetaStore.open(contents, in: world)
                        catalogues.append(try await ClusterCatalogue.open(store, world))
                    }
                }
                try await body(CatalogueBench(contents, worlds, catalogues, first))
            } catch {
                outcome.error = error
            }
            outcome.isKnown = true
        }
        universe.run(while: { !outcome.isKnown }, limit: .seconds(3600))
        #expect(outcome.isKnown, "seed \(seed): the test waits for something that does not come")
        universe.end()
        if let error = outcome.error { throw error }
    }

    func chance(_ percent: UInt64) -> Bool { random.next() % 100 < percent }
    func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
    func identifier() -> Identifier { Identifier(high: random.next(), low: random.next() | 1) }

    /// Calls of the store fail from now on, in each of the ways they can.
    func makeFaulty(_ perMillion: UInt32 = 80_000) {
        contents.faults.before = perMillion
        contents.faults.after = perMillion
        contents.faults.late = perMillion
    }

    /// OSTs on hosts of their own.
    func register(_ count: Int, capacity: UInt64 = 1 << 40) async throws -> [Identifier] {
        var stores: [Identifier] = []
        for number in 1...count {
            let registration = CatalogueBench.registration(number, capacity: capacity)
            try await catalogue.register(registration)
            stores.append(registration.store)
        }
        return stores
    }

    static func registration(_ number: Int, mounts: UInt64 = 1, capacity: UInt64 = 1 << 40, port: Int = 7710) -> OSTRegisterRequest {
        OSTRegisterRequest(
            store: Identifier(high: 7, low: UInt64(number)), mountCounter: mounts, boot: Identifier(high: 8, low: mounts),
            endpoints: ["10.0.0.\(number):\(port)"], host: "h\(number)", domain: "r\(number % 2)/h\(number)", capacityBytes: capacity,
            freeBytes: capacity / 2)
    }

    /// A volume whose objects count as made.
    func volume(_ name: String, bytes: UInt64 = 1 << 30, replicas: UInt16 = 2, by number: Int = 0) async throws(Failure) -> VolumeRecord {
        let catalogue = catalogues[number]
        let placed = try await catalogue.place(
            VolumeCreateRequest(name: name, bytes: bytes, layout: Layout(dataMembers: replicas)), maker: CatalogueBench.cluster
        ) { _ in true }
        try await catalogue.begin(placed)
        return try await catalogue.finish(placed.id, maker: CatalogueBench.cluster)
    }

    /// Every key and value, as they are.
    func everything() async throws -> [MetaEntry] {
        contents.faults = MemoryMetaContents.Faults()
        let store = try await MemoryMetaStore.open(contents, in: worlds[0])
        return try await store.list("", after: nil, limit: Limits.metaPageEntriesMax).entries
    }
}

/// Written by the tasks of a world, read when it has ended.
final class Outcome: @unchecked Sendable {
    var error: (any Error)?
    var isKnown = false
}

func failure<Value>(_ body: () async throws -> Value) async -> Failure? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error as? Failure
    }
}
