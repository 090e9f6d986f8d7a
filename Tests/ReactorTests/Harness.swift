import Base
import Environment
import Glibc
import Testing

@testable import Reactor

/// A thread that is not of Swift's pool, which may block.
func onThread(_ body: @escaping @Sendable () -> Void) async {
    await withUnsafeContinuation { (done: UnsafeContinuation<Void, Never>) in
        let box = Unmanaged.passRetained(
            Box {
                body(); done.resume()
            })
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Box>.fromOpaque(context).takeRetainedValue().body() }
                return nil
            }, box.toOpaque())
        #expect(result == 0)
        pthread_detach(thread)
    }
}

private final class Box {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
}

/// What a test running inside a reactor has at hand.
struct Bench: @unchecked Sendable {
    let reactor: Reactor
    let operations: Operations
    let directory: String

    var soon: Instant { reactor.now + .seconds(5) }

    func memory(_ bytes: Int) -> UnsafeMutableRawBufferPointer { .allocate(byteCount: bytes, alignment: 4096) }
}

/// Makes a reactor on a thread of its own, runs the body as one of its tasks, and closes it. Nothing may be left under way.
func withReactor(
    _ options: ReactorOptions = ReactorOptions(), _ body: @escaping @Sendable (Bench) async throws -> Void
) async throws {
    let outcome = Outcome()
    await onThread {
        do {
            let reactor = try Reactor(options)
            let bench = Bench(reactor: reactor, operations: Operations(reactor), directory: makeDirectory())
            reactor.spawn {
                do { try await body(bench) } catch { outcome.error = error }
                reactor.stop()
            }
            reactor.run()
            if outcome.error == nil { bench.operations.close() }
            reactor.close()
            removeDirectory(bench.directory)
        } catch {
            outcome.error = error
        }
    }
    if let error = outcome.error { throw error }
}

/// Written on the reactor's thread, read when that has ended.
final class Outcome: @unchecked Sendable {
    var error: (any Error)?
}

func makeDirectory() -> String {
    var template = Array("/var/tmp/rawstor-test-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { unreachable("no temporary directory") }
    return String(cString: made)
}

func removeDirectory(_ path: String) {
    if let entries = opendir(path) {
        while let entry = readdir(entries) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != "." && name != ".." { unlink(path + "/" + name) }
        }
        closedir(entries)
    }
    rmdir(path)
}

/// Counts and remembers what it gets.
final class Recorder: CompletionSink {
    var completions: [(token: UInt32, result: Int32)] = []
    var batches = 0
    var onCompleted: ((UInt32, Int32) -> Void)?

    func completed(_ token: UInt32, result: Int32) {
        completions.append((token, result))
        onCompleted?(token, result)
    }

    func batchEnded() { batches += 1 }
}

/// Processor time of the calling thread, in nanoseconds.
func threadTime() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Calls from outside with one vector.
func withVector(_ memory: UnsafeMutableRawBufferPointer, _ body: (UnsafeBufferPointer<IOVector>) -> Void) {
    guard let base = memory.baseAddress else { return }
    var vector = IOVector(base, memory.count)
    withUnsafePointer(to: &vector) { body(UnsafeBufferPointer(start: $0, count: 1)) }
}

func failure(_ body: () throws(Failure) -> Void) -> Failure? {
    do throws(Failure) {
        try body()
        return nil
    } catch {
        return error
    }
}
