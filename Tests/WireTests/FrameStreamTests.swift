import Base
import Testing
import Wire

@Suite struct FrameStreamTests {
    /// Three frames: a read without payload, a write of two blocks, a ping; split at every possible pair of sizes.
    @Test func framesComeOutWholeHoweverTheStreamIsSplit() throws {
        var stream: [UInt8] = []
        let payload = (0..<8192).map { UInt8(truncatingIfNeeded: $0 / 3) }
        func append(_ header: FrameHeader, _ meta: [UInt8], _ payload: [UInt8]) {
            var header = header
            header.metaBytes = UInt32(meta.count)
            header.payloadBytes = UInt32(payload.count)
            header.metaCheck = meta.withUnsafeBytes { Checksum.of($0) }
            var bytes = [UInt8](repeating: 0, count: FrameHeader.bytes)
            bytes.withUnsafeMutableBytes { header.encode(to: $0.baseAddress!) }
            stream += bytes + meta + payload
        }
        var read = FrameHeader(.read)
        read.blockCount = 1
        append(read, [], [])
        var write = FrameHeader(.write)
        write.blockCount = 2
        append(write, [1, 2, 3, 4, 5, 6, 7, 8], payload)
        append(FrameHeader(.ping), [], [])

        for piece in [1, 7, 127, 128, 129, 500, 4096, 5000, stream.count] {
            var receiver = FrameReceiver()
            let target = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 16)
            defer { target.deallocate() }
            // Two uneven targets, so that a payload crosses from one to the next.
            let targets = [IOVector(target.baseAddress!, 1000), IOVector(target.baseAddress! + 1000, 7192)]
            var seen: [String] = []
            var fed = 0
            try targets.withUnsafeBufferPointer { targets in
                while true {
                    switch try receiver.next() {
                    case .needsMore:
                        if fed == stream.count { return }
                        fed += feed(&receiver, stream[fed..<min(fed + piece, stream.count)])
                    case .frame(let header, _): seen.append("\(header.opcode)")
                    case .payloadFollows(let header, let meta):
                        seen.append("\(header.opcode) \(meta.count)")
                        receiver.takePayload(into: targets.baseAddress!)
                    case .payloadComplete: seen.append("payload")
                    }
                }
            }
            #expect(seen == ["read", "write 8", "payload", "ping"], "pieces of \(piece)")
            #expect(Array(target) == payload, "pieces of \(piece)")
        }
    }

    private func feed(_ receiver: inout FrameReceiver, _ bytes: ArraySlice<UInt8>) -> Int {
        withUnsafeTemporaryAllocation(of: IOVector.self, capacity: 4) { list in
            let count = receiver.vectors(into: list.baseAddress!, capacity: 4)
            var fed = 0
            for vector in list[..<count] {
                let part = Array(bytes.dropFirst(fed).prefix(vector.count))
                part.withUnsafeBytes { if let base = $0.baseAddress { vector.base.copyMemory(from: base, byteCount: $0.count) } }
                fed += part.count
            }
            receiver.received(fed)
            return fed
        }
    }

    @Test func aSkippedPayloadIsPassedOver() throws {
        var receiver = FrameReceiver()
        var write = FrameHeader(.write)
        write.blockCount = 1
        write.metaBytes = 4
        write.payloadBytes = 4096
        write.metaCheck = [UInt8](repeating: 0, count: 4).withUnsafeBytes { Checksum.of($0) }
        var bytes = [UInt8](repeating: 0, count: FrameHeader.bytes * 2 + 4 + 4096)
        bytes.withUnsafeMutableBytes {
            write.encode(to: $0.baseAddress!)
            FrameHeader(.ping).encode(to: $0.baseAddress! + FrameHeader.bytes + 4100)
        }
        _ = feed(&receiver, bytes[...])
        guard case .payloadFollows = try receiver.next() else { throw Failure(.malformed) }
        receiver.skipPayload()
        guard case .frame(let header, _) = try receiver.next() else { throw Failure(.malformed) }
        #expect(header.opcode == .ping)
    }

    @Test func tokensComeBackWhenTheLastByteOfTheirPieceWasSent() {
        var sender = FrameSender(capacity: 4)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 30, alignment: 1)
        defer { memory.deallocate() }
        sender.append(memory, 10)
        sender.append(memory + 10, 20, token: 7)
        sender.sent(29)
        #expect(sender.popSent() == FrameSender.noToken)
        #expect(sender.popSent() == nil)
        sender.sent(1)
        #expect(sender.popSent() == 7)
        #expect(sender.isEmpty && sender.room == 4 && sender.queuedBytes == 0)
    }
}
