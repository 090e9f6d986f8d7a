import Base
import Client
import ControlServer
import Environment
import MDTDaemon
import MGSDaemon
import Simulation
import Testing
import VolumeEngine
import Wire

/// A cluster that is entered by its management server, end to end in the simulator. One simulation at a time: mutants are switched for all.
@Suite(.serialized) struct ManagementTests {
    private static let management = Endpoint.tcp(host: "mgs0", port: 7700)

    private func listed(_ bench: MDTBench, _ index: Int = 0) throws -> MDTListReply {
        let connection = try connect(bench, index)
        return try bench.run { () throws(Failure) in
            defer { connection.close() }
            let (_, body) = try await connection.exchange(FrameHeader(.mdtList), [], deadline: bench.client.now + .seconds(5))
            return try connection.decode(MDTListReply.self, body)
        }
    }

    private func connect(
        _ bench: MDTBench, _ index: Int = 0, as hello: Hello = Hello(role: .client)
    ) throws -> ControlConnection {
        let (world, address) = (bench.client, bench.managementAddresses[index])
        return try bench.run { () throws(Failure) in
            try await ControlConnection.open(world, address, saying: hello, expecting: [.mgs], deadline: world.now + .seconds(5))
        }
    }

    private func refusal(_ body: () throws -> Void) -> Failure? {
        do {
            try body()
            return nil
        } catch { return error as? Failure }
    }

    private func ask(_ bench: MDTBench, _ connection: ControlConnection, _ opcode: Opcode, _ body: [UInt8] = []) throws -> [UInt8] {
        try bench.run { () throws(Failure) in
            try await connection.exchange(FrameHeader(opcode), body, deadline: bench.client.now + .seconds(5)).1
        }
    }

    // Who is there

    /// OSTs are told of nobody but the management server, and register at all metadata servers.
    @Test func itListsWhoIsThere() throws {
        let bench = try MDTBench(osts: 3, servers: 2, managers: 1)
        let list = try listed(bench)
        #expect(list.cluster == MDTBench.cluster && list.servers.allSatisfy(\.isAlive))
        #expect(list.servers.map { $0.registration.endpoints[0] }.sorted() == ["mds1:7700", "mds:7700"])
        let connection = try connect(bench)
        #expect(connection.peer.role == .mgs && connection.peer.cluster == MDTBench.cluster)
        let body = try ask(bench, connection, .ostList, OSTListRequest().encoded)
        let osts = try connection.decode(OSTListReply.self, body).osts
        #expect(osts.map(\.registration.store) == bench.osts.map(\.store).sorted() && osts.allSatisfy(\.isAlive))
        for index in bench.addresses.indices {
            let known = try bench.connect(to: index).ask(.ostList, OSTListRequest(), OSTListReply.self).osts
            #expect(known.count == 3 && known.allSatisfy(\.isAlive), "what counts is what metadata servers know")
        }
        bench.killMDT(1)
        bench.universe.run(for: .seconds(31))
        #expect(try listed(bench).servers.map(\.isAlive) == [true, false])
    }

    @Test func whatItIsNotAskedForIsRefused() throws {
        let bench = try MDTBench(osts: 0, managers: 1)
        let connection = try connect(bench)
        let own: Set<Opcode> = [.hello, .ping, .close, .event, .read, .write, .mdtRegister, .mdtList, .ostRegister, .ostList]
        for opcode in Opcode.allCases where !own.contains(opcode) {
            let refused = refusal { _ = try ask(bench, connection, opcode) }
            #expect(refused?.status == .unsupported)
            #expect(refused?.detail.contains(opcode.isOfMetadata ? "a metadata server" : "an OST") == true, "\(opcode)")
        }
        let server = Hello(role: .mgs, cluster: MDTBench.cluster)
        #expect(refusal { _ = try connect(bench, as: server) }?.status == .unsupported)
        let peer = try bench.connect()
        #expect(refusal { try peer.exchange(FrameHeader(.mdtList)) }?.detail.contains("a management server") == true)
    }

    @Test func nobodyRegistersAsWhatHeIsNot() throws {
        let bench = try MDTBench(osts: 1, managers: 1)
        guard let registration = bench.osts[0].registration else { throw Failure(.notFound) }
        let request = MDTRegisterRequest(server: MDTBench.cluster, endpoints: ["evil:1"], host: "", incarnation: 1)
        let client = try connect(bench)
        #expect(refusal { _ = try ask(bench, client, .mdtRegister, request.encoded) }?.status == .permissionDenied)
        #expect(refusal { _ = try ask(bench, client, .ostRegister, registration.encoded) }?.status == .permissionDenied)
        let ost = try connect(bench, as: Hello(role: .ost, cluster: MDTBench.cluster))
        #expect(refusal { _ = try ask(bench, ost, .mdtRegister, request.encoded) }?.status == .permissionDenied)
        #expect(try listed(bench).servers.count == 1)
    }

    @Test func whatIsOfAnotherClusterIsRefused() throws {
        let bench = try MDTBench(osts: 1, managers: 1)
        let other = Identifier(high: 2, low: 2)
        let stranger = try bench.addOST(cluster: other)
        try bench.waitUntil("the OST is refused") {
            if case .failed(let failure) = stranger.membership?.management.standings.first { return failure.status == .wrongCluster }
            return false
        }
        #expect(bench.logs.contains { $0.contains("warning the management server refuses this OST") && $0.contains("\(other)") })
        for role in [Hello.Role.mdt, .ost, .client] {
            let refused = refusal { _ = try connect(bench, as: Hello(role: role, cluster: other)) }
            #expect(refused?.status == .wrongCluster, "\(role)")
            #expect(refused?.detail.contains("\(other)") == true && refused?.detail.contains("\(MDTBench.cluster)") == true)
        }
        #expect(refusal { _ = try connect(bench, as: Hello(role: .mdt)) }?.status == .wrongCluster)
        // One that was told its cluster takes no other one, whoever comes first.
        bench.killMGS()
        try bench.startMGS(cluster: other)
        try bench.waitUntil("the metadata server is refused") {
            bench.logs.contains { $0.contains("warning the management server refuses this metadata server") }
        }
        #expect(try listed(bench).servers.isEmpty)
    }

    // It holds nothing that must not be lost

    @Test func startedAnewItKnowsAllAgain() throws {
        let bench = try MDTBench(osts: 2, servers: 2, managers: 1)
        bench.killMGS()
        try bench.waitUntil("it is missed") { bench.logs.contains { $0.contains("info the management server is away") } }
        bench.universe.run(for: .seconds(60))
        #expect(bench.osts.allSatisfy { $0.isRegistered }, "nobody has forgotten the metadata servers")
        try bench.startMGS()
        #expect(try listed(bench).servers.isEmpty)
        bench.universe.run(for: .seconds(6))
        let list = try listed(bench)
        #expect(list.cluster == MDTBench.cluster && list.servers.map(\.isAlive) == [true, true] && list.uptime < .seconds(7))
        #expect(bench.osts.allSatisfy { $0.isRegistered })
    }

    @Test func theOSTsFollowAMetadataServerThatMoves() throws {
        let bench = try MDTBench(osts: 2, managers: 1)
        try bench.moveMDT(to: .tcp(host: "mds", port: 7790))
        let new = bench.addresses[0]
        try bench.waitUntil("they have found it", seconds: 20) {
            bench.osts.allSatisfy { ost in bench.server?.isAlive(ost.store) == true }
        }
        #expect(bench.osts.allSatisfy { $0.membership?.metadata.servers.last == new })
        // Where it was nobody calls any more, when it is listed there no more.
        try bench.waitUntil("they have left the old one", seconds: 700) {
            bench.osts.allSatisfy { $0.membership?.metadata.servers == [new] }
        }
        #expect(bench.osts.allSatisfy { $0.isRegistered })
    }

    /// A list that lacks a metadata server is no reason to leave it, while it is there.
    @Test func aManagementServerThatIsBlindDrivesNobodyAway() throws {
        let bench = try MDTBench(osts: 1, servers: 2, managers: 1)
        bench.universe.partition(bench.hostOfMDT(1), bench.hostOfMGS(0))
        bench.universe.run(for: .seconds(900))
        #expect(try listed(bench).servers.map { $0.registration.endpoints[0] } == ["mds:7700"])
        #expect(bench.osts[0].isRegistered && bench.server(1).map { $0.isAlive(bench.osts[0].store) } == true)
    }

    // Clients

    @Test func aVolumeIsOpenedByItAndDoesNotMissIt() throws {
        let run = try VolumeRun(seed: 21, managers: 1)
        run.doors = run.bench.managementAddresses
        try run.open()
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        run.bench.killMGS(silent: true)
        for _ in 0..<40 {
            let began = run.bench.universe.now
            for block in 0..<16 { run.submit(.write, block * 32, 1) }
            try run.drain()
            #expect(run.bench.universe.now - began < .milliseconds(100), "a stall")
            run.bench.universe.run(for: .milliseconds(500))
        }
        // Also with a metadata server that is started anew, and an OST that fails: it knows whom to ask.
        run.bench.killMDT()
        run.bench.osts[1].kill()
        try run.bench.startMDT()
        let killed = run.bench.universe.now
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        #expect(run.bench.universe.now - killed < .seconds(2))
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
        #expect(try run.differences() == [])
    }

    @Test func itsRestartIsNotNoticed() throws {
        let run = try VolumeRun(seed: 22, managers: 1)
        run.doors = run.bench.managementAddresses
        try run.open()
        for round in 0..<20 {
            if round % 6 == 2 { run.bench.killMGS() }
            if round % 6 == 4 { try run.bench.startMGS() }
            let began = run.bench.universe.now
            for block in 0..<16 { run.submit(.write, block * 32 + round, 1) }
            try run.drain()
            #expect(run.bench.universe.now - began < .milliseconds(100), "a stall in round \(round)")
            run.bench.universe.run(for: .seconds(1))
        }
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
        try run.bench.waitUntil("it is back") { run.bench.managers[0]?.directory.mdtCount == 1 }
        try run.open()
        try run.close()
        #expect(try run.differences() == [])
    }

    @Test func theNextOfTheListIsAsked() throws {
        let run = try VolumeRun(seed: 23, managers: 2)
        run.bench.killMGS(0)
        run.doors = [.tcp(host: "mds", port: 9)] + run.bench.managementAddresses
        try run.open()
        try run.close()
        // Dead with its machine: that is noticed by its silence.
        run.bench.killMGS(0, silent: true)
        try run.open()
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
        run.doors = run.bench.managementAddresses + run.bench.addresses
        run.bench.killMGS(1)
        try run.open()
        try run.close()
    }

    /// The writer's metadata server comes back at another address, and it must ask it: an OST has failed.
    @Test func aWriterFindsAMetadataServerThatHasMoved() throws {
        let run = try VolumeRun(seed: 24, managers: 1)
        run.doors = run.bench.managementAddresses
        try run.open()
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        try run.bench.moveMDT(to: .tcp(host: "mds", port: 7790))
        run.bench.osts[1].kill()
        let moved = run.bench.universe.now
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        #expect(run.bench.universe.now - moved < .seconds(4))
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
        #expect(try run.differences() == [])
    }

    @Test func whereItKnowsOfNobodyAClientWaits() throws {
        let run = try VolumeRun(seed: 25, managers: 1)
        run.doors = run.bench.managementAddresses
        run.bench.killMDT()
        run.bench.killMGS()
        try run.bench.startMGS()
        let asked = run.bench.universe.now
        let refused = refusal { try run.open() }
        #expect(refused?.status == .unreachable)
        #expect(refused?.detail.contains("mgs0:7700 knows of no metadata server; is one running") == true, "\(String(describing: refused))")
        #expect(run.bench.universe.now - asked > .seconds(29) && run.bench.universe.now - asked < .seconds(31))
        let catalogue = MDTCatalogue(run.bench.client, run.bench.managementAddresses)
        var count: Int?
        run.bench.client.spawn {
            do throws(Failure) { count = try await catalogue.list().count } catch { Issue.record("\(error)") }
        }
        run.bench.universe.run(for: .seconds(2))
        #expect(count == nil)
        try run.bench.startMDT()
        try run.bench.waitUntil("it is found", seconds: 5) { count == 1 }
        catalogue.close()
        try run.open()
        try run.close()
    }

    @Test func theCatalogueListsTheServersToo() throws {
        let bench = try MDTBench(osts: 1, servers: 2, managers: 2)
        bench.killMGS(1)
        bench.killMDT(1)
        bench.universe.run(for: .seconds(31))
        func servers(_ named: [Endpoint]) throws -> [KnownServer] {
            try bench.run { () throws(Failure) in
                let catalogue = MDTCatalogue(bench.client, named)
                defer { catalogue.close() }
                _ = try await catalogue.list()
                return await catalogue.knownServers()
            }
        }
        let all = try servers(bench.managementAddresses + bench.addresses)
        #expect(all.map(\.role) == [.mgs, .mdt, .mdt, nil])
        #expect(all.map { $0.endpoints[0] } == ["mgs0:7700", "mds:7700", "mds1:7700", "mgs1:7700"])
        #expect(all.map(\.isAlive) == [true, true, false, false])
        #expect(all[2].silence ?? .seconds(0) > .seconds(30) && all[1].host == "mds")
        let named = try servers([bench.addresses[0]])
        #expect(named.map(\.role) == [.mdt] && named[0].endpoints == ["mds:7700"] && named[0].isAlive && named[0].silence == nil)
    }

    private func holds(_ mutant: Mutant) throws -> Bool {
        switch mutant {
        case .forgetsListedServers:
            // The metadata server is started anew when the management server is gone, and then an OST must be excluded.
            let run = try VolumeRun(seed: 26, managers: 1)
            run.doors = run.bench.managementAddresses
            try run.open()
            run.bench.killMGS()
            run.bench.killMDT()
            try run.bench.startMDT()
            run.bench.osts[1].kill()
            for block in 0..<16 { run.submit(.write, block * 32, 1) }
            run.bench.universe.run(for: .seconds(10))
            return run.underWay == 0
        case .leavesUnlistedServers:
            let bench = try MDTBench(osts: 1, servers: 2, managers: 1)
            bench.universe.partition(bench.hostOfMDT(1), bench.hostOfMGS(0))
            bench.universe.run(for: .seconds(900))
            return bench.server(1)?.isAlive(bench.osts[0].store) == true
        case _: throw Failure(.unsupported, "there is no scene for \(mutant)")
        }
    }

    /// The rules that keep volumes and OSTs from depending on it.
    @Test(arguments: [Mutant.forgetsListedServers, .leavesUnlistedServers])
    func eachRuleIsNeeded(_ mutant: Mutant) throws {
        #expect(try holds(mutant))
        Mutant.active = mutant
        defer { Mutant.active = nil }
        #expect(try !holds(mutant), "without the rule the scene ends as with it")
    }

    // Bad input

    @Test(arguments: UInt64(1)...3)
    func noiseTakesNothingDown(seed: UInt64) throws {
        let bench = try MDTBench(seed: seed, osts: 1, managers: 1)
        guard let registration = bench.osts[0].registration else { throw Failure(.notFound) }
        var random = Random(seed: seed)
        let opcodes: [Opcode] = [.mdtRegister, .mdtList, .ostRegister, .ostList, .ping, .volumeList, .hello, .open]
        let bodies = [
            MDTRegisterRequest(server: MDTBench.cluster, endpoints: ["a:1", "b:2"], host: "h", incarnation: 1).encoded,
            registration.encoded, OSTListRequest().encoded, [],
        ]
        for _ in 0..<150 {
            let role = [Hello.Role.client, .ost, .mdt][random.below(3)]
            var bytes = frame(FrameHeader(.hello), Hello(role: role, cluster: MDTBench.cluster).encoded)
            for _ in 0..<1 + random.below(4) {
                var body = bodies[random.below(bodies.count)]
                if random.coin() { body = Array(body.prefix(random.below(body.count + 1))) }
                if random.coin(), !body.isEmpty { body[random.below(body.count)] = UInt8(truncatingIfNeeded: random.next()) }
                var frame = frame(FrameHeader(opcodes[random.below(opcodes.count)]), body)
                if random.below(8) == 0 { frame[random.below(frame.count)] ^= UInt8(1 << random.below(8)) }
                bytes += frame
            }
            if random.below(6) == 0 { bytes.removeLast(random.below(bytes.count)) }
            _ = try send(bytes, to: bench, at: Self.management, for: .seconds(1))
            bench.managers[0]?.directory.checkInvariants()
        }
        #expect(bench.managers[0]?.traffic.malformedFrames ?? 0 > 0)
        let list = try listed(bench)
        #expect(list.cluster == MDTBench.cluster && list.servers.contains { $0.registration.endpoints == ["mds:7700"] && $0.isAlive })
    }

    @Test func metricsTellWhoIsThere() throws {
        let bench = try MDTBench(osts: 2, managers: 1)
        guard let text = bench.managers[0]?.metricsAnswers.metrics() else { throw Failure(.notFound) }
        for line in ["rawstor_mgs_cluster_known 1", "rawstor_mgs_mdts_alive 1", "rawstor_mgs_osts_alive 2"] {
            #expect(text.contains(line + "\n"), "\(line)")
        }
        #expect(bench.osts[0].membership?.metricsText.contains("rawstor_ost_registered{mdt=\"mds:7700\"} 1\n") == true)
        #expect(bench.osts[0].membership?.metricsText.contains("rawstor_ost_listed{mgs=\"mgs0:7700\"} 1\n") == true)
        #expect(bench.registrars[0]?.metricsText.contains("rawstor_mdt_listed{mgs=\"mgs0:7700\"} 1\n") == true)
    }

    @Test func stoppingEndsWhatIsUnderWay() throws {
        let bench = try MDTBench(osts: 1, managers: 1)
        guard let server = bench.managers[0] else { throw Failure(.notFound) }
        #expect(server.connectionCount == 2)
        let asked = bench.universe.now
        try bench.run { await server.stop() }
        #expect(server.connectionCount == 0 && bench.universe.now - asked < .seconds(1))
        #expect(refusal { _ = try connect(bench) }?.status == .unreachable)
    }
}
