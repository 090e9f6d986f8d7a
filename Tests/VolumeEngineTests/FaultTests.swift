import Base
import Testing
import Wire

@testable import VolumeEngine

/// Random operations with short deadlines, refusals of every kind, damaged reads and lost connections. Everything ends; a write that failed
/// may have happened or not, but once a read has seen which, it stays so.
@Suite struct FaultTests {
    private struct Entry {
        var kind: Operation.Kind
        var sectors: Range<Int>
        var tag: UInt
    }

    @Test func whatFailedMayHaveHappenedButReadsNeverGoBack() throws {
        var marks = VolumeMarks()
        for seed in 1...16 { marks.formUnion(try run(seed: UInt64(seed))) }
        let reached: [VolumeMark] = [
            .edgesRead, .edgesMerged, .overlapWait, .wideOperation, .operationSplit, .wireLimitReached, .readMismatchRetried, .readDamaged,
            .writeMismatchRetried, .overloadedRetried, .deadlineBeforeSent, .deadlineOfSentRead, .deadlineOfSentWrite,
            .deadlineWhilePinned, .lateClockForgiven, .replyToAbandoned, .resentWrite, .resentRead, .ghostSettled, .storeRefused,
            .markSentAlone, .slotsExhausted,
        ]
        for mark in reached { #expect(marks.contains(mark), "\(mark) was never reached") }
    }

    private func run(seed: UInt64) throws -> VolumeMarks {
        let sectors = 4096
        let rig = Rig(
            objectBytes: UInt64(sectors) * 512, chunkBytes: 256 << 10, slots: 40, seed: seed &* 7919, attached: false)
        rig.requestsMax = 12
        rig.attach()
        var log: [Entry] = []
        var seen: [UInt: [UInt8]] = [:]
        var steps = 0
        while log.count < 400 || rig.activeCount > 0 {
            steps += 1
            try #require(steps < 1_000_000, "the operations do not end")
            if log.count < 400, rig.random.chance(30) { submitOne(rig, &log, sectors) }
            try move(rig)
            // A reset is followed at once or later, as the shell would.
            if !rig.resets.isEmpty, rig.random.chance(20) {
                rig.resets = []
                rig.detach()
            }
            if rig.isDetached, rig.random.chance(20) { rig.attach() }
            for entry in log where entry.kind == .read && rig.completions[entry.tag] == .ok && seen[entry.tag] == nil {
                seen[entry.tag] = rig.bytes(of: entry.tag)
            }
        }
        try #require(rig.completions.count == log.count)
        check(rig, log, seen, sectors)
        return rig.marks
    }

    private func move(_ rig: Rig) throws {
        if rig.random.chance(2) {
            let opcodes: [Opcode] = [.read, .write, .write, .discard, .flush, .mark]
            let statuses: [Status] = [
                .noSpace, .overloaded, .overloaded, .checksumMismatch, .checksumMismatch, .diskFailed, .closed, .deadlineExceeded, .damaged,
            ]
            rig.ost.refusals[opcodes[rig.random.below(opcodes.count)], default: []].append(statuses[rig.random.below(statuses.count)])
        }
        if rig.random.chance(1) { rig.ost.readsToDamage += 1 + rig.random.below(3) }
        switch rig.random.below(8) {
        case 0, 1: try rig.carryOut(limit: 1 + rig.random.below(rig.random.chance(50) ? 300 : 300_000))
        case 2, 3: if !rig.ost.pending.isEmpty { rig.ost.execute(rig.random.below(rig.ost.pending.count)) }
        case 4, 5: rig.carryIn(limit: 1 + rig.random.below(rig.random.chance(50) ? 300 : 300_000))
        case 6: rig.tick(after: .milliseconds(UInt64(rig.random.below(rig.random.chance(2) ? 2000 : 60))))
        default: if rig.random.chance(1), !rig.isDetached { rig.detach() }
        }
    }

    private func submitOne(_ rig: Rig, _ log: inout [Entry], _ sectors: Int) {
        let kinds: [Operation.Kind] = [.read, .read, .read, .write, .write, .write, .discard, .writeZeroes, .flush]
        let kind = kinds[rig.random.below(kinds.count)]
        let first = rig.random.below(rig.random.chance(70) ? 128 : sectors)
        let count = min(1 + rig.random.below(rig.random.chance(80) ? 24 : 1200), sectors - first)
        let salt = UInt8(truncatingIfNeeded: 1 + log.count % 255)
        let data = kind == .write ? [UInt8](repeating: salt, count: count * 512) : []
        let (tag, refusal) = rig.submit(
            kind, UInt64(first) * 512, count * 512, data: data,
            deadline: .milliseconds(UInt64(50 + rig.random.below(rig.random.chance(30) ? 500 : 20_000))))
        if refusal == nil { log.append(Entry(kind: kind, sectors: first..<first + count, tag: tag)) }
    }

    /// Replays the log in the order of submission, which is that of effect for all that overlap.
    private func check(_ rig: Rig, _ log: [Entry], _ seen: [UInt: [UInt8]], _ sectors: Int) {
        var possible = [Set<UInt8>](repeating: [0], count: sectors)
        for (index, entry) in log.enumerated() {
            let isDone = rig.completions[entry.tag] == .ok
            switch entry.kind {
            case .flush, .rewrite: continue
            case .read:
                guard isDone, let bytes = seen[entry.tag] else { continue }
                for (place, sector) in entry.sectors.enumerated() {
                    let value = bytes[place * 512]
                    let isWhole = bytes[place * 512..<(place + 1) * 512].allSatisfy { $0 == value }
                    #expect(isWhole && possible[sector].contains(value), "sector \(sector) reads \(value), not of \(possible[sector])")
                    possible[sector] = [value]
                }
            case .write, .discard, .writeZeroes:
                let value = entry.kind == .write ? UInt8(truncatingIfNeeded: 1 + index % 255) : 0
                for sector in entry.sectors {
                    if isDone { possible[sector] = [value] } else { possible[sector].insert(value) }
                }
            }
        }
    }
}
