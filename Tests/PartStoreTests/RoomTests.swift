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

    /// Its writer is gone, and so is its mark: until somebody opens it, nothing of it goes.
    @Test func whatOneObjectLeavesInDoubtDoesNotStopTheOthers() {
        let bench = Bench()
        bench.format()
        let left = bench.object
        #expect(bench.request { $0.create(tag: $1, ObjectRecord(id: Identifier(high: 2, low: 2), name: "w", bytes: 8 << 20)) } == .ok)
        let other = bench.shell.use { $0.find(name: "w") } ?? ObjectNumber(0)
        #expect(bench.request { $0.fence(tag: $1, other, generation: 1, map: 0, settles: true) } == .ok)
        let sequence = fillDoubts(bench)
        // More of it waits, in front of the other one.
        let waiting = zeroes(bench, Version(generation: 1, sequence: sequence + 1), block: 0, isRewrite: false)
        #expect(bench.shell.use { $0.zero(tag: 1_000_000, waiting) } == .ok)
        bench.object = other
        let began = bench.universe.now
        for sequence in UInt64(1)...50 {
            let target = zeroes(bench, Version(generation: 1, sequence: sequence), block: 0, isRewrite: false, mark: sequence - 1)
            #expect(bench.request { $0.zero(tag: $1, target) } == .ok)
        }
        #expect(bench.universe.now - began < .seconds(5))
        bench.object = left
        bench.universe.run(for: Limits.spaceWait)
        #expect(bench.shell.use { $0.statistics.requestsWaitingForSpace } == 0)
    }

    /// Ordinary writes of the first 128 blocks until there is no room left; how many there were.
    private func fillDoubts(_ bench: Bench) -> UInt64 {
        var sequence: UInt64 = 0
        var last = Status?.some(.ok)
        while last == .ok, sequence < 1000 {
            sequence += 1
            let target = zeroes(bench, Version(generation: 1, sequence: sequence), block: 0, isRewrite: false)
            last = bench.request { $0.zero(tag: $1, target) }
        }
        #expect(last == .noSpace)
        return sequence
    }

    private func zeroes(_ bench: Bench, _ version: Version, block: UInt32, isRewrite: Bool = true, mark: UInt64 = 0) -> WriteTarget {
        var target = WriteTarget(
            object: bench.object, part: PartAddress(chunk: 0), firstBlock: block, blockCount: 128, version: version, mark: mark)
        target.isRewrite = isRewrite
        return target
    }

    /// Writer after writer opens the volume, begins to make its members equal, and dies before its mark passes anything.
    private func opensThatDieLeaveRoom() -> Bool {
        let bench = Bench()
        bench.format()
        _ = fillDoubts(bench)
        for generation in UInt64(2)...20 {
            let fenced = bench.request { $0.fence(tag: $1, bench.object, generation: generation, map: 0, settles: false) }
            #expect(fenced == .ok)
            // What is in doubt here, and what is so only on another member.
            for block: UInt32 in [0, 128] {
                let target = zeroes(bench, Version(generation: generation, sequence: 1 + UInt64(block)), block: block)
                guard bench.request({ $0.zero(tag: $1, target) }) == .ok else { return false }
            }
            if generation == 10 { #expect(bench.restart() == nil) }
        }
        return true
    }

    /// Else the volume could not be opened any more, ever.
    @Test func opensThatDieHalfWayDoNotUseUpTheRoom() { #expect(opensThatDieLeaveRoom()) }

    /// What the newest of them has written over has been given back, the block before all of them is kept, and that goes with the mark.
    @Test func ofOpensThatDieHalfWayTheNewestIsInDoubt() {
        let bench = Bench()
        bench.format()
        #expect(bench.write(5, 1) == .ok)
        #expect(bench.write(5, 2) == .ok)
        let free = bench.shell.use { $0.statistics.freeBytes }
        var lowest = UInt64.max
        for generation in UInt64(2)...6 {
            #expect(bench.request { $0.fence(tag: $1, bench.object, generation: generation, map: 0, settles: false) } == .ok)
            #expect(bench.write(5, 10 + generation, generation: generation, sequence: 1, mark: 0) == .ok)
            #expect(bench.request { $0.flush(tag: $1, bench.object, generation: generation, mark: 0) } == .ok)
            lowest = min(lowest, bench.shell.use { $0.statistics.freeBytes })
            let (ranges, _) = bench.shell.use { $0.orphans(of: bench.object, from: 0, rangesMax: 16, entriesMax: 64) }
            #expect(ranges.isEmpty)
            #expect(bench.shell.use { $0.doubtCount(of: bench.object) } == 1)
        }
        #expect(lowest >= free - UInt64(Block.bytes))
        #expect(bench.restart() == nil)
        #expect(bench.shell.use { $0.doubtCount(of: bench.object) } == 1)
        #expect(bench.read(5).1 == 16)
        #expect(bench.write(6, 3, generation: 6, sequence: 2, mark: 1) == .ok)
        #expect(bench.shell.use { $0.doubtCount(of: bench.object) } == 1)
        #expect(bench.read(5).1 == 16)
    }

    #if MUTANTS
        @Test func itIsTheOrphanThatGivesWay() {
            Mutant.active = .keepsEveryOrphan
            defer { Mutant.active = nil }
            #expect(!opensThatDieLeaveRoom())
        }
    #endif

    /// The mark waits for the oldest: if newer ones took the room that comes free, none would ever be passed.
    @Test func writesThatMakeMembersEqualGetRoomInTheirOrder() {
        let bench = Bench()
        bench.format()
        let last = fillDoubts(bench)
        func rewrite(_ number: UInt64, mark: UInt64 = 0) -> WriteTarget {
            zeroes(bench, Version(generation: 1, sequence: last + number), block: 128 * UInt32(number % 8), mark: mark)
        }
        var number: UInt64 = 1
        // All of their room, and what one object must leave to others.
        for _ in 0..<5 {
            let target = rewrite(number)
            #expect(bench.request { $0.zero(tag: $1, target) } == .ok)
            number += 1
        }
        let late = [rewrite(number), rewrite(number + 1), rewrite(number + 2, mark: 1)]
        let ends = bench.batch(late.map { target in { $0.zero(tag: $1, target) } })
        #expect(ends == [.ok, .noSpace, .noSpace])
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

    /// It was within the object when it was admitted.
    @Test func aWriteThatWaitsForRoomDoesNotLandBehindACut() {
        let bench = Bench()
        bench.format()
        let last = fillDoubts(bench)
        let late = zeroes(bench, Version(generation: 1, sequence: last + 1), block: 128, isRewrite: false)
        let ends = bench.batch([
            { $0.zero(tag: $1, late) }, { $0.resize(tag: $1, bench.object, bytes: UInt64(200 * Block.bytes)) },
            { store, tag in
                store.mark(bench.object, generation: 1, mark: last)
                return store.stamp(tag: tag, bench.object, map: 0)
            },
        ])
        #expect(ends == [.outOfRange, .ok, .ok])
    }

    /// The superblock has no room for it, and the store could not be opened any more.
    @Test func anIncarnationThatNoSuperblockHoldsIsRefused() {
        let bench = Bench()
        bench.format()
        #expect(bench.request { $0.adopt(tag: $1, from: $0.incarnation, to: Superblock.counterMax) } == .invalidArgument)
        #expect(bench.request { $0.adopt(tag: $1, from: $0.incarnation, to: Superblock.counterMax - 1) } == .ok)
        #expect(bench.restart() == nil)
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
