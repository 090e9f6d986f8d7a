import Base
import Client
import Daemon
import Environment
import MDTDaemon
import MetaStore
import Metadata
import Simulation
import Testing
import Wire

@Suite struct ServerTests {
    @Test func itSaysWhoItIs() throws {
        let bench = try MDTBench(osts: 0)
        let peer = try bench.connect()
        #expect(peer.connection.peer.role == .mdt && peer.connection.peer.cluster == MDTBench.cluster)
        let other = Hello(role: .client, cluster: Identifier(high: 2, low: 2))
        #expect(try header(send(frame(FrameHeader(.hello), other.encoded), to: bench)).status == .wrongCluster)
        #expect(try header(send(frame(FrameHeader(.hello), Hello(role: .mgs).encoded), to: bench)).status == .unsupported)
        #expect(try header(send(frame(FrameHeader(.volumeList), NameRequest(name: "").encoded), to: bench)).status == .malformed)
        // A client that looks for an OST here is told so.
        #expect {
            try bench.run { () throws(Failure) in
                try await ControlConnection.open(bench.client, MDTBench.address, deadline: bench.client.now + .seconds(5))
            }
        } throws: { "\($0)".contains("is a metadata server (MDT); an OST is expected") }
    }

    @Test func whatAnOSTIsAskedForIsRefused() throws {
        let bench = try MDTBench(osts: 0)
        let peer = try bench.connect()
        for opcode in Opcode.allCases where !opcode.isOfMetadata && ![.hello, .ping, .close, .event, .read, .write].contains(opcode) {
            #expect { try peer.exchange(FrameHeader(opcode)) } throws: { ($0 as? Failure)?.status == .unsupported }
        }
        #expect(try peer.exchange(FrameHeader(.ping)).0.status == .ok)
    }

    @Test func malformedFramesGetASentenceAndTheEnd() throws {
        let bench = try MDTBench(osts: 0)
        for bytes in [[UInt8](repeating: 0x55, count: 200), hello + [UInt8](repeating: 0, count: 128)] {
            let answer = try send(bytes, to: bench)
            let last = try header(Array(answer.suffix(from: bytes.count == 200 ? 0 : 128 + Hello(role: .mdt).encoded.count + 11)))
            #expect(last.opcode == .event && last.status == .malformed && last.argument == VolumeEvent.closed.rawValue)
        }
        var broken = frame(FrameHeader(.volumeList), NameRequest(name: "abc").encoded)
        broken[130] ^= 1
        let answer = try send(hello + broken, to: bench)
        #expect(String(decoding: answer, as: UTF8.self).contains("check of the meta section"))
        let short = try send(hello + frame(FrameHeader(.volumeOpen), [9, 0, 1]), to: bench)
        #expect(String(decoding: short, as: UTF8.self).contains("in the middle of a field"))
        #expect(bench.server?.traffic.malformedFrames == 3)
        #expect(try bench.names().isEmpty)
    }

    @Test(arguments: UInt64(1)...3)
    func noiseTakesNothingDown(seed: UInt64) throws {
        let bench = try MDTBench(seed: seed, osts: 1)
        let map = try bench.create("vm1", replicas: 1)
        var random = Random(seed: seed)
        let opcodes = Opcode.allCases
        let (id, name) = (map.object.id, NameRequest(name: "vm1").encoded)
        let members = VolumeMembersRequest(id: id, generation: 0, stores: [bench.osts[0].store]).encoded
        let progress = ResyncProgress(store: bench.osts[0].store, state: .copying, elapsed: .seconds(1))
        let known: [Opcode: [UInt8]] = [
            .volumeCreate: VolumeCreateRequest(name: "a", bytes: 4096, layout: Layout()).encoded,
            .volumeOpen: VolumeOpenRequest(name: "vm1", flags: .write).encoded, .volumeExclude: members, .volumeFill: members,
            .volumeInSync: members, .volumeReplace: members, .volumeMap: VolumeMapRequest(id: id).encoded, .volumeList: name,
            .volumeRemove: name, .volumeSettle: VolumeCloseRequest(id: id, generation: 0).encoded,
            .volumeResize: name, .volumeHealth: name, .volumeClose: VolumeCloseRequest(id: id, generation: 0).encoded,
            .volumeSet: VolumeSetRequest(name: "vm1", floor: 1, belowFloor: .fail(after: .seconds(1))).encoded,
            .ostRegister: try #require(bench.osts[0].registration).encoded, .ostList: OSTListRequest().encoded,
            .ostRemove: OSTRemoveRequest(store: Identifier(high: 9, low: 9)).encoded,
            .ostDrain: OSTRemoveRequest(store: Identifier(high: 9, low: 9)).encoded,
            .ping: WriterReport(id: id, generation: 1, resyncs: [progress]).encoded,
        ]
        for opcode in Opcode.allCases where opcode.isOfMetadata { #expect(known[opcode] != nil, "no body of a \(opcode)") }
        let bodies = known.sorted { $0.key.rawValue < $1.key.rawValue }.map(\.value)
        for _ in 0..<150 {
            var bytes = hello
            for _ in 0..<1 + random.below(4) {
                var header = FrameHeader(opcodes[random.below(opcodes.count)])
                if header.opcode == .volumeRemove { continue }
                header.argument = random.next() >> UInt64(random.below(64))
                header.generation = random.next() >> UInt64(random.below(64))
                header.deadlineOrStatus = UInt32(random.below(200))
                var body = bodies[random.below(bodies.count)]
                if random.coin(), let own = known[header.opcode] { body = own }
                if random.coin() { body = Array(body.prefix(random.below(body.count + 1))) }
                if random.coin(), !body.isEmpty { body[random.below(body.count)] = UInt8(truncatingIfNeeded: random.next()) }
                if header.opcode == .write || header.opcode == .read { body = [] }
                var frame = frame(header, body)
                if random.below(8) == 0 { frame[random.below(frame.count)] ^= UInt8(1 << random.below(8)) }
                bytes += frame
            }
            if random.below(6) == 0 { bytes.removeLast(random.below(bytes.count)) }
            _ = try send(bytes, to: bench, for: .seconds(1))
        }
        #expect(try bench.names().contains("vm1"))
        let peer = try bench.connect()
        #expect(try peer.open("vm1", [.write, .force], nonce: 1).object.generation > 0)
        #expect(bench.server?.traffic.malformedFrames ?? 0 > 0)
    }

    @Test func silentConnectionsAreEnded() throws {
        let bench = try MDTBench(osts: 0)
        let peer = try bench.connect()
        #expect(bench.server?.connectionCount == 1)
        bench.universe.run(for: .seconds(61))
        #expect(bench.server?.connectionCount == 0)
        #expect { try peer.exchange(FrameHeader(.ping)) } throws: { ($0 as? Failure)?.status == .unreachable }
        // Without a hello, and in the middle of a frame.
        let began = bench.universe.now
        #expect(try send([], to: bench, for: .seconds(30)).isEmpty)
        #expect(bench.universe.now - began < .seconds(11))
        let middle = bench.universe.now
        _ = try send(hello + frame(FrameHeader(.volumeList), [1, 0]).prefix(129), to: bench, for: .seconds(50))
        #expect(bench.universe.now - middle < .seconds(21))
    }

    @Test func thereAreOnlySoManyConnections() throws {
        let bench = try MDTBench(osts: 0)
        guard let server = bench.server else { throw Failure(.notFound) }
        let peers = try (0..<Limits.serverConnectionsMax).map { _ in try bench.connect() }
        #expect(server.connectionCount == Limits.serverConnectionsMax)
        #expect { try bench.connect() } throws: { ($0 as? Failure)?.status == .unreachable }
        peers[0].close()
        bench.universe.run(for: .milliseconds(100))
        _ = try bench.connect()
    }

    @Test func stoppingEndsWhatIsUnderWay() throws {
        let bench = try MDTBench()
        _ = try bench.connect()
        guard let server = bench.server, let world = bench.mdt else { throw Failure(.notFound) }
        var map: VolumeMap?
        let peer = try bench.connect()
        bench.client.spawn {
            let request = VolumeCreateRequest(name: "vm1", bytes: 1 << 20, layout: Layout(dataMembers: 3))
            do throws(Failure) {
                let (_, body) = try await peer.connection.exchange(
                    FrameHeader(.volumeCreate), request.encoded, deadline: bench.client.now + .seconds(10))
                map = try peer.connection.decode(VolumeMap.self, body)
            } catch {
                Issue.record("\(error)")
            }
        }
        try bench.waitUntil("it has come") { server.traffic.requests[Int(Opcode.volumeCreate.rawValue)] > 0 }
        let asked = bench.universe.now
        try bench.run(world) { () throws(Failure) in await server.stop() }
        #expect(bench.universe.now - asked < .seconds(2))
        bench.universe.run(for: .seconds(1))
        #expect(map?.object.name == "vm1", "what had begun is answered")
        #expect { try bench.connect() } throws: { ($0 as? Failure)?.status == .unreachable }
    }

    @Test func metricsTellWhatHappens() throws {
        let bench = try MDTBench(osts: 2)
        guard let server = bench.server else { throw Failure(.notFound) }
        _ = try bench.create("vm1")
        let peer = try bench.connect()
        _ = try peer.open("vm1", nonce: 1)
        let text = server.metricsAnswers.metrics()
        for line in [
            "rawstor_mdt_requests_total{opcode=\"volumeCreate\"} 1", "rawstor_mdt_osts_alive 2", "rawstor_mdt_writers 1",
            "rawstor_mdt_store_up 1",
        ] { #expect(text.contains(line + "\n"), "\(line)") }
        #expect(server.metricsAnswers.trouble() == nil)
    }

    /// The process ends then, and is started anew; until then it says so.
    @Test func aCatalogueWhoseDiskFailedIsTrouble() throws {
        let bench = try MDTBench(osts: 0)
        bench.killMDT()
        let world = bench.mds.start("mdt")
        let contents = MemoryMetaContents()
        let (server, store) = try bench.run(world) { () throws(Failure) in
            let store = FailingStore(try await MemoryMetaStore.create(contents, in: world))
            let catalogue = try await ClusterCatalogue.create(in: store, world, cluster: MDTBench.cluster)
            let server = MDTServer(world: world, catalogue: catalogue)
            try server.listen(on: MDTBench.address)
            return (server, store)
        }
        var calls = 0
        server.onTrouble = { calls += 1 }
        let peer = try bench.connect()
        #expect { try peer.ask(.volumeMap, VolumeMapRequest(name: "x")) } throws: { ($0 as? Failure)?.status == .notFound }
        #expect(server.metricsAnswers.trouble() == nil && calls == 0)
        store.failure = Failure(.diskFailed, "the disk of the catalogue failed")
        for _ in 0..<2 {
            #expect { try peer.ask(.volumeMap, VolumeMapRequest(name: "x")) } throws: { ($0 as? Failure)?.status == .diskFailed }
        }
        #expect(server.metricsAnswers.trouble() == "the disk of the catalogue failed" && calls == 1)
        #expect(server.metricsAnswers.metrics().contains("rawstor_mdt_store_up 0\n"))
    }
}

/// Another store, until it fails.
private final class FailingStore: MetaStore, @unchecked Sendable {
    var isShared: Bool { false }
    let store: any MetaStore
    var failure: Failure?

    init(_ store: any MetaStore) { self.store = store }

    func read(_ keys: [MetaKey]) async throws(Failure) -> MetaSnapshot {
        if let failure { throw failure }
        return try await store.read(keys)
    }

    func list(_ prefix: MetaKey, after: MetaKey?, limit: Int) async throws(Failure) -> MetaPage {
        if let failure { throw failure }
        return try await store.list(prefix, after: after, limit: limit)
    }

    func commit(_ transaction: MetaTransaction) async throws(Failure) -> MetaOutcome {
        if let failure { throw failure }
        return try await store.commit(transaction)
    }

    func close() async { await store.close() }
}
