import Arguments
import Base
import CSystem
import Synchronization

/// A thread that makes blocking calls on local files, so that a slow pipe or disk does not stop the world: a volume's connection must
/// stay alive meanwhile, and its requests go on.
///
/// Calls are made one after the other, in the order in which they were asked for. The thread ends with the last reference to this, unless
/// it is in a call that never returns; then it ends with the process.
final class FileThread {
    private let work: Work

    init() throws(Failure) {
        let waker = rs_eventfd()
        if waker < 0 { throw Failure(.outOfMemory, "no eventfd can be made: \(errorText(-waker)); raise the limit of open files") }
        work = Work(waker: waker)
        let context = Unmanaged.passRetained(work)
        let result = rs_thread_start(FileThread.main, context.toOpaque())
        if result < 0 {
            context.release()
            throw Failure(.outOfMemory, "no thread can be made: \(errorText(-result))")
        }
    }

    deinit { work.post(nil) }

    /// What `call` returns. Its memory must live until then.
    func run(_ call: @escaping @Sendable () -> Int64) async -> Int64 {
        await withUnsafeContinuation { work.post(Job(call: call, continuation: $0)) }
    }

    private static let main: @convention(c) (UnsafeMutableRawPointer?) -> Void = { context in
        guard let context else { return }
        let work = Unmanaged<Work>.fromOpaque(context).takeRetainedValue()
        while let job = work.next() { job.continuation.resume(returning: job.call()) }
    }

    private struct Job: Sendable {
        var call: @Sendable () -> Int64
        var continuation: UnsafeContinuation<Int64, Never>
    }

    private final class Work: Sendable {
        private let waker: Int32
        /// Nil ends the thread.
        private let jobs = Mutex<[Job?]>([])

        init(waker: Int32) { self.waker = waker }
        deinit { rs_close(waker) }

        func post(_ job: Job?) {
            jobs.withLock { $0.append(job) }
            rs_eventfd_signal(waker)
        }

        /// Waits for one.
        func next() -> Job? {
            while true {
                // The last of a world's jobs is followed by the end, so each element is looked at once.
                let job: Job?? = jobs.withLock { $0.isEmpty ? .none : .some($0.removeFirst()) }
                if let job { return job }
                rs_eventfd_clear(waker)
            }
        }
    }
}
