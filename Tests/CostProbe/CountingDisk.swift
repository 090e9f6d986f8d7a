import Base
import PartStore

/// A store and a disk that only counts, or keeps the metadata: what is in data blocks is never looked at.
///
/// The disk takes 50 to 150 microseconds for each transfer, many at once, and its completions come one by one, so that nothing is
/// batched that a real disk would not let batch.
final class CountingDisk {
    private struct UnderWay {
        var token: UInt32
        var at: UInt64
    }

    var store: PartStore
    private(set) var writtenBytes: UInt64 = 0
    private(set) var now = Instant.zero
    var onFinished: (UInt32, Status) -> Void = { _, _ in }
    /// Where writes below the data go; -1: nowhere.
    private let descriptor: Int32
    private let firstDataByte: UInt64
    private var underWay: ContiguousArray<UnderWay> = []
    private var draws: UInt64 = 1

    init(_ store: consuming PartStore, geometry: Geometry, descriptor: Int32 = -1) {
        self.store = store
        self.descriptor = descriptor
        firstDataByte = geometry.firstDataBlock * UInt64(Block.bytes)
    }

    func draw() -> UInt64 {
        draws = draws &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return draws >> 33
    }

    /// Performs what the store wants, and lets the next transfer end. False when there is nothing under way.
    func step() -> Bool {
        settle()
        guard var next = underWay.indices.first else { return false }
        for index in underWay.indices where underWay[index].at < underWay[next].at { next = index }
        now = max(now, Instant(nanoseconds: underWay[next].at))
        let token = underWay[next].token
        underWay.swapAt(next, underWay.count - 1)
        underWay.removeLast()
        store.diskDone(token, result: 0)
        settle()
        return true
    }

    /// Time passes until the store wants something by itself.
    func passTime() { if store.wakeAt != .never { now = max(now, store.wakeAt) } }

    private func settle() {
        store.endBatch(now: now)
        let effects = store.effects
        for effect in effects {
            switch effect {
            case .diskWrite(let token, let offset, let first, let count):
                write(offset, UnsafeBufferPointer(start: store.vectors + first, count: count))
                begin(token)
            case .diskFlush(let token), .diskRead(let token, _, _, _): begin(token)
            case .finished, .damaged: break
            case .failed(let reason): unreachable("the store failed: \(reason)")
            }
        }
        store.clearEffects()
        for effect in effects { if case .finished(let tag, let status) = effect { onFinished(tag, status) } }
    }

    private func begin(_ token: UInt32) {
        underWay.append(UnderWay(token: token, at: now.nanoseconds + 50_000 + draw() % 100_000))
    }

    private func write(_ offset: UInt64, _ vectors: UnsafeBufferPointer<IOVector>) {
        var position = offset
        for vector in vectors {
            writtenBytes += UInt64(vector.count)
            if descriptor >= 0, offset < firstDataByte { writeFile(descriptor, vector.base, vector.count, position) }
            position += UInt64(vector.count)
        }
    }
}
