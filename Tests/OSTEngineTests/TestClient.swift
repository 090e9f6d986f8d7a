import Base
import Environment
import OSTEngine
import Wire

/// The client's end of a stream in memory, with no engine behind it: it sends what a test says and keeps what comes.
final class TestClient {
    struct Frame {
        var header: FrameHeader
        var meta: [UInt8]
        var payload: [UInt8]
        var sentence: String { String(decoding: meta, as: UTF8.self) }

        func decode<M: Message>(_ type: M.Type) throws -> M { try meta.withUnsafeBytes { try M(decoding: $0) } }
    }

    private unowned let bench: EngineBench
    let id: ConnectionID
    var isConnected = true
    var closeReason: Failure?
    /// The engine has asked for bytes, or to send some.
    var receives = false
    var sends = false
    /// Off: a client that stops reading.
    var reads = true
    /// How many bytes go to the engine at once.
    var pieceBytes = Int.max
    /// How many bytes more go to the engine before the client pauses.
    var limitBytes = Int.max
    /// How many bytes more it takes before it pauses.
    var takesBytes = Int.max
    private(set) var outgoing: [UInt8] = []
    private var incoming: [UInt8] = []
    private(set) var replies: [UInt64: Frame] = [:]
    private(set) var events: [Frame] = []
    private var nextRequest: UInt64 = 1

    init(_ bench: EngineBench, _ id: ConnectionID) {
        self.bench = bench
        self.id = id
    }

    // Sending

    @discardableResult
    func send(_ opcode: Opcode, meta: [UInt8] = [], payload: [UInt8] = [], _ change: (inout FrameHeader) -> Void = { _ in }) -> UInt64 {
        let meta = opcode == .stamp && meta.isEmpty ? StampRequest(record: [1, 2, 3]).encoded : meta
        var header = FrameHeader(opcode)
        header.requestID = nextRequest
        nextRequest += 1
        header.metaBytes = UInt32(meta.count)
        header.payloadBytes = UInt32(payload.count)
        header.metaCheck = meta.withUnsafeBytes { Checksum.of($0) }
        change(&header)
        var bytes = [UInt8](repeating: 0, count: FrameHeader.bytes)
        bytes.withUnsafeMutableBytes { if let base = $0.baseAddress { header.encode(to: base) } }
        outgoing += bytes + meta + payload
        return header.requestID
    }

    func sendBytes(_ bytes: [UInt8]) { outgoing += bytes }

    /// Damages one of the bytes that were sent last.
    func flipLast(_ choice: UInt64) {
        guard !outgoing.isEmpty else { return }
        outgoing[outgoing.count - 1 - Int(choice % UInt64(min(outgoing.count, 256)))] ^= UInt8(1) << UInt8(choice >> 32 & 7)
    }

    /// Sends, and lets the world run until the reply is here.
    func call(
        _ opcode: Opcode, meta: [UInt8] = [], payload: [UInt8] = [], _ change: (inout FrameHeader) -> Void = { _ in }
    ) throws -> Frame {
        try reply(to: send(opcode, meta: meta, payload: payload, change))
    }

    func reply(to request: UInt64, within limit: Interval = .seconds(60)) throws -> Frame {
        bench.settle()
        bench.universe.run(while: { self.replies[request] == nil && self.isConnected }, limit: limit)
        guard let frame = replies[request] else { throw Failure(.unreachable, "no reply to request \(request)") }
        return frame
    }

    // Moving bytes

    /// Whether something moved.
    func move() -> Bool {
        var moved = false
        let capacity = 8
        withUnsafeTemporaryAllocation(of: IOVector.self, capacity: capacity) { list in
            guard let vectors = list.baseAddress else { return }
            if receives, !outgoing.isEmpty, limitBytes > 0 {
                receives = false
                moved = true
                let count = bench.engine.nextReceive(id, into: vectors, capacity: capacity)
                var taken = 0
                for vector in list[..<count] {
                    let end = min(outgoing.count, pieceBytes, limitBytes, taken + vector.count)
                    guard end > taken else { break }
                    let piece = outgoing[taken..<end]
                    piece.withUnsafeBytes { if let base = $0.baseAddress { vector.base.copyMemory(from: base, byteCount: $0.count) } }
                    taken += piece.count
                }
                outgoing.removeFirst(taken)
                if limitBytes != .max { limitBytes -= taken }
                bench.engine.received(id, taken)
            }
            if sends, reads, takesBytes > 0 {
                sends = false
                moved = true
                let count = bench.engine.nextSend(id, into: vectors, capacity: capacity)
                var sent = 0
                for vector in list[..<count] where sent < takesBytes {
                    let piece = min(vector.count, takesBytes - sent)
                    incoming += UnsafeRawBufferPointer(start: vector.base, count: piece)
                    sent += piece
                }
                if takesBytes != .max { takesBytes -= sent }
                bench.engine.sent(id, sent)
                takeFrames()
            }
        }
        return moved
    }

    private func takeFrames() {
        while incoming.count >= FrameHeader.bytes {
            let header = incoming.withUnsafeBytes { bytes -> FrameHeader in
                do throws(Failure) {
                    guard let base = bytes.baseAddress else { unreachable("no bytes") }
                    return try FrameHeader.decode(base)
                } catch { unreachable("the engine sent a frame that is wrong: \(error)") }
            }
            let end = FrameHeader.bytes + header.bodyBytes
            guard incoming.count >= end else { return }
            let payloadStart = FrameHeader.bytes + Int(header.metaBytes)
            let frame = Frame(
                header: header, meta: Array(incoming[FrameHeader.bytes..<payloadStart]), payload: Array(incoming[payloadStart..<end]))
            incoming.removeFirst(end)
            if header.flags.contains(.reply), header.requestID != 0 { replies[header.requestID] = frame } else { events.append(frame) }
        }
    }
}

// What a volume's writer does, in short.
extension TestClient {
    struct Volume {
        var handle: UInt32
        var generation: UInt64
        var session: UInt64
        var record: ObjectRecord
        var map: UInt64 = 0
    }

    static func record(_ name: String, bytes: UInt64 = 64 << 20) -> ObjectRecord {
        ObjectRecord(id: Identifier(high: 7, low: UInt64(name.utf8.reduce(0) { $0 * 31 + Int($1) })), name: name, bytes: bytes)
    }

    func create(_ name: String, bytes: UInt64 = 64 << 20, map: UInt64 = 0) throws {
        var record = TestClient.record(name, bytes: bytes)
        record.map = map
        let reply = try call(.create, meta: CreateRequest(record).encoded)
        guard reply.header.status == .ok else { throw Failure(reply.header.status, reply.sentence) }
    }

    func sendOpen(
        _ name: String, _ flags: OpenRequest.Flags, session: UInt64 = 1, generation: UInt64 = 0, map: UInt64 = 0,
        nonce: Identifier = .zero
    ) -> UInt64 {
        send(.open, meta: OpenRequest(name: name, flags: flags, nonce: nonce).encoded) {
            $0.session = session
            $0.generation = generation
            $0.map = map
        }
    }

    func open(
        _ name: String, _ flags: OpenRequest.Flags, session: UInt64 = 1, generation: UInt64 = 0, map: UInt64 = 0,
        nonce: Identifier = .zero
    ) throws -> Volume {
        let reply = try reply(to: sendOpen(name, flags, session: session, generation: generation, map: map, nonce: nonce))
        guard reply.header.status == .ok else { throw Failure(reply.header.status, reply.sentence) }
        let body = try reply.decode(OpenReply.self)
        return Volume(
            handle: reply.header.handle, generation: reply.header.generation, session: session, record: body.object, map: reply.header.map)
    }

    func sendWrite(_ volume: Volume, block: UInt32, _ payload: [UInt8], sequence: UInt64, _ change: (inout FrameHeader) -> Void = { _ in })
        -> UInt64
    {
        var checks: [UInt8] = []
        for start in stride(from: 0, to: payload.count, by: Block.bytes) {
            let check = payload[start..<start + Block.bytes].withUnsafeBytes { Checksum.of($0) }
            withUnsafeBytes(of: check.littleEndian) { checks += $0 }
        }
        return send(.write, meta: checks, payload: payload) { header in
            address(&header, volume, block: block, count: payload.count / Block.bytes)
            header.sequence = sequence
            change(&header)
        }
    }

    func write(_ volume: Volume, block: UInt32, _ payload: [UInt8], sequence: UInt64, _ change: (inout FrameHeader) -> Void = { _ in })
        throws -> Frame
    {
        try reply(to: sendWrite(volume, block: block, payload, sequence: sequence, change))
    }

    @discardableResult
    func sendRead(_ volume: Volume, block: UInt32, count: Int = 1, _ change: (inout FrameHeader) -> Void = { _ in }) -> UInt64 {
        send(.read) { header in
            address(&header, volume, block: block, count: count)
            change(&header)
        }
    }

    func read(_ volume: Volume, block: UInt32, count: Int = 1, _ change: (inout FrameHeader) -> Void = { _ in }) throws -> Frame {
        try reply(to: sendRead(volume, block: block, count: count, change))
    }

    func address(_ header: inout FrameHeader, _ volume: Volume, block: UInt32, count: Int) {
        header.handle = volume.handle
        header.generation = volume.generation
        header.session = volume.session
        header.map = volume.map
        header.part = PartAddress(chunk: block / 1024)
        header.firstBlock = block % 1024
        header.blockCount = UInt32(count)
        header.touched = 1
    }

    static func blocks(_ count: Int, _ fill: UInt8) -> [UInt8] {
        (0..<count * Block.bytes).map { UInt8(truncatingIfNeeded: $0 / 512) ^ fill }
    }
}
