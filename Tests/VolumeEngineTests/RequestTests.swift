import Base
import Testing
import Wire

@testable import VolumeEngine

func pattern(_ bytes: Int, _ salt: Int = 0) -> [UInt8] { (0..<bytes).map { UInt8(truncatingIfNeeded: ($0 + salt) &* 2_654_435_761 >> 11) } }

/// What goes out for an operation, and what its result is.
@Suite struct RequestTests {
    @Test func aWriteCarriesItsVersionAndAddress() throws {
        let rig = Rig()
        let first = rig.submit(.write, 4096, 8192, data: pattern(8192), durable: true)
        let second = rig.submit(.write, 1 << 20, 4096, data: pattern(4096))
        try rig.run()
        #expect(rig.completions == [first.tag: .ok, second.tag: .ok])
        let headers = rig.ost.seen.filter { $0.opcode == .write }
        #expect(headers.map(\.sequence) == [1, 2])
        #expect(headers.map(\.part.chunk) == [0, 1])
        #expect(headers.map(\.firstBlock) == [1, 0])
        #expect(headers.map { $0.flags.contains(.durable) } == [true, false])
        #expect(headers.allSatisfy { $0.generation == 7 && $0.session == 1 && $0.handle == 3 && $0.map == 0 })
        #expect(headers.allSatisfy { $0.deadlineOrStatus == 1_000_000 })
    }

    @Test func largeOperationsAreSplitAtChunksAndAtTheFrameLimit() throws {
        let rig = Rig(objectBytes: 64 << 20, chunkBytes: 4 << 20)
        let data = pattern(6 << 20)
        rig.submit(.write, 3 << 20, data.count, data: data, cuts: [5, 1_000_003, 4 << 20])
        try rig.run()
        let writes = rig.ost.seen.filter { $0.opcode == .write }
        #expect(writes.map(\.part.chunk) == [0, 1, 1, 1, 1, 2])
        #expect(writes.allSatisfy { $0.blockCount == 256 })
        let read = rig.submit(.read, 3 << 20, data.count, cuts: [777])
        rig.submit(.discard, 1 << 20, 40 << 20)
        try rig.run()
        #expect(rig.bytes(of: read.tag) == data)
        #expect(rig.ost.seen.filter { $0.opcode == .discard }.map(\.blockCount) == [768] + Array(repeating: 1024, count: 9) + [256])
        #expect(rig.completions.values.allSatisfy { $0 == .ok } && rig.completions.count == 3)
        #expect(rig.ost.blocks.isEmpty)
    }

    /// A store takes no more of them at once, however large the chunk is.
    @Test func zerosAreSplitAtTheirLimitInLargeChunks() throws {
        let rig = Rig(objectBytes: 64 << 20, chunkBytes: 16 << 20)
        rig.submit(.discard, 0, 20 << 20)
        rig.submit(.writeZeroes, (24 << 20) + 512, (8 << 20) + 512)
        try rig.run()
        let zeros = rig.ost.seen.filter { $0.opcode == .discard || $0.opcode == .writeZeroes }
        #expect(zeros.map(\.blockCount) == [2048, 2048, 1024, 2047])
        #expect(rig.completions.values.allSatisfy { $0 == .ok } && rig.completions.count == 2)
    }

    @Test func aWriteOfPartOfABlockKeepsTheRestOfIt() throws {
        let rig = Rig()
        let base = pattern(12288)
        rig.submit(.write, 0, 12288, data: base)
        let middle = pattern(5120, 99)
        rig.submit(.write, 3584, 5120, data: middle, cuts: [100])
        rig.submit(.writeZeroes, 512, 512)
        rig.submit(.discard, 10240, 1024)
        let read = rig.submit(.read, 512, 11264)
        try rig.run()
        var expected = base
        expected.replaceSubrange(3584..<8704, with: middle)
        expected.replaceSubrange(512..<1024, with: repeatElement(0, count: 512))
        expected.replaceSubrange(10240..<11264, with: repeatElement(0, count: 1024))
        #expect(rig.bytes(of: read.tag) == Array(expected[512..<11776]))
        #expect(rig.marks.contains(.edgesMerged) && rig.marks.contains(.edgesRead))
    }

    @Test func overlappingOperationsGoOneAfterTheOtherAndOthersTogether() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096))
        rig.submit(.read, 0, 8192)
        rig.submit(.read, 4096, 4096)
        rig.submit(.write, 4096, 4096, data: pattern(4096))
        rig.submit(.flush)
        try rig.carryOut()
        // The second read does not touch the write; the flush waits for nothing.
        #expect(rig.ost.pending.map(\.header.opcode) == [.write, .read, .flush])
        try rig.run()
        #expect(rig.ost.seen.map(\.opcode) == [.write, .read, .flush, .read, .write])
        #expect(rig.completions.count == 5)
    }

    @Test func manyVectorsAndNoRoomBeyondTheSlots() throws {
        let rig = Rig(slots: 2)
        let data = pattern(512 * 1024)
        rig.submit(.write, 0, data.count, data: data, cuts: Array(stride(from: 512, to: data.count, by: 512)))
        let read = rig.submit(.read, 1 << 20, 4096)
        #expect(rig.submit(.read, 0, 512).refusal == .outOfMemory)
        try rig.run()
        #expect(rig.completions == [1: .ok, read.tag: .ok])
        #expect((0..<128).allSatisfy { rig.ost.blocks[$0] == Array(data[Int($0) * 4096..<Int($0) * 4096 + 4096]) })
        #expect(rig.marks.contains(.vectorsOverflowed) && rig.marks.contains(.slotsExhausted))
    }

    @Test func impossibleOperationsAreRefusedAtOnce() {
        let rig = Rig(objectBytes: 8192)
        #expect(rig.submit(.read, 0, 0).refusal == .invalidArgument)
        #expect(rig.submit(.read, 1, 512).refusal == .invalidArgument)
        #expect(rig.submit(.discard, 512, 100).refusal == .invalidArgument)
        #expect(rig.submit(.read, 8192, 512).refusal == .outOfRange)
        #expect(rig.submit(.writeZeroes, UInt64.max - 511, 1024).refusal == .outOfRange)
        let operation = Operation(.read, bytes: 1024, tag: Operation.Tag(0, 0))
        #expect(rig.engine.submit(operation, vectors: UnsafeBufferPointer(start: nil, count: 0)) == .invalidArgument)
        let reader = Rig(objectBytes: 8192, isWritable: false)
        #expect(reader.submit(.write, 0, 512, data: pattern(512)).refusal == .readOnly)
        let flush = reader.submit(.flush)
        #expect(reader.completions == [flush.tag: .ok])
    }

    @Test func noMoreRequestsThanTheOSTTakes() throws {
        let rig = Rig(attached: false)
        rig.requestsMax = 3
        rig.attach()
        for index in 0..<10 { rig.submit(.read, UInt64(index) * 4096, 4096) }
        try rig.carryOut()
        #expect(rig.ost.pending.count == 3)
        #expect(rig.marks.contains(.wireLimitReached))
        try rig.run()
        #expect(rig.completions.count == 10)
    }

    @Test func damagedReadsAreRetriedOnce() throws {
        let rig = Rig()
        rig.submit(.write, 0, 8192, data: pattern(8192))
        try rig.run()
        rig.ost.readsToDamage = 1
        let once = rig.submit(.read, 0, 8192)
        try rig.run()
        #expect(rig.completions[once.tag] == .ok)
        #expect(rig.bytes(of: once.tag) == pattern(8192))
        rig.ost.readsToDamage = 2
        let twice = rig.submit(.read, 0, 8192)
        try rig.run()
        #expect(rig.completions[twice.tag] == .damaged)
        #expect(rig.marks.contains(.readMismatchRetried) && rig.marks.contains(.readDamaged))
    }

    @Test func aBufferChangedInFlightIsSentAgainFromACopy() throws {
        let rig = Rig()
        rig.ost.refusals[.write] = [.checksumMismatch]
        let write = rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.carryOut()
        rig.ost.execute(0)
        rig.carryIn()
        // The copy is made; what the guest does now no longer matters.
        rig.memory[write.tag]?[0].initializeMemory(as: UInt8.self, repeating: 1)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
        #expect(rig.ost.blocks[0] == pattern(4096))
        #expect(rig.ost.seen.map(\.sequence) == [1, 1])
        rig.ost.refusals[.write] = Array(repeating: .checksumMismatch, count: 9)
        let lost = rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.run()
        #expect(rig.completions[lost.tag] == .checksumMismatch)
        #expect(rig.ost.seen.count == 6)
    }

    @Test func anOverloadedStoreIsAskedAgainALittleLater() throws {
        let rig = Rig()
        rig.ost.refusals[.write] = [.overloaded]
        let write = rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.run()
        #expect(rig.completions.isEmpty)
        #expect(rig.wake == Instant.zero + .milliseconds(10))
        rig.tick(after: .milliseconds(10))
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
    }

    @Test func theFirstErrorOfAnyPartIsTheResult() throws {
        let rig = Rig()
        rig.ost.refusals[.write] = [.noSpace]
        let write = rig.submit(.write, 0, 3 << 20, data: pattern(3 << 20))
        let behind = rig.submit(.read, 0, 4096)
        try rig.run()
        #expect(rig.completions == [write.tag: .noSpace, behind.tag: .ok])
    }

    @Test func memoryIsGivenBackOnlyWhenTheSendHasEnded() throws {
        let rig = Rig()
        let write = rig.submit(.write, 0, 4096, data: pattern(4096))
        let list = UnsafeMutablePointer<IOVector>.allocate(capacity: 8)
        defer { list.deallocate() }
        let count = rig.engine.nextSend(into: list, capacity: 8)
        var total = 0
        for vector in list.move(count) {
            try rig.ost.receive(UnsafeRawBufferPointer(start: vector.base, count: vector.count))
            total += vector.count
        }
        // The OST has everything and answers, while our kernel has not said yet that the send is over.
        rig.ost.execute(0)
        rig.carryIn()
        #expect(rig.completions.isEmpty)
        rig.engine.sent(total)
        rig.after()
        #expect(rig.completions == [write.tag: .ok])
        #expect(rig.marks.contains(.replyBeforeSent))
    }

    @Test func aPeerThatBreaksTheProtocolIsLeft() throws {
        for breakIt in [
            { (rig: Rig, header: FrameHeader) in
                var reply = header.reply(.ok)
                reply.requestID += 1 << 16
                rig.ost.append(reply, [], [])
            },
            { rig, header in rig.ost.append(header.reply(.ok), [], []) },
            { rig, header in
                var reply = header.reply(.ok)
                reply.blockCount = 2
                rig.ost.append(reply, pattern(8), pattern(8192))
            },
            { rig, header in rig.ost.output += pattern(200) },
        ] {
            let rig = Rig()
            let read = rig.submit(.read, 0, 4096)
            try rig.carryOut()
            breakIt(rig, rig.ost.pending.removeFirst().header)
            rig.carryIn()
            #expect(rig.resets == [.malformed] && !rig.lastFault.isEmpty)
            rig.detach()
            rig.attach()
            try rig.run()
            #expect(rig.completions == [read.tag: .ok])
        }
    }
}
