import Base
import Client
import Environment
import Simulation
import VolumeEngine
import Wire

/// Catalogue calls from a process of their own, now and then: list, stat, resize, and a second volume that is made, written to and removed.
final class Keeper {
    private static let other = "other"
    let world: SimWorld
    private unowned let run: SingleRun
    private(set) var volume: Volume?
    private(set) var hasCreated = false
    private(set) var isBusy = false
    private var isWorking = false
    private var catalogue: OSTCatalogue

    init(_ run: SingleRun) {
        self.run = run
        world = run.keeperHost.start("keeper")
        catalogue = OSTCatalogue(world, SingleRun.endpoint, deadline: .seconds(5))
    }

    /// Before any fault.
    func createVolume() {
        world.spawn { [self] in
            while !hasCreated {
                do throws(Failure) {
                    var layout = Layout()
                    layout.chunkBytes = run.options.chunkBytes
                    _ = try await catalogue.create("volume", bytes: run.options.volumeBytes, layout: layout)
                    hasCreated = true
                } catch {
                    guard error.status == .unreachable else { return run.report("creating the volume: \(error.detail)") }
                    await pause(.milliseconds(20))
                }
            }
        }
    }

    private func pause(_ interval: Interval) async {
        let operations = Operations(world)
        await operations.sleep(interval)
        operations.close()
    }

    func start() {
        isWorking = true
        isBusy = true
        world.spawn { [self] in
            // Two, so that changes of one object meet.
            await world.together(2) { [self] _ in
                let catalogue = OSTCatalogue(world, SingleRun.endpoint, deadline: .seconds(5))
                while isWorking {
                    await pause(.milliseconds(run.universe.choices.between(1, 800)))
                    if isWorking { await call(catalogue) }
                }
                catalogue.close()
            }
            isBusy = false
        }
    }

    func stopWorking() { isWorking = false }
    func close() { catalogue.close() }

    func release() {
        volume = nil
    }

    private func call(_ catalogue: OSTCatalogue) async {
        let choice = run.universe.choices.below(12 as UInt64)
        do throws(Failure) {
            switch choice {
            case 0: try check(await catalogue.list())
            case 1: _ = try await catalogue.stat("volume")
            case 2: _ = try await catalogue.statistics()
            case 3, 4: try await resize(catalogue)
            case 5, 6, 7: _ = try await catalogue.create(Keeper.other, bytes: 2 << 20, layout: Layout())
            case 8, 9: try await catalogue.remove(Keeper.other)
            case 10: try await catalogue.resize(Keeper.other, bytes: UInt64(Block.bytes) * run.universe.choices.between(1, 512))
            case _: try await useOther()
            }
        } catch { check(error) }
    }

    private func resize(_ catalogue: OSTCatalogue) async throws(Failure) {
        let bytes = try await catalogue.stat("volume").object.bytes
        guard bytes < run.options.volumeBytesMax else { return }
        let more = Block.sectorBytes * (1 + run.universe.choices.below(Int(run.options.volumeBytesMax - bytes) / Block.sectorBytes))
        // Two of these may meet; the volume must never shrink under its writer.
        guard !isResizing else { return }
        isResizing = true
        defer { isResizing = false }
        let now = try await catalogue.stat("volume").object.bytes
        guard now == bytes else { return }
        try await catalogue.resize("volume", bytes: bytes + UInt64(more))
    }

    private var isResizing = false

    private func check(_ list: [StatReply]) {
        if !list.contains(where: { $0.object.name == "volume" }) { run.report("the volume is not listed") }
    }

    private func check(_ failure: Failure) {
        switch failure.status {
        case .unreachable, .deadlineExceeded, .busy, .closed, .overloaded, .notFound, .alreadyExists, .noSpace, .diskFailed: break
        case .malformed where run.universe.counts[.corruption] > 0: break
        case _: run.report("a catalogue call ends with \(failure.status): \(failure.detail)")
        }
    }

    /// Blocks, so that removing it has something to sweep.
    private func useOther() async throws(Failure) {
        guard volume == nil else { return }
        let opened = try await Volume.open(world, Address(SingleRun.endpoint, name: Keeper.other), run.options.client)
        volume = opened
        let memory = Memory(bytes: 64 << 10)
        memory.bytes.initializeMemory(as: UInt8.self, repeating: 7)
        for _ in 0..<8 where isWorking {
            let room = opened.object.bytes / UInt64(Block.sectorBytes)
            let bytes = min(room * UInt64(Block.sectorBytes), UInt64(memory.bytes.count))
            let offset = run.universe.choices.below(room) * UInt64(Block.sectorBytes)
            guard offset + bytes <= opened.object.bytes else { continue }
            let piece = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<Int(bytes)])
            do throws(Failure) { try await opened.write(at: offset, from: piece, deadline: .seconds(3)) } catch { break }
            await pause(.milliseconds(run.universe.choices.between(1, 200)))
        }
        await opened.close()
        run.harvest()
        volume = nil
    }
}
