import Base
import OSTEngine
import Testing
import Wire

/// Opens of a cluster's writers: generation and map come from outside, P2 is kept all the same.
@Suite struct FenceTests {
    private let fence: OpenRequest.Flags = [.write, .fence]

    private func bench(map: UInt64 = 1) throws -> (EngineBench, TestClient, TestClient) {
        let bench = try EngineBench()
        let first = try bench.ready("first")
        let second = try bench.ready("second")
        try first.create("vm1", map: map)
        return (bench, first, second)
    }

    @Test func aFenceTakesGenerationAndMapOfTheMDT() throws {
        let (bench, first, second) = try bench()
        let old = try first.open("vm1", fence, generation: 3, map: 2)
        #expect(old.generation == 3 && old.map == 2)
        #expect(try first.write(old, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .ok)
        let new = try second.open("vm1", fence, generation: 7, map: 5)
        #expect(new.generation == 7 && new.map == 5, "it is never busy")
        #expect(try first.write(old, block: 0, TestClient.blocks(1, 2), sequence: 2).header.status == .fenced)
        #expect(try first.read(old, block: 0).header.status == .fenced)
        #expect(first.events.map(\.header.argument) == [VolumeEvent.fenced.rawValue])
        #expect(try second.read(new, block: 0).payload == TestClient.blocks(1, 1))
        #expect(try second.write(new, block: 0, TestClient.blocks(1, 2), sequence: 1).header.status == .ok)
        let newest = try first.open("vm1", fence, session: 4, generation: 8, map: 5)
        #expect(newest.generation == 8)
        #expect(first.events.count == 1, "who was told is not told again")
        #expect(second.events.map(\.header.argument) == [VolumeEvent.fenced.rawValue])
        #expect(bench.engine.marks.contains(.fencedByNumber) && bench.engine.marks.contains(.writerFenced))
    }

    @Test func anOlderGenerationIsFencedAlsoAfterARestart() throws {
        let (bench, first, second) = try bench()
        _ = try first.open("vm1", fence, generation: 4, map: 3)
        #expect(refusal { try second.open("vm1", fence, session: 9, generation: 3, map: 9) }.status == .fenced)
        try bench.restart()
        let third = try bench.ready("third")
        #expect(refusal { try third.open("vm1", fence, session: 9, generation: 3, map: 9) }.status == .fenced)
        #expect(refusal { try third.open("vm1", fence, session: 9, generation: 4, map: 2) }.status == .staleMap)
        #expect(try third.open("vm1", fence, session: 9, generation: 4, map: 3).generation == 4)
    }

    @Test func aFenceIsAnsweredWhenItIsDurableAndDrained() throws {
        let (bench, first, second) = try bench()
        let old = try first.open("vm1", fence, generation: 1, map: 1)
        bench.holdsDisk = true
        let written = first.sendWrite(old, block: 0, TestClient.blocks(1, 1), sequence: 1)
        bench.settle()
        let opened = second.sendOpen("vm1", fence, generation: 2, map: 2)
        let late = first.sendWrite(old, block: 0, TestClient.blocks(1, 2), sequence: 2)
        bench.settle()
        #expect(second.replies[opened] == nil)
        #expect(bench.engine.marks.contains(.writerFenced), "from now on the old writer is refused")
        bench.releaseDisk()
        #expect(try second.reply(to: opened).header.status == .ok)
        #expect(first.replies[written]?.header.status == .ok, "what was admitted before the fence has ended before it")
        let lateStatus = try first.reply(to: late).header.status
        let reader = try second.open("vm1", [])
        #expect(try second.read(reader, block: 0).payload == TestClient.blocks(1, lateStatus == .ok ? 2 : 1))
    }

    @Test func theSameWriterComesBackWithANewerSessionAndMap() throws {
        let (bench, first, second) = try bench()
        let old = try first.open("vm1", fence, session: 3, generation: 2, map: 2)
        bench.holdsDisk = true
        let underWay = first.sendWrite(old, block: 0, TestClient.blocks(1, 1), sequence: 1)
        bench.settle()
        let opened = second.sendOpen("vm1", fence, session: 4, generation: 2, map: 6)
        bench.settle()
        #expect(second.replies[opened] == nil, "drained first, and the map is durable")
        bench.releaseDisk()
        let reply = try second.reply(to: opened)
        #expect(reply.header.status == .ok && reply.header.generation == 2 && reply.header.map == 6)
        #expect(first.replies[underWay]?.header.status == .ok)
        #expect(try first.write(old, block: 0, TestClient.blocks(1, 2), sequence: 2).header.status == .staleSession)
        #expect(refusal { try first.open("vm1", fence, session: 4, generation: 2, map: 6) }.status == .staleSession)
        let stale = refusal { try first.open("vm1", fence, session: 5, generation: 2, map: 5) }
        #expect(stale.status == .staleMap && stale.detail.contains("older than 6"), "\(stale.detail)")
        #expect(bench.engine.marks.contains(.writerReturned) && bench.engine.marks.contains(.staleMap))
        try bench.restart()
        let third = try bench.ready("third")
        #expect(refusal { try third.open("vm1", fence, session: 5, generation: 2, map: 5) }.status == .staleMap, "a restart keeps the map")
    }

    /// What the writer's fence had made durable is not there: nothing may be raised as if it came for the first time.
    @Test func aWriterThatReturnsIsRefusedByAnOldCopy() throws {
        let (bench, first, second) = try bench()
        let returns: OpenRequest.Flags = [.write, .fence, .known]
        _ = try first.open("vm1", fence, generation: 3, map: 2)
        let old = refusal { try second.open("vm1", returns, session: 5, generation: 4, map: 2) }
        #expect(old.status == .wrongStore && old.detail.contains("an old copy"), "\(old.detail)")
        #expect(bench.engine.marks.contains(.oldCopyRefused))
        #expect(try second.open("vm1", returns, session: 5, generation: 3, map: 2).generation == 3, "that one it knows")
        #expect(try second.open("vm1", fence, generation: 4, map: 2).generation == 4)
    }

    @Test func theMapOfAnAnsweredReturnIsDurable() throws {
        let (bench, first, _) = try bench()
        _ = try first.open("vm1", fence, session: 1, generation: 2, map: 2)
        for (session, map) in [(UInt64(2), UInt64(9)), (3, 9), (4, 11)] {
            let client = try bench.ready("again")
            #expect(try client.open("vm1", fence, session: session, generation: 2, map: map).map == map)
            try bench.restart(losingPower: true)
            let after = try bench.ready("after")
            #expect(refusal { try after.open("vm1", fence, session: 9, generation: 2, map: map - 1) }.status == .staleMap)
        }
    }

    @Test func theSameFenceMayBeAskedAgain() throws {
        let (bench, first, second) = try bench()
        let nonce = Identifier(high: 5, low: 5)
        let volume = try first.open("vm1", fence, session: 2, generation: 2, map: 2, nonce: nonce)
        let again = try second.open("vm1", fence, session: 2, generation: 2, map: 2, nonce: nonce)
        #expect(again.generation == volume.generation)
        #expect(bench.engine.marks.contains(.nonceRepeated))
        #expect(try first.write(volume, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .staleSession)
        #expect(try second.write(again, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .ok)
        #expect(refusal { try first.open("vm1", fence, session: 1, generation: 2, map: 2, nonce: nonce) }.status == .staleSession)
        let other = Identifier(high: 5, low: 6)
        #expect(refusal { try first.open("vm1", fence, session: 2, generation: 2, map: 2, nonce: other) }.status == .staleSession)
    }

    @Test func aMapNeverGoesBackAndHandlesOfReadersLearnIt() throws {
        let (_, first, second) = try bench(map: 7)
        let reader = try second.open("vm1", [])
        #expect(reader.map == 7)
        let writer = try first.open("vm1", fence, generation: 1, map: 4)
        #expect(writer.map == 7, "a newer map was known here; the reply says so")
        #expect(try first.write(writer, block: 0, TestClient.blocks(1, 1), sequence: 1) { $0.map = 4 }.header.status == .staleMap)
        #expect(try first.write(writer, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .ok)
        _ = try first.open("vm1", fence, generation: 2, map: 8)
        #expect(try second.read(reader, block: 0).header.status == .staleMap)
        #expect(try second.read(reader, block: 0) { $0.map = 8 }.header.status == .ok)
    }

    @Test func whatBelongsToAClusterIsWrittenOnlyThroughIt() throws {
        let (bench, first, second) = try bench()
        let fresh = refusal { try first.open("vm1", [.write, .settle, .force]) }
        #expect(fresh.status == .permissionDenied && fresh.detail.contains("volume of a cluster"), "\(fresh.detail)")
        #expect(bench.engine.marks.contains(.clusterRefused))
        let writer = try first.open("vm1", fence, generation: 1, map: 1)
        #expect(refusal { try second.open("vm1", .write, session: 9, generation: 1) }.status == .permissionDenied)
        #expect(refusal { try second.open("vm1", .write) }.status == .permissionDenied)
        #expect(try first.write(writer, block: 0, TestClient.blocks(1, 3), sequence: 1).header.status == .ok, "and nobody was fenced")
        let reader = try second.open("vm1", [])
        #expect(try second.read(reader, block: 0).payload == TestClient.blocks(1, 3))
    }

    /// Its generations were raised here: the MDT's may be a number that somebody else has.
    @Test func anObjectOfNoClusterIsFencedOnlyFromAbove() throws {
        let (_, first, second) = try bench(map: 0)
        let old = try first.open("vm1", [.write, .settle])
        #expect(old.generation == 1 && old.map == 0)
        #expect(refusal { try second.open("vm1", fence, session: 9, generation: 1, map: 1) }.status == .fenced)
        #expect(try second.open("vm1", fence, generation: 2, map: 1).generation == 2)
        #expect(try first.write(old, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .fenced)
        #expect(refusal { try first.open("vm1", .write, session: 9, generation: 1) }.status == .fenced)
    }

    @Test func aFenceThatContradictsItselfIsRefused() throws {
        let (_, first, _) = try bench()
        let wrong: [(OpenRequest.Flags, UInt64, UInt64)] = [
            (.fence, 1, 1), ([.write, .fence, .settle], 1, 1), (fence, 0, 1), (fence, 1, 0),
        ]
        for (flags, generation, map) in wrong {
            let failure = refusal { try first.open("vm1", flags, generation: generation, map: map) }
            #expect(failure.status == .invalidArgument, "flags \(flags.rawValue), generation \(generation), map \(map)")
        }
    }

    @Test func whatAnOlderGenerationLeftInDoubtStaysSo() throws {
        let (_, first, second) = try bench()
        let old = try first.open("vm1", fence, generation: 1, map: 1)
        #expect(try first.write(old, block: 0, TestClient.blocks(3, 1), sequence: 1).header.status == .ok)
        let request = second.sendOpen("vm1", fence, generation: 2, map: 1)
        #expect(try second.reply(to: request).decode(OpenReply.self).doubts == 3)
    }
}
