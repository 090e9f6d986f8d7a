import Base
import Simulation
import Testing

@testable import PartStore

/// Random operations with crashes against the reference model. One simulation at a time: mutants are switched for all of them.
@Suite(.serialized) struct StoreModelTests {
    private struct Outcome {
        var problems: [String] = []
        var snapshots: UInt64 = 0
        var reads = 0
    }

    private func outcome(
        _ seeds: ClosedRange<UInt64>, steps: Int = 400, crashes: Int = 3, powerLoss: Bool, diskBytes: UInt64 = 8 << 20,
        faults: FaultPlan = .none, stopsAtFirst: Bool = false
    ) -> Outcome {
        var all = Outcome()
        for seed in seeds {
            let run = StoreRun(seed: seed, faults: faults, diskBytes: diskBytes, settlesAlways: diskBytes < 8 << 20 || steps > 1000)
            run.run(steps: steps, crashes: crashes, powerLoss: powerLoss)
            all.problems += run.problems
            all.snapshots += run.snapshots
            all.reads += run.reads
            run.universe.end()
            if stopsAtFirst, !all.problems.isEmpty { break }
        }
        return all
    }

    @Test func everyAcknowledgedWriteSurvivesAKill() {
        #expect(outcome(1...40, powerLoss: false).problems == [])
    }

    @Test func aLossOfPowerGoesBackToAPrefixThatHoldsEverythingFlushed() {
        #expect(outcome(1001...1040, powerLoss: true).problems == [])
    }

    @Test func theLogMovesBetweenItsHalvesUnderCrashes() {
        let outcome = outcome(2001...2010, steps: 9000, crashes: 12, powerLoss: true, diskBytes: 4 << 20)
        #expect(outcome.problems == [])
        #expect(outcome.snapshots > 20)
    }

    @Test func aSmallDiskFillsUpAndGoesOn() {
        #expect(outcome(3001...3020, steps: 1500, crashes: 2, powerLoss: true, diskBytes: 4 << 20).problems == [])
    }

    @Test func failedWritesAndFlushesAreNeverTakenForGood() {
        var faults = FaultPlan()
        faults.writeError = 2000
        faults.flushError = 5000
        faults.diskSlow = 300
        #expect(outcome(4001...4030, steps: 800, crashes: 2, powerLoss: true, faults: faults).problems == [])
    }

    #if MUTANTS
        @Test(arguments: [Mutant.forgetsFlush, .acknowledgesOutOfLogOrder, .reusesBlockEarly, .stampsOnlyTheNumber])
        func theModelCatches(_ mutant: Mutant) {
            Mutant.active = mutant
            defer { Mutant.active = nil }
            // A small disk: what is given out too early must be asked for again soon.
            let outcome = outcome(
                1...200, powerLoss: mutant != .acknowledgesOutOfLogOrder, diskBytes: 4 << 20, stopsAtFirst: true)
            #expect(!outcome.problems.isEmpty, "\(mutant) is not caught within 200 seeds")
        }
    #endif
}
