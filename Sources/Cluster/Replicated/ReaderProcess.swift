import Base
import Client
import Environment
import Simulation

/// A process that opens the volume for reading beside its writer, reads for a while, closes it, and begins again.
final class ReaderProcess {
    let world: SimWorld
    private unowned let run: ReplicatedRun
    private(set) var isDone = false
    private var isWorking = true
    private(set) var reads = 0
    private let startSinks: Outstanding

    init(_ run: ReplicatedRun, _ host: SimHost) {
        self.run = run
        world = host.start("reader")
        startSinks = world.outstanding
        world.spawn { [self] in
            let operations = Operations(world)
            while isWorking {
                await work(operations)
                await operations.sleep(.milliseconds(run.universe.choices.between(10, 2_000)))
            }
            operations.close()
            isDone = true
        }
    }

    func stopWorking() { isWorking = false }

    var leftovers: String? { world.outstanding == startSinks ? nil : "the reader leaves behind \(world.outstanding)" }

    private func work(_ operations: Operations) async {
        let stable = run.history.stableNow()
        let volume: Volume
        do throws(Failure) {
            volume = try await Volume.open(world, run.address, OpenOptions(write: false))
        } catch {
            // An OST that was left since the map was asked for, or has lost its disk, says so.
            let met: [Status] = [.unreachable, .deadlineExceeded, .overloaded, .diskFailed, .staleMap, .closed, .notFound, .wrongStore]
            let isExpected = met.contains(error.status)
            if !isExpected, run.universe.counts[.corruption] == 0 {
                run.report("a reader's open ends with \(error.status): \(error.detail)")
            }
            return
        }
        let end = world.now + .milliseconds(run.universe.choices.between(100, 15_000))
        let memory = Memory(bytes: 64 << 10)
        while isWorking, world.now < end {
            let sectors = 1 + run.universe.choices.below(min(128, Int(volume.object.bytes) / Block.sectorBytes))
            let first = run.universe.choices.below(Int(volume.object.bytes) / Block.sectorBytes - sectors + 1)
            let piece = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<(sectors * Block.sectorBytes)])
            do throws(Failure) {
                try await volume.read(at: UInt64(first * Block.sectorBytes), into: piece, deadline: .seconds(5))
                run.history.check(reader: 1, memory.base, firstSector: first, sectors: sectors, since: stable)
                reads += 1
            } catch {
                let isExpected =
                    [.deadlineExceeded, .overloaded, .closed, .diskFailed, .unreachable, .staleMap, .outOfRange].contains(error.status)
                    || (error.status == .damaged && run.damages > 0) || run.universe.counts[.corruption] > 0
                if !isExpected { run.report("a reader's read ends with \(error.status): \(error.detail)") }
            }
            await operations.sleep(.microseconds(run.universe.choices.between(100, 200_000)))
        }
        await volume.close()
        // Each has an engine of its own.
        run.marks.add(volume.marks)
    }
}
