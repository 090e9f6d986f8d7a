import Base
import OSTEngine
import Testing
import Wire

/// What a writer learns of its predecessors' writes when it opens a member of a cluster's volume (P5).
@Suite struct DoubtsTests {
    private let fence: OpenRequest.Flags = [.write, .fence]

    private func bench() throws -> (EngineBench, TestClient) {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1", map: 1)
        return (bench, client)
    }

    private func page(
        _ client: TestClient, _ volume: TestClient.Volume, from cursor: UInt64
    ) throws -> (ranges: [DoubtRange], next: UInt64) {
        let reply = try client.call(.doubts) {
            client.address(&$0, volume, block: 0, count: 0)
            $0.argument = cursor
        }
        guard reply.header.status == .ok else { throw Failure(reply.header.status, reply.sentence) }
        #expect(reply.meta.count <= Limits.metaBytesMax)
        return (try reply.decode(DoubtsReply.self).ranges, reply.header.argument)
    }

    private func all(_ client: TestClient, _ volume: TestClient.Volume) throws -> (ranges: [DoubtRange], pages: Int) {
        var ranges: [DoubtRange] = []
        var cursor: UInt64 = 0
        var pages = 0
        repeat {
            let (found, next) = try page(client, volume, from: cursor)
            ranges += found
            cursor = next
            pages += 1
        } while cursor != 0 && pages < 1000
        return (ranges, pages)
    }

    private func range(_ block: UInt32, _ count: UInt32, _ generation: UInt64, _ sequence: UInt64) -> DoubtRange {
        DoubtRange(
            part: PartAddress(chunk: block / 1024), firstBlock: block % 1024, blockCount: count,
            version: Version(generation: generation, sequence: sequence))
    }

    private func put(_ client: TestClient, _ volume: TestClient.Volume, _ block: UInt32, _ count: Int, _ sequence: UInt64) throws {
        let data = TestClient.blocks(count, UInt8(truncatingIfNeeded: sequence))
        let reply = try client.write(volume, block: block, data, sequence: sequence)
        #expect(reply.header.status == .ok)
    }

    @Test func neighboursAreOneRangeAndEveryEntryIsListed() throws {
        let (bench, client) = try bench()
        let first = try client.open("vm1", fence, generation: 1, map: 1)
        try put(client, first, 10, 3, 1)
        try put(client, first, 11, 1, 2)
        try put(client, first, 1023, 1, 3)
        try put(client, first, 1024, 1, 4)
        #expect(try all(client, first).ranges == [], "its own writes are no news to a writer")
        let second = try client.open("vm1", fence, generation: 2, map: 1)
        let old = [range(10, 3, 1, 1), range(11, 1, 1, 2), range(1023, 1, 1, 3), range(1024, 1, 1, 4)]
        #expect(try all(client, second).ranges == old, "oldest version first")
        try put(client, second, 11, 1, 1)
        let rest = old.filter { $0.version.sequence != 2 }
        #expect(try all(client, second).ranges == rest, "nothing of the current generation, nor what it has taken the place of")
        let third = try client.open("vm1", fence, generation: 5, map: 1)
        #expect(try all(client, third).ranges == rest + [range(11, 1, 2, 1)])
        try bench.restart(losingPower: true)
        let again = try bench.ready()
        let back = try again.open("vm1", fence, session: 2, generation: 5, map: 1)
        #expect(try all(again, back).ranges == rest + [range(11, 1, 2, 1)])
    }

    @Test func entriesGoWhenTheMarkPassesARewrite() throws {
        let (_, client) = try bench()
        let first = try client.open("vm1", fence, generation: 1, map: 1)
        try put(client, first, 10, 2, 1)
        let second = try client.open("vm1", fence, generation: 2, map: 1)
        try put(client, second, 11, 1, 1)
        let flushed = try client.call(.flush) {
            client.address(&$0, second, block: 0, count: 0)
            $0.mark = 1
        }
        #expect(flushed.header.status == .ok)
        try put(client, second, 500, 1, 2)
        #expect(try all(client, second).ranges == [range(10, 1, 1, 1)])
    }

    @Test func aLongListComesInPages() throws {
        let (bench, client) = try bench()
        let first = try client.open("vm1", fence, generation: 1, map: 1)
        var expected: [DoubtRange] = []
        for number in 0..<UInt64(DoubtsReply.rangesMax + 50) {
            let block = UInt32(number * 2)
            try put(client, first, block, 1, number + 1)
            expected.append(range(block, 1, 1, number + 1))
        }
        let second = try client.open("vm1", fence, generation: 2, map: 1)
        let (ranges, pages) = try all(client, second)
        #expect(ranges == expected && pages == 2)
        #expect(bench.engine.marks.contains(.doubtsListed))
        // More entries of a few versions than are looked at for one answer, in the place of those before.
        for part in 0..<UInt32(5) {
            let zeroed = try client.call(.writeZeroes) {
                client.address(&$0, second, block: part / 2 * 1024, count: 1024)
                $0.sequence = UInt64(part) + 1
            }
            #expect(zeroed.header.status == .ok)
        }
        let third = try client.open("vm1", fence, generation: 3, map: 1)
        let (more, morePages) = try all(client, third)
        #expect(more.reduce(0) { $0 + Int($1.blockCount) } == 5 * 1024)
        #expect(more.count < DoubtsReply.rangesMax && morePages == 2)
    }

    /// A cursor that names nothing must not pass over anything.
    @Test func aListThatChangedBeginsAnew() throws {
        let (_, client) = try bench()
        let first = try client.open("vm1", fence, generation: 1, map: 1)
        for number in 0..<UInt64(DoubtsReply.rangesMax + 9) { try put(client, first, UInt32(number * 2), 1, number + 1) }
        let second = try client.open("vm1", fence, generation: 2, map: 1)
        let (ranges, next) = try page(client, second, from: 0)
        #expect(ranges.count == DoubtsReply.rangesMax && next != 0)
        // The entry with which the list would go on is rewritten, and the mark passes that.
        try put(client, second, UInt32(DoubtsReply.rangesMax * 2), 1, 1)
        let flushed = try client.call(.flush) {
            client.address(&$0, second, block: 0, count: 0)
            $0.mark = 1
        }
        #expect(flushed.header.status == .ok)
        try put(client, second, 1000, 1, 2)
        #expect(try page(client, second, from: next).ranges.first == ranges[0])
        for cursor in [UInt64.max, UInt64(UInt32.max), 1 << 20] {
            #expect(try page(client, second, from: cursor).ranges.first == ranges[0])
        }
    }

    @Test func onlyTheWriterIsTold() throws {
        let (bench, client) = try bench()
        _ = try client.open("vm1", fence, generation: 1, map: 2)
        let reader = try bench.ready("reader")
        let handle = try reader.open("vm1", [])
        let asked = try reader.call(.doubts) { reader.address(&$0, handle, block: 0, count: 0) }
        #expect(asked.header.status == .readOnly)
        let old = try client.open("vm1", fence, session: 2, generation: 1, map: 2)
        let stale = try client.call(.doubts) {
            client.address(&$0, old, block: 0, count: 0)
            $0.map = 1
        }
        #expect(stale.header.status == .staleMap)
    }
}
