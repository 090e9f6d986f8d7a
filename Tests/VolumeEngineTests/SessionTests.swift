import Base
import Testing
import Wire

@testable import VolumeEngine

/// Connections come and go; the volume ends.
@Suite struct SessionTests {
    @Test func unansweredWritesGoAgainInTheirOrderBeforeAnythingNew() throws {
        let rig = Rig()
        for index in 0..<4 { rig.submit(.write, UInt64(index) * 4096, 4096, data: pattern(4096, index)) }
        rig.submit(.read, 1 << 20, 4096)
        try rig.carryOut()
        rig.ost.execute(1)
        rig.carryIn()
        #expect(rig.completions == [2: .ok])
        rig.detach(keepingPercent: 0)
        rig.submit(.write, 9 * 4096, 4096, data: pattern(4096, 9))
        rig.ost.seen = []
        rig.attach()
        try rig.run()
        #expect(rig.ost.seen.map(\.sequence) == [1, 3, 4, 0, 5])
        #expect(rig.ost.seen.map(\.session) == [2, 2, 2, 2, 2])
        // What is sent again must not be covered by the durability of later writes.
        #expect(rig.ost.seen.map { $0.flags.contains(.durable) } == [true, true, true, false, false])
        #expect(rig.completions.count == 6 && rig.completions.values.allSatisfy { $0 == .ok })
    }

    @Test func theFlushAfterALossOfPowerFailsOnce() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.run()
        rig.ost.losePower()
        rig.boot = Identifier(high: 2, low: 2)
        rig.detach()
        let pending = rig.submit(.flush)
        rig.attach()
        #expect(rig.completions[pending.tag] == .powerLost)
        #expect(rig.notices.contains(.powerLost))
        let later = rig.submit(.flush)
        try rig.run()
        #expect(rig.completions[later.tag] == .ok)
    }

    @Test func aLossOfPowerWithNothingAtRiskIsNoError() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.run()
        rig.submit(.flush)
        try rig.run()
        rig.submit(.write, 4096, 4096, data: pattern(4096), durable: true)
        try rig.run()
        rig.boot = Identifier(high: 2, low: 2)
        rig.detach()
        rig.attach()
        let flush = rig.submit(.flush)
        try rig.run()
        #expect(rig.completions[flush.tag] == .ok)
        #expect(!rig.notices.contains(.powerLost))
    }

    @Test func aDaemonThatOnlyDiedHasLostNothing() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.run()
        rig.detach()
        rig.attach()
        let flush = rig.submit(.flush)
        try rig.run()
        #expect(rig.completions[flush.tag] == .ok)
    }

    @Test func aFlushSubmittedWhenTheLossIsKnownFailsAtOnce() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.run()
        rig.boot = Identifier(high: 2, low: 2)
        rig.detach()
        rig.attach()
        let first = rig.submit(.flush)
        #expect(rig.completions[first.tag] == .powerLost)
        let second = rig.submit(.flush)
        try rig.run()
        #expect(rig.completions[second.tag] == .ok)
    }

    @Test func aFencedVolumeFailsEverything() throws {
        let rig = Rig()
        let one = rig.submit(.write, 0, 4096, data: pattern(4096))
        let two = rig.submit(.write, 0, 4096, data: pattern(4096))
        let three = rig.submit(.read, 1 << 20, 4096)
        try rig.carryOut()
        rig.ost.refusals[.write] = [.fenced]
        rig.ost.execute(0)
        rig.carryIn()
        #expect(rig.completions == [one.tag: .fenced, two.tag: .fenced, three.tag: .fenced])
        #expect(rig.notices.contains(.fenced) && rig.resets == [.dead(.fenced)])
        #expect(rig.submit(.flush).refusal == .fenced)
        rig.detach()
        #expect(rig.activeCount == 0)
    }

    @Test func aStoreWhoseDiskFailedGetsTheWriteAgainWhenItHasReloaded() throws {
        let rig = Rig()
        rig.ost.refusals[.write] = [.diskFailed]
        let write = rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.run()
        #expect(rig.completions.isEmpty && rig.resets == [.refused(.diskFailed)])
        rig.detach()
        rig.attach()
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
        #expect(rig.ost.seen.map(\.sequence) == [1, 1])
    }

    @Test func theMarkIsToldWithinASecondOfIdlingAndThenThereIsSilence() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.run()
        #expect(rig.wake == Instant.zero + Limits.markInterval)
        rig.ost.answersDurable = false
        rig.tick(after: Limits.markInterval)
        try rig.run()
        // The OST was behind: asked again a second later, until it is not.
        rig.tick(after: Limits.markInterval)
        try rig.run()
        rig.ost.answersDurable = true
        rig.tick(after: Limits.markInterval)
        try rig.run()
        rig.tick(after: Limits.markInterval)
        try rig.run()
        #expect(rig.ost.seen.map(\.opcode) == [.write, .mark, .mark, .mark, .mark])
        #expect(rig.ost.seen.map(\.mark) == [0, 0, 0, 0, 1])
        #expect(rig.isSettled)
        for _ in 0..<10 { rig.tick(after: Limits.markInterval) }
        try rig.run()
        #expect(rig.ost.seen.count == 5)
    }

    /// An OST takes no mark from them.
    @Test func readsTellNoMark() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096), durable: true)
        try rig.run()
        rig.submit(.read, 0, 4096)
        try rig.run()
        rig.tick(after: Limits.markInterval)
        try rig.run()
        #expect(rig.ost.seen.map(\.opcode) == [.write, .read, .mark])
        #expect(rig.ost.seen.last?.mark == 1)
        #expect(rig.isSettled)
    }

    @Test func aMarkThatIsRefusedIsToldAgain() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096), durable: true)
        try rig.run()
        rig.ost.refusals[.mark] = [.overloaded]
        for _ in 0..<3 {
            rig.tick(after: Limits.markInterval)
            try rig.run()
        }
        #expect(rig.ost.seen.map(\.opcode) == [.write, .mark, .mark])
        #expect(rig.isSettled)
    }

    /// It may wait for room that only the mark gives back.
    @Test func aWriteThatIsNotAnsweredHurriesTheMark() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096), durable: true)
        try rig.run()
        rig.submit(.write, 4096, 4096, data: pattern(4096))
        rig.submit(.write, 8192, 4096, data: pattern(4096))
        // One of the two is answered, and says that it is not durable.
        _ = try rig.carryOut()
        rig.ost.execute(1)
        _ = rig.carryIn()
        rig.tick(after: .milliseconds(100))
        _ = try rig.carryOut()
        #expect(rig.ost.seen.map(\.opcode) == [.write, .write, .write, .mark])
    }

    @Test func aHoleLeftByALostWriteDoesNotKeepTheLineBusy() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096), durable: true)
        try rig.run()
        rig.submit(.write, 4096, 4096, data: pattern(4096), deadline: .seconds(1))
        try rig.carryOut()
        rig.tick(after: .seconds(1))
        rig.detach(keepingPercent: 0)
        rig.attach()
        try rig.run()
        for _ in 0..<3 {
            rig.tick(after: Limits.markInterval)
            try rig.run()
        }
        #expect(rig.isSettled)
        // The next write carries the mark over the hole.
        rig.submit(.write, 8192, 4096, data: pattern(4096), durable: true)
        try rig.run()
        #expect(rig.mark == 3)
    }

    @Test func closingWaitsForWhatIsUnderWayAndTellsTheMark() throws {
        let rig = Rig()
        let write = rig.submit(.write, 0, 4096, data: pattern(4096), durable: true)
        rig.engine.close()
        rig.after()
        #expect(rig.submit(.read, 0, 512).refusal == .closed)
        try rig.run()
        #expect(rig.completions == [write.tag: .ok])
        #expect(rig.ost.seen.map(\.opcode) == [.write, .mark, .close])
        #expect(rig.ost.seen.map(\.mark) == [0, 1, 1])
        #expect(rig.isClosed)
    }

    @Test func closingWhileDetachedEndsAtOnce() throws {
        let rig = Rig()
        rig.detach()
        rig.engine.close()
        rig.after()
        #expect(rig.isClosed)
    }

    @Test func eventsOfTheOSTReachTheUser() throws {
        let rig = Rig()
        var event = FrameHeader(.event)
        event.handle = 3
        event.argument = VolumeEvent.sizeChanged.rawValue
        event.sequence = 16 << 20
        rig.ost.append(event, [], [])
        rig.carryIn()
        #expect(rig.objectBytes == 16 << 20 && rig.notices.last == .sizeChanged(16 << 20))
        event.argument = VolumeEvent.closed.rawValue
        rig.ost.append(event, [], [])
        rig.carryIn()
        #expect(rig.resets == [.refused(.closed)])
        rig.detach()
        rig.attach()
        event.argument = VolumeEvent.fenced.rawValue
        rig.ost.append(event, [], [])
        rig.carryIn()
        #expect(rig.isDead)
    }
}
