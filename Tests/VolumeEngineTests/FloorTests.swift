import Base
import Testing
import Wire

@testable import VolumeEngine

/// Fewer members in sync than the volume asks for: who waits, who fails and when, and who goes on.
@Suite struct FloorTests {
    private let block = Block.bytes

    /// Two peers of one placement, of which the second was away and is excluded.
    private func degraded(patience: Interval? = nil) throws -> ReplicaRig {
        let rig = ReplicaRig(peers: 2, floor: 2, patience: patience)
        rig.submit(.write, 0, block, value: 1)
        try rig.run()
        try lose(1, rig)
        return rig
    }

    private func lose(_ peer: Int, _ rig: ReplicaRig) throws {
        rig.isDown[peer] = true
        rig.detach(peer)
        rig.exclude(peer)
        try rig.run()
        #expect(!rig.wantsConnection(peer) && rig.isDegraded)
    }

    /// Comes back, is filled with what the fill writes, and is in sync.
    private func bringBack(_ peer: Int, _ rig: ReplicaRig) throws {
        rig.isDown[peer] = false
        rig.restore(peer, .filling)
        try rig.run()
        #expect(rig.isAttached(peer))
    }

    @Test func writesWaitBelowTheFloorAndReadsGoOn() throws {
        let rig = try degraded()
        let write = rig.submit(.write, 0, block, value: 2)
        let zeroes = rig.submit(.discard, UInt64(4 * block), block)
        // Behind the first of those that wait, of another block.
        let read = rig.submit(.read, UInt64(8 * block), block)
        let flush = rig.submit(.flush)
        try rig.run()
        #expect(rig.completions[read.tag] == .ok && rig.completions[flush.tag] == .ok)
        for _ in 0..<600 {
            rig.tick(after: .milliseconds(100))
            try rig.run()
        }
        #expect(rig.completions[write.tag] == nil && rig.completions[zeroes.tag] == nil && rig.marks.contains(.belowFloor))
        #expect(!rig.notices.contains(.belowFloor), "they wait, and none fails")
        try bringBack(1, rig)
        #expect(rig.completions[write.tag] == nil, "one that is being filled does not count")
        rig.restore(1, .inSync)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok && rig.completions[zeroes.tag] == .ok && !rig.isDegraded)
        #expect(rig.differences().isEmpty)
    }

    /// What brings a member back must not wait for it to be back.
    @Test func aMemberIsFilledBelowTheFloor() throws {
        let rig = try degraded()
        try bringBack(1, rig)
        let fill = rig.submit(.rewrite, 0, block, onlyFills: true)
        try rig.run()
        #expect(rig.completions[fill.tag] == .ok && rig.osts[1].blocks[0] == rig.osts[0].blocks[0])
        let reconcile = rig.submit(.rewrite, 0, block)
        try rig.run()
        #expect(rig.completions[reconcile.tag] == .ok, "members are made equal too")
    }

    @Test func aWriteThatHasWaitedForSoLongFails() throws {
        let rig = try degraded(patience: .seconds(5))
        let write = rig.submit(.write, 0, block, value: 2)
        let behind = rig.submit(.write, 0, block, value: 3)
        try rig.run()
        for _ in 0..<49 { rig.tick(after: .milliseconds(100)) }
        let late = rig.submit(.write, UInt64(4 * block), block, value: 4)
        #expect(rig.completions[write.tag] == nil)
        rig.tick(after: .milliseconds(100))
        #expect(rig.completions[write.tag] == .unavailable && rig.completions[late.tag] == nil)
        rig.tick(after: .milliseconds(0))
        #expect(rig.completions[behind.tag] == .unavailable, "it has waited for as long, behind the first")
        #expect(rig.notices.count { $0 == .belowFloor } == 1)
        for _ in 0..<49 { rig.tick(after: .milliseconds(100)) }
        #expect(rig.completions[late.tag] == .unavailable)
        let read = rig.submit(.read, 0, block)
        try rig.run()
        #expect(rig.completions[read.tag] == .ok && rig.bytes(of: read.tag).first == 1 && rig.activeCount == 0)
    }

    /// Not from the time at which the floor was lost, and not longer than its deadline.
    @Test func aWriteHasItsOwnTime() throws {
        let rig = try degraded(patience: .seconds(5))
        for _ in 0..<100 { rig.tick(after: .milliseconds(100)) }
        let write = rig.submit(.write, 0, block, value: 2)
        let short = rig.submit(.write, UInt64(4 * block), block, value: 2, deadline: .seconds(1))
        for _ in 0..<49 { rig.tick(after: .milliseconds(100)) }
        #expect(rig.completions[write.tag] == nil && rig.completions[short.tag] == .deadlineExceeded)
        rig.tick(after: .milliseconds(100))
        #expect(rig.completions[write.tag] == .unavailable)
    }

    /// The floor is asked of an acknowledgement, whenever the member left.
    @Test func aWriteUnderWayIsNotAcknowledgedByTooFew() throws {
        let rig = ReplicaRig(peers: 2, floor: 2)
        rig.isDown[1] = true
        let write = rig.submit(.write, 0, block, value: 5)
        try rig.run()
        try lose(1, rig)
        #expect(rig.completions[write.tag] == nil && rig.osts[0].blocks[0]?.first == 5)
        #expect(rig.marks.contains(.repeatedBelowFloor))
        try bringBack(1, rig)
        rig.restore(1, .inSync)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok && rig.osts[1].blocks[0]?.first == 5 && rig.differences().isEmpty)
    }

    /// A write of many parts that is caught half way.
    @Test func aLargeWriteIsRepeatedAsAWhole() throws {
        let rig = ReplicaRig(peers: 3, floor: 2, patience: .seconds(5))
        rig.isDown[1] = true
        let bytes = Int(ReplicaRig.chunkBytes) * 4
        let write = rig.submit(.write, 0, bytes, value: 5)
        try rig.run()
        try lose(1, rig)
        #expect(rig.completions[write.tag] == nil)
        try bringBack(1, rig)
        rig.restore(1, .inSync)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok && rig.differences().isEmpty)
        let read = rig.submit(.read, 0, bytes)
        try rig.run()
        #expect(rig.completions[read.tag] == .ok && Set(rig.bytes(of: read.tag)) == [5])
    }

    /// Placements that have enough members take writes.
    @Test func otherPlacementsGoOn() throws {
        let rig = ReplicaRig(peers: 3, floor: 2)
        try lose(1, rig)
        // Placement 2 is on peers 2 and 0.
        let waits = rig.submit(.write, 0, block, value: 2)
        let goesOn = rig.submit(.write, 2 * ReplicaRig.chunkBytes, block, value: 3)
        try rig.run()
        #expect(rig.completions[waits.tag] == nil && rig.completions[goesOn.tag] == .ok)
    }

    /// Whoever changes the policy changes it for those that wait.
    @Test func anotherPolicyCountsAtOnce() throws {
        let rig = try degraded()
        let write = rig.submit(.write, 0, block, value: 2)
        for _ in 0..<100 { rig.tick(after: .milliseconds(100)) }
        #expect(rig.completions[write.tag] == nil)
        rig.change(rig.table.members, patience: .some(.seconds(5)))
        try rig.run()
        rig.tick(after: .milliseconds(0))
        #expect(rig.completions[write.tag] == .unavailable, "it has waited for longer than that")
        let next = rig.submit(.write, 0, block, value: 3)
        try rig.run()
        rig.change(rig.table.members, floor: 1)
        try rig.run()
        #expect(rig.completions[next.tag] == .ok)
    }
}
