import Base
import Testing
import Wire

@testable import VolumeEngine

/// Random operations against a plain array of bytes. Since overlapping operations take effect in the order of their submission, the model
/// applies each when it is submitted, and a read must bring what the model held at that moment.
@Suite struct RandomOperationTests {
    @Test(arguments: 1...8)
    func operationsTakeEffectInTheirOrderUnderDelaysAndReconnects(seed: Int) throws {
        let errors = try run(seed: UInt64(seed), operations: 500, overlapRuleIsOff: false)
        #expect(errors == 0)
    }

    /// The control: without the overlap rule the same test must notice.
    @Test func withoutTheOverlapRuleReadsAreWrong() throws {
        #expect(try run(seed: 1, operations: 500, overlapRuleIsOff: true) > 0)
    }

    private func run(seed: UInt64, operations: Int, overlapRuleIsOff: Bool) throws -> Int {
        let size: UInt64 = 2 << 20
        let rig = Rig(objectBytes: size - 1024, chunkBytes: 256 << 10, slots: 48, seed: seed)
        rig.engine.overlaps.isDisabled = overlapRuleIsOff
        var model = [UInt8](repeating: 0, count: Int(size))
        var expected: [UInt: [UInt8]] = [:]
        var submitted = 0
        var errors = 0
        var steps = 0
        while submitted < operations || rig.activeCount > 0 {
            steps += 1
            try #require(steps < 2_000_000, "the operations do not end")
            if submitted < operations, rig.random.chance(30) {
                submitOne(rig, &model, &expected)
                submitted += 1
            }
            switch rig.random.below(5) {
            case 0, 1: try rig.carryOut(limit: 1 + rig.random.below(rig.random.chance(50) ? 300 : 300_000))
            case 2: if !rig.ost.pending.isEmpty { rig.ost.execute(rig.random.below(rig.ost.pending.count)) }
            case 3: rig.carryIn(limit: 1 + rig.random.below(rig.random.chance(50) ? 300 : 300_000))
            default: if rig.random.chance(2) { breakConnection(rig) }
            }
            if rig.random.chance(1) { rig.tick(after: .milliseconds(30)) }
            for (tag, bytes) in expected {
                guard let status = rig.completions[tag] else { continue }
                expected[tag] = nil
                if status != .ok || (!bytes.isEmpty && rig.bytes(of: tag) != bytes) { errors += 1 }
                for buffer in rig.memory[tag] ?? [] { buffer.deallocate() }
                rig.memory[tag] = nil
            }
        }
        try rig.run()
        #expect(expected.isEmpty)
        #expect(rig.freeCount == 48)
        for block in 0..<size / 4096 {
            let stored = rig.ost.blocks[block] ?? [UInt8](repeating: 0, count: 4096)
            if stored != Array(model[Int(block) * 4096..<Int(block + 1) * 4096]) { errors += 1 }
        }
        return errors
    }

    private func submitOne(_ rig: Rig, _ model: inout [UInt8], _ expected: inout [UInt: [UInt8]]) {
        let kinds: [Operation.Kind] = [.read, .read, .read, .write, .write, .write, .discard, .writeZeroes, .flush]
        let kind = kinds[rig.random.below(kinds.count)]
        let sectors = Int(rig.objectBytes) / 512
        // Most of it in one corner, so that operations overlap.
        let reach = rig.random.chance(70) ? 256 : sectors
        let length = 1 + rig.random.below(rig.random.chance(80) ? 24 : 1200)
        let first = rig.random.below(reach)
        let count = min(length, sectors - first)
        let range = first * 512..<(first + count) * 512
        var cuts: [Int] = []
        for _ in 0..<rig.random.below(4) * rig.random.below(4) { cuts.append(1 + rig.random.below(range.count)) }
        let data = kind == .write ? (0..<range.count / 8).flatMap { _ in bytes(of: rig.random.next()) } : []
        let (tag, refusal) = rig.submit(
            kind, UInt64(range.lowerBound), range.count, data: data, cuts: cuts.sorted(), durable: rig.random.chance(20))
        if refusal != nil { return }
        switch kind {
        case .read: expected[tag] = Array(model[range])
        case .write:
            model.replaceSubrange(range, with: data)
            expected[tag] = []
        case .discard, .writeZeroes:
            model.replaceSubrange(range, with: repeatElement(0, count: range.count))
            expected[tag] = []
        case .flush, .rewrite: expected[tag] = []
        }
    }

    private func breakConnection(_ rig: Rig) {
        rig.detach()
        for _ in 0..<rig.random.below(3) { rig.submit(.flush) }
        rig.attach()
    }

    private func bytes(of value: UInt64) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
}
