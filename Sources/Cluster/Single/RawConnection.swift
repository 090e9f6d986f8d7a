import Base
import Environment
import Wire

/// A connection to the OST on which anything can be sent, right or wrong.
final class RawConnection {
    private let world: any World
    private let operations: Operations
    private let stream: StreamID
    private var nextRequestID: UInt64 = 1

    static func open(_ world: any World) async -> RawConnection? {
        let operations = Operations(world)
        switch await operations.connect(to: SingleRun.endpoint, deadline: world.now + .seconds(5)) {
        case .success(let stream): return RawConnection(world, operations, stream)
        case .failure:
            operations.close()
            return nil
        }
    }

    private init(_ world: any World, _ operations: Operations, _ stream: StreamID) {
        self.world = world
        self.operations = operations
        self.stream = stream
    }

    func close() {
        operations.close()
        world.close(stream)
    }

    func shutdown() { world.shutdown(stream) }

    /// Header, meta section, and a payload of which only so many bytes are sent.
    func send(_ header: FrameHeader, _ meta: [UInt8] = [], payload: [UInt8] = [], opcode: UInt8? = nil) async -> Bool {
        var header = header
        header.requestID = nextRequestID
        nextRequestID += 1
        header.metaBytes = UInt32(meta.count)
        header.metaCheck = meta.withUnsafeBytes { Checksum.of($0) }
        let memory = Memory(bytes: FrameHeader.bytes)
        header.encode(to: memory.base)
        if let opcode {
            memory.base.store(opcode, at: 6)
            memory.base.store(Checksum.of(UnsafeRawBufferPointer(start: memory.base, count: 124)), at: 124)
        }
        return await send(Array(memory.bytes) + meta + payload)
    }

    func send(_ bytes: [UInt8]) async -> Bool {
        let memory = Memory(bytes: bytes.count)
        memory.bytes.copyBytes(from: bytes)
        return await operations.send(stream, UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<bytes.count]))
    }

    /// The next frame that is no event; nil when the connection ends or nonsense comes.
    func reply() async -> (header: FrameHeader, body: [UInt8])? {
        while true {
            guard let head = await receive(FrameHeader.bytes) else { return nil }
            let header: FrameHeader
            do throws(Failure) { header = try FrameHeader.decode(head.base) } catch { return nil }
            guard let body = await receive(header.bodyBytes) else { return nil }
            if header.opcode != .event { return (header, Array(body.bytes[..<header.bodyBytes])) }
        }
    }

    private func receive(_ count: Int) async -> Memory? {
        let memory = Memory(bytes: count)
        var done = 0
        while done < count {
            let got = await operations.receive(stream, into: UnsafeMutableRawBufferPointer(rebasing: memory.bytes[done..<count]))
            if got <= 0 { return nil }
            done += got
        }
        return memory
    }

    /// Until the other side ends the connection.
    func waitForEnd() async { while await receive(1) != nil {} }

    func ask(_ header: FrameHeader, _ meta: [UInt8] = [], payload: [UInt8] = []) async -> FrameHeader? {
        guard await send(header, meta, payload: payload) else { return nil }
        return await reply()?.header
    }

    func hello(role: Hello.Role = .client, cluster: Identifier = .zero, incarnation: UInt64 = 0) async -> Bool {
        let hello = Hello(role: role, cluster: cluster, software: "stranger", incarnation: incarnation)
        guard await send(FrameHeader(.hello), hello.encoded), let answer = await reply(), answer.header.status == .ok else { return false }
        do throws(Failure) {
            let result: Result<Hello, Failure> = answer.body.withUnsafeBytes { bytes in
                do throws(Failure) { return .success(try Hello(decoding: bytes)) } catch { return .failure(error) }
            }
            self.incarnation = try result.get().incarnation
            return true
        } catch { return false }
    }

    /// Of the catalogue that the OST belongs to, as its hello said.
    private(set) var incarnation: UInt64 = 0
}
