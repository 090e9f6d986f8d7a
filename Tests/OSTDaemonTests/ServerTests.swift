import Base
import Daemon
import Environment
import OSTDaemon
import OSTEngine
import PartStore
import Simulation
import Testing
import Wire

/// A server in a simulated world, and clients on another host that speak to it through the simulated network.
private final class ServerBench {
    let universe: Universe
    let disk: SimDisk
    let world: SimWorld
    let client: SimWorld
    let operations: Operations
    private(set) var server: OSTServer?
    private(set) var metrics: MetricsServer?
    private(set) var logs: [String] = []

    static let address = Endpoint.tcp(host: "oss", port: 7710)
    static let metricsAddress = Endpoint.tcp(host: "oss", port: 7711)

    init(seed: UInt64 = 1) throws {
        universe = Universe(seed: seed)
        let host = universe.addHost("oss")
        disk = host.addDisk("/d", bytes: 256 << 20)
        world = host.start("ost")
        client = universe.addHost("client").start("client")
        operations = Operations(client)
        universe.onLog = { [unowned self] _, level, text, _ in self.logs.append("\(level) \(text)") }
        try run { [self] () throws(Failure) in
            let operations = Operations(world)
            let disk = try world.openDisk("/d", .readWrite)
            try await StoreFile.initialize(operations, disk: disk, path: "/d", cluster: Identifier(high: 1, low: 1))
            let store = try await StoreFile.load(operations, disk: disk, path: "/d")
            let server = try OSTServer(world: world, disk: disk, store: store, configuration: .small) { () throws(Failure) in
                try await StoreFile.load(operations, disk: disk, path: "/d", afterFailure: true)
            }
            try server.listen(on: ServerBench.address)
            let metrics = MetricsServer(world: world, answers: server.metricsAnswers)
            try metrics.listen(on: ServerBench.metricsAddress)
            self.server = server
            self.metrics = metrics
        }
    }

    /// Runs code in a process until it ends; the server's by default.
    func run(_ process: SimWorld? = nil, _ body: @escaping () async throws(Failure) -> Void) throws {
        var outcome: Result<Void, Failure>?
        (process ?? world).spawn {
            do throws(Failure) { outcome = .success(try await body()) } catch { outcome = .failure(error) }
        }
        universe.run(while: { outcome == nil }, limit: .seconds(120))
        guard let outcome else { throw Failure(.deadlineExceeded, "the bench's code does not end") }
        try outcome.get()
    }

    func connect(_ endpoint: Endpoint = ServerBench.address) async throws(Failure) -> StreamID {
        switch await operations.connect(to: endpoint, deadline: client.now + .seconds(5)) {
        case .success(let stream): return stream
        case .failure(let error): throw Failure(.unreachable, "errno \(error.code)")
        }
    }

    func send(_ stream: StreamID, _ bytes: [UInt8]) async -> Bool {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        return await operations.send(stream, memory)
    }

    /// Exactly so many bytes, or what came before the end.
    func receive(_ stream: StreamID, _ count: Int) async -> [UInt8] {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
        defer { memory.deallocate() }
        var taken = 0
        while taken < count {
            let received = await operations.receive(stream, into: UnsafeMutableRawBufferPointer(rebasing: memory[taken...]))
            if received <= 0 { break }
            taken += received
        }
        return Array(memory[..<taken])
    }

    func call(
        _ stream: StreamID, _ opcode: Opcode, meta: [UInt8] = [], payload: [UInt8] = [], _ change: (inout FrameHeader) -> Void = { _ in }
    ) async throws(Failure) -> (FrameHeader, [UInt8]) {
        var header = FrameHeader(opcode)
        header.requestID = 1
        header.metaBytes = UInt32(meta.count)
        header.payloadBytes = UInt32(payload.count)
        header.metaCheck = meta.withUnsafeBytes { Checksum.of($0) }
        change(&header)
        var bytes = [UInt8](repeating: 0, count: FrameHeader.bytes)
        bytes.withUnsafeMutableBytes { if let base = $0.baseAddress { header.encode(to: base) } }
        guard await send(stream, bytes + meta + payload) else { throw Failure(.unreachable) }
        let head = await receive(stream, FrameHeader.bytes)
        guard head.count == FrameHeader.bytes else { throw Failure(.unreachable, "the server closed the connection") }
        let decoded = head.withUnsafeBytes { bytes -> Result<FrameHeader, Failure> in
            guard let base = bytes.baseAddress else { return .failure(Failure(.malformed)) }
            do throws(Failure) { return .success(try FrameHeader.decode(base)) } catch { return .failure(error) }
        }
        let reply = try decoded.get()
        return (reply, await receive(stream, reply.bodyBytes))
    }

    /// Everything the server answers to an HTTP request.
    func http(_ request: String) async throws(Failure) -> String {
        let stream = try await connect(ServerBench.metricsAddress)
        _ = await send(stream, Array(request.utf8))
        let text = String(decoding: await receive(stream, 1 << 20), as: UTF8.self)
        client.close(stream)
        return text
    }

    func open(_ stream: StreamID, session: UInt64, generation: UInt64 = 0) async throws(Failure) -> FrameHeader {
        _ = try await call(stream, .hello, meta: Hello(role: .client, software: "bench").encoded)
        let record = ObjectRecord(id: Identifier(high: 2, low: 2), name: "vm1", bytes: 16 << 20)
        _ = try await call(stream, .create, meta: CreateRequest(record).encoded)
        let request = OpenRequest(name: "vm1", flags: [.write, .settle])
        let (opened, sentence) = try await call(stream, .open, meta: request.encoded) {
            $0.session = session
            $0.generation = generation
        }
        guard opened.status == .ok else { throw Failure(opened.status, String(decoding: sentence, as: UTF8.self)) }
        return opened
    }

    func write(_ stream: StreamID, _ opened: FrameHeader, session: UInt64, sequence: UInt64, _ data: [UInt8]) async throws(Failure)
        -> Status
    {
        let check = data.withUnsafeBytes { Checksum.of($0) }
        let meta = withUnsafeBytes(of: check.littleEndian) { Array($0) }
        return try await call(stream, .write, meta: meta, payload: data) {
            $0.handle = opened.handle
            $0.generation = opened.generation
            $0.session = session
            $0.sequence = sequence
            $0.blockCount = 1
            $0.flags = .durable
        }.0.status
    }

    func read(_ stream: StreamID, _ opened: FrameHeader, session: UInt64) async throws(Failure) -> [UInt8] {
        let (reply, body) = try await call(stream, .read) {
            $0.handle = opened.handle
            $0.generation = opened.generation
            $0.session = session
            $0.blockCount = 1
        }
        guard reply.status == .ok else { throw Failure(reply.status) }
        return Array(body.dropFirst(4))
    }
}

@Suite struct ServerTests {
    private let data = [UInt8](repeating: 7, count: Block.bytes)

    @Test func aVolumeIsServedOverTheNetwork() throws {
        for seed in UInt64(1)...5 {
            let bench = try ServerBench(seed: seed)
            try bench.run(bench.client) { [data] () throws(Failure) in
                let stream = try await bench.connect()
                let opened = try await bench.open(stream, session: 1)
                let status = try await bench.write(stream, opened, session: 1, sequence: 1, data)
                let back = try await bench.read(stream, opened, session: 1)
                #expect(status == .ok && back == data)
                bench.client.close(stream)
            }
            bench.universe.run(for: .seconds(1))
            #expect(bench.server?.engine.connectionCount == 0)
        }
    }

    @Test func metricsCountWhatHappened() throws {
        let bench = try ServerBench()
        try bench.run(bench.client) { [data] () throws(Failure) in
            let stream = try await bench.connect()
            let opened = try await bench.open(stream, session: 1)
            _ = try await bench.write(stream, opened, session: 1, sequence: 1, data)
            _ = try await bench.read(stream, opened, session: 1)
            let text = try await bench.http("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            for line in [
                "HTTP/1.1 200 OK", "rawstor_ost_requests_total{opcode=\"write\"} 1", "rawstor_ost_read_bytes_total 4096",
                "rawstor_ost_written_bytes_total 4096", "rawstor_ost_request_seconds_count{kind=\"read\"} 1",
                "rawstor_ost_request_seconds_bucket{kind=\"write\",le=\"+Inf\"} 1", "rawstor_ost_connections 1", "rawstor_ost_store_up 1",
                "rawstor_ost_errors_total{status=\"busy\"} 0",
            ] { #expect(text.contains(line), "\(line)") }
            bench.client.close(stream)
        }
    }

    @Test func onlyKnownPathsAndShortRequestsAreAnswered() throws {
        let bench = try ServerBench()
        try bench.run(bench.client) { () throws(Failure) in
            #expect(try await bench.http("GET /healthz HTTP/1.1\r\n\r\n").hasSuffix("\r\n\r\nok\n"))
            #expect(try await bench.http("GET / HTTP/1.1\r\n\r\n").hasPrefix("HTTP/1.1 404"))
            #expect(try await bench.http("POST /metrics HTTP/1.1\r\n\r\n").hasPrefix("HTTP/1.1 405"))
            #expect(try await bench.http("rubbish\r\n\r\n").hasPrefix("HTTP/1.1 400"))
            // Closed with bytes unread, the connection may be reset before the answer is read.
            let long = try await bench.http("GET /metrics HTTP/1.1\r\nX: \(String(repeating: "x", count: 5000))")
            #expect(long.isEmpty || long.hasPrefix("HTTP/1.1 400"))
            #expect(try await bench.http("HEAD /healthz HTTP/1.1\r\n\r\n").hasSuffix("\r\n\r\n"))
            let began = bench.client.now
            #expect(try await bench.http("GET /metr") == "", "half a request is dropped at the deadline")
            #expect(bench.client.now - began < .seconds(6))
        }
    }

    @Test func afterAFailedFlushTheStoreIsLoadedAnewAndServesOn() throws {
        let bench = try ServerBench()
        var opened = FrameHeader(.open)
        try bench.run(bench.client) { [data] () throws(Failure) in
            let stream = try await bench.connect()
            opened = try await bench.open(stream, session: 1)
            let status = try await bench.write(stream, opened, session: 1, sequence: 1, data)
            #expect(status == .ok)
            bench.universe.faults.flushError = 1_000_000
            let failed = try await bench.write(stream, opened, session: 1, sequence: 2, data)
            #expect(failed == .diskFailed)
            let end = await bench.receive(stream, 1 << 16)
            #expect(end.isEmpty, "the connection is closed")
            bench.client.close(stream)
        }
        bench.universe.run(for: .seconds(1))
        #expect(bench.server?.engine.hasFailed == true, "loading fails too while flushes do")
        bench.universe.faults.flushError = 0
        bench.universe.run(for: .seconds(2))
        #expect(bench.server?.engine.hasFailed == false)
        try bench.run(bench.client) { [data, opened] () throws(Failure) in
            let stream = try await bench.connect()
            let again = try await bench.open(stream, session: 2, generation: opened.generation)
            let back = try await bench.read(stream, again, session: 2)
            #expect(back == data)
            bench.client.close(stream)
        }
        #expect(bench.logs.contains { $0.contains("the store failed") } && bench.logs.contains { $0.contains("the store is back") })
    }

    @Test func stoppingEndsConnectionsAndFreesTheAddress() throws {
        let bench = try ServerBench()
        try bench.run(bench.client) { () throws(Failure) in
            let stream = try await bench.connect()
            _ = try await bench.open(stream, session: 1)
        }
        try bench.run { () throws(Failure) in
            bench.metrics?.stop()
            await bench.server?.stop()
        }
        #expect(bench.server?.engine.connectionCount == 0)
        #expect(throws: Failure.self) { try bench.run(bench.client) { () throws(Failure) in _ = try await bench.connect() } }
    }
}
