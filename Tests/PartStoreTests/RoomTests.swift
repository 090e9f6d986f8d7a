import Base
import Testing

@testable import PartStore

@Suite struct RoomTests {
    /// The mark, which gives room back, waits for such a write: behind others that wait for room it would wait for ever.
    @Test func aWriteThatMakesMembersEqualHasRoomOfItsOwn() {
        let bench = Bench()
        bench.format()
        var sequence: UInt64 = 0
        func zero(isRewrite: Bool = false, mark: UInt64 = 0) -> Status? {
            sequence += 1
            var target = WriteTarget(
                object: bench.object, part: PartAddress(chunk: 0), firstBlock: 0, blockCount: 128,
                version: Version(generation: 1, sequence: sequence), mark: mark)
            target.isRewrite = isRewrite
            return bench.request { $0.zero(tag: $1, target) }
        }
        var last = zero()
        while last == .ok, sequence < 1000 { last = zero() }
        #expect(last == .noSpace)
        #expect(zero(isRewrite: true) == .ok)
        #expect(zero() == .noSpace)
        #expect(zero(mark: sequence) == .ok)
    }

    /// It was admitted, and is not on its way to the disk yet.
    private func fenceRefusesWhatWaits() -> Bool {
        let bench = Bench()
        bench.format()
        #expect(bench.write(200, 7) == .ok)
        var sequence: UInt64 = 1
        func zero(_ block: UInt32, _ count: UInt32) -> WriteTarget {
            sequence += 1
            return WriteTarget(
                object: bench.object, part: PartAddress(chunk: 0), firstBlock: block, blockCount: count,
                version: Version(generation: 1, sequence: sequence), mark: 0)
        }
        var last = Status?.some(.ok)
        while last == .ok, sequence < 1000 {
            let target = zero(0, 128)
            last = bench.request { $0.zero(tag: $1, target) }
        }
        #expect(last == .noSpace)
        let late = zero(128, 128)
        // It settles, so that there is room at once.
        let ends = bench.batch([
            { $0.zero(tag: $1, late) }, { $0.fence(tag: $1, bench.object, generation: 2, map: 0, settles: true) },
        ])
        #expect(ends[1] == .ok)
        return ends[0] == .fenced && bench.read(200).1 == 7
    }

    @Test func aWriteThatWaitsForRoomDoesNotLandBehindAFence() { #expect(fenceRefusesWhatWaits()) }

    #if MUTANTS
        @Test func itIsTheFenceThatRefusesIt() {
            Mutant.active = .fencesWithoutDraining
            defer { Mutant.active = nil }
            #expect(!fenceRefusesWhatWaits())
        }
    #endif
}
