import Base
import Environment

/// Pieces of a copy under way at the volume, each with its memory. Used in a circle: the oldest is waited for before its slot is used
/// again, so the other side of the copy sees them in order.
final class TransferSlots {
    static let count = 8
    static let pieceBytes = Limits.frameBytesMax

    private let slots: [Slot]

    init(_ world: any World) throws(Failure) {
        let memory = try world.allocate(bytes: TransferSlots.count * TransferSlots.pieceBytes)
        slots = (0..<TransferSlots.count).map { index in
            let start = index * TransferSlots.pieceBytes
            return Slot(world, UnsafeMutableRawBufferPointer(rebasing: memory[start..<start + TransferSlots.pieceBytes]))
        }
    }

    /// Of the piece with this number.
    subscript(_ piece: Int) -> Slot { slots[piece % slots.count] }

    /// Waits until nothing is under way, and throws what has gone wrong in the oldest piece that failed.
    func drain(from piece: Int) async throws(Failure) {
        var first: Failure?
        for offset in 0..<slots.count {
            do throws(Failure) { try await self[piece + offset].wait() } catch { first = first ?? error }
        }
        if let first { throw first }
    }

    /// Waits for what is under way, whatever becomes of it. The memory lives as long as the world, so a daemon that is silent is not
    /// waited for.
    func settle(after failure: Failure) async {
        guard !failure.isSilence else { return }
        for slot in slots {
            do throws(Failure) { try await slot.wait() } catch {}
        }
    }

    final class Slot {
        let memory: UnsafeMutableRawBufferPointer
        private let world: any World
        private var isBusy = false
        private var failure: Failure?
        private var waiter: UnsafeContinuation<Void, Never>?

        init(_ world: any World, _ memory: UnsafeMutableRawBufferPointer) {
            self.world = world
            self.memory = memory
        }

        /// Runs `body` beside the caller.
        func start(_ body: @escaping () async throws(Failure) -> Void) {
            invariant(!isBusy, "a slot is used twice")
            isBusy = true
            world.spawn {
                do throws(Failure) { try await body() } catch { self.failure = error }
                self.isBusy = false
                self.waiter?.resume()
                self.waiter = nil
            }
        }

        /// Until what was started last has ended; throws its failure, once.
        func wait() async throws(Failure) {
            await suspend(while: { isBusy }) { waiter = $0 }
            defer { failure = nil }
            if let failure { throw failure }
        }
    }
}
