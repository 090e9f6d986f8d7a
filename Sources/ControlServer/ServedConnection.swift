import Base
import Environment
import Wire

/// One connection to a daemon: frames in, one request at a time, a reply to each. What comes next is looked for while a request is carried
/// out, so that a peer which dies in the middle of a long one is not there until that has ended.
///
/// Nothing on it lasts for ever: the hello must come in time, a frame that has begun must go on, a peer that says nothing for a minute is
/// gone, and so is one that takes no reply.
public final class ServedConnection {
    public let number: UInt64
    private unowned let server: ControlServer
    private let world: any World
    private let operations: Operations
    private let stream: StreamID
    private let watchdog: Watchdog
    /// The last frame that came.
    public private(set) var lastHeard: Instant
    /// A request is being carried out: whoever waits for its answer is there.
    public private(set) var isHandling = false
    /// Whoever was at the other end is gone; nobody waits for an answer.
    public private(set) var hasLeft = false
    public private(set) var peer: Hello?
    private var endReason: String?
    private var isStopping = false

    init(_ server: ControlServer, _ stream: StreamID, number: UInt64) {
        self.server = server
        self.stream = stream
        self.number = number
        world = server.world
        operations = server.operations
        watchdog = Watchdog(world, stream)
        lastHeard = world.now
    }

    /// Until it ends; returns why.
    func serve() async -> String {
        let head = UnsafeMutableRawBufferPointer.allocate(byteCount: FrameHeader.bytes, alignment: 64)
        var reason: String
        watchdog.arm(world.now + Limits.helloDeadline)
        do throws(Failure) {
            try await receive(head)
            while true { try await serveOne(head) }
        } catch {
            reason = error.detail
        }
        hasLeft = true
        head.deallocate()
        watchdog.close()
        world.close(stream)
        reason = endReason ?? reason
        return reason
    }

    /// Takes no more requests; what is under way is answered.
    func stop() {
        isStopping = true
        if !isHandling { end("the daemon stops") }
    }

    /// Soon, whatever is under way.
    public func end(_ reason: String) {
        if endReason == nil { endReason = reason }
        world.shutdown(stream)
    }

    /// The frame whose head is here, until the next one's is.
    private func serveOne(_ head: UnsafeMutableRawBufferPointer) async throws(Failure) {
        let (header, body) = try await receiveRest(head)
        lastHeard = world.now
        isHandling = true
        var hasNext = false
        var failure: Failure?
        let lookAhead = Countdown(1)
        world.spawn { [self] in
            do throws(Failure) {
                try await receive(head)
                hasNext = true
                if !isHandling { watchdog.disarm() }
            } catch {
                hasLeft = true
                if isHandling { server.service?.connectionEnded(self) }
                if failure == nil { failure = error }
            }
            lookAhead.done()
        }
        var endsConnection = false
        do throws(Failure) {
            endsConnection = try await answer(header, body)
        } catch {
            failure = error
            world.shutdown(stream)
        }
        isHandling = false
        if !hasNext { watchdog.arm(world.now + (endsConnection ? ServedConnection.lingering : Limits.idleTimeout)) }
        await lookAhead.wait()
        if endsConnection {
            if hasNext { await passOver() }
            throw Failure(.malformed, "the peer sent what cannot be taken")
        }
        if let failure { throw failure }
    }

    /// Whether nothing more is to be taken behind it.
    private func answer(_ header: FrameHeader, _ body: [UInt8]) async throws(Failure) -> Bool {
        server.counters.requests[Int(header.opcode.rawValue)] += 1
        var answer: ControlAnswer
        do throws(Failure) {
            answer = try await perform(header, body)
        } catch {
            server.service?.requestFailed()
            answer = ControlAnswer(header, error)
            // What cannot be read as a message may be the beginning of anything.
            if error.status == .malformed { answer.endsConnection = true }
        }
        server.counters.replies[answer.header.status, default: 0] += 1
        try await send(answer)
        lastHeard = world.now
        if isStopping, !answer.endsConnection { throw Failure(.closed, "the daemon stops") }
        return answer.endsConnection
    }

    private func perform(_ header: FrameHeader, _ body: [UInt8]) async throws(Failure) -> ControlAnswer {
        guard !header.flags.contains(.reply), header.opcode != .event else {
            throw Failure(.malformed, "a client sends requests, this frame is a reply or an event")
        }
        if peer == nil || header.opcode == .hello {
            do throws(Failure) {
                return try hello(header, body)
            } catch {
                var answer = ControlAnswer(header, error)
                answer.endsConnection = true
                return answer
            }
        }
        guard let service = server.service else { throw Failure(.closed, "the daemon stops") }
        return try await service.perform(header, body, self)
    }

    private func hello(_ header: FrameHeader, _ body: [UInt8]) throws(Failure) -> ControlAnswer {
        guard header.opcode == .hello, peer == nil else { throw Failure(.malformed, "a connection begins with one hello") }
        guard let service = server.service else { throw Failure(.closed, "the daemon stops") }
        let hello = try Hello(decoding: body)
        let reply = try service.welcome(hello)
        peer = hello
        return ControlAnswer(header, body: reply.encoded)
    }

    // Frames

    private func receiveRest(_ head: UnsafeMutableRawBufferPointer) async throws(Failure) -> (FrameHeader, [UInt8]) {
        defer { watchdog.disarm() }
        // What has begun goes on soon.
        watchdog.arm(world.now + Limits.stallTimeout)
        let header: FrameHeader
        do throws(Failure) {
            guard let base = head.baseAddress else { unreachable("a header without memory") }
            header = try FrameHeader.decode(UnsafeRawPointer(base))
            guard header.payloadBytes == 0 else {
                throw Failure(.unsupported, "this is \(server.noun); '\(header.opcode)' is asked of an OST")
            }
        } catch {
            try await refuse(error, head)
        }
        let body = UnsafeMutableRawBufferPointer.allocate(byteCount: max(Int(header.metaBytes), 1), alignment: 16)
        defer { body.deallocate() }
        let meta = UnsafeMutableRawBufferPointer(rebasing: body[..<Int(header.metaBytes)])
        try await receive(meta)
        do throws(Failure) { try header.checkMeta(UnsafeRawBufferPointer(meta)) } catch { try await refuse(error, head) }
        return (header, Array(meta))
    }

    private func receive(_ memory: UnsafeMutableRawBufferPointer) async throws(Failure) {
        var done = 0
        while done < memory.count {
            let count = await operations.receive(stream, into: UnsafeMutableRawBufferPointer(rebasing: memory[done...]))
            guard count > 0 else {
                throw Failure(.closed, watchdog.hasBarked ? "the peer was silent for too long" : "the peer has closed the connection")
            }
            done += count
        }
    }

    /// A frame that is none: says why, as an event that is a reply too, and ends the connection.
    private func refuse(_ failure: Failure, _ head: UnsafeMutableRawBufferPointer) async throws(Failure) -> Never {
        server.counters.malformedFrames += 1
        var header = FrameHeader(.event)
        header.flags = .reply
        header.argument = VolumeEvent.closed.rawValue
        header.deadlineOrStatus = UInt32(failure.status.rawValue)
        let isIntact = Checksum.of(UnsafeRawBufferPointer(rebasing: head[..<124]))
        if let base = head.baseAddress, base.load(UInt32.self, at: 124) == isIntact { header.requestID = base.load(UInt64.self, at: 8) }
        try await send(ControlAnswer(raw: header, body: Array(failure.detail.utf8)))
        await passOver()
        throw failure
    }

    /// Takes what the peer still sends, for a moment: a stream that is closed with something in it is reset, and what was sent last may get
    /// lost.
    private func passOver() async {
        watchdog.arm(world.now + ServedConnection.lingering)
        defer { watchdog.disarm() }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
        defer { memory.deallocate() }
        var taken = 0
        while taken < ServedConnection.lingeringBytes {
            let count = await operations.receive(stream, into: memory)
            if count <= 0 { return }
            taken += count
        }
    }

    private static let lingering = Interval.seconds(1)
    private static let lingeringBytes = 1 << 20

    private func send(_ answer: ControlAnswer) async throws(Failure) {
        invariant(answer.body.count <= Limits.metaBytesMax, "a body of \(answer.body.count) bytes for \(answer.header.opcode)")
        var header = answer.header
        header.metaBytes = UInt32(answer.body.count)
        header.metaCheck = answer.body.withUnsafeBytes { Checksum.of($0) }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: FrameHeader.bytes + answer.body.count, alignment: 64)
        defer { memory.deallocate() }
        guard let base = memory.baseAddress else { unreachable("a frame without memory") }
        header.encode(to: base)
        UnsafeMutableRawBufferPointer(rebasing: memory[FrameHeader.bytes...]).copyBytes(from: answer.body)
        watchdog.arm(world.now + Limits.stallTimeout)
        let isSent = await operations.send(stream, memory)
        watchdog.disarm()
        if !isSent { throw Failure(.closed, watchdog.hasBarked ? "the peer took no reply" : "the peer has closed the connection") }
    }
}
