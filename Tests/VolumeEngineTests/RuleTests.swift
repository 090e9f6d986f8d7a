import Base
import Testing
import Wire

@testable import VolumeEngine

/// Rules of replication that hardly a random run breaks so that somebody sees it: each has a scene, and ends otherwise without its rule.
@Suite(.serialized) struct RuleTests {
    private let block = Block.bytes

    /// It may be the only one in sync by now, of a map that this writer has not heard of, and its successor's.
    private func readsWaitForTheWordOfAFillingMember() throws -> Bool {
        let rig = ReplicaRig(peers: 2) { _, peer in peer == 1 ? .filling : .inSync }
        rig.submit(.write, 0, block, value: 6)
        try rig.run()
        rig.isDown[1] = true
        rig.engine.now = rig.engine.now + .seconds(5)
        let content = try readsOnceReached(rig, 0, missing: 1)
        return content != nil
    }

    @Test func aWriterThatMissesTheWordOfAFillingMemberStopsReading() throws { #expect(try readsWaitForTheWordOfAFillingMember()) }

    /// The metadata server may have it in sync before its writer hears of that, and the others may be gone then.
    private func flushesGoToFillingMembers() throws -> Bool {
        let rig = ReplicaRig(peers: 2) { _, peer in peer == 1 ? .filling : .inSync }
        let write = rig.submit(.write, 0, block, value: 6)
        let flush = rig.submit(.flush)
        try rig.run()
        let second = rig.submit(.flush)
        try rig.run()
        for operation in [write, flush, second] { #expect(rig.completions[operation.tag] == .ok) }
        return rig.osts[0].durable == 1 && rig.osts[1].durable == 1
    }

    @Test func aFlushCoversMembersThatAreBeingFilled() throws { #expect(try flushesGoToFillingMembers()) }

    /// What an earlier writer had acknowledged is rewritten by the open, and may not be on stable media anywhere.
    private func flushesCoverRewrites() throws -> Bool {
        let rig = ReplicaRig(peers: 2)
        let rewrite = rig.submit(.rewrite, 0, block)
        try rig.run()
        let flush = rig.submit(.flush)
        try rig.run()
        for operation in [rewrite, flush] { #expect(rig.completions[operation.tag] == .ok) }
        return rig.osts.allSatisfy { $0.highest > 0 && $0.durable == $0.highest }
    }

    @Test func aFlushCoversWhatTheOpenHasRewritten() throws { #expect(try flushesCoverRewrites()) }

    /// What was read to fill a member must not get there behind what was written meanwhile.
    private func writesWaitForAFillOfTheirBlocks() throws -> Bool {
        let rig = ReplicaRig(peers: 2) { _, peer in peer == 1 ? .filling : .inSync }
        rig.submit(.write, 0, block, value: 5)
        try rig.run()
        rig.fill(block: 0)
        try rig.carryOut(0)
        #expect(rig.osts[0].pending.map(\.header.opcode) == [.read])
        rig.osts[0].execute(0)
        let write = rig.submit(.write, 0, block, value: 6)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok && rig.activeCount == 0)
        return rig.osts[1].blocks[0]?.first == 6
    }

    @Test func aFillNeverCoversALiveWrite() throws { #expect(try writesWaitForAFillOfTheirBlocks()) }

    /// Its fill has passed the block already, and nobody looks at it again.
    private func writesWaitForFillingMembers() throws -> Bool {
        let rig = ReplicaRig(peers: 2) { _, peer in peer == 1 ? .filling : .inSync }
        rig.isDown[1] = true
        let write = rig.submit(.write, 0, block, value: 5)
        try rig.run()
        rig.detach(1)
        try rig.run()
        let hasWaited = rig.completions[write.tag] == nil
        rig.isDown[1] = false
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
        return hasWaited && rig.osts[1].blocks[0]?.first == 5
    }

    @Test func aWriteIsAcknowledgedWhenFillingMembersHaveItToo() throws { #expect(try writesWaitForFillingMembers()) }

    /// What it was given by the fill may be gone, and the fill would not give it again.
    private func aFillEndsWithThePowerOfItsTarget() throws -> Bool {
        let rig = ReplicaRig(peers: 2) { _, peer in peer == 1 ? .filling : .inSync }
        rig.fill(block: 0)
        try rig.run()
        rig.detach(1)
        rig.boots[1] = Identifier(high: 2, low: 2)
        rig.osts[1].losePower()
        try rig.run()
        rig.tick(after: .milliseconds(1))
        try rig.run()
        #expect(!rig.notices.contains(.powerLost), "nothing is lost that anybody had acknowledged")
        return rig.excluded == [1]
    }

    @Test func aFillingMemberThatLostPowerIsExcluded() throws { #expect(try aFillEndsWithThePowerOfItsTarget()) }

    /// Stale in one placement, where its copy is old, and the last one in sync of another, so that there is a session with it.
    private func fillsReadMembersInSync() throws -> Bool {
        let rig = ReplicaRig(peers: 3, members: 3) { placement, peer in
            placement == 0 ? [.stale, .inSync, .filling][peer] : .inSync
        }
        rig.osts[0].blocks[0] = [UInt8](repeating: 1, count: block)
        rig.osts[1].blocks[0] = [UInt8](repeating: 2, count: block)
        for _ in 0..<4 {
            rig.fill(block: 0)
            try rig.run()
        }
        #expect(rig.activeCount == 0)
        return rig.osts[2].blocks[0]?.first == 2
    }

    @Test func aMemberIsFilledFromOneInSync() throws { #expect(try fillsReadMembersInSync()) }

    /// A successor that reaches only the one that lost it would go back behind what was read.
    private func nothingIsReadBesideALoss() throws -> Bool {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 6)
        try rig.run()
        rig.detach(1)
        rig.boots[1] = Identifier(high: 2, low: 2)
        rig.osts[1].losePower()
        rig.attach(1)
        rig.detach(1)
        let read = rig.submit(.read, 0, block)
        try rig.carryOut(0)
        if !rig.osts[0].pending.isEmpty { rig.osts[0].execute(0) }
        rig.carryIn(0)
        let hasWaited = rig.completions[read.tag] == nil
        rig.tick(after: .milliseconds(1))
        try rig.run()
        #expect(rig.completions[read.tag] == .ok && rig.excluded == [1])
        return hasWaited
    }

    @Test func whatAMemberMayHaveLostIsNotReadBeforeItIsExcluded() throws { #expect(try nothingIsReadBesideALoss()) }

    /// What a read finds that waits until a member can be reached again; nil if it did not wait.
    private func readsOnceReached(_ rig: ReplicaRig, _ offset: UInt64, missing peer: Int) throws -> [UInt8]? {
        let read = rig.submit(.read, offset, block)
        try rig.run()
        let hasWaited = rig.completions[read.tag] == nil
        rig.isDown[peer] = false
        try rig.run()
        #expect(rig.completions[read.tag] == .ok)
        return hasWaited ? rig.bytes(of: read.tag) : nil
    }

    /// It stays in sync in another placement, where it is the last, and goes on there when the metadata server has excluded it here.
    private func nothingIsReadBesideALossBeforeTheMapHolds() throws -> Bool {
        let rig = ReplicaRig(peers: 3) { placement, peer in placement == 1 && peer == 2 ? .stale : .inSync }
        // In placement 0, on 0 and 1; the second one is read.
        let offset = 3 * ReplicaRig.chunkBytes
        rig.submit(.write, offset, block, value: 6)
        try rig.run()
        rig.detach(1)
        rig.boots[1] = Identifier(high: 2, low: 2)
        rig.osts[1].losePower()
        rig.isDown[0] = true
        rig.attach(1)
        rig.detach(1)
        rig.tick(after: .milliseconds(1))
        #expect(rig.exclusions == [1])
        rig.exclude(rig.exclusions.removeFirst())
        #expect(rig.wantsConnection(1))
        rig.attach(1)
        let content = try readsOnceReached(rig, offset, missing: 0)
        return content != nil
    }

    @Test func norBeforeTheMapHoldsThatExcludesIt() throws { #expect(try nothingIsReadBesideALossBeforeTheMapHolds()) }

    /// It is excluded while it is away, and comes back before that map holds; what it lacks is on the other one only.
    private func nothingIsReadFromOneThatComesBackExcluded() throws -> Bool {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 6)
        try rig.run()
        rig.detach(1)
        rig.isDown = [true, true]
        rig.submit(.write, UInt64(block), block, value: 7)
        for _ in 0..<6 { rig.tick(after: .milliseconds(100)) }
        #expect(rig.exclusions == [1])
        rig.exclude(rig.exclusions.removeFirst())
        rig.boots[1] = Identifier(high: 2, low: 2)
        rig.osts[1].losePower()
        (rig.osts[1].blocks, rig.osts[1].versions) = ([:], [:])
        rig.isDown[1] = false
        #expect(rig.wantsConnection(1))
        rig.attach(1)
        let content = try readsOnceReached(rig, 0, missing: 0)
        #expect(rig.excluded == [1])
        return content?.allSatisfy { $0 == 6 } == true
    }

    @Test func norFromOneThatIsExcludedAndComesBackBeforeTheMapHolds() throws { #expect(try nothingIsReadFromOneThatComesBackExcluded()) }

    /// Both lost power. The first, which has everything all the same, is taken for the truth; but the server, which was asked before,
    /// excludes it, and so the other one is.
    private func nothingIsReadOfOneThatGoes() throws -> Bool {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 6)
        try rig.run()
        (rig.osts[1].blocks, rig.osts[1].versions) = ([:], [:])
        for peer in 0..<2 {
            rig.detach(peer)
            rig.boots[peer] = Identifier(high: 2, low: UInt64(peer))
            rig.osts[peer].losePower()
            rig.attach(peer)
            rig.detach(peer)
            rig.tick(after: .milliseconds(1))
        }
        #expect(rig.exclusions == [0, 1])
        rig.exclusions = []
        rig.engine.exclusionRefused(0)
        rig.after()
        #expect(rig.wantsConnection(0) && !rig.wantsConnection(1))
        rig.attach(0)
        rig.isDown[1] = true
        rig.exclude(0)
        #expect(rig.wantsConnection(1))
        let content = try readsOnceReached(rig, 0, missing: 1)
        #expect(rig.excluded == [0])
        return content?.allSatisfy { $0 == 0 } == true
    }

    @Test func norOfOneWhoseLossIsNotTheTruthAnyMore() throws { #expect(try nothingIsReadOfOneThatGoes()) }

    /// It is excluded while it is away where another one has everything, and is the last one elsewhere, so what it lost there is told and
    /// it goes on; but not here.
    private func nothingIsReadFromOneThatComesBackAsTheLastElsewhere() throws -> Bool {
        let rig = ReplicaRig(peers: 3) { placement, peer in placement == 1 && peer == 2 ? .stale : .inSync }
        let offset = 3 * ReplicaRig.chunkBytes
        rig.submit(.write, offset, block, value: 6)
        try rig.run()
        rig.detach(1)
        rig.isDown[0] = true
        rig.isDown[1] = true
        rig.submit(.write, offset + UInt64(block), block, value: 7)
        for _ in 0..<6 { rig.tick(after: .milliseconds(100)) }
        #expect(rig.exclusions.contains(1))
        rig.exclude(1)
        rig.boots[1] = Identifier(high: 2, low: 2)
        rig.osts[1].losePower()
        (rig.osts[1].blocks, rig.osts[1].versions) = ([:], [:])
        rig.isDown[1] = false
        rig.attach(1)
        let content = try readsOnceReached(rig, offset, missing: 0)
        return content?.allSatisfy { $0 == 6 } == true
    }

    @Test func norFromOneThatIsTheLastElsewhere() throws { #expect(try nothingIsReadFromOneThatComesBackAsTheLastElsewhere()) }

    /// What it has in doubt from an earlier writer was not reconciled with the others.
    private func nothingIsReadFromOneThatTheOpenMissed() throws -> Bool {
        let rig = ReplicaRig(peers: 2, away: [1])
        for index in 0..<UInt64(block / Block.bytes) { rig.osts[1].blocks[index] = [UInt8](repeating: 5, count: Block.bytes) }
        rig.isDown[0] = true
        rig.engine.missed(1)
        // Before the server has answered.
        rig.attach(1)
        rig.exclude(1)
        let content = try readsOnceReached(rig, 0, missing: 0)
        #expect(rig.excluded == [1])
        return content?.allSatisfy { $0 == 0 } == true
    }

    @Test func norFromOneThatWasAwayWhenTheVolumeWasOpened() throws { #expect(try nothingIsReadFromOneThatTheOpenMissed()) }

    /// It was acknowledged to nobody, so nobody missed it; the other member, which never had it, does not count any more.
    private func whatOnlyOneHadTakenIsSentAgain() throws -> Bool {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 5)
        try rig.run()
        rig.isDown[1] = true
        let write = rig.submit(.write, UInt64(block), block, value: 6)
        try rig.run()
        #expect(rig.osts[0].blocks[1]?.first == 6 && rig.completions[write.tag] == nil)
        for peer in 0..<2 {
            rig.detach(peer)
            rig.osts[peer].losePower()
            (rig.osts[peer].blocks, rig.osts[peer].versions) = ([:], [:])
            rig.boots[peer] = Identifier(high: 2, low: UInt64(peer))
            rig.isDown[peer] = false
        }
        for peer in 0..<2 {
            rig.attach(peer)
            rig.detach(peer)
        }
        for _ in 0..<4 {
            rig.tick(after: .milliseconds(200))
            try rig.run()
        }
        #expect(rig.completions[write.tag] == .ok && rig.excluded == [1] && rig.notices.contains(.powerLost))
        return rig.osts[0].blocks[1]?.first == 6
    }

    @Test func aWriteThatOnlyOneHadTakenIsSentAgainAfterItsPowerWasLost() throws { #expect(try whatOnlyOneHadTakenIsSentAgain()) }

    /// The last one in sync loses power while the MDT is asked to have the one that was filled in sync: that has what the first has lost.
    private func lossAtTheEndOfAFill(_ becomes: MemberTable.State) throws -> ReplicaRig {
        let rig = ReplicaRig(peers: 2) { _, peer in peer == 1 ? .filling : .inSync }
        rig.engine.fillEnds(1)
        let write = rig.submit(.write, 0, block, value: 6)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
        rig.detach(0)
        rig.boots[0] = Identifier(high: 2, low: 0)
        rig.osts[0].losePower()
        (rig.osts[0].blocks, rig.osts[0].versions) = ([:], [:])
        rig.attach(0)
        for _ in 0..<4 {
            rig.tick(after: .milliseconds(200))
            try rig.run()
        }
        let read = rig.submit(.read, 0, block)
        rig.restore(1, becomes)
        for _ in 0..<4 {
            rig.tick(after: .milliseconds(200))
            try rig.run()
        }
        #expect(rig.completions[read.tag] == .ok && rig.activeCount == 0)
        return rig
    }

    private func aLossAtTheEndOfAFillIsNotBelieved() throws -> Bool {
        let rig = try lossAtTheEndOfAFill(.inSync)
        return rig.excluded == [0] && rig.differences() == [] && !rig.notices.contains(.powerLost)
    }

    @Test func whatIsLostWhileTheEndOfAFillIsAskedForTheFilledMemberHas() throws { #expect(try aLossAtTheEndOfAFillIsNotBelieved()) }

    /// Nobody else has it then.
    @Test func aFillThatEndsWithoutSuccessLeavesTheLastMemberInSync() throws {
        let rig = try lossAtTheEndOfAFill(.stale)
        #expect(rig.excluded == [1] && rig.notices.contains(.powerLost))
    }

    /// Whoever counts has room for it; that somebody has not who is only being filled is no reason to refuse a write.
    @Test func aFillingMemberThatIsFullIsDoneWithout() throws {
        let rig = ReplicaRig(peers: 2) { _, peer in peer == 1 ? .filling : .inSync }
        rig.osts[1].refusals[.write] = [.noSpace]
        let write = rig.submit(.write, 0, block, value: 6)
        try rig.run()
        #expect(rig.completions[write.tag] == nil && !rig.wantsConnection(1) && rig.engine.isFull(1))
        for _ in 0..<4 {
            rig.tick(after: .milliseconds(200))
            try rig.run()
        }
        #expect(rig.completions[write.tag] == .ok && rig.excluded == [1] && rig.activeCount == 0)
        // The fill itself says what it is refused for.
        rig.engine.fillBegins(1)
        rig.restore(1, .filling)
        try rig.run()
        rig.osts[1].refusals[.write] = [.noSpace]
        let fill = rig.fill(block: 0)
        try rig.run()
        #expect(rig.completions[fill] == .noSpace && rig.isAttached(1))
    }

    // What random seeds have found

    /// Reads of it would fail for ever on the member that is filled, for what happened between here and the source.
    @Test func aBlockThatArrivesDamagedIsNotTakenForLost() throws {
        let rig = ReplicaRig(peers: 2) { _, peer in peer == 1 ? .filling : .inSync }
        rig.submit(.write, 0, block, value: 5)
        try rig.run()
        rig.osts[0].readsToDamage = 4
        let fill = rig.fill(block: 0)
        try rig.run()
        #expect(rig.completions[fill] == .checksumMismatch)
        rig.osts[0].refusals[.read] = [.damaged, .damaged]
        rig.osts[0].readsToDamage = 0
        let second = rig.fill(block: 0)
        try rig.run()
        #expect(rig.completions[second] == .damaged, "that is what its disk says")
    }

    @Test func aReadThatIsFencedSaysSoWhateverAnotherMemberHasSaid() throws {
        let rig = ReplicaRig(peers: 2)
        rig.submit(.write, 0, block, value: 5)
        try rig.run()
        rig.osts[0].refusals[.read] = [.damaged]
        rig.osts[1].refusals[.read] = [.fenced]
        let read = rig.submit(.read, 0, block)
        try rig.run()
        #expect(rig.completions[read.tag] == .fenced)
    }

    /// Both lose power, and one has kept what the other has lost, which counts from now on. What is told to be equal when the first is
    /// excluded is below that, although no mark waits for it any more; until a fill has made them equal.
    private func whatACountingMemberHasLostIsNotTakenForEqual() throws -> Bool {
        let rig = ReplicaRig(peers: 2)
        rig.osts[0].answersDurable = false
        rig.submit(.write, 0, block, value: 6)
        try rig.run()
        for _ in 0..<4 {
            rig.tick(after: .seconds(1))
            try rig.run()
        }
        rig.submit(.write, UInt64(block), block, value: 7)
        try rig.run()
        #expect(rig.mark == 0 && rig.osts[1].durable == 1)
        for peer in 0..<2 {
            rig.detach(peer)
            rig.boots[peer] = Identifier(high: 2, low: UInt64(peer))
            rig.osts[peer].losePower()
        }
        try rig.run()
        for _ in 0..<3 {
            rig.tick(after: .milliseconds(100))
            try rig.run()
        }
        #expect(rig.excluded == [1] && rig.mark > 0)
        let isBelow = rig.completed == 0
        rig.restore(1, .filling)
        try rig.run()
        rig.restore(1, .inSync)
        try rig.run()
        #expect(rig.completed == rig.mark)
        return isBelow
    }

    @Test func aMemberIsExcludedAtWhatTheOthersHaveLeft() throws { #expect(try whatACountingMemberHasLostIsNotTakenForEqual()) }

    #if MUTANTS
        private func holds(_ mutant: Mutant) throws -> Bool {
            switch mutant {
            case .excludesAboveLoss: try whatACountingMemberHasLostIsNotTakenForEqual()
            case .readsWithoutFilling: try readsWaitForTheWordOfAFillingMember()
            case .flushSkipsFilling: try flushesGoToFillingMembers()
            case .flushSkipsRewrites: try flushesCoverRewrites()
            case .fillIgnoresWrites: try writesWaitForAFillOfTheirBlocks()
            case .acknowledgesWithoutFilling: try writesWaitForFillingMembers()
            case .fillSurvivesPowerLoss: try aFillEndsWithThePowerOfItsTarget()
            case .forgetsWhatOneTook: try whatOnlyOneHadTakenIsSentAgain()
            case .resyncsFromStale: try fillsReadMembersInSync()
            case .settlesLossAtTheEndOfAFill: try aLossAtTheEndOfAFillIsNotBelieved()
            case .readsBesideLoss:
                try nothingIsReadBesideALoss() || nothingIsReadBesideALossBeforeTheMapHolds() || nothingIsReadFromOneThatComesBackExcluded()
                    || nothingIsReadOfOneThatGoes() || nothingIsReadFromOneThatComesBackAsTheLastElsewhere()
                    || nothingIsReadFromOneThatTheOpenMissed()
            case _: true
            }
        }

        @Test(arguments: [
            Mutant.readsWithoutFilling, .flushSkipsFilling, .flushSkipsRewrites, .fillIgnoresWrites, .acknowledgesWithoutFilling,
            .fillSurvivesPowerLoss, .forgetsWhatOneTook, .resyncsFromStale, .readsBesideLoss,
            .settlesLossAtTheEndOfAFill, .excludesAboveLoss,
        ])
        func eachRuleIsNeeded(_ mutant: Mutant) throws {
            Mutant.active = mutant
            defer { Mutant.active = nil }
            #expect(try !holds(mutant), "without the rule the scene ends as with it")
        }
    #endif
}
