import Environment

/// Runs the asynchronous code of one process, one job at a time, in an order drawn from the seed.
///
/// The jobs of a dead process stay in the list for ever: a job that is never run leaks its task, which is what a kill -9 looks like from
/// inside the task. Continuations are the unsafe kind, so that nothing complains about one that is never resumed.
final class SimExecutor: WorldExecutor, @unchecked Sendable {
    private var ready: [UnownedJob] = []
    /// Called after a job was added.
    var wakeUp: () -> Void = {}
    var isRunning = false

    var count: Int { ready.count }

    func enqueue(_ job: consuming ExecutorJob) {
        ready.append(UnownedJob(job))
        wakeUp()
    }

    func runOne(_ random: inout Random) {
        let index = ready.count > 1 ? random.below(ready.count) : 0
        let job = ready.remove(at: index)
        isRunning = true
        job.runSynchronously(on: asUnownedTaskExecutor())
        isRunning = false
    }

    /// In the order they became ready: for constant timing.
    func runFirst() {
        let job = ready.removeFirst()
        isRunning = true
        job.runSynchronously(on: asUnownedTaskExecutor())
        isRunning = false
    }

    func checkIsolated() {}
}
