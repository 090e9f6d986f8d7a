import Base
import Testing
import Wire

@testable import VolumeEngine

/// A member that moves to an OST that the volume had nothing on before.
@Suite struct MoveTests {
    /// The row of placement 0 gets a seat more, for its member 0 on peer 3.
    private func begin(_ rig: ReplicaRig, _ state: MemberTable.State) {
        rig.addPeer()
        rig.change(width: 3) { row, seats in
            seats + [row == 0 ? MemberTable.Member(peer: 3, state: state, incarnation: 9, number: 0) : .nobody]
        }
    }

    private func arrive(_ rig: ReplicaRig) {
        rig.change(width: 2) { row, seats in
            row == 0 ? [MemberTable.Member(peer: 3, incarnation: 9, number: 0), seats[1]] : Array(seats[..<2])
        }
    }

    /// Parts that the new one was sent writes of.
    private func parts(_ rig: ReplicaRig) -> Set<PartAddress> { Set(rig.osts[3].seen.filter { $0.opcode == .write }.map(\.part)) }

    /// It has as many members in sync as it should, and all of them are there.
    @Test func aVolumeIsNotDegradedWhileAMemberMerelyMoves() throws {
        let rig = ReplicaRig()
        begin(rig, .stale)
        try rig.run()
        #expect(!rig.isDegraded)
        rig.restore(3, .filling)
        #expect(!rig.isDegraded, "nobody is there at its new place yet")
        try rig.run()
        rig.detach(0)
        #expect(rig.isDegraded)
        rig.attach(0)
        try rig.run()
        #expect(!rig.isDegraded)
        rig.exclude(1)
        try rig.run()
        #expect(rig.isDegraded, "another one is not in sync")
    }

    @Test func writesGoToTheOldPlaceAndToTheNewOne() throws {
        let rig = ReplicaRig()
        begin(rig, .filling)
        try rig.run()
        let write = rig.submit(.write, 0, 4096, value: 5)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
        #expect(parts(rig) == [PartAddress(chunk: 0, member: 0, incarnation: 9)], "under the member's number")
        // It is not read, and other placements do not know it.
        for chunk in 0..<8 { rig.submit(.read, UInt64(chunk) * ReplicaRig.chunkBytes, 4096) }
        rig.submit(.write, ReplicaRig.chunkBytes, 4096, value: 6)
        try rig.run()
        #expect(parts(rig).count == 1 && !rig.osts[3].seen.contains { $0.opcode == .read })
    }

    /// What was sent to both before counts for the place that remains; what only the old one has not answered is waited for no more.
    @Test func writesUnderWayOutliveTheChange() throws {
        let rig = ReplicaRig()
        begin(rig, .filling)
        try rig.run()
        let write = rig.submit(.write, 0, 4096, value: 5)
        arrive(rig)
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
        let next = rig.submit(.write, 0, 4096, value: 6)
        try rig.run()
        let read = rig.submit(.read, 0, 4096)
        try rig.run()
        #expect(rig.completions[next.tag] == .ok && rig.completions[read.tag] == .ok)
        #expect(rig.bytes(of: read.tag).allSatisfy { $0 == 6 })
        #expect(parts(rig) == [PartAddress(chunk: 0, member: 0, incarnation: 9)])
    }

    /// The one that has moved loses its connection with a write that it has not answered: that is not acknowledged without it.
    @Test func theNewPlaceIsNotForgottenWhenItIsGoneForAMoment() throws {
        let rig = ReplicaRig()
        begin(rig, .filling)
        try rig.run()
        let write = rig.submit(.write, 0, 4096, value: 5)
        rig.isDown[3] = true
        try rig.run()
        arrive(rig)
        rig.isDown[3] = false
        // It hears of the map, and does not answer the write that came before.
        try rig.carryOut(3)
        let stamp = try #require(rig.osts[3].pending.firstIndex { $0.header.opcode == .stamp })
        rig.osts[3].execute(stamp)
        rig.carryIn(3)
        rig.isDown[3] = true
        try rig.run()
        rig.detach(3)
        try rig.run()
        #expect(rig.completions[write.tag] == nil, "it is not over without the place that counts")
        rig.isDown[3] = false
        try rig.run()
        #expect(rig.completions[write.tag] == .ok)
    }

    /// A target that is gone is excluded like any member; the one that it would have replaced keeps everything going.
    @Test func aTargetThatIsGoneIsExcluded() throws {
        let rig = ReplicaRig()
        begin(rig, .filling)
        try rig.run()
        rig.detach(3)
        rig.isDown[3] = true
        let write = rig.submit(.write, 0, 4096, value: 5)
        try rig.run()
        #expect(rig.completions[write.tag] == nil)
        for _ in 0..<8 {
            rig.tick(after: .milliseconds(100))
            try rig.run()
        }
        #expect(rig.completions[write.tag] == .ok)
    }
}
