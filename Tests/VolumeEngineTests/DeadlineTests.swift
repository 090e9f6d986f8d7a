import Base
import Testing
import Wire

@testable import VolumeEngine

/// Nothing waits for ever, and no memory is given back while the kernel may touch it.
@Suite struct DeadlineTests {
    @Test func anOperationThatWaitsEndsAtItsDeadlineAndLetsOthersPass() throws {
        let rig = Rig()
        rig.submit(.write, 0, 4096, data: pattern(4096))
        let waiting = rig.submit(.write, 0, 8192, data: pattern(8192), deadline: .seconds(1))
        let behind = rig.submit(.read, 4096, 4096)
        #expect(rig.wake == Instant.zero + .seconds(1))
        rig.tick(after: .seconds(1))
        #expect(rig.completions == [waiting.tag: .deadlineExceeded])
        try rig.carryOut()
        #expect(rig.ost.pending.map(\.header.opcode) == [.write, .read])
        try rig.run()
        #expect(rig.completions[behind.tag] == .ok && rig.resets.isEmpty)
    }

    @Test func aSentReadEndsAtItsDeadlineAndItsLateReplyTouchesNothing() throws {
        let rig = Rig()
        let read = rig.submit(.read, 0, 4096, deadline: .seconds(1))
        try rig.carryOut()
        rig.tick(after: .seconds(1))
        #expect(rig.completions == [read.tag: .deadlineExceeded])
        #expect(rig.resets.isEmpty)
        // The block is free although the reply is outstanding.
        let write = rig.submit(.write, 0, 4096, data: pattern(4096))
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
        #expect(rig.bytes(of: read.tag) == [UInt8](repeating: 0xee, count: 4096))
        #expect(rig.marks.contains(.replyToAbandoned))
    }

    @Test func aReadIntoMemoryThatIsBeingFilledEndsOnlyWithTheConnection() throws {
        let rig = Rig()
        let read = rig.submit(.read, 0, 64 << 10, deadline: .seconds(1))
        try rig.carryOut()
        rig.ost.execute(0)
        rig.carryIn(limit: 1000)
        rig.tick(after: .seconds(1))
        #expect(rig.completions.isEmpty)
        #expect(rig.resets == [.deadline])
        rig.detach()
        #expect(rig.completions == [read.tag: .deadlineExceeded])
        #expect(rig.marks.contains(.deadlineWhilePinned))
    }

    @Test func aSentWriteThatIsTooLateKeepsItsBlocksUntilANewSession() throws {
        let rig = Rig()
        let write = rig.submit(.write, 0, 4096, data: pattern(4096), deadline: .seconds(1))
        try rig.carryOut()
        rig.tick(after: .seconds(1))
        #expect(rig.completions == [write.tag: .deadlineExceeded])
        #expect(rig.resets == [.deadline])
        let read = rig.submit(.read, 0, 4096)
        rig.detach(keepingPercent: 100)
        #expect(rig.completions.count == 1)
        rig.attach()
        try rig.run()
        #expect(rig.ost.seen.map(\.opcode) == [.write, .read])
        #expect(rig.completions[read.tag] == .ok)
        #expect(rig.bytes(of: read.tag) == pattern(4096))
        #expect(rig.marks.contains(.ghostSettled))
    }

    /// The second of its parts is never answered: that the first was refused does not let the user wait for it.
    @Test func anOperationOfWhichAPartHasFailedEndsAtItsDeadlineToo() throws {
        let rig = Rig()
        let bytes = Limits.frameBytesMax + 4096
        rig.ost.refusals[.write] = [.noSpace]
        let write = rig.submit(.write, 0, bytes, data: pattern(bytes), deadline: .seconds(1))
        while try rig.carryOut() {}
        #expect(rig.ost.pending.count == 2)
        rig.ost.execute(0)
        while rig.carryIn() {}
        #expect(rig.completions.isEmpty)
        for _ in 0..<10 { rig.tick(after: .milliseconds(100)) }
        #expect(rig.completions == [write.tag: .noSpace] && rig.resets == [.deadline])
        rig.tick(after: .milliseconds(100))
        #expect(rig.resets == [.deadline])
        rig.detach()
        rig.attach()
        try rig.run()
        #expect(rig.activeCount == 0)
    }

    @Test func aWriteStillInTheSendQueueIsPinned() throws {
        let rig = Rig()
        let write = rig.submit(.write, 0, 64 << 10, data: pattern(64 << 10), deadline: .seconds(1))
        try rig.carryOut(limit: 3000)
        rig.tick(after: .seconds(1))
        #expect(rig.completions.isEmpty && rig.resets == [.deadline])
        rig.detach()
        #expect(rig.completions == [write.tag: .deadlineExceeded])
    }

    @Test func deadlinesRunWhileDetached() throws {
        let rig = Rig()
        let sent = rig.submit(.write, 0, 4096, data: pattern(4096), deadline: .seconds(1))
        try rig.carryOut()
        rig.detach(keepingPercent: 0)
        let behind = rig.submit(.write, 0, 4096, data: pattern(4096, 5), deadline: .seconds(3))
        let other = rig.submit(.read, 8192, 4096, deadline: .seconds(2))
        rig.tick(after: .seconds(1))
        #expect(rig.completions == [sent.tag: .deadlineExceeded])
        rig.tick(after: .seconds(1))
        #expect(rig.completions[other.tag] == .deadlineExceeded)
        rig.attach()
        try rig.run()
        #expect(rig.completions[behind.tag] == .ok)
        #expect(rig.ost.blocks[0] == pattern(4096, 5))
    }

    @Test func aProcessThatDidNotRunForgivesItself() throws {
        let rig = Rig()
        let read = rig.submit(.read, 0, 4096, deadline: .seconds(1))
        try rig.carryOut()
        rig.tick(after: .seconds(20))
        #expect(rig.completions.isEmpty)
        rig.ost.execute(0)
        rig.carryIn()
        #expect(rig.completions == [read.tag: .ok])
        #expect(rig.marks.contains(.lateClockForgiven))
    }

    @Test func anIdleConnectionIsKeptAliveAndASilentOneIsLeft() throws {
        let rig = Rig()
        #expect(rig.wake == Instant.zero + Limits.keepAliveInterval)
        rig.tick(after: Limits.keepAliveInterval)
        try rig.run()
        #expect(rig.ost.seen.map(\.opcode) == [.ping])
        rig.tick(after: Limits.keepAliveInterval)
        try rig.carryOut()
        #expect(rig.ost.pending.count == 1)
        rig.tick(after: Limits.keepAliveInterval)
        #expect(rig.resets == [.silence])
    }
}
