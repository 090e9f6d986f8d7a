import Base
import OSTEngine
import Testing
import Wire

@Suite struct RequestTests {
    @Test func aWriteIsReadBackWithItsChecks() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", [.write, .settle])
        #expect(volume.generation == 1)
        for (block, count) in [(0, 1), (7, 3), (1024, 256), (1020, 4)] {
            let data = TestClient.blocks(count, UInt8(truncatingIfNeeded: count))
            let written = try client.write(volume, block: UInt32(block), data, sequence: UInt64(block + count))
            #expect(written.header.status == .ok, "\(written.sentence)")
            let back = try client.read(volume, block: UInt32(block), count: count)
            #expect(back.header.status == .ok)
            #expect(back.payload == data)
            let check = data[..<Block.bytes].withUnsafeBytes { Checksum.of($0) }
            #expect(back.meta.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) } == check)
        }
        let never = try client.read(volume, block: 500)
        #expect(never.payload == [UInt8](repeating: 0, count: Block.bytes))
    }

    @Test func payloadsArriveInAnyPieces() throws {
        for piece in [1, 100, 4095, 5000] {
            let bench = try EngineBench()
            let client = try bench.ready()
            try client.create("vm1")
            let volume = try client.open("vm1", [.write, .settle])
            client.pieceBytes = piece
            let data = TestClient.blocks(3, 9)
            let request = client.sendWrite(volume, block: 5, data, sequence: 1)
            let read = client.sendRead(volume, block: 100)
            #expect(try client.reply(to: request).header.status == .ok)
            #expect(try client.reply(to: read).header.status == .ok)
            #expect(try client.read(volume, block: 5, count: 3).payload == data)
        }
    }

    @Test func zeroesFlushAndMark() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", [.write, .settle])
        #expect(try client.write(volume, block: 0, TestClient.blocks(2, 3), sequence: 1).header.status == .ok)
        for (opcode, sequence) in [(Opcode.writeZeroes, UInt64(2)), (.discard, 3)] {
            let reply = try client.call(opcode) {
                client.address(&$0, volume, block: UInt32(sequence - 2), count: 1)
                $0.sequence = sequence
            }
            #expect(reply.header.status == .ok)
        }
        let flushed = try client.call(.flush) {
            client.address(&$0, volume, block: 0, count: 0)
            $0.mark = 3
        }
        #expect(flushed.header.status == .ok)
        #expect(flushed.header.mark == 3)
        #expect(try client.call(.mark) { client.address(&$0, volume, block: 0, count: 0) }.header.status == .ok)
        #expect(try client.read(volume, block: 0, count: 2).payload == [UInt8](repeating: 0, count: 8192))
    }

    @Test func rangesBeyondTheVolumeAreRefused() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1", bytes: (4 << 20) + 8192)
        let volume = try client.open("vm1", [.write, .settle])
        let last = try client.write(volume, block: 1025, TestClient.blocks(1, 1), sequence: 1)
        #expect(last.header.status == .ok)
        #expect(try client.write(volume, block: 1026, TestClient.blocks(1, 1), sequence: 2).header.status == .outOfRange)
        #expect(try client.write(volume, block: 1025, TestClient.blocks(2, 1), sequence: 2).header.status == .outOfRange)
        #expect(try client.write(volume, block: 1023, TestClient.blocks(2, 1), sequence: 2).header.status == .outOfRange, "crosses a chunk")
        #expect(try client.read(volume, block: 0) { $0.part.chunk = .max }.header.status == .outOfRange)
        #expect(try client.read(volume, block: 0) { $0.firstBlock = .max }.header.status == .outOfRange)
        #expect(try client.read(volume, block: 0) { $0.part.member = 1 }.header.status == .invalidArgument)
        let zero = try client.call(.writeZeroes) {
            client.address(&$0, volume, block: 0, count: 0)
            $0.blockCount = .max
            $0.sequence = 3
        }
        #expect(zero.header.status == .outOfRange)
        #expect(try client.write(volume, block: 0, TestClient.blocks(1, 1), sequence: 0).header.status == .invalidArgument)
    }

    @Test func alteredPayloadIsRefused() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", [.write, .settle])
        var data = TestClient.blocks(1, 1)
        let check = [UInt8](repeating: 0, count: 4)
        data[9] ^= 1
        let reply = try client.call(.write, meta: check, payload: data) {
            client.address(&$0, volume, block: 0, count: 1)
            $0.sequence = 1
        }
        #expect(reply.header.status == .checksumMismatch)
        #expect(bench.engine.marks.contains(.checksumMismatch))
        #expect(try client.read(volume, block: 0).payload == [UInt8](repeating: 0, count: Block.bytes))
    }

    @Test func objectsAreCreatedListedResizedAndRemoved() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        for index in 0..<70 { try client.create("vm\(index)") }
        try client.create("vm3")
        var other = TestClient.record("vm3")
        other.id.low += 1
        #expect(try client.call(.create, meta: CreateRequest(other).encoded).header.status == .alreadyExists)
        var names: [String] = []
        while true {
            let page = try client.call(.list, meta: NameRequest(name: names.last ?? "").encoded).decode(ListReply.self)
            if page.objects.isEmpty { break }
            names += page.objects.map(\.object.name)
        }
        #expect(names == (0..<70).map { "vm\($0)" }.sorted())
        #expect(try client.call(.resize, meta: ResizeRequest(name: "vm1").encoded) { $0.argument = 1 << 30 }.header.status == .ok)
        #expect(try client.call(.resize, meta: ResizeRequest(name: "vm1").encoded) { $0.argument = 7 }.header.status == .invalidArgument)
        #expect(try client.call(.stat, meta: NameRequest(name: "vm1").encoded).decode(StatReply.self).object.bytes == 1 << 30)
        #expect(try client.call(.remove, meta: NameRequest(name: "vm1").encoded).header.status == .ok)
        #expect(try client.call(.stat, meta: NameRequest(name: "vm1").encoded).header.status == .notFound)
        #expect(try client.call(.stat, meta: NameRequest(name: "-x").encoded).header.status == .invalidArgument)
        #expect(try client.call(.statistics).decode(StatisticsReply.self).objects == 69)
    }

    @Test func aHandleThatIsNotOpenIsRefused() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", [.write, .settle])
        #expect(try client.read(volume, block: 0) { $0.handle = 0 }.header.status == .closed)
        #expect(try client.read(volume, block: 0) { $0.handle += 64 }.header.status == .closed)
        #expect(try client.call(.close) { client.address(&$0, volume, block: 0, count: 0) }.header.status == .ok)
        #expect(try client.read(volume, block: 0).header.status == .closed)
        #expect(try client.call(.close) { client.address(&$0, volume, block: 0, count: 0) }.header.status == .closed)
        #expect(bench.engine.requestsInFlight == 0)
    }
}
