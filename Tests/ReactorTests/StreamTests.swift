import Base
import Environment
import Glibc
import Testing

@testable import Reactor

@Suite struct StreamTests {
    @Test(arguments: ["127.0.0.1", "::1", "localhost"]) func tcpCarriesLargeTransfersBothWays(_ host: String) async throws {
        try await withReactor { bench in
            let listener = try bench.reactor.listen(on: .tcp(host: host, port: 0))
            guard case .tcp(_, let port) = bench.reactor.endpoint(of: listener) else { return }
            #expect(port != 0)
            try await echo(bench, listener, .tcp(host: host, port: port))
            bench.reactor.closeListener(listener)
        }
    }

    @Test func unixSocketCarriesLargeTransfersBothWays() async throws {
        try await withReactor { bench in
            let endpoint = Endpoint.unix(path: bench.directory + "/socket")
            let listener = try bench.reactor.listen(on: endpoint)
            try await echo(bench, listener, endpoint)
            bench.reactor.closeListener(listener)
            #expect(access(bench.directory + "/socket", F_OK) != 0)
        }
    }

    /// A name in the abstract namespace has no file, and none of that name is touched.
    @Test func abstractNamesCarryLargeTransfersBothWays() async throws {
        try await withReactor { bench in
            let name = Endpoint.unix(path: "@rawstor-test/\(bench.directory)")
            let listener = try bench.reactor.listen(on: name)
            #expect(failure { () throws(Failure) in _ = try bench.reactor.listen(on: name) }?.status == .busy)
            try await echo(bench, listener, name)
            bench.reactor.closeListener(listener)
            #expect(await bench.operations.connect(to: name, deadline: bench.soon) == .failure(Errno(ECONNREFUSED)))
            let file = "@rawstor-test-\(getpid())"
            Glibc.close(open(file, O_CREAT | O_WRONLY, 0o600))
            defer { unlink(file) }
            bench.reactor.closeListener(try bench.reactor.listen(on: .unix(path: file)))
            #expect(access(file, F_OK) == 0)
        }
    }

    /// 8 MiB there and back, more than any socket buffers.
    private func echo(_ bench: Bench, _ listener: ListenerID, _ endpoint: Endpoint) async throws {
        let operations = bench.operations
        let total = 8 << 20
        bench.reactor.spawn {
            guard case .success(let stream) = await operations.accept(listener) else { return }
            let memory = bench.memory(100_000)
            defer { memory.deallocate() }
            while true {
                let count = await operations.receive(stream, into: memory)
                if count <= 0 { break }
                _ = await operations.send(stream, UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
            }
            bench.reactor.close(stream)
        }
        let stream = try await operations.connect(to: endpoint, deadline: bench.soon).get()
        let sent = bench.memory(total)
        let received = bench.memory(total)
        defer {
            sent.deallocate()
            received.deallocate()
        }
        for index in stride(from: 0, to: total, by: 8) { sent.storeBytes(of: index &* 0x9e37_79b9, toByteOffset: index, as: Int.self) }
        received.initializeMemory(as: UInt8.self, repeating: 0)
        let isSent = Flag()
        bench.reactor.spawn { isSent.value = await operations.send(stream, sent) }
        var count = 0
        while count < total {
            let more = await operations.receive(stream, into: UnsafeMutableRawBufferPointer(rebasing: received[count...]))
            try #require(more > 0)
            count += more
        }
        #expect(isSent.value)
        #expect(sent.elementsEqual(received))
        bench.reactor.close(stream)
    }

    @Test func vectorListsArriveInOrder() async throws {
        try await withReactor { bench in
            let (left, right) = try await pair(bench)
            let memory = bench.memory(4096)
            defer { memory.deallocate() }
            guard let base = memory.baseAddress else { return }
            for index in 0..<100 { memory[index] = UInt8(index) }
            let sink = Recorder()
            let id = bench.reactor.attach(sink)
            let receiving = [IOVector(base + 1000, 20), IOVector(base + 2000, 80)]
            await withUnsafeContinuation { done in
                sink.onCompleted = { _, _ in if sink.completions.count == 2 { done.resume() } }
                receiving.withUnsafeBufferPointer { bench.reactor.receive(right, into: $0, Ticket(id, 1)) }
                [IOVector(base + 50, 50), IOVector(base, 50)].withUnsafeBufferPointer { bench.reactor.send(left, from: $0, Ticket(id, 2)) }
            }
            #expect(sink.completions.allSatisfy { $0.result == 100 })
            #expect([1000, 1019, 2000, 2079].map { memory[$0] } == [50, 69, 70, 49])
            bench.reactor.detach(id)
            bench.reactor.close(left)
            bench.reactor.close(right)
        }
    }

    private func pair(_ bench: Bench) async throws -> (StreamID, StreamID) {
        let listener = try bench.reactor.listen(on: .tcp(host: "127.0.0.1", port: 0))
        let left = try await bench.operations.connect(to: bench.reactor.endpoint(of: listener), deadline: bench.soon).get()
        let right = try await bench.operations.accept(listener).get()
        bench.reactor.closeListener(listener)
        return (left, right)
    }

    @Test func connectingWhereNobodyListensIsRefused() async throws {
        try await withReactor { bench in
            let listener = try bench.reactor.listen(on: .tcp(host: "127.0.0.1", port: 0))
            let endpoint = bench.reactor.endpoint(of: listener)
            bench.reactor.closeListener(listener)
            #expect(await bench.operations.connect(to: endpoint, deadline: bench.soon) == .failure(Errno(ECONNREFUSED)))
            let missing = Endpoint.unix(path: bench.directory + "/missing")
            #expect(await bench.operations.connect(to: missing, deadline: bench.soon) == .failure(Errno(ENOENT)))
            let unknown = Endpoint.tcp(host: "no-such-host.invalid", port: 1)
            #expect(await bench.operations.connect(to: unknown, deadline: .never) == .failure(Errno(EHOSTUNREACH)))
        }
    }

    @Test func connectingEndsAtItsDeadline() async throws {
        try await withReactor { bench in
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            let listener = smallListener(AF_INET, &address)
            defer { Glibc.close(listener) }
            await fill(bench, .tcp(host: "127.0.0.1", port: UInt16(bigEndian: address.sin_port)))
        }
    }

    @Test func connectingToAUnixSocketEndsAtItsDeadline() async throws {
        try await withReactor { bench in
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let path = bench.directory + "/full"
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let listener = smallListener(AF_UNIX, &address)
            defer { Glibc.close(listener) }
            await fill(bench, .unix(path: path))
        }
    }

    /// When its queue of one is full it leaves further connections without an answer. `address` gets the port.
    private func smallListener<Address>(_ family: Int32, _ address: inout Address) -> Int32 {
        let listener = socket(family, Int32(SOCK_STREAM.rawValue), 0)
        var length = socklen_t(MemoryLayout<Address>.size)
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                #expect(bind(listener, $0, length) == 0 && listen(listener, 0) == 0 && getsockname(listener, $0, &length) == 0)
            }
        }
        return listener
    }

    /// Connects until nobody answers any more.
    private func fill(_ bench: Bench, _ endpoint: Endpoint) async {
        var connected: [StreamID] = []
        var result = Result<StreamID, Errno>.failure(Errno(0))
        for _ in 0..<4 {
            result = await bench.operations.connect(to: endpoint, deadline: bench.reactor.now + .milliseconds(100))
            guard case .success(let stream) = result else { break }
            connected.append(stream)
        }
        #expect(result == .failure(Errno(ETIMEDOUT)))
        connected.forEach { bench.reactor.close($0) }
    }

    @Test func shutdownEndsAPendingReceive() async throws {
        try await withReactor { bench in
            let (left, right) = try await pair(bench)
            let memory = bench.memory(4096)
            defer { memory.deallocate() }
            let sink = Recorder()
            let id = bench.reactor.attach(sink)
            withVector(memory) { bench.reactor.receive(left, into: $0, Ticket(id, 1)) }
            await bench.operations.sleep(.milliseconds(1))
            await withUnsafeContinuation { done in
                sink.onCompleted = { _, _ in done.resume() }
                bench.reactor.shutdown(left)
            }
            #expect(sink.completions.map { $0.result } == [0])
            bench.reactor.detach(id)
            #expect(await bench.operations.receive(right, into: memory) == 0)
            #expect(await bench.operations.send(left, memory) == false)
            bench.reactor.close(left)
            bench.reactor.close(right)
        }
    }

    @Test func closingAListenerEndsItsAccept() async throws {
        try await withReactor { bench in
            let listener = try bench.reactor.listen(on: .tcp(host: "127.0.0.1", port: 0))
            let endpoint = bench.reactor.endpoint(of: listener)
            let sink = Recorder()
            let id = bench.reactor.attach(sink)
            bench.reactor.accept(listener, Ticket(id, 1))
            // Long enough for the kernel to have it.
            await bench.operations.sleep(.milliseconds(1))
            await withUnsafeContinuation { done in
                sink.onCompleted = { _, _ in done.resume() }
                bench.reactor.closeListener(listener)
            }
            #expect(sink.completions.map { $0.result } == [-ECANCELED])
            bench.reactor.detach(id)
            bench.reactor.closeListener(try bench.reactor.listen(on: endpoint))
        }
    }

    @Test func deadSocketFileIsReplacedALiveOneIsNot() async throws {
        try await withReactor { bench in
            let path = bench.directory + "/socket"
            let listener = try bench.reactor.listen(on: .unix(path: path))
            #expect(failure { () throws(Failure) in _ = try bench.reactor.listen(on: .unix(path: path)) }?.status == .busy)
            // What a killed process leaves behind.
            #expect(rename(path, path + ".kept") == 0)
            bench.reactor.closeListener(listener)
            #expect(rename(path + ".kept", path) == 0)
            bench.reactor.closeListener(try bench.reactor.listen(on: .unix(path: path)))
            Glibc.close(open(path, O_CREAT | O_WRONLY, 0o600))
            #expect(failure { () throws(Failure) in _ = try bench.reactor.listen(on: .unix(path: path)) }?.status == .alreadyExists)
            #expect(access(path, F_OK) == 0)
        }
    }

    @Test func acceptedConnectionOfADetachedSinkIsClosed() async throws {
        try await withReactor { bench in
            let listener = try bench.reactor.listen(on: .tcp(host: "127.0.0.1", port: 0))
            let sink = Recorder()
            let id = bench.reactor.attach(sink)
            bench.reactor.accept(listener, Ticket(id, 1))
            bench.reactor.detach(id)
            let stream = try await bench.operations.connect(to: bench.reactor.endpoint(of: listener), deadline: bench.soon).get()
            let memory = bench.memory(16)
            defer { memory.deallocate() }
            #expect(await bench.operations.receive(stream, into: memory) == 0)
            #expect(sink.completions.isEmpty && sink.batches == 0)
            bench.reactor.close(stream)
            bench.reactor.closeListener(listener)
        }
    }
}

final class Flag: @unchecked Sendable {
    var value = false
}
