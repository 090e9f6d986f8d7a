import Base
import Cluster
import Simulation
import Testing

/// Whole seeds of the shipping daemon and client. One simulation at a time: mutants are switched for all of them.
@Suite(.serialized) struct ClusterTests {
    /// The first problem within these seeds, and how many it took.
    private func firstProblem(_ seeds: ClosedRange<UInt64>, _ steer: (inout ClusterOptions) -> Void = { _ in }) -> (String?, seeds: Int) {
        for seed in seeds {
            var options = ClusterOptions.drawn(seed: seed)
            steer(&options)
            let run = SingleRun(seed: seed, options: options)
            run.perform()
            run.universe.end()
            if let problem = run.problems.first { return (problem, Int(seed - seeds.lowerBound) + 1) }
        }
        return (nil, seeds.count)
    }

    @Test func everyPromiseIsKept() {
        #expect(firstProblem(1...100) { $0.shorten() }.0 == nil)
    }

    /// The same with replicated volumes.
    private func firstProblem(
        replicated seeds: ClosedRange<UInt64>, _ steer: (inout ReplicatedPlan, inout ClusterOptions) -> Void = { _, _ in }
    ) -> (String?, seeds: Int) {
        for seed in seeds {
            var (options, plan) = ReplicatedPlan.drawn(seed: seed)
            options.shortenReplicated()
            steer(&plan, &options)
            let run = ReplicatedRun(seed: seed, options: options, plan: plan)
            run.perform()
            run.universe.end()
            if let problem = run.problems.first { return (problem, Int(seed - seeds.lowerBound) + 1) }
        }
        return (nil, seeds.count)
    }

    @Test func everyPromiseIsKeptByReplicatedVolumes() {
        #expect(firstProblem(replicated: 1...64).0 == nil)
    }

    @Test func aSeedOfAReplicatedVolumeIsReplayedExactly() {
        let hashes = (0..<2).map { _ in
            let run = ReplicatedRun(seed: 11)
            run.perform()
            run.universe.end()
            return run.universe.trace.hash
        }
        #expect(hashes[0] == hashes[1])
    }

    @Test func aSeedIsReplayedExactly() {
        let hashes = (0..<2).map { _ in
            var options = ClusterOptions.drawn(seed: 11)
            options.shorten()
            let run = SingleRun(seed: 11, options: options)
            run.perform()
            run.universe.end()
            return run.universe.trace.hash
        }
        #expect(hashes[0] == hashes[1])
    }

    #if MUTANTS
        @Test(arguments: ClusterOptions.provokable)
        func theCheckerCatches(_ mutant: Mutant) {
            Mutant.active = mutant
            defer { Mutant.active = nil }
            let (problem, seeds) = firstProblem(1...200) { $0.provoke(mutant) }
            #expect(problem != nil, "\(mutant) is not caught within \(seeds) seeds")
        }

        @Test(arguments: ReplicatedPlan.provokable)
        func theCheckerOfReplicatedVolumesCatches(_ mutant: Mutant) {
            Mutant.active = mutant
            defer { Mutant.active = nil }
            let (problem, seeds) = firstProblem(replicated: 1...200) { $0.provoke(mutant, &$1) }
            #expect(problem != nil, "\(mutant) is not caught within \(seeds) seeds")
        }
    #endif
}
