import Base
import OSTEngine
import Testing
import Wire

/// Raising the map number of a member that is open: how everybody learns that another member is stale.
@Suite struct StampTests {
    private let fence: OpenRequest.Flags = [.write, .fence]

    private func bench() throws -> (EngineBench, TestClient, TestClient) {
        let bench = try EngineBench()
        let first = try bench.ready("first")
        let second = try bench.ready("second")
        try first.create("vm1", map: 1)
        return (bench, first, second)
    }

    private func sendStamp(_ client: TestClient, _ volume: TestClient.Volume, map: UInt64) -> UInt64 {
        client.send(.stamp) {
            client.address(&$0, volume, block: 0, count: 0)
            $0.map = map
        }
    }

    private func stamp(_ client: TestClient, _ volume: TestClient.Volume, map: UInt64) throws -> Status {
        try client.reply(to: sendStamp(client, volume, map: map)).header.status
    }

    @Test func olderMapsAreRefusedOnEveryHandleFromTheAnswerOn() throws {
        let (bench, first, second) = try bench()
        let writer = try first.open("vm1", fence, generation: 1, map: 2)
        let reader = try second.open("vm1", [])
        #expect(try stamp(first, writer, map: 5) == .ok)
        #expect(bench.engine.marks.contains(.mapStamped))
        #expect(try first.write(writer, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .staleMap)
        #expect(try first.read(writer, block: 0).header.status == .staleMap)
        #expect(try second.read(reader, block: 0).header.status == .staleMap)
        let flush = try first.call(.flush) { first.address(&$0, writer, block: 0, count: 0) }
        #expect(flush.header.status == .staleMap)
        let newer = TestClient.Volume(handle: writer.handle, generation: 1, session: writer.session, record: writer.record, map: 5)
        #expect(try first.write(newer, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .ok)
        #expect(try second.open("vm1", []).map == 5)
        #expect(try stamp(first, writer, map: 4) == .ok, "nothing to do")
        #expect(try first.read(newer, block: 0).header.status == .ok, "and nothing went back")
        try bench.restart()
        let third = try bench.ready("third")
        #expect(refusal { try third.open("vm1", fence, session: 2, generation: 1, map: 4) }.status == .staleMap)
        #expect(try third.open("vm1", fence, session: 2, generation: 1, map: 5).map == 5)
    }

    @Test func whatWasAdmittedGoesOn() throws {
        let (bench, first, _) = try bench()
        let writer = try first.open("vm1", fence, generation: 1, map: 2)
        bench.holdsDisk = true
        let written = first.sendWrite(writer, block: 0, TestClient.blocks(1, 1), sequence: 1)
        bench.settle()
        let stamped = sendStamp(first, writer, map: 3)
        bench.settle()
        #expect(first.replies[stamped] == nil, "not answered before it is durable")
        bench.releaseDisk()
        #expect(try first.reply(to: stamped).header.status == .ok)
        #expect(first.replies[written]?.header.status == .ok)
    }

    /// What is answered holds after a loss of power, whichever of several stamps it was.
    @Test func anAnsweredStampIsDurableThoughAnotherBroughtTheNumber() throws {
        for map in [UInt64(7), 6, 5] {
            let (bench, first, _) = try bench()
            let writer = try first.open("vm1", fence, generation: 1, map: 2)
            // The record of the first is on the disk and applied, and its flush is not begun, when the second is answered or not.
            bench.holdsDisk = true
            let one = sendStamp(first, writer, map: 7)
            bench.settle()
            let two = sendStamp(first, writer, map: map)
            bench.settle()
            #expect(first.replies[one] == nil && first.replies[two] == nil)
            bench.releaseDisk()
            bench.holdsFlushes = true
            bench.universe.run(for: .milliseconds(100))
            #expect(first.replies[one] == nil && first.replies[two] == nil, "applied, not durable")
            let three = sendStamp(first, writer, map: map)
            bench.settle()
            bench.universe.run(for: .milliseconds(100))
            #expect(first.replies[three] == nil, "the number is the object's, not durably so")
            bench.holdsFlushes = false
            bench.releaseDisk()
            for request in [one, two, three] { #expect(try first.reply(to: request).header.status == .ok) }
            try bench.restart(losingPower: true)
            let after = try bench.ready("after")
            #expect(refusal { try after.open("vm1", fence, session: 9, generation: 1, map: 6) }.status == .staleMap)
        }
    }

    @Test func aStampOfAnOlderGenerationIsFenced() throws {
        let (bench, first, second) = try bench()
        let old = try first.open("vm1", fence, generation: 1, map: 2)
        let new = try second.open("vm1", fence, generation: 2, map: 2)
        #expect(try stamp(first, old, map: 9) == .fenced)
        #expect(try second.write(new, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .ok)
        bench.holdsDisk = true
        // The fence is under way: whatever the old writer asks for comes too late.
        let opened = first.sendOpen("vm1", fence, generation: 3, map: 3)
        bench.settle()
        let late = sendStamp(second, new, map: 9)
        bench.settle()
        #expect(second.replies[late]?.header.status == .fenced)
        bench.releaseDisk()
        #expect(try first.reply(to: opened).header.map == 3)
    }

    @Test func aFenceBehindAStampKeepsTheHigherNumber() throws {
        let (bench, first, second) = try bench()
        let old = try first.open("vm1", fence, generation: 1, map: 2)
        bench.holdsDisk = true
        let stamped = sendStamp(first, old, map: 8)
        bench.settle()
        let opened = second.sendOpen("vm1", fence, generation: 2, map: 5)
        bench.settle()
        bench.releaseDisk()
        #expect(try first.reply(to: stamped).header.status == .ok)
        #expect(try second.reply(to: opened).header.map == 8)
    }

    @Test func anObjectMayBeRemovedBehindAStamp() throws {
        let (bench, first, second) = try bench()
        let writer = try first.open("vm1", fence, generation: 1, map: 2)
        bench.holdsDisk = true
        let stamped = sendStamp(first, writer, map: 3)
        bench.settle()
        #expect(try first.call(.close) { first.address(&$0, writer, block: 0, count: 0) }.header.status == .ok)
        let removed = second.send(.remove, meta: NameRequest(name: "vm1").encoded)
        bench.settle()
        bench.releaseDisk()
        #expect(try second.reply(to: removed).header.status == .ok)
        #expect(first.replies[stamped]?.header.status == .ok)
    }

    @Test func stampsNeedAWriterOfACluster() throws {
        let (_, first, second) = try bench()
        try first.create("alone")
        let alone = try first.open("alone", [.write, .settle])
        let refused = try first.reply(to: sendStamp(first, alone, map: 3))
        #expect(refused.header.status == .invalidArgument && refused.sentence.contains("no cluster"))
        #expect(try first.write(alone, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .ok)
        let reader = try second.open("vm1", [])
        #expect(try stamp(second, reader, map: 3) == .readOnly)
    }
}
