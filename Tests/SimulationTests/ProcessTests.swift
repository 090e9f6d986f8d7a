import Base
import Environment
import Simulation
import Testing

@Suite struct ProcessTests {
    @Test func timersWakeInTimeAndNeverEarly() {
        let universe = Universe(seed: 1)
        let world = universe.addHost("a").start("a")
        let recorder = Recorder(world)
        var woken: [(UInt32, Instant)] = []
        recorder.onCompletion = { token, _ in woken.append((token, world.now)) }
        for token in UInt32(1)...5 { _ = world.wake(at: .zero + .milliseconds(UInt64(token) * 10), recorder.ticket(token)) }
        #expect(world.outstanding.timers == 5)
        universe.run(for: .seconds(1))
        #expect(woken.map(\.0) == [1, 2, 3, 4, 5])
        for (token, instant) in woken {
            let due = Instant.zero + .milliseconds(UInt64(token) * 10)
            #expect(instant >= due && instant < due + .milliseconds(1))
        }
        #expect(world.outstanding.timers == 0)
        #expect(universe.now == .zero + .seconds(1))
    }

    @Test func cancelledTimerDoesNotComplete() {
        for seed in UInt64(0)..<20 {
            let universe = Universe(seed: seed)
            let world = universe.addHost("a").start("a")
            let recorder = Recorder(world)
            let timers = (UInt32(0)..<4).map { world.wake(at: .zero + .milliseconds(1), recorder.ticket($0)) }
            // Also between its expiry and its delivery.
            recorder.onCompletion = { token, _ in
                #expect(token != 1)
                world.cancel(timers[1])
            }
            world.cancel(timers[0])
            world.cancel(timers[0])
            var first = true
            recorder.onCompletion = { token, _ in
                #expect(token != 0)
                if first { for timer in timers { world.cancel(timer) } }
                first = false
            }
            universe.run(for: .seconds(1))
            #expect(recorder.completions.count == 1)
            #expect(world.outstanding.timers == 0)
        }
    }

    @Test func batchesEndOnceAndAreDrawn() throws {
        var sizes: Set<Int> = []
        for seed in UInt64(0)..<20 {
            let universe = Universe(seed: seed)
            let world = universe.addHost("a").start("a")
            let recorder = Recorder(world)
            for token in UInt32(0)..<16 { _ = world.wake(at: .zero + .milliseconds(1), recorder.ticket(token)) }
            universe.run(for: .seconds(1))
            #expect(recorder.batches.reduce(0, +) == 16)
            #expect(!recorder.batches.contains(0))
            sizes.formUnion(recorder.batches)
        }
        #expect(sizes.count > 3)
    }

    @Test func detachedSinkHearsNothing() {
        let universe = Universe(seed: 1)
        let world = universe.addHost("a").start("a")
        let first = Recorder(world)
        _ = world.wake(at: .zero + .milliseconds(1), first.ticket())
        world.detach(first.sink)
        // Its number is still named by an operation under way.
        let second = Recorder(world)
        #expect(second.sink != first.sink)
        universe.run(for: .seconds(1))
        #expect(first.completions.isEmpty && second.completions.isEmpty)
        #expect(Recorder(world).sink == first.sink)
    }

    @Test func killedProcessHearsNothing() throws {
        let bench = try DiskBench(seed: 1)
        let memory = Memory(512)
        bench.write(memory, at: 0, 1)
        _ = bench.world.wake(at: .zero + .milliseconds(1), bench.recorder.ticket(2))
        bench.world.kill()
        #expect(bench.universe.runUntilQuiet(limit: .seconds(1)))
        bench.universe.run(for: .seconds(1))
        #expect(bench.recorder.completions.isEmpty)
        #expect(bench.world.outstanding == Outstanding())
        // What code of a dead process still calls does nothing.
        bench.write(memory, at: 0, 3)
        bench.world.detach(bench.recorder.sink)
        #expect(throws: Failure.self) { try bench.world.openDisk("/disk", .readWrite) }
        #expect(bench.universe.counts[.kill] == 1)
    }

    @Test func killedFromWithinItsOwnCompletionHearsNoMore() {
        let universe = Universe(seed: 1)
        let world = universe.addHost("a").start("a")
        let recorder = Recorder(world)
        recorder.onCompletion = { _, _ in world.kill() }
        for token in UInt32(0)..<8 { _ = world.wake(at: .zero + .milliseconds(1), recorder.ticket(token)) }
        universe.run(for: .seconds(1))
        #expect(recorder.completions.count == 1)
        #expect(recorder.batches.isEmpty)
    }

    @Test func tasksOfADeadProcessNeverRun() {
        for seed in UInt64(0)..<20 {
            let universe = Universe(seed: seed)
            let host = universe.addHost("a")
            let world = host.start("a")
            var steps = 0
            for _ in 0..<4 {
                world.spawn {
                    let operations = Operations(world)
                    while true {
                        await operations.sleep(.milliseconds(1))
                        steps += 1
                    }
                }
            }
            universe.run(for: .milliseconds(10))
            #expect(steps > 20)
            world.kill()
            let atTheEnd = steps
            world.spawn { steps += 1 }
            universe.run(for: .seconds(1))
            #expect(steps == atTheEnd)
            // The next life of the process runs.
            let next = host.start("a")
            next.spawn { steps += 1 }
            universe.run(for: .seconds(1))
            #expect(steps == atTheEnd + 1)
        }
    }

    @Test func jobThatIsReadyAtTheKillNeverRuns() {
        let universe = Universe(seed: 1)
        let world = universe.addHost("a").start("a")
        var steps = 0
        world.spawn { steps += 1 }
        #expect(world.outstanding.jobs == 1)
        world.kill()
        universe.run(for: .seconds(1))
        #expect(steps == 0)
    }

    @Test func jobsRunInADrawnOrder() {
        func run(_ seed: UInt64) -> [Int] {
            let universe = Universe(seed: seed)
            let world = universe.addHost("a").start("a")
            var order: [Int] = []
            for index in 0..<8 { world.spawn { order.append(index) } }
            universe.run(for: .seconds(1))
            return order
        }
        #expect(run(1) == run(1))
        #expect(run(1).sorted() == Array(0..<8))
        #expect(Set((UInt64(0)..<10).map(run)).count > 5)
    }

    @Test func actorsOnTheExecutorRun() {
        let universe = Universe(seed: 1)
        let world = universe.addHost("a").start("a")
        let counter = Counter(world)
        var sum = 0
        for _ in 0..<5 { world.spawn { sum += await counter.next() } }
        universe.run(for: .seconds(1))
        #expect(sum == 1 + 2 + 3 + 4 + 5)
    }

    @Test func stalledProcessGetsItsCompletionsLate() throws {
        let bench = try DiskBench(seed: 1)
        var at = Instant.zero
        bench.recorder.onCompletion = { _, _ in at = bench.world.now }
        bench.world.flush(bench.id, bench.recorder.ticket(1))
        bench.world.stall(for: .seconds(3))
        #expect(bench.finish(1) == 0)
        #expect(at >= .zero + .seconds(3))
    }

    @Test func healEndsAStall() throws {
        let bench = try DiskBench(seed: 1)
        bench.world.flush(bench.id, bench.recorder.ticket(1))
        bench.world.stall(for: .seconds(3))
        bench.universe.run(for: .milliseconds(100))
        #expect(bench.recorder.completions.isEmpty)
        bench.universe.heal()
        bench.universe.run(for: .milliseconds(100))
        #expect(bench.recorder.completions.count == 1)
        bench.universe.run(for: .seconds(10))
        #expect(bench.recorder.completions.count == 1)
    }

    @Test func clocksBeginWithTheirProcess() {
        let universe = Universe(seed: 1)
        let host = universe.addHost("a")
        universe.run(for: .seconds(5))
        let world = host.start("a")
        #expect(world.now == .zero)
        let recorder = Recorder(world)
        _ = world.wake(at: .zero + .seconds(1), recorder.ticket())
        universe.run(for: .milliseconds(900))
        #expect(recorder.completions.isEmpty)
        universe.run(for: .milliseconds(200))
        #expect(recorder.completions.count == 1)
    }

    @Test func allocatedMemoryIsZeroAndAligned() throws {
        let universe = Universe(seed: 1)
        let world = universe.addHost("a").start("a")
        let memory = try world.allocate(bytes: 10_000)
        #expect(memory.count == 10_000)
        #expect(UInt(bitPattern: memory.baseAddress) % 4096 == 0)
        #expect(memory.allSatisfy { $0 == 0 })
    }

    @Test func marksAreCounted() {
        let universe = Universe(seed: 1)
        let world: any World = universe.addHost("a").start("a")
        world.mark("store.torn-tail")
        world.mark("store.torn-tail")
        world.mark("a.first")
        #expect(universe.marks["store.torn-tail"] == 2)
        #expect(universe.marks["never"] == 0)
        #expect(universe.marks.all.map(\.name) == ["a.first", "store.torn-tail"])
    }

    @Test func universeIsFreedWithItsProcesses() {
        weak var universe: Universe?
        weak var host: SimHost?
        do {
            let scenario = Universe(seed: 1)
            universe = scenario
            let machine = scenario.addHost("a")
            host = machine
            let world = machine.start("a")
            world.spawn { await Operations(world).sleep(.seconds(100)) }
            scenario.run(for: .seconds(1))
            #expect(universe != nil)
        }
        #expect(universe == nil)
        #expect(host == nil)
    }

    @Test func endFreesDisksThoughATaskHoldsTheUniverse() {
        weak var disk: SimDisk?
        do {
            let universe = Universe(seed: 1)
            let host = universe.addHost("a")
            disk = host.addDisk("/disk", bytes: 1 << 20)
            let world = host.start("a")
            world.spawn {
                await Operations(world).sleep(.seconds(100))
                universe.heal()
            }
            universe.run(for: .seconds(1))
            #expect(disk != nil)
            universe.end()
            #expect(universe.events > 0)
        }
        #expect(disk == nil)
    }

    @Test func quietIsToldFromBusy() throws {
        let bench = try DiskBench(seed: 1)
        bench.disk.stick()
        bench.world.flush(bench.id, bench.recorder.ticket(1))
        _ = bench.world.wake(at: .zero + .seconds(100), bench.recorder.ticket(2))
        #expect(!bench.universe.runUntilQuiet(limit: .seconds(5)))
        bench.universe.heal()
        // A timer far away does not count.
        #expect(bench.universe.runUntilQuiet(limit: .seconds(5)))
        #expect(bench.recorder.completions.count == 1)
        // One within the time of calm does.
        #expect(bench.universe.runUntilQuiet(limit: .seconds(500), calm: .seconds(200)))
        #expect(bench.recorder.completions.count == 2)
        #expect(!bench.universe.run(while: { true }, limit: .seconds(1)))
        #expect(bench.universe.run(while: { false }, limit: .seconds(1)))
    }

    @Test func turnsAreShownToTheChecker() {
        let universe = Universe(seed: 1)
        let world = universe.addHost("a").start("a")
        var turns = 0
        universe.afterTurn = {
            #expect($0 === world)
            turns += 1
        }
        world.spawn {}
        universe.run(for: .seconds(1))
        #expect(turns == 1)
    }
}

private actor Counter {
    private let executor: any WorldExecutor
    private var value = 0

    init(_ world: SimWorld) { executor = world.executor }

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    func next() -> Int {
        assertIsolated()
        value += 1
        return value
    }
}
