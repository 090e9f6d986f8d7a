import Base
import Client
import Environment
import MDTDaemon
import Simulation
import Testing
import Wire

@Suite struct VolumeTests {
    private func failure<Value>(_ body: () throws -> Value) -> Failure? {
        do {
            _ = try body()
            return nil
        } catch {
            return error as? Failure
        }
    }

    @Test func aVolumeIsMadeOnItsOSTsAndRemovedFromThem() throws {
        let bench = try MDTBench()
        let map = try bench.create("vm1", bytes: 64 << 20, replicas: 2)
        #expect(map.object.generation == 0 && map.object.map == 1 && map.membersPerPlacement == 2)
        #expect(map.osts.map(\.store).sorted() == bench.osts.map(\.store).sorted())
        #expect(Set(map.osts.flatMap(\.endpoints)) == ["oss0:7710", "oss1:7710", "oss2:7710"])
        for objects in try bench.objects() {
            #expect(objects.map(\.name) == ["\(map.object.id)"] && objects.map(\.id) == [map.object.id])
            #expect(objects[0].bytes == 64 << 20 && objects[0].layout == map.object.layout && objects[0].generation == 0)
        }
        let peer = try bench.connect()
        #expect(try peer.ask(.volumeMap, VolumeMapRequest(name: "vm1"), VolumeMap.self) == map)
        #expect(try peer.ask(.volumeMap, VolumeMapRequest(id: map.object.id), VolumeMap.self) == map)
        #expect(try peer.ask(.volumeMap, VolumeMapRequest(name: "vm1")).argument & 1 == 0)
        #expect(try bench.names() == ["vm1"])
        #expect(failure { try bench.create("vm1") }?.status == .alreadyExists)
        try peer.ask(.volumeRemove, NameRequest(name: "vm1"))
        #expect(try bench.objects().allSatisfy(\.isEmpty))
        #expect(try bench.names().isEmpty)
        #expect(failure { try peer.ask(.volumeRemove, NameRequest(name: "vm1")) }?.status == .notFound)
    }

    @Test func whatCannotBePlacedIsRefusedWithASentence() throws {
        let bench = try MDTBench()
        #expect(failure { try bench.create("a b") }?.detail.contains("is no name") == true)
        #expect(failure { try bench.create("a", bytes: 100) }?.detail.contains("multiple of 512") == true)
        let four = failure { try bench.create("a", replicas: 4) }
        #expect(four?.status == .invalidArgument && four?.detail.contains("need 4 hosts") == true)
        #expect(failure { try bench.create("a", replicas: 2, level: .rack) }?.detail.contains("do not name their rack: 3") == true)
        bench.osts[0].kill()
        bench.universe.run(for: Limits.heartbeatTimeout)
        let away = failure { try bench.create("a", replicas: 3) }
        #expect(away?.status == .noSpace && away?.detail.contains("there are 2: oss1, oss2; full, draining or away: oss0 (away)") == true)
        #expect(try bench.objects().allSatisfy(\.isEmpty))
    }

    /// It is believed to be alive, and is not.
    @Test func aCreationThatFailsLeavesNothing() throws {
        let bench = try MDTBench()
        bench.osts[1].kill()
        let refusal = failure { try bench.create("vm1", replicas: 3) }
        #expect(refusal?.status == .unreachable && refusal?.detail.contains("'vm1' was not created: OST oss1:7710") == true)
        #expect(try bench.names().isEmpty)
        bench.universe.run(for: .seconds(2))
        #expect(try bench.objects().allSatisfy(\.isEmpty))
        try bench.osts[1].start()
        try bench.waitUntil("the OST is back") { bench.osts[1].isRegistered }
        let map = try bench.create("vm1", replicas: 3)
        #expect(try bench.objects().allSatisfy { $0.map(\.id) == [map.object.id] })
    }

    /// Wherever the server is killed: in the end there is the whole volume or nothing of it, in the catalogue and on the OSTs.
    @Test(arguments: UInt64(1)...24)
    func aKillInTheMiddleLeavesAllOrNothing(seed: UInt64) throws {
        let bench = try MDTBench(seed: seed)
        if seed % 2 == 0 { _ = try bench.create("vm1", replicas: 3) }
        let peer = try bench.connect()
        var isAnswered = false
        bench.client.spawn {
            let create = VolumeCreateRequest(name: "vm1", bytes: 1 << 20, layout: Layout(dataMembers: 3))
            let frame = FrameHeader(seed % 2 == 0 ? .volumeRemove : .volumeCreate)
            let body = seed % 2 == 0 ? NameRequest(name: "vm1").encoded : create.encoded
            do throws(Failure) { _ = try await peer.connection.exchange(frame, body, deadline: bench.client.now + .seconds(10)) } catch {}
            isAnswered = true
        }
        bench.universe.run(for: .microseconds(800 * seed))
        bench.killMDT()
        try bench.waitUntil("the client knows") { isAnswered }
        try bench.startMDT()
        try bench.waitUntil("the OSTs are back") { bench.osts.allSatisfy(\.isRegistered) }
        bench.universe.run(for: .seconds(12))
        let isThere = try bench.names() == ["vm1"]
        let objects = try bench.objects()
        #expect(objects.allSatisfy { $0.count == (isThere ? 1 : 0) }, "\(objects.map(\.count)), in the catalogue: \(isThere)")
        if isThere { _ = try bench.connect().open("vm1", nonce: 1) }
        if !isThere { _ = try bench.create("vm1", replicas: 3) }
    }

    @Test func aRemovalWaitsForAnOSTThatIsAway() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1", replicas: 3)
        bench.osts[2].kill()
        bench.universe.run(for: Limits.heartbeatTimeout)
        try bench.connect().ask(.volumeRemove, NameRequest(name: "vm1"))
        #expect(try bench.names().isEmpty && bench.objects().allSatisfy(\.isEmpty))
        try bench.osts[2].start()
        #expect(try bench.objects().map(\.count) == [0, 0, 1])
        try bench.waitUntil("it is removed there too") { bench.server?.counters.workFinished ?? 0 > 0 }
        #expect(try bench.objects().allSatisfy(\.isEmpty))
    }

    /// Of whom the metadata server knows nothing.
    private func addReader(_ bench: MDTBench, of volume: Identifier, at ost: OST) throws -> ControlConnection {
        try bench.run { () throws(Failure) in
            let world = bench.client
            let connection = try await ControlConnection.open(world, ost.address, deadline: world.now + .seconds(5))
            var header = FrameHeader(.open)
            header.session = 1
            _ = try await connection.exchange(
                header, OpenRequest(name: "\(volume)", flags: []).encoded, deadline: world.now + .seconds(5))
            return connection
        }
    }

    /// An OST removes its object, and the answer is lost; the next one says that somebody has the volume open.
    @Test func aRemovalThatMayHaveTakenAPartIsNotTakenBack() throws {
        let bench = try MDTBench()
        let map = try bench.create("vm1", replicas: 3)
        let first = try #require(map.osts.first).store
        let readers = try bench.osts.filter { $0.store != first }.map { try addReader(bench, of: map.object.id, at: $0) }
        let ost = try #require(bench.osts.first { $0.store == first })
        let disk = try #require(ost.host.disk("/d"))
        disk.fails = { access in
            if access.kind == .flush { bench.universe.partition(ost.host, bench.mds) }
            return false
        }
        try bench.connect().ask(.volumeRemove, NameRequest(name: "vm1"))
        disk.fails = nil
        #expect(try bench.names().isEmpty && !bench.objects().allSatisfy(\.isEmpty))
        bench.universe.heal()
        for reader in readers { reader.close() }
        bench.universe.run(for: .seconds(30))
        #expect(try bench.objects().allSatisfy(\.isEmpty))
    }

    @Test func whatSomebodyHasOpenIsNotRemoved() throws {
        let bench = try MDTBench()
        let map = try bench.create("vm1", replicas: 3)
        let readers = try bench.osts.map { try addReader(bench, of: map.object.id, at: $0) }
        let peer = try bench.connect()
        let refusal = failure { try peer.ask(.volumeRemove, NameRequest(name: "vm1")) }
        #expect(refusal?.status == .busy && refusal?.detail.contains("is open by") == true)
        #expect(try bench.names() == ["vm1"] && bench.objects().allSatisfy { $0.count == 1 })
        _ = try peer.open("vm1", nonce: 1)
        for reader in readers { reader.close() }
        bench.universe.run(for: .milliseconds(100))
        try peer.ask(.volumeRemove, NameRequest(name: "vm1"))
        #expect(try bench.objects().allSatisfy(\.isEmpty))
    }

    @Test func aVolumeIsResizedEverywhere() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1", bytes: 64 << 20, replicas: 3)
        let peer = try bench.connect()
        #expect(try peer.resize("vm1", 96 << 20).object.bytes == 96 << 20)
        #expect(try bench.objects().allSatisfy { $0[0].bytes == 96 << 20 })
        #expect(try peer.resize("vm1", 32 << 20).object.bytes == 32 << 20)
        #expect(try bench.objects().allSatisfy { $0[0].bytes == 32 << 20 })
        #expect(try peer.resize("vm1", 64 << 20 - 512).object.bytes == 64 << 20 - 512)
        #expect(failure { try peer.resize("vm1", 32 << 20 - 512) }?.detail.contains("smaller to a multiple of 4096 bytes") == true)
        #expect(failure { try peer.resize("vm1", 100) }?.status == .invalidArgument)
        #expect(failure { try peer.resize("vm2", 1 << 20) }?.status == .notFound)
    }

    @Test func aWriterThatWasReplacedResizesNothing() throws {
        let bench = try MDTBench()
        _ = try bench.create("vm1", bytes: 64 << 20)
        let (first, second) = (try bench.connect(), try bench.connect())
        let old = try first.open("vm1", nonce: 1).object.generation
        #expect(try first.resize("vm1", 32 << 20, by: old).object.bytes == 32 << 20)
        let new = try second.open("vm1", [.write, .force], nonce: 2).object.generation
        #expect(failure { try first.resize("vm1", 1 << 20, by: old) }?.status == .fenced)
        #expect(try second.resize("vm1", 48 << 20, by: new).object.bytes == 48 << 20)
    }

    @Test func aVolumeGrowsOnlyWhereItCanEverywhere() throws {
        let bench = try MDTBench()
        let id = try bench.create("vm1", bytes: 64 << 20, replicas: 3).object.id
        bench.osts[1].kill()
        let peer = try bench.connect()
        let refusal = failure { try peer.resize("vm1", 96 << 20) }
        #expect(refusal?.status == .unreachable && refusal?.detail.contains("keeps its 67108864 bytes") == true)
        try bench.osts[1].start()
        try bench.waitUntil("sizes are told") { bench.logs.contains { $0.contains("registered") } && bench.osts[1].isRegistered }
        bench.universe.run(for: .seconds(12))
        #expect(try bench.objects().allSatisfy { $0[0].bytes == 64 << 20 })
        // The OST that keeps nothing of it any more does not hold it up, and learns it later.
        let writer = try bench.connect()
        let map = try writer.open("vm1", nonce: 1)
        bench.osts[1].kill()
        _ = try writer.ask(
            .volumeExclude, VolumeMembersRequest(id: id, generation: map.object.generation, stores: [bench.osts[1].store]))
        #expect(try peer.resize("vm1", 32 << 20).object.bytes == 32 << 20)
        #expect(try peer.resize("vm1", 96 << 20).object.bytes == 96 << 20)
        let summary = try peer.ask(.volumeList, NameRequest(name: ""), VolumeListReply.self).volumes[0]
        #expect(summary.unresized == 1 && summary.stale > 0 && summary.inSyncMin == 2)
        try bench.osts[1].start()
        try bench.waitUntil("the OST is back") { bench.osts[1].isRegistered }
        bench.universe.run(for: .seconds(12))
        #expect(try bench.objects().allSatisfy { $0[0].bytes == 96 << 20 })
        #expect(try peer.ask(.volumeList, NameRequest(name: ""), VolumeListReply.self).volumes[0].unresized == 0)
    }
}
