import Base
import Simulation
import Testing

@testable import PartStore

/// A member that is filled while its writer writes, under random batches, restarts and moves of the log, against a model of a few lines:
/// a block holds what the writer wrote last since the fill began, or else what the fill brought last, or else what was there.
@Suite struct FillModelTests {
    private final class Run {
        static let blocks = 300
        let bench = Bench(bytes: 8 << 20)
        var random: Random
        var content = [UInt64](repeating: 0, count: Run.blocks)
        var live = [Bool](repeating: false, count: Run.blocks)
        var number: UInt64 = 0
        var sequence: UInt64 = 0
        var next: UInt64 = 1
        var problems: [String] = []
        private var memories: [UnsafeMutableRawBufferPointer] = []

        init(seed: UInt64) {
            random = Random(seed: seed)
            bench.format()
            // The page in question is captured last, long after the objects: what is applied meanwhile is in both.
            let record = ObjectRecord(id: Identifier(high: 1, low: 2), name: "wide", bytes: 1 << 30)
            #expect(bench.request { $0.create(tag: $1, record) } == .ok)
            bench.object = bench.shell.use { $0.find(name: "wide") } ?? ObjectNumber(0)
            #expect(bench.request { $0.fence(tag: $1, bench.object, generation: 1, map: 0, settles: true) } == .ok)
            bench.chunk = 255
            for chunk in 0..<255 as Range<UInt32> { #expect(bench.zero(chunk, 0) == .ok) }
            sequence = 255
        }

        func begin() {
            let status = bench.request(beginning())
            if status != .ok { problems.append("fill \(number) does not begin: \(String(describing: status))") }
        }

        private func beginning() -> (inout PartStore, UInt32) -> Status {
            number += 1 + random.below(3 as UInt64)
            live = [Bool](repeating: false, count: Run.blocks)
            return { [number, bench] in $0.beginFill(tag: $1, bench.object, number: number, generation: 1, map: number) }
        }

        /// A write or zero of the writer or of the fill; the model learns of it in the order in which the store does.
        private func change(_ mark: UInt64) -> (inout PartStore, UInt32) -> Status {
            let count = random.below(8) == 0 ? 1 + random.below(100) : 1 + random.below(4)
            let first = random.below(Run.blocks - count)
            let isFill = random.coin()
            let isZero = random.below(6) == 0
            let value = isZero ? 0 : next
            next += 1
            sequence += 1
            for block in first..<first + count where !isFill || !live[block] {
                content[block] = value
                if !isFill { live[block] = true }
            }
            var target = WriteTarget(
                object: bench.object, part: PartAddress(chunk: bench.chunk), firstBlock: UInt32(first), blockCount: UInt32(count),
                version: Version(generation: 1, sequence: sequence), mark: isFill ? 0 : mark)
            if isFill {
                target.fill = number
                target.isInDoubt = random.below(3) == 0
                // What is not in doubt has a bound for its version, which may be far below.
                if !target.isInDoubt { target.version.sequence = random.below(sequence + 1) }
                target.isAbsent = isZero && random.coin()
            }
            if isZero { return { $0.zero(tag: $1, target) } }
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count * (Block.bytes + 4), alignment: Block.bytes)
            memories.append(memory)
            let data = UnsafeMutableRawBufferPointer(rebasing: memory[..<(count * Block.bytes)])
            data.initializeMemory(as: UInt64.self, repeating: value)
            let checks = memory.baseAddress! + count * Block.bytes
            for block in 0..<count {
                let bytes = UnsafeRawBufferPointer(rebasing: data[(block * Block.bytes)..<((block + 1) * Block.bytes)])
                checks.store(Checksum.of(bytes), at: block * 4)
            }
            return { $0.write(tag: $1, target, memory: data.baseAddress!, checks: UnsafeRawPointer(checks)) }
        }

        func batch() {
            let mark = min(bench.shell.use { $0.durableSequence(of: bench.object) }, sequence)
            // A beginning refuses what waits for room, so it comes first. Those between the objects and the page of a snapshot matter most.
            let isMoving = bench.shell.use { $0.isMovingLog }
            var bodies = random.below(isMoving ? 2 : 40) == 0 ? [beginning()] : []
            for _ in 0..<1 + random.below(12) { bodies.append(change(mark)) }
            if random.below(10) == 0 {
                bodies.append { [bench] in $0.flush(tag: $1, bench.object, generation: 1, mark: mark) }
            }
            for status in bench.batch(bodies) where status != .ok { problems.append("a change ended with \(String(describing: status))") }
            for memory in memories { memory.deallocate() }
            memories = []
        }

        func compare(_ when: String) {
            for block in 0..<Run.blocks where random.below(4) == 0 || when != "running" {
                let (status, found) = bench.read(UInt32(block))
                if status != .ok || found != content[block] {
                    problems.append("\(when), block \(block) holds \(found), not \(content[block]) (live \(live[block]))")
                }
            }
        }

        /// Everything that a restart must rebuild.
        private func picture() -> [String] {
            bench.shell.use { store in
                let object = bench.object
                let part = PartAddress(chunk: bench.chunk)
                let (highest, blocks) = store.checks(of: object, part, firstBlock: 0, blockCount: UInt32(Run.blocks))
                var all = ["\(highest) \(store.fill(of: object)) \(store.doubtCount(of: object)) \(store.mark(of: object))"]
                all.append("\(store.mappedBlocks(of: object)) \(store.state.doubts.keptBlocks)")
                let key = BlockMap.Key(object: bench.object, part: PartAddress(chunk: bench.chunk), page: 0)
                for (block, check) in blocks.enumerated() {
                    all.append("\(block) \(check)")
                    guard let page = store.state.map.find(key) else { continue }
                    store.state.doubts.forEach(page, block) { all.append("\($0.version) \($0.oldAddress) \($0.isOrphan)") }
                }
                return all
            }
        }

        func restart() {
            let before = picture()
            if let failure = bench.restart() { problems.append("\(failure)") }
            let after = picture()
            for (left, right) in zip(before, after) where left != right { problems.append("a restart makes '\(right)' of '\(left)'") }
            if before.count != after.count { problems.append("a restart changes what is in doubt") }
            if bench.shell.use({ $0.fillUnderWay(of: bench.object) }) != 0 { problems.append("a fill outlives its process") }
            compare("after a restart")
        }
    }

    @Test func aFilledMemberHoldsWhatItShouldAlsoAfterRestarts() {
        var (marks, snapshots) = (StoreMarks(), UInt64(0))
        for seed in 1...6 as ClosedRange<UInt64> {
            let run = Run(seed: seed)
            run.begin()
            var known: UInt64 = 0
            for step in 1...1500 where run.problems.isEmpty {
                run.batch()
                if step % 64 == 0 { run.compare("running") }
                // Directly behind a snapshot, before a mark has passed what was in doubt then; and at any time.
                let finished = run.bench.shell.use { $0.statistics.snapshots }
                let isFresh = finished > known
                known = finished
                switch isFresh ? 0 : run.random.below(60) {
                case 0:
                    marks = marks.union(run.bench.shell.use { $0.marks })
                    snapshots += run.bench.shell.use { $0.statistics.snapshots }
                    run.restart()
                    run.begin()
                    known = 0
                case 1: run.begin()
                case 2: run.bench.universe.run(for: .milliseconds(1 + run.random.below(2000 as UInt64)))
                default: break
                }
            }
            marks = marks.union(run.bench.shell.use { $0.marks })
            snapshots += run.bench.shell.use { $0.statistics.snapshots }
            run.compare("at the end")
            #expect(run.problems == [], "seed \(seed)")
        }
        #expect(marks.contains(.fillLost) && marks.contains(.fillPutBelow))
        #expect(snapshots > 3)
    }

    /// Below a live write that is in doubt stands what the fill brought, unless that may be newer.
    @Test func anOldBlockBelowALiveWriteIsTheFills() {
        let bench = Bench(bytes: 8 << 20)
        bench.format()
        #expect(bench.write(5, 1) == .ok)
        #expect(bench.request { $0.beginFill(tag: $1, bench.object, number: 1, generation: 1, map: 1) } == .ok)
        #expect(bench.write(5, 2) == .ok)
        func old() -> UInt32? {
            bench.shell.use { store in
                let key = BlockMap.Key(object: bench.object, part: PartAddress(chunk: 0), page: 0)
                return store.state.map.find(key).flatMap { store.state.doubts.newest($0, 5)?.oldCheck }
            }
        }
        func check(_ value: UInt64) -> UInt32 {
            [UInt64](repeating: value, count: Block.bytes / 8).withUnsafeBytes { Checksum.of($0) }
        }
        #expect(old() == check(1))
        func fill(_ value: UInt64, sequence: UInt64) -> Status? {
            var data = [UInt64](repeating: value, count: Block.bytes / 8)
            var checks = [check(value)]
            return data.withUnsafeMutableBytes { data in
                checks.withUnsafeMutableBytes { checks in
                    bench.request {
                        var target = WriteTarget(
                            object: bench.object, part: PartAddress(chunk: 0), firstBlock: 5, blockCount: 1,
                            version: Version(generation: 1, sequence: sequence))
                        target.fill = 1
                        return $0.write(tag: $1, target, memory: data.baseAddress!, checks: checks.baseAddress!)
                    }
                }
            }
        }
        #expect(fill(8, sequence: 1) == .ok)
        #expect(old() == check(8) && bench.read(5).1 == 2)
        #expect(fill(9, sequence: 2) == .ok)
        #expect(old() == check(8) && bench.read(5).1 == 2)
        #expect(bench.restart() == nil)
        #expect(old() == check(8) && bench.read(5).1 == 2)
    }
}
