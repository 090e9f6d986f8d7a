import Base
import Environment

/// A small HTTP/1.1 responder for monitoring: `GET /metrics` and `GET /healthz`, one request a connection. What they say its daemon tells.
///
/// It is on its own port because scrapers are not clients. Everything about a connection is bounded: how many there are, the size of a
/// request's head, and the time until it is answered and taken.
public final class MetricsServer: CompletionSink {
    static let connectionsMax = 16
    static let headBytesMax = 4096
    static let deadline = Interval.seconds(5)

    private let world: any World
    private let answers: Answers
    private let operations: Operations
    private var sink = SinkID(0)
    private var listener: ListenerID?
    /// Streams by slot; a deadline's token is the slot.
    private var streams: [StreamID?] = Array(repeating: nil, count: MetricsServer.connectionsMax)

    /// What the daemon says of itself when it is asked.
    public struct Answers {
        public var metrics: () -> String
        /// Nil while all is well, otherwise the line that says what is not.
        public var trouble: () -> String?

        public init(metrics: @escaping () -> String, trouble: @escaping () -> String?) {
            self.metrics = metrics
            self.trouble = trouble
        }
    }

    static let metricsContentType = "text/plain; version=0.0.4; charset=utf-8"
    static let acceptRetryDelay = Interval.milliseconds(100)

    public init(world: any World, answers: Answers) {
        self.world = world
        self.answers = answers
        operations = Operations(world)
        sink = world.attach(self)
    }

    @discardableResult
    public func listen(on endpoint: Endpoint) throws(Failure) -> Endpoint {
        invariant(listener == nil, "metrics are served on one address")
        let id = try world.listen(on: endpoint)
        listener = id
        let chosen = world.endpoint(of: id)
        world.log(.info, "serving metrics", [LogField("address", chosen)])
        world.spawn { await self.acceptAll(id) }
        return chosen
    }

    public func stop() {
        guard let id = listener else { return }
        listener = nil
        world.closeListener(id)
        for stream in streams { if let stream { world.shutdown(stream) } }
    }

    /// A deadline has come.
    public func completed(_ token: UInt32, result: Int32) {
        if let stream = streams[Int(token)] { world.shutdown(stream) }
    }

    public func batchEnded() {}

    private func acceptAll(_ id: ListenerID) async {
        while listener != nil {
            switch await operations.accept(id) {
            case .success(let stream):
                guard listener != nil, let slot = streams.firstIndex(where: { $0 == nil }) else {
                    world.close(stream)
                    continue
                }
                streams[slot] = stream
                world.spawn { await self.serve(stream, slot) }
            case .failure(let error):
                guard listener != nil else { return }
                world.log(.warning, "accepting a scraper failed", [LogField("errno", error.code)])
                await operations.sleep(MetricsServer.acceptRetryDelay)
            }
        }
    }

    private func serve(_ stream: StreamID, _ slot: Int) async {
        let timer = world.wake(at: world.now + MetricsServer.deadline, Ticket(sink, UInt32(slot)))
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: MetricsServer.headBytesMax, alignment: 16)
        if let head = await receiveHead(stream, memory) {
            var bytes = Array(respond(to: head).utf8)
            let count = bytes.count
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
            bytes.withUnsafeMutableBytes { copy.copyMemory(from: UnsafeRawBufferPointer($0)) }
            _ = await operations.send(stream, copy)
            copy.deallocate()
        }
        memory.deallocate()
        world.cancel(timer)
        streams[slot] = nil
        world.close(stream)
    }

    /// Up to the empty line; an empty text when there is none within the bound, nil when the peer went away.
    private func receiveHead(_ stream: StreamID, _ memory: UnsafeMutableRawBufferPointer) async -> String? {
        var count = 0
        while count < memory.count {
            let received = await operations.receive(stream, into: UnsafeMutableRawBufferPointer(rebasing: memory[count...]))
            guard received > 0 else { return nil }
            count += received
            let text = String(decoding: memory[..<count], as: UTF8.self)
            if text.contains("\r\n\r\n") || text.contains("\n\n") { return text }
        }
        return ""
    }

    private func respond(to head: String) -> String {
        let request = head.prefix { $0 != "\r\n" && $0 != "\n" }.split(separator: " ", omittingEmptySubsequences: false)
        guard request.count == 3, request[2].hasPrefix("HTTP/1.") else {
            return response("400 Bad Request", "this is no HTTP request of at most \(MetricsServer.headBytesMax) bytes\n")
        }
        let hasBody = request[0] != "HEAD"
        guard request[0] == "GET" || request[0] == "HEAD" else {
            return response("405 Method Not Allowed", "use GET\n", extra: "Allow: GET, HEAD\r\n")
        }
        switch request[1].prefix(while: { $0 != "?" }) {
        case "/metrics": return response("200 OK", answers.metrics(), type: MetricsServer.metricsContentType, hasBody: hasBody)
        case "/healthz":
            guard let trouble = answers.trouble() else { return response("200 OK", "ok\n", hasBody: hasBody) }
            return response("503 Service Unavailable", trouble + "\n", hasBody: hasBody)
        case _: return response("404 Not Found", "there is /metrics and /healthz\n", hasBody: hasBody)
        }
    }

    private func response(
        _ status: String, _ body: String, type: String = "text/plain; charset=utf-8", extra: String = "", hasBody: Bool = true
    ) -> String {
        "HTTP/1.1 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\n\(extra)Connection: close\r\n\r\n"
            + (hasBody ? body : "")
    }
}
