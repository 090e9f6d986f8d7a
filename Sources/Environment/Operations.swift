import Base

/// The world's operations for straight-line asynchronous code: opening, loading, recovery, everything rare.
///
/// One per user; it owns a sink and a table of continuations. The data plane does not come through here.
public final class Operations: CompletionSink {
    public let world: any World
    private var sink = SinkID(0)
    private var waiting: [UnsafeContinuation<Int32, Never>?] = []
    private var free: [UInt32] = []

    public init(_ world: any World) {
        self.world = world
        sink = world.attach(self)
    }

    /// Nothing may be under way.
    public func close() {
        invariant(free.count == waiting.count, "\(waiting.count - free.count) operations under way at close")
        world.detach(sink)
    }

    public func completed(_ token: UInt32, result: Int32) {
        guard let continuation = waiting[Int(token)] else { unreachable("token \(token) completed twice") }
        waiting[Int(token)] = nil
        free.append(token)
        continuation.resume(returning: result)
    }

    public func batchEnded() {}

    private func run(_ start: (Ticket) -> Void) async -> Int32 {
        await withUnsafeContinuation { continuation in
            let token: UInt32
            if let reused = free.popLast() {
                token = reused
                waiting[Int(token)] = continuation
            } else {
                token = UInt32(waiting.count)
                waiting.append(continuation)
            }
            start(Ticket(sink, token))
        }
    }

    private func check(_ result: Int32, _ what: String) throws(Failure) {
        if result < 0 { throw Failure(.diskFailed, "\(what) failed: errno \(-result)") }
    }

    // Disks

    public func read(_ disk: DiskID, at offset: UInt64, into memory: UnsafeMutableRawBufferPointer) async throws(Failure) {
        guard let base = memory.baseAddress else { return }
        let result = await run { ticket in
            withVector(base, memory.count) { world.read(disk, at: offset, into: $0, ticket) }
        }
        try check(result, "reading \(memory.count) bytes at \(offset)")
    }

    public func write(_ disk: DiskID, at offset: UInt64, from memory: UnsafeMutableRawBufferPointer) async throws(Failure) {
        guard let base = memory.baseAddress else { return }
        let result = await run { ticket in
            withVector(base, memory.count) { world.write(disk, at: offset, from: $0, ticket) }
        }
        try check(result, "writing \(memory.count) bytes at \(offset)")
    }

    public func flush(_ disk: DiskID) async throws(Failure) {
        try check(await run { world.flush(disk, $0) }, "flushing")
    }

    // Streams

    /// A stream, or the negative errno.
    public func accept(_ listener: ListenerID) async -> Result<StreamID, Errno> {
        stream(await run { world.accept(listener, $0) })
    }

    public func connect(to endpoint: Endpoint, deadline: Instant) async -> Result<StreamID, Errno> {
        stream(await run { world.connect(to: endpoint, deadline: deadline, $0) })
    }

    /// Bytes received, 0 at the end, or a negative errno.
    public func receive(_ stream: StreamID, into memory: UnsafeMutableRawBufferPointer) async -> Int {
        guard let base = memory.baseAddress else { return 0 }
        return Int(
            await run { ticket in
                withVector(base, memory.count) { world.receive(stream, into: $0, ticket) }
            })
    }

    /// All of it; false when the stream failed.
    public func send(_ stream: StreamID, _ memory: UnsafeMutableRawBufferPointer) async -> Bool {
        guard let base = memory.baseAddress else { return true }
        var sent = 0
        while sent < memory.count {
            let count = await run { ticket in
                withVector(base + sent, memory.count - sent) { world.send(stream, from: $0, ticket) }
            }
            if count <= 0 { return false }
            sent += Int(count)
        }
        return true
    }

    public func sleep(until instant: Instant) async {
        _ = await run { _ = world.wake(at: instant, $0) }
    }

    public func sleep(_ interval: Interval) async { await sleep(until: world.now + interval) }

    /// Tries for a few seconds what another process has: one that was killed a moment ago keeps its lock and its port until the kernel has
    /// ended its last operations.
    public func patiently<Value>(_ body: () async throws(Failure) -> Value) async throws(Failure) -> Value {
        let end = world.now + .seconds(5)
        while true {
            do throws(Failure) {
                return try await body()
            } catch {
                guard error.status == .busy, world.now < end else { throw error }
            }
            await sleep(.milliseconds(50))
        }
    }

    private func stream(_ result: Int32) -> Result<StreamID, Errno> {
        result < 0 ? .failure(Errno(-result)) : .success(StreamID(result))
    }
}

/// A positive errno of the operating system.
public struct Errno: Error, Hashable, Sendable {
    public var code: Int32
    public init(_ code: Int32) { self.code = code }
}

@inline(__always)
private func withVector(_ base: UnsafeMutableRawPointer, _ count: Int, _ body: (UnsafeBufferPointer<IOVector>) -> Void) {
    var vector = IOVector(base, count)
    withUnsafePointer(to: &vector) { body(UnsafeBufferPointer(start: $0, count: 1)) }
}

extension World {
    /// Starts asynchronous code on this world's executor.
    public func spawn(_ body: @escaping () async -> Void) {
        let work = Confined(body)
        Task(executorPreference: executor) { await work.value() }
    }
}

/// Crosses into a task of the same world: both sides run on that world's thread, which is what makes it safe.
private struct Confined<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}
