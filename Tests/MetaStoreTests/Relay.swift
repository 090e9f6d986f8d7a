import Base
import Environment

/// A server between a store and etcd, or in its place, that does with each request what the test says. What etcd itself never does on
/// purpose: lose an answer, be silent, be somebody else.
final class Relay {
    enum Action {
        case forward
        /// Etcd gets it, and the connection ends without an answer.
        case loseAnswer
        /// Nobody gets it, and there is no answer.
        case beSilent
        /// This instead of etcd's.
        case answer(status: Int, String)
    }

    /// By the body of the request.
    var decide: (String) -> Action = { _ in .forward }
    /// Of all requests that came.
    private(set) var bodies: [String] = []
    private(set) var endpoint = ""
    /// The id of etcd's cluster, as its last answer told it.
    private(set) var cluster = ""
    private let world: any World
    private let operations: Operations
    private let etcd: Endpoint
    private var listener: ListenerID?
    private var streams: [StreamID] = []
    private var underWay = 0
    private var isClosed = false

    init(_ world: any World, _ operations: Operations, to server: EtcdServer) throws(Failure) {
        self.world = world
        self.operations = operations
        etcd = .tcp(host: "127.0.0.1", port: server.port)
        let listener = try world.listen(on: .tcp(host: "127.0.0.1", port: 0))
        self.listener = listener
        endpoint = "\(world.endpoint(of: listener))"
        spawn { relay in
            while case .success(let stream) = await relay.operations.accept(listener) {
                relay.spawn { await $0.serve(stream) }
            }
        }
    }

    /// Nobody listens there any more, and all connections end.
    func close() async {
        isClosed = true
        if let listener { world.closeListener(listener) }
        listener = nil
        for stream in streams { world.shutdown(stream) }
        while underWay > 0 { await operations.sleep(.milliseconds(1)) }
    }

    private func spawn(_ body: @escaping (Relay) async -> Void) {
        underWay += 1
        world.spawn {
            await body(self)
            self.underWay -= 1
        }
    }

    private func serve(_ stream: StreamID) async {
        streams.append(stream)
        while let request = await message(stream) {
            let body = String(decoding: request.body, as: UTF8.self)
            bodies.append(body)
            guard await perform(decide(body), request.whole, stream) else { break }
        }
        streams.removeAll { $0 == stream }
        world.close(stream)
    }

    /// Whether the connection goes on.
    private func perform(_ action: Action, _ request: [UInt8], _ stream: StreamID) async -> Bool {
        switch action {
        case .forward:
            guard let answer = await exchange(request) else { return false }
            return await send(answer, stream)
        case .loseAnswer:
            _ = await exchange(request)
            return false
        case .beSilent:
            _ = await message(stream)
            return false
        case .answer(let status, let text):
            return await send(Array("HTTP/1.1 \(status) Told\r\nContent-Length: \(text.utf8.count)\r\n\r\n\(text)".utf8), stream)
        }
    }

    private func exchange(_ request: [UInt8]) async -> [UInt8]? {
        guard case .success(let stream) = await operations.connect(to: etcd, deadline: world.now + .seconds(5)) else { return nil }
        defer { world.close(stream) }
        guard await send(request, stream) else { return nil }
        let answer = await message(stream)
        let text = String(decoding: answer?.whole ?? [], as: UTF8.self)
        if let found = text.firstMatch(of: /"cluster_id":"([0-9]+)"/) { cluster = String(found.1) }
        return answer?.whole
    }

    private func send(_ bytes: [UInt8], _ stream: StreamID) async -> Bool {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 16)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        return await operations.send(stream, memory)
    }

    /// Head and body, of which the head tells the length; nil at the end.
    private func message(_ stream: StreamID) async -> (whole: [UInt8], body: ArraySlice<UInt8>)? {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)
        defer { memory.deallocate() }
        var whole: [UInt8] = []
        while true {
            if let (start, length) = Relay.head(of: whole), whole.count >= start + length { return (whole, whole[start...]) }
            let count = await operations.receive(stream, into: memory)
            if count <= 0 { return nil }
            whole += memory[..<count]
        }
    }

    private static func head(of bytes: [UInt8]) -> (start: Int, length: Int)? {
        let text = String(decoding: bytes.prefix(2048), as: UTF8.self)
        guard let end = text.utf8.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
        for line in text[..<end.lowerBound].split(separator: "\r\n") where line.lowercased().hasPrefix("content-length:") {
            guard let length = Int(line.dropFirst(15).drop { $0 == " " }) else { return nil }
            return (text.utf8.distance(from: text.startIndex, to: end.upperBound), length)
        }
        return nil
    }
}
