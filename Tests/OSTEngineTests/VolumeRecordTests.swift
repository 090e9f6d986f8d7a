import Base
import OSTEngine
import Testing
import Wire

/// What an OST is told of its volumes, and by whom it lets itself be told.
@Suite struct VolumeRecordTests {
    private let fence: OpenRequest.Flags = [.write, .fence]

    private func record(_ client: TestClient, _ name: String = "vm1") throws -> (map: UInt64, record: [UInt8], resizes: UInt64) {
        let frame = try client.call(.volumeRecord, meta: NameRequest(name: name).encoded)
        guard frame.header.status == .ok else { throw Failure(frame.header.status, frame.sentence) }
        let reply = try frame.decode(VolumeRecordReply.self)
        return (frame.header.map, reply.record, reply.resizes)
    }

    private func create(_ client: TestClient, _ name: String, map: UInt64, _ record: [UInt8]) throws -> TestClient.Frame {
        try client.call(.create, meta: CreateRequest(TestClient.record(name), record: record).encoded) { $0.map = map }
    }

    private func stamp(_ client: TestClient, _ volume: TestClient.Volume, map: UInt64, _ record: [UInt8]) throws -> TestClient.Frame {
        try client.call(.stamp, meta: StampRequest(record: record).encoded) {
            client.address(&$0, volume, block: 0, count: 0)
            $0.map = map
        }
    }

    @Test func creationFenceStampAndResizeBringTheRecordOfTheirMap() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        #expect(try create(client, "vm1", map: 1, [1]).header.status == .ok)
        #expect(try create(client, "vm1", map: 1, [1]).header.status == .ok, "asked again, because the answer was lost")
        #expect(try record(client) == (1, [1], 0))
        let opened = try client.call(.open, meta: OpenRequest(name: "vm1", flags: fence, record: [2, 2]).encoded) {
            ($0.session, $0.generation, $0.map) = (1, 1, 3)
        }
        #expect(opened.header.map == 3)
        #expect(try record(client) == (3, [2, 2], 0))
        let writer = TestClient.Volume(
            handle: opened.header.handle, generation: 1, session: 1, record: TestClient.record("vm1"), map: 3)
        let large = [UInt8](repeating: 5, count: 16_000)
        #expect(try stamp(client, writer, map: 4, large).header.status == .ok)
        #expect(try stamp(client, writer, map: 2, [9]).header.status == .ok, "an older one comes late")
        #expect(try record(client) == (4, large, 0))
        let resize = { (number: UInt64, map: UInt64) in
            try client.call(.resize, meta: ResizeRequest(name: "vm1", record: [UInt8(map)]).encoded) { header in
                (header.argument, header.sequence, header.map) = (8 << 20, number, map)
            }
        }
        #expect(try resize(2, 6).header.status == .ok)
        #expect(try record(client) == (6, [6], 2))
        #expect(try resize(1, 7).header.status == .staleMap, "of a server that was slow")
        try bench.restart()
        #expect(try record(try bench.ready()) == (6, [6], 2))
    }

    @Test func whatIsNoRecordEndsTheConnectionAndNothingElse() throws {
        let bench = try EngineBench(diskBytes: 64 << 20)
        let client = try bench.ready()
        #expect(try create(client, "vm1", map: 1, [1]).header.status == .ok)
        let writer = try client.open("vm1", fence, generation: 1, map: 2)
        // The store is small: what does not fit it is refused, and can be sent smaller.
        let tooMuch = [UInt8](repeating: 1, count: Limits.volumeRecordBytesMax)
        let refused = try stamp(client, writer, map: 3, tooMuch)
        #expect(refused.header.status == .noSpace && refused.sentence.contains("stamping map 3"))
        let malformed = try client.call(.stamp, meta: [9, 0, 0, 0, 1]) { client.address(&$0, writer, block: 0, count: 0) }
        #expect(malformed.header.status == .malformed && !client.isConnected)
        #expect(try record(try bench.ready()) == (1, [1], 0))
        #expect(failure { _ = try record(try bench.ready(), "none") }.status == .notFound)
    }

    private func failure(_ body: () throws -> Void) -> Failure {
        do {
            try body()
            return Failure(.ok)
        } catch { return error as? Failure ?? Failure(.invalidArgument) }
    }

    private func adopt(_ client: TestClient, _ old: UInt64, _ new: UInt64) throws -> Status {
        try client.call(.adopt) { ($0.sequence, $0.argument) = (old, new) }.header.status
    }

    /// Who comes from another catalogue changes nothing that a catalogue decides; data of a writer that was fenced before goes on.
    @Test func anOlderCatalogueDecidesNothingAnyMore() throws {
        let bench = try EngineBench()
        let old = try bench.ready()
        #expect(try adopt(old, 0, 1) == .ok)
        let writer = try bench.ready("writer", incarnation: 1)
        #expect(try create(writer, "vm1", map: 1, [1]).header.status == .ok)
        let volume = try writer.open("vm1", fence, generation: 1, map: 2)
        #expect(try adopt(old, 0, 2) == .staleMap)
        #expect(try adopt(old, 1, 3) == .ok)
        #expect(try writer.write(volume, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .ok)
        let stamped = try stamp(writer, volume, map: 5, [5])
        #expect(stamped.header.status == .staleMap && stamped.sentence.contains("was rebuilt: its incarnation is 3"))
        #expect(failure { _ = try writer.open("vm1", fence, session: 2, generation: 2, map: 5) }.status == .staleMap)
        #expect(failure { _ = try writer.open("vm1", .recover, map: 5) }.status == .staleMap)
        #expect(try create(writer, "vm2", map: 1, [1]).header.status == .staleMap)
        #expect(failure { _ = try bench.ready("late", incarnation: 1) }.status == .staleMap)
        #expect(bench.engine.marks.contains(.incarnationRefused) && bench.engine.marks.contains(.incarnationRaised))
        // Nobody's client may look, and no more; one that is ahead of this OST waits for it.
        let nobody = try bench.ready()
        #expect(failure { _ = try nobody.open("vm1", fence, session: 2, generation: 2, map: 5) }.status == .staleMap)
        #expect(try nobody.open("vm1", []).map == 2)
        let ahead = try bench.ready("ahead", incarnation: 4)
        #expect(failure { _ = try ahead.open("vm1", fence, session: 2, generation: 2, map: 5) }.status == .overloaded)
        let new = try bench.ready("new", incarnation: 3)
        #expect(try new.open("vm1", fence, session: 2, generation: 1, map: 5).map == 5)
        try bench.restart()
        #expect(failure { _ = try bench.ready("late", incarnation: 2) }.status == .staleMap)
    }
}
