import Base
import OSTEngine
import Testing
import Wire

/// What a recovery asks of members: who may ask, which pages changed, what they hold (P6).
@Suite struct RecoveryTests {
    private let fence: OpenRequest.Flags = [.write, .fence]

    private func bench() throws -> (EngineBench, TestClient, TestClient) {
        let bench = try EngineBench()
        let first = try bench.ready("writer")
        let second = try bench.ready("recovery")
        try first.create("vm1", map: 1)
        return (bench, first, second)
    }

    private func put(_ client: TestClient, _ volume: TestClient.Volume, _ block: UInt32, _ count: Int, _ sequence: UInt64) throws {
        let data = TestClient.blocks(count, UInt8(truncatingIfNeeded: sequence))
        #expect(try client.write(volume, block: block, data, sequence: sequence).header.status == .ok)
    }

    private func changed(
        _ client: TestClient, _ volume: TestClient.Volume, above: Version
    ) throws -> (pages: [ChangedPage], replies: Int) {
        var pages: [ChangedPage] = []
        var cursor: UInt64 = 0
        var replies = 0
        repeat {
            let reply = try client.call(.changed, meta: ChangedRequest(above: above).encoded) {
                client.address(&$0, volume, block: 0, count: 0)
                $0.argument = cursor
            }
            guard reply.header.status == .ok else { throw Failure(reply.header.status, reply.sentence) }
            pages += try reply.decode(ChangedReply.self).pages
            cursor = reply.header.argument
            replies += 1
        } while cursor != 0 && replies < 100
        return (pages.sorted { ($0.part.chunk, $0.page) < ($1.part.chunk, $1.page) }, replies)
    }

    private func checks(_ client: TestClient, _ volume: TestClient.Volume, block: UInt32, count: Int) throws -> TestClient.Frame {
        try client.call(.checks) { client.address(&$0, volume, block: block, count: count) }
    }

    @Test func pagesAreListedByTheirHighestVersion() throws {
        let (bench, first, second) = try bench()
        let old = try first.open("vm1", fence, generation: 1, map: 1)
        try put(first, old, 0, 1, 1)
        try put(first, old, 1024, 2, 2)
        let new = try first.open("vm1", fence, generation: 3, map: 1)
        try put(first, new, 5 * 1024 + 7, 1, 9)
        try put(first, new, 3, 1, 10)
        let recovery = try second.open("vm1", .recover, map: 1)
        #expect(recovery.generation == 3 && bench.engine.marks.contains(.recoveryOpened))
        func page(_ chunk: UInt32, _ generation: UInt64, _ sequence: UInt64) -> ChangedPage {
            ChangedPage(part: PartAddress(chunk: chunk), page: 0, highest: Version(generation: generation, sequence: sequence))
        }
        #expect(try changed(second, recovery, above: .zero).pages == [page(0, 3, 10), page(1, 1, 2), page(5, 3, 9)])
        #expect(try changed(second, recovery, above: Version(generation: 1, sequence: 2)).pages == [page(0, 3, 10), page(5, 3, 9)])
        #expect(try changed(second, recovery, above: Version(generation: 3, sequence: 9)).pages == [page(0, 3, 10)])
        #expect(try changed(second, recovery, above: Version(generation: 3, sequence: 10)).pages == [])
        #expect(try changed(first, new, above: Version(generation: 3, sequence: 9)).pages == [page(0, 3, 10)], "a writer may ask as well")
        try first.create("other", map: 1)
        let other = try first.open("other", fence, generation: 1, map: 1)
        try put(first, other, 0, 1, 1)
        #expect(try changed(second, recovery, above: .zero).pages.count == 3, "of this object alone")
        try bench.restart(losingPower: true)
        let again = try bench.ready()
        let back = try again.open("vm1", .recover, map: 1)
        #expect(try changed(again, back, above: Version(generation: 1, sequence: 2)).pages == [page(0, 3, 10), page(5, 3, 9)])
    }

    @Test func manyPagesComeInSeveralReplies() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        var record = TestClient.record("wide", bytes: 64 << 20)
        record.map = 1
        record.layout.chunkBytes = 64 << 10
        #expect(try client.call(.create, meta: CreateRequest(record).encoded).header.status == .ok)
        let volume = try client.open("wide", fence, generation: 1, map: 1)
        let count = ChangedReply.pagesMax + 20
        for chunk in 0..<UInt32(count) {
            let reply = try client.write(volume, block: 0, TestClient.blocks(1, 1), sequence: UInt64(chunk) + 1) { $0.part.chunk = chunk }
            #expect(reply.header.status == .ok)
        }
        let (pages, replies) = try changed(client, volume, above: Version(generation: 1, sequence: 5))
        #expect(pages.map(\.part.chunk) == Array(5..<UInt32(count)))
        #expect(replies == 2)
    }

    @Test func checksSayWhatEachBlockIs() throws {
        let (_, first, second) = try bench()
        let writer = try first.open("vm1", fence, generation: 2, map: 1)
        try put(first, writer, 1, 2, 1)
        let zeroed = try first.call(.discard) {
            first.address(&$0, writer, block: 2, count: 1)
            $0.sequence = 2
        }
        #expect(zeroed.header.status == .ok)
        let flushed = try first.call(.flush) {
            first.address(&$0, writer, block: 0, count: 0)
            $0.mark = 2
        }
        #expect(flushed.header.status == .ok)
        try put(first, writer, 4, 1, 3)
        try put(first, writer, 4, 1, 4)
        let recovery = try second.open("vm1", .recover, map: 1)
        let reply = try checks(second, recovery, block: 0, count: 1024).decode(ChecksReply.self)
        let zero = Checksum.ofZeroBlock
        func data(_ fill: UInt8) -> UInt32 { TestClient.blocks(1, fill).withUnsafeBytes { Checksum.of($0) } }
        #expect(reply.highest == Version(generation: 2, sequence: 4) && reply.mark == Version(generation: 2, sequence: 2))
        #expect(reply.blocks.count == 1024)
        let expected = [
            BlockCheck(.absent, check: zero), BlockCheck(.data, check: data(1)), BlockCheck(.zero, check: zero),
            BlockCheck(.absent, check: zero), BlockCheck(.data, check: data(4), doubt: Version(generation: 2, sequence: 4)),
        ]
        #expect(Array(reply.blocks[..<5]) == expected)
        #expect(reply.blocks[5...].allSatisfy { $0 == BlockCheck(.absent, check: zero) })
        let part = try checks(second, recovery, block: 4, count: 2).decode(ChecksReply.self)
        #expect(part.blocks == Array(reply.blocks[4..<6]))
        let never = try checks(second, recovery, block: 9 * 1024, count: 3).decode(ChecksReply.self)
        #expect(never.highest == .zero && never.blocks == Array(repeating: BlockCheck(.absent, check: zero), count: 3))
    }

    @Test func rangesOfChecksAreWithinOnePage() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        var record = TestClient.record("large", bytes: 64 << 20)
        record.map = 1
        record.layout.chunkBytes = 16 << 20
        #expect(try client.call(.create, meta: CreateRequest(record).encoded).header.status == .ok)
        let volume = try client.open("large", .recover, map: 1)
        func status(_ first: UInt32, _ count: UInt32) throws -> Status {
            try client.call(.checks) {
                client.address(&$0, volume, block: 0, count: 0)
                $0.firstBlock = first
                $0.blockCount = count
            }.header.status
        }
        #expect(try status(1024, 1024) == .ok)
        #expect(try status(1000, 24) == .ok)
        #expect(try status(1000, 25) == .invalidArgument)
        #expect(try status(0, 0) == .invalidArgument)
        #expect(try status(4095, 2) == .outOfRange)
        #expect(try status(5, .max) == .outOfRange)
    }

    @Test func aRecoveryWritesNothingAndOneAloneIsServed() throws {
        let (bench, first, second) = try bench()
        let writer = try first.open("vm1", fence, generation: 1, map: 2)
        try put(first, writer, 0, 1, 1)
        let recovery = try second.open("vm1", .recover, map: 2)
        #expect(try second.read(recovery, block: 0) { $0.generation = 0 }.payload == TestClient.blocks(1, 1))
        #expect(try second.write(recovery, block: 0, TestClient.blocks(1, 2), sequence: 2).header.status == .readOnly)
        let mark = try second.call(.mark) {
            second.address(&$0, recovery, block: 0, count: 0)
            $0.mark = 1
        }
        #expect(mark.header.status == .readOnly)
        let flush = try second.call(.flush) {
            second.address(&$0, recovery, block: 0, count: 0)
            $0.mark = 1
        }
        #expect(flush.header.status == .ok)
        try put(first, writer, 9, 1, 2)
        #expect(try checks(second, recovery, block: 0, count: 1).decode(ChecksReply.self).mark.sequence == 0, "it told no mark")
        let third = try bench.ready("newer recovery")
        let newer = try third.open("vm1", .recover, map: 2)
        #expect(try checks(second, recovery, block: 0, count: 1).header.status == .staleSession)
        #expect(try checks(third, newer, block: 0, count: 1).header.status == .ok)
        #expect(bench.engine.marks.contains(.recoveryReplaced))
        try put(first, writer, 3, 1, 3)
        #expect(first.events.isEmpty, "the writer notices nothing")
    }

    @Test func aRecoveryStampsUnlessAWriterHasOpenedSince() throws {
        let (_, first, second) = try bench()
        let writer = try first.open("vm1", fence, generation: 4, map: 2)
        let recovery = try second.open("vm1", .recover, map: 2)
        func stamp(_ generation: UInt64, _ map: UInt64) throws -> Status {
            try second.call(.stamp) {
                second.address(&$0, recovery, block: 0, count: 0)
                $0.generation = generation
                $0.map = map
            }.header.status
        }
        #expect(try stamp(3, 3) == .fenced)
        #expect(try stamp(4, 3) == .ok)
        #expect(try first.write(writer, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .staleMap)
        #expect(try checks(second, recovery, block: 0, count: 1).header.status == .staleMap)
        #expect(refusal { try second.open("vm1", .recover, map: 2) }.status == .staleMap)
    }

    @Test func aRecoveryThatContradictsItselfIsRefused() throws {
        let (_, first, second) = try bench()
        #expect(refusal { try second.open("vm1", .recover, map: 0) }.status == .invalidArgument)
        for other in [OpenRequest.Flags.write, .force, .settle, [.write, .fence]] {
            #expect(refusal { try second.open("vm1", [.recover, other], generation: 1, map: 1) }.status == .invalidArgument)
        }
        try first.create("alone")
        let alone = refusal { try second.open("alone", .recover, map: 1) }
        #expect(alone.status == .invalidArgument && alone.detail.contains("no cluster"))
        let reader = try second.open("vm1", [])
        #expect(try checks(second, reader, block: 0, count: 1).header.status == .readOnly)
    }
}
