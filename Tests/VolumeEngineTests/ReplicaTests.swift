import Base
import Testing
import Wire

@testable import VolumeEngine

/// Volumes with several members: what one OST does or does not do, and what the user and the others see of it.
@Suite struct ReplicaTests {
    private let block = Block.bytes

    @Test func aWriteGoesToAllMembersWithOneVersion() throws {
        let rig = ReplicaRig()
        let write = rig.submit(.write, 0, block, value: 5)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
        #expect(rig.osts[0].versions[0] == 1 && rig.osts[1].versions[0] == 1 && rig.osts[2].versions[0] == nil)
        #expect(rig.osts.prefix(2).map { $0.seen.last?.part.member } == [0, 1])
        #expect(rig.marks.contains(.replicated))
    }

    /// Else one who is always busy would keep members from being filled for as long as he is.
    @Test func aUserWithAllHisOperationsUnderWayLeavesRoomForRepairs() throws {
        let rig = ReplicaRig()
        for index in 0..<40 { #expect(rig.submit(.write, UInt64(index * block), block, value: 1).refusal == nil) }
        #expect(rig.submit(.read, UInt64(40 * block), block).refusal == .outOfMemory)
        let repairs = (50..<50 + VolumeEngine.repairsMax).map { rig.submit(.rewrite, UInt64($0 * block), block) }
        #expect(repairs.allSatisfy { $0.refusal == nil })
        try rig.run()
        #expect(rig.completions.count == 40 + repairs.count && rig.completions.values.allSatisfy { $0 == .ok })
        #expect(rig.marks.contains(.slotsExhausted) && rig.submit(.read, 0, block).refusal == nil)
    }

    @Test func aWriteIsAcknowledgedOnlyWhenEveryMemberHasIt() throws {
        let rig = ReplicaRig()
        rig.isDown[1] = true
        let write = rig.submit(.write, 0, block, value: 5)
        try rig.run()
        #expect(rig.completions[write.tag] == nil)
        rig.isDown[1] = false
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
    }

    @Test func aMemberThatIsGoneIsExcludedAndTheMapStampedBeforeTheAcknowledgement() throws {
        let rig = ReplicaRig()
        let write = rig.submit(.write, 0, block, value: 5)
        rig.isDown[1] = true
        rig.detach(1)
        try rig.run()
        rig.tick(after: .milliseconds(499))
        #expect(rig.exclusions.isEmpty)
        rig.tick(after: .milliseconds(2))
        #expect(rig.exclusions == [1])
        rig.exclude(rig.exclusions.removeFirst())
        #expect(rig.completions[write.tag] == nil, "the remaining OSTs have not heard of the new map")
        try rig.run()
        #expect(rig.completions[write.tag] == .ok && rig.excluded == [1])
        for ost in [0, 2] { #expect(rig.osts[ost].seen.contains { $0.opcode == .stamp && $0.map == 2 }) }
        let next = rig.submit(.write, 0, block, value: 6)
        try rig.run()
        #expect(rig.completions[next.tag] == .ok && !rig.wantsConnection(1))
    }

    /// The disk of one member has failed, and nobody can exclude it in time: that is no failure of the volume's disk.
    @Test(arguments: [Status.diskFailed, .closed, .powerLost])
    func whatOneMemberSaysIsNotWhyAnOperationIsTooLate(_ status: Status) throws {
        for kind in [Operation.Kind.write, .flush] {
            let rig = ReplicaRig(peers: 2)
            if kind == .flush {
                rig.submit(.write, 0, block, value: 4)
                try rig.run()
            }
            rig.osts[1].refusals = [.write: [status], .flush: [status]]
            let late = rig.submit(kind, 0, kind == .flush ? 0 : block, value: 5, deadline: .seconds(2))
            for peer in 0..<2 {
                _ = try rig.carryOut(peer)
                while !rig.osts[peer].pending.isEmpty { rig.osts[peer].execute(0) }
                rig.carryIn(peer)
            }
            #expect(rig.isResetWanted[1] && rig.completions[late.tag] == nil)
            rig.isDown[1] = true
            rig.detach(1)
            for _ in 0..<30 where rig.completions[late.tag] == nil { rig.tick(after: .milliseconds(100)) }
            #expect(rig.completions[late.tag] == .deadlineExceeded)
        }
    }

    /// From the loss of a connection until the last of all copies is in sync again; each change comes with a notice.
    @Test func aVolumeIsDegradedUntilEveryMemberIsInSync() throws {
        let rig = ReplicaRig(peers: 2)
        #expect(!rig.isDegraded)
        rig.isDown[1] = true
        rig.detach(1)
        #expect(rig.isDegraded && rig.notices.last == .disconnected(1))
        rig.exclude(1)
        try rig.run()
        #expect(rig.isDegraded && rig.excluded == [1] && rig.notices.last == .membersChanged)
        rig.isDown[1] = false
        rig.restore(1, .filling)
        try rig.run()
        #expect(rig.isDegraded && rig.isAttached(1), "it is there, and not up to date")
        rig.notices = []
        rig.restore(1, .inSync)
        try rig.run()
        #expect(!rig.isDegraded && rig.notices.contains(.membersChanged))
    }

    @Test func aSilentMemberIsGivenUpAndTheLastOneNever() throws {
        let rig = ReplicaRig(peers: 2)
        rig.isDown[0] = true
        rig.isDown[1] = true
        let write = rig.submit(.write, 0, block, value: 5)
        for _ in 0..<100 {
            rig.tick(after: .milliseconds(100))
            try rig.run()
        }
        #expect(rig.completions[write.tag] == nil && rig.excluded.isEmpty, "with nobody there nobody is excluded")
        rig.isDown[0] = false
        for _ in 0..<40 {
            rig.tick(after: .milliseconds(100))
            try rig.run()
        }
        #expect(rig.completions[write.tag] == .ok && rig.excluded == [1])
        rig.isDown[0] = true
        let last = rig.submit(.write, 0, block, value: 6)
        for _ in 0..<100 {
            rig.tick(after: .milliseconds(100))
            try rig.run()
        }
        #expect(rig.completions[last.tag] == nil && rig.excluded == [1])
    }

    @Test func readsGoToAnotherMemberAndTheDamageIsRepaired() throws {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 5)
        try rig.run()
        rig.osts[0].refusals[.read] = [.damaged]
        rig.osts[1].refusals[.read] = [.damaged]
        // One of the two is asked first; the other one answers when its own refusal is taken back.
        rig.osts[1].refusals[.read] = []
        var tags: [UInt] = []
        for _ in 0..<4 {
            tags.append(rig.submit(.read, 0, block).tag)
            try rig.run()
        }
        for tag in tags { #expect(rig.completions[tag] == .ok && rig.bytes(of: tag) == [UInt8](repeating: 5, count: block)) }
        #expect(rig.marks.contains(.readElsewhere) && rig.marks.contains(.repaired))
        #expect(rig.osts[0].versions[0] == 2 && rig.osts[1].versions[0] == 2, "the block was written anew to both")
    }

    @Test func aWriteThatOneMemberRefusesLeavesThemEqual() throws {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 5)
        try rig.run()
        rig.osts[1].refusals[.write] = [.noSpace]
        let write = rig.submit(.write, 0, block, value: 6)
        let read = rig.submit(.read, 0, block)
        try rig.run()
        #expect(rig.completions[write.tag] == .noSpace && rig.completions[read.tag] == .ok)
        #expect(rig.differences() == [])
        #expect(rig.marks.contains(.heldUnequal) && rig.marks.contains(.rewritten) && rig.excluded.isEmpty)
        // It has room of its own in the store.
        #expect(rig.osts[1].seen.filter { $0.opcode == .write }.map { $0.flags.contains(.rewrite) } == [false, false, true])
    }

    /// One member has taken a write before it was cut, the other one had been cut by then.
    @Test func whatACutTakesAwayIsNotMadeEqual() throws {
        let rig = ReplicaRig(peers: 2)
        rig.osts[1].refusals[.write] = [Status](repeating: .outOfRange, count: 8)
        let write = rig.submit(.write, UInt64(9 * block), 2 * block, value: 6)
        try rig.run()
        for _ in 0..<3 {
            rig.tick(after: VolumeEngine.stallDelay)
            try rig.run()
        }
        #expect(rig.completions[write.tag] == .outOfRange && rig.activeCount == 1 && rig.isMapWanted)
        rig.osts[1].refusals[.write] = []
        rig.cut(toBlock: 10)
        rig.tick(after: VolumeEngine.stallDelay)
        try rig.run()
        #expect(rig.activeCount == 0 && rig.differences() == [] && rig.osts[1].versions[9] != nil && rig.osts[1].versions[10] == nil)
    }

    @Test func aBufferThatChangedInFlightReachesAllMembersAlike() throws {
        let rig = ReplicaRig(peers: 2)
        rig.osts[1].refusals[.write] = [.checksumMismatch]
        let write = rig.submit(.write, 0, block, value: 6)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok && rig.differences() == [] && rig.osts[0].versions[0] == 2)
    }

    /// The flush that tells of one loss makes nothing durable: what others have unflushed may be lost after it, and is told as well.
    @Test func eachLossIsToldUntilAFlushEndsWell() throws {
        let rig = ReplicaRig(peers: 2, members: 1)
        func lose(_ peer: Int) {
            rig.detach(peer)
            rig.boots[peer] = Identifier(high: 2, low: rig.boots[peer].low + 1)
            rig.osts[peer].losePower()
            rig.attach(peer)
        }
        func flush() throws -> Status? {
            let flush = rig.submit(.flush, 0, 0)
            try rig.run()
            return rig.completions[flush.tag]
        }
        for peer in 0..<2 { rig.submit(.write, UInt64(peer) * ReplicaRig.chunkBytes, block, value: 6) }
        try rig.run()
        for peer in 0..<2 {
            lose(peer)
            #expect(try flush() == .powerLost)
        }
        #expect(try flush() == .ok)
        lose(1)
        #expect(try flush() == .ok)
    }

    @Test func aMemberThatLostPowerWithUnflushedWritesIsExcluded() throws {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 6)
        try rig.run()
        rig.detach(1)
        rig.boots[1] = Identifier(high: 2, low: 2)
        rig.osts[1].losePower()
        try rig.run()
        rig.tick(after: .milliseconds(1))
        try rig.run()
        #expect(rig.excluded == [1] && !rig.notices.contains(.powerLost))
        // The other one is the last.
        rig.detach(0)
        rig.boots[0] = Identifier(high: 2, low: 1)
        rig.osts[0].losePower()
        let flush = rig.submit(.flush)
        try rig.run()
        #expect(rig.notices.contains(.powerLost) && rig.completions[flush.tag] == .powerLost && rig.excluded == [1])
    }

    @Test(arguments: [false, true]) func aMemberWhoseDiskIsAnOldCopyIsExcluded(hasLostPower: Bool) throws {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 6)
        rig.submit(.flush)
        try rig.run()
        rig.detach(1)
        rig.osts[1].highest = 0
        if hasLostPower { rig.boots[1] = Identifier(high: 2, low: 2) }
        try rig.run()
        rig.tick(after: .milliseconds(1))
        try rig.run()
        #expect(rig.excluded == [1] && !rig.notices.contains(.powerLost) && rig.marks.contains(.rolledBack))
    }

    /// It was to be excluded, but the MDT had been asked to exclude the other one before.
    @Test func anOldCopyThatIsLeftAsTheLastMemberWaitsForTheNewestDisk() throws {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 6)
        rig.submit(.flush)
        try rig.run()
        // What is at risk with a loss of power, which this is not.
        rig.submit(.write, UInt64(2 * block), block, value: 8)
        try rig.run()
        let newest = rig.osts[1].highest
        rig.isDown[0] = true
        rig.detach(0)
        let write = rig.submit(.write, UInt64(block), block, value: 7)
        rig.tick(after: .milliseconds(501))
        #expect(rig.exclusions == [0])
        rig.detach(1)
        rig.osts[1].highest = 0
        rig.attach(1)
        #expect(rig.isResetWanted[1])
        rig.detach(1)
        rig.exclude(rig.exclusions.removeFirst())
        let read = rig.submit(.read, 0, block)
        for _ in 0..<3 {
            rig.attach(1)
            #expect(rig.isResetWanted[1], "what was flushed is not there")
            rig.detach(1)
            rig.tick(after: .milliseconds(200))
        }
        #expect(rig.completions[read.tag] == nil && rig.completions[write.tag] == nil && !rig.notices.contains(.powerLost))
        rig.osts[1].highest = newest
        try rig.run()
        #expect(rig.completions[read.tag] == .ok && rig.completions[write.tag] == .ok && rig.excluded == [0])
    }

    /// It lacks what was flushed; the other one only what was not.
    @Test func anOldCopyOfADiskIsNeverTheTruthBesideAMemberThatLostPower() throws {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 6)
        rig.submit(.flush)
        try rig.run()
        rig.submit(.write, UInt64(block), block, value: 7)
        try rig.run()
        rig.detach(0)
        rig.detach(1)
        rig.osts[0].highest = 0
        rig.boots[1] = Identifier(high: 2, low: 2)
        rig.osts[1].losePower()
        for peer in 0..<2 {
            rig.attach(peer)
            rig.detach(peer)
        }
        rig.tick(after: .milliseconds(1))
        try rig.run()
        #expect(rig.excluded == [0] && rig.notices.contains(.powerLost))
    }

    @Test func theLastMemberIsNotUsedWhileItsDiskIsAnOldCopy() throws {
        let rig = ReplicaRig(peers: 2)
        rig.isDown[1] = true
        rig.detach(1)
        rig.submit(.write, 0, block, value: 6)
        rig.tick(after: .seconds(1))
        try rig.run()
        #expect(rig.excluded == [1])
        let newest = rig.osts[0].highest
        rig.detach(0)
        rig.osts[0].highest = 0
        rig.isDown[0] = true
        rig.attach(0)
        let read = rig.submit(.read, 0, block)
        #expect(rig.isResetWanted[0])
        rig.detach(0)
        #expect(rig.completions[read.tag] == nil)
        rig.osts[0].highest = newest
        rig.isDown[0] = false
        try rig.run()
        #expect(rig.completions[read.tag] == .ok && rig.bytes(of: read.tag).first == 6)
    }

    @Test func aPowerLossOfWhatIsFlushedExcludesNobody() throws {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 6)
        try rig.run()
        let flush = rig.submit(.flush)
        try rig.run()
        rig.detach(1)
        rig.boots[1] = Identifier(high: 2, low: 2)
        rig.osts[1].losePower()
        try rig.run()
        #expect(rig.completions[flush.tag] == .ok && rig.excluded.isEmpty)
    }

    @Test func theMarkPassesOnlyWhatIsDurableEverywhere() throws {
        let rig = ReplicaRig(peers: 2)
        rig.osts[1].answersDurable = false
        rig.submit(.write, 0, block, value: 6)
        try rig.run()
        rig.tick(after: .seconds(2))
        try rig.run()
        #expect(rig.osts[0].durable == 1 && rig.mark == 0)
        rig.submit(.flush)
        try rig.run()
        #expect(rig.mark == 1)
    }

    /// Its successor may have excluded the one that it still reaches.
    @Test func aWriterThatMissesTheWordOfAMemberStopsReading() throws {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 6)
        try rig.run()
        rig.engine.now = rig.engine.now + .seconds(3)
        let soon = rig.submit(.read, 0, block)
        try rig.run()
        #expect(rig.completions[soon.tag] == .ok)
        rig.isDown[1] = true
        rig.engine.now = rig.engine.now + .seconds(4)
        let late = rig.submit(.read, 0, block)
        try rig.run()
        #expect(rig.completions[late.tag] == nil && rig.marks.contains(.askedBeforeReading))
        rig.isDown[1] = false
        try rig.run()
        #expect(rig.completions[late.tag] == .ok && rig.bytes(of: late.tag) == [UInt8](repeating: 6, count: block))
    }

    // Random faults

    private struct Entry {
        var kind: Operation.Kind
        var sectors: Range<Int>
        var tag: UInt
    }

    @Test(arguments: [2, 3]) func whateverFailsMembersEndEqualAndReadsNeverGoBack(members: Int) throws {
        var marks = VolumeMarks()
        for seed in 1...24 { marks.formUnion(try runRandom(members: members, seed: UInt64(seed))) }
        let reached: [VolumeMark] = [
            .replicated, .readElsewhere, .heldUnequal, .rewritten, .repaired, .excludedPeer, .stamped, .ghostSettled, .resentWrite,
            .resentRead, .edgesMerged, .excludedAfterPowerLoss,
        ]
        for mark in reached { #expect(marks.contains(mark), "\(mark) was never reached") }
    }

    #if MUTANTS
        @Test func aWriteThatLeavesMembersUnequalIsNoticed() throws {
            Mutant.active = .skipsRewrite
            defer { Mutant.active = nil }
            let rig = ReplicaRig(peers: 2)
            rig.submit(.write, 0, block, value: 5)
            try rig.run()
            rig.osts[1].refusals[.write] = [.noSpace]
            rig.submit(.write, 0, block, value: 6)
            try rig.run()
            #expect(rig.differences() != [])
        }
    #endif

    private func runRandom(members: Int, seed: UInt64) throws -> VolumeMarks {
        let sectors = Int(ReplicaRig.objectBytes) / 512
        let rig = ReplicaRig(peers: members + 1, members: members, seed: seed &* 104_729)
        var log: [Entry] = []
        var seen: [UInt: [UInt8]] = [:]
        var steps = 0
        while log.count < 300 || rig.activeCount > 0 {
            steps += 1
            try #require(steps < 400_000, "seed \(seed): the operations do not end")
            if log.count < 300, rig.random.chance(30) { submitOne(rig, &log, sectors) }
            try step(rig, isCalm: log.count >= 300)
            for entry in log where entry.kind == .read && rig.completions[entry.tag] == .ok && seen[entry.tag] == nil {
                seen[entry.tag] = rig.bytes(of: entry.tag)
            }
        }
        for peer in 0..<rig.osts.count {
            rig.isDown[peer] = false
            rig.osts[peer].refusals = [:]
            rig.osts[peer].readsToDamage = 0
        }
        for _ in 0..<40 {
            try rig.run()
            rig.tick(after: .milliseconds(200))
        }
        #expect(rig.completions.count == log.count, "seed \(seed)")
        #expect(rig.differences() == [], "seed \(seed)")
        #expect(rig.isSettled && rig.mark == rig.last, "seed \(seed): mark \(rig.mark) of \(rig.last)")
        check(rig, log, seen, sectors, seed)
        return rig.marks
    }

    private func step(_ rig: ReplicaRig, isCalm: Bool) throws {
        let peer = rig.random.below(rig.osts.count)
        let ost = rig.osts[peer]
        if !isCalm, rig.random.chance(1) {
            let opcodes: [Opcode] = [.read, .write, .write, .discard, .flush, .mark, .stamp]
            let statuses: [Status] = [.noSpace, .overloaded, .checksumMismatch, .checksumMismatch, .diskFailed, .closed, .damaged]
            let opcode = opcodes[rig.random.below(opcodes.count)]
            let status = statuses[rig.random.below(statuses.count)]
            if opcode != .stamp || status == .closed { ost.refusals[opcode, default: []].append(status) }
        }
        if rig.isResetWanted[peer], rig.isAttached(peer), rig.random.chance(30) { rig.detach(peer) }
        if !rig.isAttached(peer), !rig.isDown[peer], rig.wantsConnection(peer), rig.random.chance(20) { rig.attach(peer) }
        if rig.isDown[peer], isCalm || rig.random.chance(1) { rig.isDown[peer] = false }
        if !rig.exclusions.isEmpty, rig.random.chance(10) { rig.exclude(rig.exclusions.removeFirst()) }
        switch rig.random.below(8) {
        case 0, 1: try rig.carryOut(peer, limit: 1 + rig.random.below(rig.random.chance(30) ? 300 : 300_000))
        case 2, 3: if !rig.isDown[peer], !ost.pending.isEmpty { ost.execute(rig.random.below(ost.pending.count)) }
        case 4, 5: rig.carryIn(peer, limit: 1 + rig.random.below(rig.random.chance(30) ? 300 : 300_000))
        case 6: rig.tick(after: .milliseconds(UInt64(rig.random.below(rig.random.chance(2) ? 1000 : 40))))
        default:
            guard !isCalm, rig.random.chance(1) else { return }
            if rig.isAttached(peer) { rig.detach(peer) }
            if rig.random.chance(30) { rig.isDown[peer] = true }
            if rig.random.chance(20) {
                rig.boots[peer] = Identifier(high: 9, low: rig.random.next())
                // Nothing of the blocks is really lost: whether the engine believes so is the question here.
                ost.losePower()
            }
        }
    }

    private func submitOne(_ rig: ReplicaRig, _ log: inout [Entry], _ sectors: Int) {
        let kinds: [Operation.Kind] = [.read, .read, .read, .write, .write, .write, .discard, .writeZeroes, .flush]
        let kind = kinds[rig.random.below(kinds.count)]
        let first = rig.random.below(rig.random.chance(70) ? 128 : sectors)
        let count = min(1 + rig.random.below(rig.random.chance(80) ? 24 : 1200), sectors - first)
        let (tag, refusal) = rig.submit(
            kind, UInt64(first) * 512, count * 512, value: UInt8(truncatingIfNeeded: 1 + log.count % 255), durable: rig.random.chance(20),
            deadline: .milliseconds(UInt64(200 + rig.random.below(rig.random.chance(20) ? 2000 : 60_000))))
        if refusal == nil { log.append(Entry(kind: kind, sectors: first..<first + count, tag: tag)) }
    }

    /// Replays the log in the order of submission, which is that of effect for all that overlap.
    private func check(_ rig: ReplicaRig, _ log: [Entry], _ seen: [UInt: [UInt8]], _ sectors: Int, _ seed: UInt64) {
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
                    #expect(
                        isWhole && possible[sector].contains(value),
                        "seed \(seed): sector \(sector) reads \(value), not of \(possible[sector])")
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
