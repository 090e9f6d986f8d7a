import Base
import CSystem
import Environment
import Synchronization

/// Runs the asynchronous code of one reactor, as the executor of its actors and as the preference of its tasks at once: with only the
/// former, a task begun inside an actor would go to the global pool.
///
/// A job enqueued on the reactor's thread waits in a queue of its own, any other goes through the inbox.
public final class ReactorExecutor: WorldExecutor, @unchecked Sendable {
    private let inbox: Inbox
    /// The thread that is the reactor's at this moment, or 0.
    private let owner = Atomic<UInt>(0)
    /// Touched by the owner only.
    private var jobs: [UnownedJob] = []
    private var head = 0

    init(_ inbox: Inbox) { self.inbox = inbox }

    /// Makes the calling thread the reactor's, and tells whose it was.
    func enter() -> UInt { owner.exchange(rs_thread(), ordering: .relaxed) }
    func leave(_ previous: UInt) { owner.store(previous, ordering: .relaxed) }
    var isCurrent: Bool { owner.load(ordering: .relaxed) == rs_thread() }

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if isCurrent { jobs.append(job) } else { inbox.post(.job(job)) }
    }

    func append(_ job: UnownedJob) { jobs.append(job) }

    var hasJobs: Bool { head < jobs.count }

    /// Runs what is there and what that enqueues, at most `limit` jobs, so that a task which only yields does not keep out the disk.
    func runJobs(limit: Int) {
        var budget = limit
        while head < jobs.count, budget > 0 {
            let job = jobs[head]
            head += 1
            budget -= 1
            job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
        }
        if head == jobs.count {
            jobs.removeAll(keepingCapacity: true)
            head = 0
        }
    }

    public func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
    public func isSameExclusiveExecutionContext(other: ReactorExecutor) -> Bool { self === other }
    public func checkIsolated() { invariant(isCurrent, "this code belongs to a reactor's thread and runs on another") }
}
