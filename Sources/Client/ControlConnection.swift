import Base
import Environment
import Wire

/// One connection for control frames: one request at a time, each with a deadline, in straight-line code.
///
/// Reads exactly one frame at a time and nothing behind it, so that the stream can be handed on after an open.
public final class ControlConnection {
    private let world: any World
    private let operations: Operations
    private let watchdog: Watchdog
    private let stream: StreamID
    private let endpoint: Endpoint
    private let hello: Hello
    private var nextRequestID: UInt64 = 1
    public private(set) var peer = Hello(role: .client)
    /// A failure in the middle of a frame leaves the stream useless.
    public private(set) var isBroken = false

    /// Connects and says hello. A daemon of another role than `expected` is refused, and one of another cluster than `hello` names.
    public static func open(
        _ world: any World, _ endpoint: Endpoint, cluster: Identifier = .zero, expecting expected: Hello.Role = .ost,
        software: String = OpenOptions.clientDefault, incarnation: UInt64 = 0,
        deadline: Instant
    ) async throws(Failure) -> ControlConnection {
        let hello = Hello(role: .client, cluster: cluster, software: software, incarnation: incarnation)
        return try await open(world, endpoint, saying: hello, expecting: [expected], deadline: deadline)
    }

    public static func open(
        _ world: any World, _ endpoint: Endpoint, saying hello: Hello, expecting expected: [Hello.Role], deadline: Instant
    ) async throws(Failure) -> ControlConnection {
        try await open(world, endpoint, called: endpoint, hello, expected, deadline)
    }

    /// The same daemon through its Unix socket, if this is its machine, and this connection closed; else this one. For one that lasts: it
    /// takes a second hello. Nothing may be under way.
    func nearer(deadline: Instant) async -> ControlConnection {
        guard case .tcp = endpoint, let nearby = peer.nearby, nearby.place == world.place, nearby.place != .zero else { return self }
        let soon = min(deadline, world.now + Limits.nearbyDeadline)
        do throws(Failure) {
            let found = try await ControlConnection.open(world, .nearby(nearby.name), called: endpoint, hello, [peer.role], soon)
            close()
            return found
        } catch {
            return self
        }
    }

    /// `name` is what sentences call it.
    private static func open(
        _ world: any World, _ endpoint: Endpoint, called name: Endpoint, _ hello: Hello, _ expected: [Hello.Role], _ deadline: Instant
    ) async throws(Failure) -> ControlConnection {
        let operations = Operations(world)
        let connectDeadline = min(deadline, world.now + Limits.connectDeadline)
        switch await operations.connect(to: endpoint, deadline: connectDeadline) {
        case .failure(let errno):
            operations.close()
            throw Failure(.unreachable, "\(name) cannot be reached: \(errno.sentence)")
        case .success(let stream):
            let connection = ControlConnection(world, operations, stream, name, hello)
            do throws(Failure) {
                try await connection.sayHello(expecting: expected, deadline: deadline)
            } catch {
                connection.close()
                throw error
            }
            return connection
        }
    }

    private init(_ world: any World, _ operations: Operations, _ stream: StreamID, _ endpoint: Endpoint, _ hello: Hello) {
        self.world = world
        self.operations = operations
        self.stream = stream
        self.endpoint = endpoint
        self.hello = hello
        watchdog = Watchdog(world, stream)
    }

    /// Nothing may be under way.
    public func close() {
        world.close(release())
    }

    /// Ends the use of the stream here, and hands it on.
    func release() -> StreamID {
        watchdog.close()
        operations.close()
        return stream
    }

    private func sayHello(expecting expected: [Hello.Role], deadline: Instant) async throws(Failure) {
        let cluster = hello.cluster
        let (_, body) = try await exchange(FrameHeader(.hello), hello.encoded, deadline: deadline)
        peer = try decode(Hello.self, body)
        guard expected.contains(peer.role) else {
            let wanted = expected.map(\.noun).joined(separator: " or ")
            throw Failure(.unsupported, "\(endpoint) is \(peer.role.noun); \(wanted) is expected here")
        }
        guard cluster == .zero || peer.cluster == .zero || peer.cluster == cluster else {
            throw Failure(.wrongCluster, "\(endpoint) belongs to cluster \(peer.cluster), not to \(cluster)")
        }
        guard peer.requestsMax >= 1, peer.frameBytesMax >= UInt32(Block.bytes) else {
            throw Failure(.malformed, "\(endpoint) offers \(peer.requestsMax) requests of \(peer.frameBytesMax) bytes, which is too little")
        }
    }

    /// What is under way has this long at most.
    func hurry(_ deadline: Instant) { watchdog.hurry(deadline) }

    /// Sends a request and waits for its reply. An error reply is thrown with the sentence of the server.
    public func exchange(_ request: FrameHeader, _ body: [UInt8], deadline: Instant) async throws(Failure) -> (FrameHeader, [UInt8]) {
        invariant(body.count <= Limits.metaBytesMax, "a control body of \(body.count) bytes")
        var request = request
        request.requestID = nextRequestID
        nextRequestID += 1
        request.deadlineOrStatus = UInt32(truncatingIfNeeded: min(max((deadline - world.now).milliseconds, 1), UInt64(UInt32.max)))
        request.metaBytes = UInt32(truncatingIfNeeded: body.count)
        request.metaCheck = body.withUnsafeBytes { Checksum.of($0) }

        watchdog.arm(deadline)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: FrameHeader.bytes + Limits.metaBytesMax, alignment: 64)
        defer {
            memory.deallocate()
            watchdog.disarm()
        }
        isBroken = true
        let frame = UnsafeMutableRawBufferPointer(rebasing: memory[..<(FrameHeader.bytes + body.count)])
        request.encode(to: frame.baseAddress ?? frame.placeholder)
        UnsafeMutableRawBufferPointer(rebasing: frame[FrameHeader.bytes...]).copyBytes(from: body)
        // A refusal may lie in the stream although the send failed, so the reply is looked for in any case.
        let isSent = await operations.send(stream, frame)
        while true {
            let reply = try await receiveFrame(memory, isSent: isSent)
            if reply.header.opcode == .event { continue }
            guard reply.header.flags.contains(.reply) else {
                throw Failure(.malformed, "\(endpoint) answers with something that is no reply")
            }
            if reply.header.status != .ok { throw refusal(reply) }
            guard reply.header.requestID == request.requestID, reply.header.opcode == request.opcode else {
                throw Failure(.malformed, "\(endpoint) answers another request")
            }
            isBroken = watchdog.hasBarked
            return (reply.header, reply.body)
        }
    }

    private func refusal(_ reply: (header: FrameHeader, body: [UInt8])) -> Failure {
        isBroken = reply.header.status == .malformed || reply.header.status == .wrongVersion || watchdog.hasBarked
        let sentence = String(validating: reply.body, as: UTF8.self) ?? ""
        return sentence.isEmpty ? Failure(reply.header.status) : Failure(reply.header.status, sentence)
    }

    private func receiveFrame(
        _ memory: UnsafeMutableRawBufferPointer, isSent: Bool
    ) async throws(Failure) -> (header: FrameHeader, body: [UInt8]) {
        let head = UnsafeMutableRawBufferPointer(rebasing: memory[..<FrameHeader.bytes])
        try await receive(head, isSent: isSent)
        let header = try FrameHeader.decode(UnsafeRawPointer(head.baseAddress ?? head.placeholder))
        guard header.payloadBytes == 0 else { throw Failure(.malformed, "\(endpoint) sends blocks nobody asked for") }
        let body = UnsafeMutableRawBufferPointer(rebasing: memory[FrameHeader.bytes..<FrameHeader.bytes + Int(header.metaBytes)])
        try await receive(body, isSent: isSent)
        try header.checkMeta(UnsafeRawBufferPointer(body))
        return (header, Array(body))
    }

    private func receive(_ memory: UnsafeMutableRawBufferPointer, isSent: Bool) async throws(Failure) {
        var done = 0
        while done < memory.count {
            let count = await operations.receive(stream, into: UnsafeMutableRawBufferPointer(rebasing: memory[done...]))
            guard count > 0 else {
                if watchdog.hasBarked { throw Failure(.deadlineExceeded, "\(endpoint) did not answer in time") }
                throw Failure(.unreachable, "\(endpoint) closed the connection" + (isSent ? "" : " before it took the request"))
            }
            done += count
        }
    }

    public func decode<Body: Message>(_ type: Body.Type, _ body: [UInt8]) throws(Failure) -> Body {
        try Body(decoding: body)
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Of memory that was just allocated, so never used.
    fileprivate var placeholder: UnsafeMutableRawPointer { unreachable("a buffer of \(count) bytes without memory") }
}

extension Hello.Role {
    var noun: String {
        switch self {
        case .client: "a client"
        case .ost: "an OST"
        case .mdt: "a metadata server (MDT)"
        case .mgs: "a management server (MGS)"
        }
    }
}

extension Errno {
    /// What a user can do about it, for the errors that a connect ends with.
    var sentence: String {
        switch code {
        case 2: "there is no such socket; is the daemon running?"
        case 13: "permission denied"
        case 110: "no answer in time"
        case 111: "connection refused; is the daemon running there?"
        case 113: "no route to the host"
        default: "errno \(code)"
        }
    }
}
