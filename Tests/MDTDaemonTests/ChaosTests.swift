import Base
import Client
import Environment
import MDTDaemon
import Simulation
import Testing
import Wire

/// Volumes come and go while the metadata server and the OSTs are killed and connections break. When all is quiet again, catalogue and OSTs
/// agree: each volume has its objects with its size wherever its map says, and nothing else is anywhere.
@Suite struct ChaosTests {
    @Test(arguments: UInt64(1)...8)
    func catalogueAndOSTsAgreeInTheEnd(seed: UInt64) throws { try run(seed: seed, servers: 1) }

    /// One of them dies or sleeps at a time, and every user asks another one.
    @Test(arguments: UInt64(1)...5)
    func theyAgreeWithSeveralServersToo(seed: UInt64) throws { try run(seed: seed, servers: 3) }

    private func run(seed: UInt64, servers: Int) throws {
        let bench = try MDTBench(seed: seed, osts: 3, servers: servers)
        var random = Random(seed: seed)
        let users = (0..<3).map { User(bench, $0, random.split()) }
        bench.universe.faults.reset = 300
        for user in users { user.start() }
        for _ in 0..<14 {
            bench.universe.run(for: .milliseconds(random.between(20, 1500)))
            switch random.below(3) {
            case 0:
                let server = servers == 1 ? 0 : random.below(servers)
                if servers > 1, random.coin() {
                    // Some of these are long enough for others to take over.
                    bench.stallMDT(server, for: .milliseconds(random.between(100, 40_000)))
                    bench.universe.run(for: .milliseconds(random.between(0, 12_000)))
                    break
                }
                bench.killMDT(server)
                bench.universe.run(for: .milliseconds(random.between(0, 2000)))
                try bench.startMDT(server)
            case 1:
                let ost = bench.osts[random.below(3)]
                ost.kill(silent: random.coin())
                bench.universe.run(for: .milliseconds(random.between(0, 12000)))
                ost.host.restorePower()
                try ost.start()
            case _: break
            }
        }
        bench.universe.heal()
        for user in users { user.isStopping = true }
        try bench.waitUntil("all users are done") { users.allSatisfy(\.isDone) }
        try bench.waitUntil("all OSTs are back") { bench.osts.allSatisfy(\.isRegistered) }
        bench.universe.run(for: .seconds(60))

        let peer = try bench.connect()
        let volumes = try peer.ask(.volumeList, NameRequest(name: ""), VolumeListReply.self).volumes
        #expect(volumes.allSatisfy { $0.state == .ready && $0.unresized == 0 })
        var expected: [Identifier: [String]] = [:]
        for volume in volumes {
            let map = try peer.ask(.volumeMap, VolumeMapRequest(id: volume.object.id), VolumeMap.self)
            for ost in map.osts { expected[ost.store, default: []].append("\(map.object.id) \(map.object.bytes)") }
        }
        for (ost, objects) in zip(bench.osts, try bench.objects()) {
            let found = objects.map { "\($0.name) \($0.bytes)" }
            #expect(found.sorted() == expected[ost.store, default: []].sorted(), "on \(ost.host.name)")
        }
        #expect(users.reduce(0) { $0 + $1.done } > 3, "\(users.map(\.done)) calls went well")
    }
}

/// Makes, resizes, opens and removes volumes of three names, without caring what becomes of it.
private final class User {
    let bench: MDTBench
    let world: SimWorld
    /// Its own server first.
    let servers: [Endpoint]
    var random: Random
    var isStopping = false
    private(set) var isDone = false
    private(set) var done = 0

    init(_ bench: MDTBench, _ number: Int, _ random: Random) {
        self.bench = bench
        self.random = random
        let first = number % bench.addresses.count
        servers = Array(bench.addresses[first...] + bench.addresses[..<first])
        world = bench.universe.addHost("user\(number)").start("user")
    }

    func start() {
        world.spawn { [self] in
            let operations = Operations(world)
            while !isStopping {
                let catalogue = MDTCatalogue(world, servers, deadline: .seconds(8))
                for _ in 0..<5 where !isStopping {
                    do throws(Failure) {
                        try await act(catalogue)
                        done += 1
                    } catch { check(error) }
                    await operations.sleep(.milliseconds(random.below(100 as UInt64)))
                }
                catalogue.close()
            }
            isDone = true
        }
    }

    private func act(_ catalogue: MDTCatalogue) async throws(Failure) {
        let name = "v\(random.below(3))"
        let bytes = UInt64(1 + random.below(64)) << 20
        switch random.below(5) {
        case 0, 1:
            let layout = Layout(dataMembers: UInt16(1 + random.below(3)))
            _ = try await catalogue.create(VolumeCreateRequest(name: name, bytes: bytes, layout: layout))
        case 2: try await catalogue.resize(name, bytes: bytes)
        case 3: try await catalogue.remove(name)
        case _: _ = try await catalogue.stat(name)
        }
    }

    /// Only what a user may meet in such a world.
    private func check(_ failure: Failure) {
        let met: Set<Status> = [.unreachable, .deadlineExceeded, .alreadyExists, .notFound, .busy, .noSpace, .closed, .unavailable]
        if !met.contains(failure.status) { Issue.record("\(failure.status): \(failure.detail)") }
    }
}
