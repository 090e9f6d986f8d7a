import Base
import Client
import Environment
import MDTDaemon
import Simulation
import Testing
import Wire

/// The client's catalogue of a cluster, against the server that ships.
@Suite struct CatalogueTests {
    @Test func volumesAreMadeListedResizedAndRemoved() throws {
        let bench = try MDTBench()
        let before = bench.client.outstanding
        try bench.run { () throws(Failure) in
            let catalogue = MDTCatalogue(bench.client, [MDTBench.address], cluster: MDTBench.cluster)
            let object = try await catalogue.create("vm1", bytes: 64 << 20, layout: Layout(dataMembers: 2))
            #expect(object.name == "vm1" && object.map == 1)
            #expect(catalogue.cluster == MDTBench.cluster)
            _ = try await catalogue.create(VolumeCreateRequest(name: "a", bytes: 1 << 20, layout: Layout(dataMembers: 3), floor: 2))
            let both = try await catalogue.list()
            #expect(both.map(\.object.name) == ["a", "vm1"])
            let health = try await catalogue.health(of: "a")
            let listed = try await catalogue.volumes()
            #expect(listed[0] == health.summary && health.summary.floor == 2 && health.summary.level == .host)
            #expect(health.writer == .nobody && health.members.count == 3)
            #expect(health.members.allSatisfy { $0.inSync > 0 && $0.stale + $0.filling == 0 && $0.sinceMilliseconds == 0 })
            try await catalogue.resize("vm1", bytes: 96 << 20)
            let stat = try await catalogue.stat("vm1")
            #expect(stat.object.bytes == 96 << 20 && !stat.hasWriter && stat.mappedBlocks == 0)
            let osts = try await catalogue.osts()
            #expect(osts.count == 3 && osts.allSatisfy(\.isAlive))
            let space = try await catalogue.statistics()
            #expect(space.objects == 2 && space.capacityBytes > 600 << 20 && space.usedBytes + space.freeBytes == space.capacityBytes)
            try await catalogue.remove("vm1")
            let one = try await catalogue.list()
            #expect(one.map(\.object.name) == ["a"])
            do throws(Failure) {
                _ = try await catalogue.stat("vm1")
                Issue.record("it is still there")
            } catch { #expect(error.status == .notFound) }
            catalogue.close()
        }
        bench.universe.run(for: .seconds(1))
        #expect(bench.client.outstanding == before)
    }

    /// What was written counts once, however many copies there are.
    @Test func usedSpaceIsThatOfOneCopy() throws {
        let bench = try MDTBench()
        let map = try bench.create("vm1", bytes: 64 << 20, replicas: 3)
        for ost in bench.osts {
            try bench.run { () throws(Failure) in
                let name = "\(map.object.id)"
                let volume = try await RawVolume.open(bench.client, ost.address, name, map)
                try await volume.writeBlocks(5)
                volume.close()
            }
        }
        try bench.run { () throws(Failure) in
            let catalogue = MDTCatalogue(bench.client, [MDTBench.address])
            let used = try await catalogue.stat("vm1").mappedBlocks
            #expect(used == 5)
            catalogue.close()
        }
    }

    /// Who does not answer has not said that there is nothing.
    @Test func whatIsInUseIsKnownOrAnError() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1", bytes: 64 << 20, replicas: 2)
        func used() throws -> UInt64 {
            try bench.run { () throws(Failure) in
                let catalogue = MDTCatalogue(bench.client, [MDTBench.address])
                defer { catalogue.close() }
                return try await catalogue.usedBlocks(of: "vm1")
            }
        }
        #expect(try used() == 0)
        bench.osts[0].kill()
        #expect(try used() == 0, "another copy of each part answers")
        bench.osts[1].kill()
        #expect { try used() } throws: {
            guard let failure = $0 as? Failure else { return false }
            return failure.status == .unreachable && ["oss0:7710", "oss1:7710"].contains { failure.detail.contains("OST \($0), store ") }
        }
    }

    @Test func theNextServerIsAskedWhenOneIsAway() throws {
        let bench = try MDTBench(osts: 1)
        let nobody = Endpoint.tcp(host: "mds", port: 1)
        try bench.run { () throws(Failure) in
            let catalogue = MDTCatalogue(bench.client, [nobody, MDTBench.address])
            let began = bench.client.now
            let (volumes, osts) = (try await catalogue.list(), try await catalogue.osts())
            #expect(volumes.isEmpty && osts.count == 1)
            #expect(bench.client.now - began < .seconds(1))
            catalogue.close()
            let none = MDTCatalogue(bench.client, [nobody, .tcp(host: "mds", port: 2)])
            do throws(Failure) {
                _ = try await none.list()
                Issue.record("listed")
            } catch { #expect(error.status == .unreachable && error.detail.contains("; ")) }
            none.close()
        }
    }

    @Test func aServerThatWasKilledIsFoundAgain() throws {
        let bench = try MDTBench()
        let catalogue = MDTCatalogue(bench.client, [MDTBench.address], deadline: .seconds(5))
        _ = try bench.create("vm1")
        #expect(try bench.run { () throws(Failure) in try await catalogue.list().count } == 1)
        bench.killMDT()
        #expect { try bench.run { () throws(Failure) in try await catalogue.list() } } throws: {
            ($0 as? Failure)?.status == .unreachable
        }
        try bench.startMDT()
        #expect(try bench.run { () throws(Failure) in try await catalogue.list().count } == 1)
        catalogue.close()
    }
}

/// Writes to an object over its OST's own protocol: one frame, one reply.
private final class RawVolume {
    let world: SimWorld
    let operations: Operations
    let stream: StreamID
    var header = FrameHeader(.write)

    private init(_ world: SimWorld, _ operations: Operations, _ stream: StreamID) {
        self.world = world
        self.operations = operations
        self.stream = stream
    }

    static func open(_ world: SimWorld, _ endpoint: Endpoint, _ name: String, _ map: VolumeMap) async throws(Failure) -> RawVolume {
        let operations = Operations(world)
        guard case .success(let stream) = await operations.connect(to: endpoint, deadline: world.now + .seconds(5)) else {
            throw Failure(.unreachable)
        }
        let volume = RawVolume(world, operations, stream)
        _ = try await volume.exchange(FrameHeader(.hello), Hello(role: .client, incarnation: map.incarnation).encoded, [])
        var open = FrameHeader(.open)
        open.session = 1
        open.generation = 1
        open.map = map.object.map
        let body = OpenRequest(name: name, flags: [.write, .fence], nonce: Identifier(high: 5, low: 5)).encoded
        let reply = try await volume.exchange(open, body, [])
        volume.header.handle = reply.handle
        volume.header.generation = reply.generation
        volume.header.map = reply.map
        volume.header.session = 1
        return volume
    }

    func writeBlocks(_ count: Int) async throws(Failure) {
        let payload = [UInt8](repeating: 7, count: count * Block.bytes)
        let check = payload[..<Block.bytes].withUnsafeBytes { Checksum.of($0) }
        let checks = (0..<count).flatMap { _ in withUnsafeBytes(of: check.littleEndian) { Array($0) } }
        header.sequence += 1
        header.blockCount = UInt32(count)
        _ = try await exchange(header, checks, payload)
    }

    private func exchange(_ header: FrameHeader, _ meta: [UInt8], _ payload: [UInt8]) async throws(Failure) -> FrameHeader {
        var header = header
        header.metaBytes = UInt32(meta.count)
        header.payloadBytes = UInt32(payload.count)
        header.metaCheck = meta.withUnsafeBytes { Checksum.of($0) }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 128 << 10, alignment: 64)
        defer { memory.deallocate() }
        guard let base = memory.baseAddress else { throw Failure(.outOfMemory) }
        header.encode(to: base)
        UnsafeMutableRawBufferPointer(rebasing: memory[FrameHeader.bytes...]).copyBytes(from: meta + payload)
        let frame = UnsafeMutableRawBufferPointer(rebasing: memory[..<(FrameHeader.bytes + meta.count + payload.count)])
        guard await operations.send(stream, frame) else { throw Failure(.unreachable) }
        var taken = 0
        while true {
            let count = await operations.receive(stream, into: UnsafeMutableRawBufferPointer(rebasing: memory[taken...]))
            guard count > 0 else { throw Failure(.unreachable) }
            taken += count
            guard taken >= FrameHeader.bytes else { continue }
            let reply = try FrameHeader.decode(base)
            guard taken >= FrameHeader.bytes + reply.bodyBytes else { continue }
            guard reply.status == .ok else { throw Failure(reply.status) }
            return reply
        }
    }

    func close() {
        world.close(stream)
        operations.close()
    }
}
