import Base
import Simulation
@testable import SimulationProbe
import Testing

@Suite struct DeterminismTests {
    private func run(_ seed: UInt64) -> Scenario { Mode.trace(seed) }

    @Test func sameSeedGivesTheSameRun() {
        for seed in UInt64(1)...10 {
            let first = run(seed)
            let second = run(seed)
            #expect(first.universe.trace == second.universe.trace)
            #expect(first.acknowledged == second.acknowledged)
            #expect(first.universe.counts == second.universe.counts)
        }
    }

    @Test func differentSeedsGiveDifferentRuns() {
        let hashes = Set((UInt64(1)...20).map { run($0).universe.trace.hash })
        #expect(hashes.count == 20)
    }

    @Test func anotherProcessGivesTheSameRun() {
        for seed in UInt64(1)...3 {
            let mine = run(seed)
            let line = "\(hexadecimal(mine.universe.trace.hash, digits: 16)) \(mine.universe.events) \(mine.acknowledged)\n"
            #expect(Child(["trace", "\(seed)"]).output == line)
        }
    }

    @Test func traceTellsAnOrderThatIsNotTheSeeds() {
        // What the checker is for: the same work in another order must show.
        func run(_ order: [UInt32]) -> Trace {
            let universe = Universe(seed: 1, timing: .constant)
            let world = universe.addHost("a").start("a")
            let recorder = Recorder(world)
            for token in order { _ = world.wake(at: .zero + .seconds(1), recorder.ticket(token)) }
            universe.run(for: .seconds(2))
            #expect(recorder.completions.count == order.count)
            return universe.trace
        }
        #expect(run([1, 2, 3]) == run([1, 2, 3]))
        #expect(run([1, 2, 3]) != run([3, 2, 1]))
    }

    @Test func recordedTraceShowsWhereRunsPart() {
        func run(_ interval: Interval) -> Trace {
            let universe = Universe(seed: 1, timing: .constant)
            universe.trace.isRecorded = true
            let world = universe.addHost("a").start("a")
            let recorder = Recorder(world)
            _ = world.wake(at: .zero + .seconds(1), recorder.ticket())
            _ = world.wake(at: .zero + .seconds(2) + interval, recorder.ticket())
            universe.run(for: .seconds(3))
            return universe.trace
        }
        let first = run(.seconds(0))
        let second = run(Interval(nanoseconds: 1))
        #expect(first.words.count == Int(first.count))
        let parting = zip(first.words, second.words).prefix { $0 == $1 }.count
        #expect(parting > 0 && parting < first.words.count)
        #expect(first.words[parting] == 2_000_000_000)
    }

    @Test func constantTimingIsTheSameForEverySeed() {
        func run(_ seed: UInt64) -> Int {
            let scenario = Scenario(seed: seed, timing: .constant, requests: 50)
            scenario.run(crashes: false)
            return scenario.universe.events
        }
        #expect(run(1) > 0)
        #expect(abs(run(1) - run(2)) < 40)
    }

    @Test func generatorHasTheKnownStart() {
        var random = Random(seed: 0)
        #expect(random.next() == 0x99ec_5f36_cb75_f2b4)
        #expect(random.next() == 0xbf6e_1f78_4956_452a)
    }
}
