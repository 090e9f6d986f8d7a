import Base
import Cluster
import Environment
import Simulation

/// Which world a seed is run in.
enum Kind: String, CaseIterable {
    case single, replicated
}

/// One run.
struct SeedRun {
    let seed: UInt64
    let kind: Kind

    func perform(isVerbose: Bool, watched: Int?) -> Outcome {
        invariantContext = "\(kind) seed \(seed): "
        let run: ClusterRun =
            switch kind {
            case .single: SingleRun(seed: seed)
            case .replicated: ReplicatedRun(seed: seed)
            }
        if isVerbose {
            run.onLog = { [unowned run] process, level, text in print("\(run.universe.now) \(process) \(level): \(text)") }
        }
        if let watched { run.watch(sector: watched) }
        run.perform()
        let universe = run.universe
        defer { universe.end() }
        return Outcome(
            problems: run.problems, traceHash: universe.trace.hash, events: universe.events,
            virtualSeconds: universe.now.nanoseconds / 1_000_000_000, writes: run.writesBegun, faults: universe.counts, marks: run.marks)
    }
}

/// What came of it.
struct Outcome {
    var problems: [String] = []
    var traceHash: UInt64 = 0
    var events = 0
    var virtualSeconds: UInt64 = 0
    var writes = 0
    var faults = FaultCounts()
    var marks = MarkTable()
}
