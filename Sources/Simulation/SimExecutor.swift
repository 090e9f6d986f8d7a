import Environment

/// Runs the asynchronous code of one process, one job at a time, in an order drawn from the seed.
///
/// - A job runs on the task executor alone, also when an actor asked for it. Naming the serial executor too makes debug builds enqueue at
///   returns where release builds go on, and one seed would be two runs.
/// - The jobs of a dead process stay in the list for ever: a job that is never run leaks its task, which is what a kill -9 looks like from
///   inside the task. Continuations are the unsafe kind, so that nothing complains about one that is never resumed.
final class SimExecutor: WorldExecutor, @unchecked Sendable {
    private var ready: [UnownedJob] = []
    /// Called after a job was added.
    var wakeUp: () -> Void = {}

    var count: Int { ready.count }

    func enqueue(_ job: consuming ExecutorJob) {
        ready.append(UnownedJob(job))
        wakeUp()
    }

    func runAny(_ random: inout Random) { run(ready.count > 1 ? random.below(ready.count) : 0) }

    /// In the order they became ready: for constant timing.
    func runFirst() { run(0) }

    private func run(_ index: Int) { ready.remove(at: index).runSynchronously(on: asUnownedTaskExecutor()) }

    /// Whatever runs in a world runs on its thread.
    func checkIsolated() {}
}
