import Base
import CSystem
import Synchronization

/// A thread for a library whose calls wait, for a disk or a server, as the reactor must not.
///
/// Bodies run one after the other, in the order in which they were posted. The thread ends with the last reference to this, after what was
/// posted before.
public final class BlockingThread: Sendable {
    private let work: Work

    public init() throws(Failure) {
        let waker = rs_eventfd()
        if waker < 0 { throw Failure(.outOfMemory, "no eventfd can be made: \(errorText(-waker)); raise the limit of open files") }
        work = Work(waker: waker)
        let context = Unmanaged.passRetained(work)
        let result = rs_thread_start(BlockingThread.main, context.toOpaque())
        if result < 0 {
            context.release()
            throw Failure(.outOfMemory, "no thread can be made: \(errorText(-result)); raise the limit of threads")
        }
    }

    deinit { work.post(nil) }

    public func post(_ body: @escaping @Sendable () -> Void) { work.post(body) }

    /// What `body` returns.
    public func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withUnsafeContinuation { continuation in work.post { continuation.resume(returning: body()) } }
    }

    private static let main: @convention(c) (UnsafeMutableRawPointer?) -> Void = { context in
        guard let context else { return }
        let work = Unmanaged<Work>.fromOpaque(context).takeRetainedValue()
        while let body = work.next() { body() }
    }

    private final class Work: Sendable {
        typealias Body = @Sendable () -> Void

        private let waker: Int32
        /// Nil ends the thread.
        private let bodies = Mutex<[Body?]>([])

        init(waker: Int32) { self.waker = waker }
        deinit { rs_close(waker) }

        func post(_ body: Body?) {
            bodies.withLock { $0.append(body) }
            rs_eventfd_signal(waker)
        }

        /// Waits for one.
        func next() -> Body? {
            while true {
                let body: Body?? = bodies.withLock { $0.isEmpty ? .none : .some($0.removeFirst()) }
                if let body { return body }
                rs_eventfd_clear(waker)
            }
        }
    }
}

/// The system's words for a positive errno.
public func errorText(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard let base = buffer.baseAddress, let text = rs_error_text(code, base, buffer.count) else { return "errno \(code)" }
        return String(cString: text)
    }
}
