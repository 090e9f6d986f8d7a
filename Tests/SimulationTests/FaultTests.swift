import Base
import Environment
import Simulation
@testable import SimulationProbe
import Testing

@Suite struct FaultTests {
    private func plan(_ change: (inout FaultPlan) -> Void) -> FaultPlan {
        var plan = FaultPlan()
        change(&plan)
        return plan
    }

    @Test func withoutAPlanThereAreNoFaults() throws {
        let bench = try DiskBench(seed: 1)
        let memory = Memory(4096)
        for token in UInt32(0)..<200 { bench.write(memory, at: UInt64(token % 8) * 4096, token) }
        #expect(bench.universe.runUntilQuiet(limit: .seconds(10)))
        #expect(bench.recorder.completions.allSatisfy { $0.result == 0 })
        #expect(bench.universe.counts.total == 0)
    }

    @Test func writeErrorsAreReportedAndCounted() throws {
        let bench = try DiskBench(seed: 1, faults: plan { $0.writeError = 1_000_000 })
        bench.write(Memory(4096), at: 0, 1)
        #expect(bench.finish(1) == -5)
        #expect(bench.universe.counts[.writeError] == 1)
        bench.universe.heal()
        bench.write(Memory(4096), at: 0, 2)
        #expect(bench.finish(2) == 0)
    }

    @Test func failedFlushKeepsOrLoses() throws {
        var kept = 0
        var lost = 0
        for seed in UInt64(0)..<60 {
            let bench = try DiskBench(seed: seed, faults: plan { $0.flushError = 1_000_000 })
            let memory = Memory(512, filledWith: 1)
            bench.write(memory, at: 0, 1)
            #expect(bench.finish(1) == 0)
            bench.world.flush(bench.id, bench.recorder.ticket(2))
            #expect(bench.finish(2) == -5)
            #expect(bench.universe.counts[.flushError] == 1)
            if bench.disk.media.contents(0, 512) == memory.contents { kept += 1 } else { lost += 1 }
        }
        #expect(kept > 5)
        #expect(lost > 5)
    }

    @Test func latentErrorStaysUntilRewritten() throws {
        let bench = try DiskBench(seed: 1, faults: plan { $0.latentError = 1_000_000 })
        bench.disk.mayDamage = { $0.upperBound <= 4096 }
        let memory = Memory(4096)
        bench.read(memory, at: 0, 1)
        bench.read(memory, at: 4096, 2)
        #expect(bench.finish(1) == -5)
        #expect(bench.finish(2) == 0)
        #expect(bench.universe.counts[.latentError] == 1)
        bench.universe.heal()
        bench.read(memory, at: 0, 3)
        #expect(bench.finish(3) == -5)
        bench.write(memory, at: 0, 4)
        #expect(bench.finish(4) == 0)
        bench.read(memory, at: 0, 5)
        #expect(bench.finish(5) == 0)
    }

    @Test func bitRotSparesWhatIsNotFlushedAndWhatIsNotAllowed() throws {
        let bench = try DiskBench(seed: 1, faults: plan { $0.bitRot = 1_000_000 })
        let memory = Memory(4096, filledWith: 1)
        let back = Memory(4096)
        bench.write(memory, at: 0, 1)
        #expect(bench.finish(1) == 0)
        bench.read(back, at: 0, 2)
        #expect(bench.finish(2) == 0)
        bench.disk.mayDamage = { _ in true }
        bench.read(back, at: 0, 3)
        #expect(bench.finish(3) == 0)
        #expect(back.contents == memory.contents)
        #expect(bench.universe.counts[.bitRot] == 0)
        bench.world.flush(bench.id, bench.recorder.ticket(4))
        #expect(bench.finish(4) == 0)
        bench.read(back, at: 0, 5)
        #expect(bench.finish(5) == 0)
        #expect(bench.universe.counts[.bitRot] == 1)
        let durable = bench.disk.media.stableContents(0, 4096)
        let flipped = zip(durable, memory.contents).reduce(0) { $0 + ($1.0 ^ $1.1).nonzeroBitCount }
        #expect(flipped == 1)
    }

    @Test func misdirectedWriteLandsElsewhereInTheAllowedRange() throws {
        let bench = try DiskBench(seed: 1, faults: plan { $0.misdirectedWrite = 1_000_000 })
        bench.disk.mayDamage = { $0.lowerBound >= 65536 }
        let memory = Memory(4096, filledWith: 1)
        bench.write(memory, at: 0, 1)
        #expect(bench.finish(1) == 0)
        #expect(bench.disk.media.contents(0, 4096) == memory.contents)
        bench.write(memory, at: 65536, 2)
        #expect(bench.finish(2) == 0)
        #expect(bench.universe.counts[.misdirectedWrite] == 1)
        #expect(bench.disk.media.contents(65536, 4096) != memory.contents)
        #expect(bench.disk.media.contents(65536, (1 << 20) - 65536).reduce(0) { $0 + Int($1) } == 4096)
    }

    @Test func lostWriteLandsNowhere() throws {
        let bench = try DiskBench(seed: 1, faults: plan { $0.lostWrite = 1_000_000 })
        bench.disk.mayDamage = { _ in true }
        bench.write(Memory(4096, filledWith: 1), at: 0, 1)
        #expect(bench.finish(1) == 0)
        #expect(bench.universe.counts[.lostWrite] == 1)
        #expect(bench.disk.media.contents(0, 1 << 20).allSatisfy { $0 == 0 })
    }

    @Test func slowDiskIsSlowUntilHealed() throws {
        let bench = try DiskBench(seed: 1, faults: plan { $0.diskSlow = 1_000_000 })
        bench.world.flush(bench.id, bench.recorder.ticket(1))
        bench.world.flush(bench.id, bench.recorder.ticket(2))
        #expect(bench.finish(2) == 0)
        #expect(bench.world.now > .zero + .milliseconds(20))
        #expect(bench.universe.counts[.diskSlow] == 2)
        bench.universe.heal()
        let start = bench.world.now
        bench.world.flush(bench.id, bench.recorder.ticket(3))
        #expect(bench.finish(3) == 0)
        #expect(bench.world.now < start + .milliseconds(10))
    }

    @Test func stuckDiskCompletesNothingUntilHealed() throws {
        let bench = try DiskBench(seed: 1, faults: plan { $0.diskStuck = 1_000_000 })
        let memory = Memory(4096, filledWith: 1)
        bench.write(memory, at: 0, 1)
        bench.universe.run(for: .seconds(100))
        #expect(bench.recorder.completions.isEmpty)
        #expect(bench.universe.counts[.diskStuck] == 1)
        bench.universe.heal()
        #expect(bench.finish(1) == 0)
        #expect(bench.disk.media.contents(0, 4096) == memory.contents)
    }

    @Test func creationFailsForWantOfSpace() throws {
        let bench = try DiskBench(seed: 1, faults: plan { $0.createFull = 1_000_000 })
        #expect {
            try bench.world.openDisk("/new", .create(bytes: 4096))
        } throws: { ($0 as? Failure)?.status == .noSpace }
        #expect(bench.universe.counts[.createFull] == 1)
        bench.universe.heal()
        _ = try bench.world.openDisk("/new", .create(bytes: 4096))
    }

    @Test func testMayFailTheNthOperation() throws {
        for number in 0..<3 {
            let bench = try DiskBench(seed: 1)
            bench.disk.fails = { $0.number == number }
            let memory = Memory(4096)
            bench.write(memory, at: 0, 0)
            #expect(bench.finish(0) == (number == 0 ? -5 : 0))
            bench.world.flush(bench.id, bench.recorder.ticket(1))
            #expect(bench.finish(1) == (number == 1 ? -5 : 0))
            bench.read(memory, at: 0, 2)
            #expect(bench.finish(2) == (number == 2 ? -5 : 0))
        }
    }

    @Test func swarmTurnsEachKindOnAndOff() {
        var on = 0
        var off = 0
        var plans: Set<FaultPlan> = []
        for seed in UInt64(0)..<40 {
            var random = Random(seed: seed)
            let plan = FaultPlan.swarm(&random)
            plans.insert(plan)
            if plan.partition > 0 { on += 1 } else { off += 1 }
        }
        #expect(on > 8 && off > 8 && plans.count == 40)
    }

    @Test func everyFaultOfASwarmStrikesSomewhere() {
        var counts = [Fault: Int]()
        for seed in UInt64(0)..<60 {
            var random = Random(seed: seed)
            var plan = FaultPlan.swarm(&random)
            // The runs are short; what is rare in a long one must be more frequent here.
            if plan.diskStuck > 0 { plan.diskStuck = 2_000 }
            if plan.partition > 0 {
                plan.partition = 5_000
                plan.partitionMax = .milliseconds(50)
            }
            let scenario = Scenario(seed: seed, faults: plan, requests: 300)
            for host in scenario.universe.hosts { for disk in host.disks { disk.mayDamage = { _ in true } } }
            scenario.run()
            for fault in Fault.allCases { counts[fault, default: 0] += scenario.universe.counts[fault] }
        }
        for fault in Fault.allCases where fault != .createFull { #expect(counts[fault, default: 0] > 0, "\(fault) never struck") }
    }
}
