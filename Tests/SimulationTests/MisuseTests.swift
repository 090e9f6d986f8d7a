import Base
import Environment
import Simulation
import Testing

/// The simulator's own checks of what is asked of it: each is a bug of the caller and stops the process.
@Suite struct MisuseTests {
    @Test func changingTheMemoryOfAWriteUnderWayIsCaught() async {
        await #expect(processExitsWith: .failure) {
            let bench = try DiskBench(seed: 1)
            let memory = Memory(4096)
            bench.write(memory, at: 0, 1)
            memory.all[17] = 1
            bench.universe.run(for: .seconds(1))
        }
    }

    @Test func changingItAfterwardsIsNot() async {
        await #expect(processExitsWith: .success) {
            let bench = try DiskBench(seed: 1)
            let memory = Memory(4096)
            bench.write(memory, at: 0, 1)
            bench.universe.run(for: .seconds(1))
            memory.all[17] = 1
            bench.universe.run(for: .seconds(1))
        }
    }

    @Test func unalignedOffsetIsCaught() async {
        await #expect(processExitsWith: .failure) {
            let bench = try DiskBench(seed: 1)
            bench.write(Memory(4096), at: 100, 1)
        }
    }

    @Test func closingADiskWithOperationsUnderWayIsCaught() async {
        await #expect(processExitsWith: .failure) {
            let bench = try DiskBench(seed: 1)
            bench.write(Memory(4096), at: 0, 1)
            bench.world.closeDisk(bench.id)
        }
    }

    @Test func operationForADetachedSinkIsCaught() async {
        await #expect(processExitsWith: .failure) {
            let bench = try DiskBench(seed: 1)
            bench.world.detach(bench.recorder.sink)
            bench.write(Memory(4096), at: 0, 1)
        }
    }

    @Test func processThatSpinsWithoutTimeIsCaught() async {
        await #expect(processExitsWith: .failure) {
            let universe = Universe(seed: 1, timing: .constant)
            let world = universe.addHost("a").start("a")
            let recorder = Recorder(world)
            recorder.onCompletion = { _, _ in _ = world.wake(at: world.now, recorder.ticket()) }
            _ = world.wake(at: .zero, recorder.ticket())
            universe.run(for: .seconds(1))
        }
    }
}
