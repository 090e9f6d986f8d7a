import Base
import OSTEngine
import Testing
import Wire

/// Filling a member: the rules that the model names, seen from the wire. One simulation at a time: mutants are switched for all of them.
@Suite(.serialized) struct FillTests {
    private let fence: OpenRequest.Flags = [.write, .fence]

    /// A member that had a writer of generation 2, and its recovery.
    private struct Scene {
        var bench: EngineBench
        var writer: TestClient
        var recovery: TestClient
        var handle: TestClient.Volume
    }

    private func scene() throws -> Scene {
        let bench = try EngineBench()
        let writer = try bench.ready("writer")
        let recovery = try bench.ready("recovery")
        try writer.create("vm1", map: 1)
        _ = try writer.open("vm1", fence, session: 1, generation: 2, map: 1)
        return Scene(bench: bench, writer: writer, recovery: recovery, handle: try recovery.open("vm1", .recover, map: 2))
    }

    private func sendBegin(_ scene: Scene, _ number: UInt64, generation: UInt64 = 2, map: UInt64 = 2) -> UInt64 {
        scene.recovery.send(.fillBegin) {
            scene.recovery.address(&$0, scene.handle, block: 0, count: 0)
            $0.argument = number
            $0.generation = generation
            $0.map = map
        }
    }

    private func begin(_ scene: Scene, _ number: UInt64, generation: UInt64 = 2, map: UInt64 = 2) throws -> Version {
        let reply = try scene.recovery.reply(to: sendBegin(scene, number, generation: generation, map: map))
        guard reply.header.status == .ok else { throw Failure(reply.header.status, reply.sentence) }
        return try reply.decode(FillReply.self).base
    }

    private func end(_ scene: Scene, _ number: UInt64) throws -> Status {
        try scene.recovery.call(.fillEnd) {
            scene.recovery.address(&$0, scene.handle, block: 0, count: 0)
            $0.argument = number
            $0.map = 2
        }.header.status
    }

    private func sendFill(
        _ scene: Scene, _ number: UInt64, block: UInt32, count: Int = 1, _ content: UInt8, version: Version, inDoubt: Bool = false
    ) -> UInt64 {
        scene.recovery.sendWrite(scene.handle, block: block, TestClient.blocks(count, content), sequence: version.sequence) {
            $0.flags = inDoubt ? [.fill, .inDoubt] : .fill
            $0.argument = number
            $0.generation = version.generation
            $0.map = 2
        }
    }

    private func fill(
        _ scene: Scene, _ number: UInt64, block: UInt32, count: Int = 1, _ content: UInt8,
        version: Version = Version(generation: 2, sequence: 0), inDoubt: Bool = false
    ) throws -> Status {
        let request = sendFill(scene, number, block: block, count: count, content, version: version, inDoubt: inDoubt)
        return try scene.recovery.reply(to: request).header.status
    }

    private func back(_ scene: Scene, _ fill: UInt64, session: UInt64 = 5, generation: UInt64 = 2) throws -> TestClient.Volume {
        try open(scene.writer, fill, session: session, generation: generation)
    }

    private func open(_ client: TestClient, _ fill: UInt64, session: UInt64, generation: UInt64) throws -> TestClient.Volume {
        let request = client.send(.open, meta: OpenRequest(name: "vm1", flags: fence).encoded) {
            $0.session = session
            $0.generation = generation
            $0.map = 2
            $0.argument = fill
        }
        let reply = try client.reply(to: request)
        guard reply.header.status == .ok else { throw Failure(reply.header.status, reply.sentence) }
        return TestClient.Volume(
            handle: reply.header.handle, generation: generation, session: session, record: try reply.decode(OpenReply.self).object,
            map: reply.header.map)
    }

    private func checks(_ scene: Scene, block: UInt32, count: Int = 1) throws -> ChecksReply {
        try scene.recovery.call(.checks) {
            scene.recovery.address(&$0, scene.handle, block: block, count: count)
            $0.map = 2
        }.decode(ChecksReply.self)
    }

    private func read(_ scene: Scene, block: UInt32, count: Int = 1) throws -> [UInt8] {
        try scene.recovery.read(scene.handle, block: block, count: count) { $0.map = 2 }.payload
    }

    // What a fill brings

    @Test func aFillWriteLandsWithTheVersionOfItsSource() throws {
        let scene = try scene()
        _ = try begin(scene, 1)
        #expect(try fill(scene, 1, block: 7, count: 3, 9, version: Version(generation: 1, sequence: 40)) == .ok)
        #expect(try read(scene, block: 7, count: 3) == TestClient.blocks(3, 9))
        let found = try checks(scene, block: 7)
        #expect(found.highest == Version(generation: 1, sequence: 40) && found.blocks[0].doubt == nil)
        #expect(try fill(scene, 1, block: 8, 4, version: Version(generation: 3, sequence: 0)) == .invalidArgument, "newer than any writer")
        #expect(try fill(scene, 0, block: 8, 4) == .invalidArgument)
    }

    @Test func zeroesHolesAndPagesAreBroughtToo() throws {
        let scene = try scene()
        _ = try begin(scene, 1)
        #expect(try fill(scene, 1, block: 0, count: 4, 9) == .ok)
        for (opcode, block) in [(Opcode.writeZeroes, UInt32(1)), (.discard, 2)] {
            let reply = try scene.recovery.call(opcode) {
                scene.recovery.address(&$0, scene.handle, block: block, count: 1)
                $0.flags = .fill
                $0.argument = 1
                $0.map = 2
            }
            #expect(reply.header.status == .ok)
        }
        #expect(try checks(scene, block: 0, count: 4).blocks.map(\.state) == [.data, .zero, .absent, .data])
        func page(_ block: UInt32, _ sequence: UInt64, _ number: UInt64, member: UInt16 = 0) throws -> Status {
            try scene.recovery.call(.fillPage) {
                scene.recovery.address(&$0, scene.handle, block: block, count: 0)
                $0.part.member = member
                $0.argument = number
                $0.sequence = sequence
                $0.map = 2
            }.header.status
        }
        #expect(try page(5, 33, 1) == .ok)
        #expect(try page(5, 20, 1) == .ok)
        #expect(try page(9 * 1024, 44, 1) == .ok)
        #expect(try checks(scene, block: 0).highest == Version(generation: 2, sequence: 33))
        #expect(try checks(scene, block: 9 * 1024).highest == Version(generation: 2, sequence: 44))
        #expect(try page(5, 50, 2) == .staleMap)
        #expect(try page(5, 50, 1, member: 3) == .invalidArgument)
        #expect(try page(.max, 50, 1) == .outOfRange)
    }

    @Test func onlyARecoveryFills() throws {
        let scene = try scene()
        _ = try begin(scene, 1)
        let writer = try back(scene, 1)
        let request = scene.writer.sendWrite(writer, block: 0, TestClient.blocks(1, 1), sequence: 1) {
            $0.flags = .fill
            $0.argument = 1
        }
        #expect(try scene.writer.reply(to: request).header.status == .invalidArgument)
        let begun = try scene.writer.call(.fillBegin) {
            scene.writer.address(&$0, writer, block: 0, count: 0)
            $0.argument = 2
        }
        #expect(begun.header.status == .invalidArgument)
    }

    // fill_live

    private func liveWritesStay() throws -> Bool {
        let scene = try scene()
        _ = try begin(scene, 1)
        let writer = try back(scene, 1)
        #expect(try scene.writer.write(writer, block: 1, TestClient.blocks(1, 7), sequence: 1).header.status == .ok)
        #expect(try fill(scene, 1, block: 0, count: 3, 9) == .ok, "dropped but answered well")
        let filled = TestClient.blocks(3, 9)
        return try read(scene, block: 0, count: 3) == filled[..<4096] + TestClient.blocks(1, 7) + filled[8192...]
    }

    @Test func aFillWriteNeverCoversALiveWrite() throws { #expect(try liveWritesStay()) }

    /// The order is that of their arrival, not that in which the disk ends them.
    @Test func liveWritesUnderWayCountToo() throws {
        let scene = try scene()
        _ = try begin(scene, 1)
        let writer = try back(scene, 1)
        scene.bench.holdsDisk = true
        let filled = sendFill(scene, 1, block: 0, 9, version: Version(generation: 2, sequence: 0))
        let alsoFilled = sendFill(scene, 1, block: 1, 9, version: Version(generation: 2, sequence: 0))
        scene.bench.settle()
        let written = scene.writer.sendWrite(writer, block: 1, TestClient.blocks(2, 7), sequence: 1)
        scene.bench.settle()
        let late = sendFill(scene, 1, block: 2, 9, version: Version(generation: 2, sequence: 0))
        scene.bench.settle()
        scene.bench.releaseDisk()
        for request in [filled, alsoFilled, late] { #expect(try scene.recovery.reply(to: request).header.status == .ok) }
        #expect(try scene.writer.reply(to: written).header.status == .ok)
        #expect(try read(scene, block: 0) == TestClient.blocks(1, 9))
        #expect(try read(scene, block: 1, count: 2) == TestClient.blocks(2, 7))
    }

    /// Whatever version the fill names: the mark that the writer hears of this member is about its own writes.
    @Test func aFillWriteIsNotTakenForADurableWriteOfTheWriter() throws {
        let scene = try scene()
        _ = try begin(scene, 1)
        let writer = try back(scene, 1)
        #expect(try fill(scene, 1, block: 0, 9, version: Version(generation: 2, sequence: 1000)) == .ok)
        #expect(try scene.writer.write(writer, block: 1, TestClient.blocks(1, 7), sequence: 990).header.status == .ok)
        let flushed = try scene.recovery.call(.flush) {
            scene.recovery.address(&$0, scene.handle, block: 0, count: 0)
            $0.map = 2
        }
        #expect(flushed.header.status == .ok)
        let mark = try scene.writer.call(.mark) { scene.writer.address(&$0, writer, block: 0, count: 0) }
        #expect(mark.header.mark == 990)
    }

    // fill_doubt

    private func doubtIsKept() throws -> Bool {
        let scene = try scene()
        _ = try begin(scene, 1)
        let version = Version(generation: 2, sequence: 4)
        #expect(try fill(scene, 1, block: 3, 9, version: version, inDoubt: true) == .ok)
        guard try checks(scene, block: 3).blocks[0].doubt == version else { return false }
        #expect(try end(scene, 1) == .ok)
        try scene.bench.restart(losingPower: true)
        let client = try scene.bench.ready("next writer")
        let next = try open(client, 0, session: 1, generation: 3)
        let listed = try client.call(.doubts) { client.address(&$0, next, block: 0, count: 0) }.decode(DoubtsReply.self).ranges
        return listed == [DoubtRange(part: PartAddress(chunk: 0), firstBlock: 3, blockCount: 1, version: version)]
    }

    @Test func whatIsInDoubtAtItsSourceIsInDoubtHere() throws { #expect(try doubtIsKept()) }

    @Test func whatTheMarkHasPassedIsNotInDoubtAgain() throws {
        let scene = try scene()
        _ = try begin(scene, 1)
        let writer = try back(scene, 1)
        #expect(try scene.writer.write(writer, block: 0, TestClient.blocks(1, 7), sequence: 6) { $0.mark = 5 }.header.status == .ok)
        #expect(try fill(scene, 1, block: 3, 9, version: Version(generation: 2, sequence: 5), inDoubt: true) == .ok)
        #expect(try checks(scene, block: 3).blocks[0].doubt == nil)
    }

    // fill_boot, fill_id

    private func replacedFillsAreRefused() throws -> Bool {
        let scene = try scene()
        _ = try begin(scene, 1)
        #expect(try fill(scene, 1, block: 0, 1) == .ok)
        _ = try begin(scene, 2)
        #expect(try fill(scene, 2, block: 0, 2) == .ok)
        _ = try fill(scene, 1, block: 0, 5)
        return try read(scene, block: 0) == TestClient.blocks(1, 2)
    }

    @Test func aFillEndsWithTheNextOne() throws {
        #expect(try replacedFillsAreRefused())
        let scene = try scene()
        _ = try begin(scene, 1)
        _ = try begin(scene, 2)
        #expect(try fill(scene, 1, block: 0, 5) == .staleMap)
        #expect(try end(scene, 1) == .staleMap)
    }

    private func deadFillsAreRefused() throws -> Bool {
        let scene = try scene()
        _ = try begin(scene, 2)
        #expect(try fill(scene, 2, block: 0, 2) == .ok)
        try scene.bench.restart()
        let again = try scene.bench.ready("recovery")
        var after = scene
        after.recovery = again
        after.handle = try again.open("vm1", .recover, map: 2)
        let isRefused = try fill(after, 2, block: 0, 6) == .staleMap
        #expect(try end(after, 2) == .staleMap)
        return try isRefused && read(after, block: 0) == TestClient.blocks(1, 2)
    }

    @Test func aFillEndsWithTheProcess() throws { #expect(try deadFillsAreRefused()) }

    @Test func aFillNumberIsNeverUsedAgain() throws {
        let scene = try scene()
        _ = try begin(scene, 4)
        #expect(try begin(scene, 4) == .zero.with(generation: 2), "asked again, while it is under way")
        #expect(throws: Failure.self) { try begin(scene, 3) }
        #expect(throws: Failure.self) { try begin(scene, 0) }
        #expect(throws: Failure.self) { try begin(scene, 5, generation: 1) }
        try scene.bench.restart()
        var after = scene
        after.recovery = try scene.bench.ready("recovery")
        after.handle = try after.recovery.open("vm1", .recover, map: 2)
        #expect(throws: Failure.self) { try begin(after, 4) }
        _ = try begin(after, 5)
        #expect(try end(after, 5) == .ok)
        #expect(try end(after, 5) == .ok, "asked again")
        #expect(try fill(after, 5, block: 0, 1) == .staleMap, "it has ended")
        #expect(throws: Failure.self) { try begin(after, 5) }
        #expect(scene.bench.engine.marks.contains(.fillRefused))
    }

    /// What was written since a fill began stays known when its beginning is asked for again.
    @Test func aRepeatedBeginForgetsNothing() throws {
        let scene = try scene()
        _ = try begin(scene, 1)
        let writer = try back(scene, 1)
        #expect(try scene.writer.write(writer, block: 0, TestClient.blocks(1, 7), sequence: 1).header.status == .ok)
        _ = try begin(scene, 1)
        #expect(try fill(scene, 1, block: 0, 9) == .ok)
        #expect(try read(scene, block: 0) == TestClient.blocks(1, 7))
        #expect(try scene.writer.write(writer, block: 0, TestClient.blocks(1, 8), sequence: 2).header.status == .ok)
    }

    // fill_flush

    private func theEndIsDurable() throws -> Bool {
        let scene = try scene()
        _ = try begin(scene, 1)
        #expect(try fill(scene, 1, block: 0, 9) == .ok)
        #expect(try end(scene, 1) == .ok)
        try scene.bench.restart(losingPower: true)
        let client = try scene.bench.ready("writer")
        guard refusal({ try open(client, 0, session: 9, generation: 2) }).status == .ok else { return false }
        let reader = try client.open("vm1", [])
        return try client.read(reader, block: 0).payload == TestClient.blocks(1, 9)
    }

    @Test func whatAFillHasBroughtIsDurableAtItsEnd() throws { #expect(try theEndIsDurable()) }

    // Who else has it open

    /// A write of before the fill that comes late, though with the map of today.
    private func olderSessionsAreCutOff() throws -> Bool {
        let scene = try scene()
        let old = try back(scene, 0, session: 3)
        scene.bench.holdsDisk = true
        let admitted = scene.writer.sendWrite(old, block: 1, TestClient.blocks(1, 1), sequence: 1)
        scene.bench.settle()
        let begun = sendBegin(scene, 1)
        scene.bench.settle()
        let late = scene.writer.sendWrite(old, block: 0, TestClient.blocks(1, 1), sequence: 2)
        scene.bench.settle()
        scene.bench.releaseDisk()
        #expect(try scene.recovery.reply(to: begun).header.status == .ok)
        #expect(try scene.writer.reply(to: admitted).header.status == .ok)
        guard try scene.writer.reply(to: late).header.status == .staleSession else { return false }
        #expect(try fill(scene, 1, block: 0, count: 2, 9) == .ok)
        #expect(refusal { try back(scene, 1, session: 3) }.status == .staleSession)
        _ = try back(scene, 1, session: 4)
        return try read(scene, block: 0, count: 2) == TestClient.blocks(2, 9)
    }

    @Test func writersComeBackOnNewerSessions() throws { #expect(try olderSessionsAreCutOff()) }

    @Test func aFillBringsTheGenerationOfTheMDT() throws {
        let scene = try scene()
        let old = try back(scene, 0, session: 3)
        _ = try begin(scene, 1, generation: 5, map: 7)
        scene.bench.settle()
        #expect(scene.writer.events.map(\.header.argument) == [VolumeEvent.fenced.rawValue])
        #expect(try scene.writer.write(old, block: 0, TestClient.blocks(1, 1), sequence: 1) { $0.map = 7 }.header.status == .fenced)
        #expect(refusal { try back(scene, 1, session: 9, generation: 2) }.status == .fenced)
        let known = try scene.writer.call(.stat, meta: NameRequest(name: "vm1").encoded).decode(StatReply.self).object
        #expect(known.generation == 5 && known.map == 7)
        let request = scene.writer.send(.open, meta: OpenRequest(name: "vm1", flags: fence).encoded) {
            $0.session = 1
            $0.generation = 5
            $0.map = 7
            $0.argument = 1
        }
        #expect(try scene.writer.reply(to: request).header.status == .ok, "no session of this generation has been here")
    }

    @Test func aWriterMustKnowWhetherTheMemberIsComplete() throws {
        let scene = try scene()
        #expect(refusal { try back(scene, 1, session: 2) }.status == .staleMap, "no fill has begun")
        _ = try begin(scene, 1)
        for (fill, generation) in [(UInt64(0), UInt64(2)), (2, 2), (0, 3), (2, 3)] {
            #expect(refusal { try back(scene, fill, generation: generation) }.status == .staleMap, "fill \(fill)")
        }
        _ = try back(scene, 1, session: 5)
        #expect(try end(scene, 1) == .ok)
        _ = try back(scene, 1, session: 6)
        _ = try back(scene, 0, session: 7)
        _ = try begin(scene, 2)
        try scene.bench.restart()
        let client = try scene.bench.ready("writer")
        for fill in [UInt64(0), 1, 2] {
            #expect(refusal { try open(client, fill, session: 9, generation: 2) }.status == .staleMap, "fill \(fill) is dead")
        }
    }

    // From which version on

    @Test func aMemberKnowsUpToWhichVersionItIsComplete() throws {
        let scene = try scene()
        let writer = try back(scene, 0, session: 3)
        #expect(try scene.writer.write(writer, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .ok)
        #expect(try scene.writer.write(writer, block: 1, TestClient.blocks(1, 1), sequence: 8) { $0.mark = 5 }.header.status == .ok)
        let base = Version(generation: 2, sequence: 5)
        #expect(try begin(scene, 1) == base)
        #expect(try checks(scene, block: 0, count: 2).blocks.allSatisfy { $0.doubt == nil }, "nothing stays in doubt")
        // The mark of a fill's writer speaks of what it has sent here, not of what the fill has yet to bring.
        let back = try back(scene, 1)
        #expect(try scene.writer.write(back, block: 0, TestClient.blocks(1, 1), sequence: 20) { $0.mark = 19 }.header.status == .ok)
        #expect(try begin(scene, 2) == base)
        try scene.bench.restart(losingPower: true)
        var after = scene
        after.recovery = try scene.bench.ready("recovery")
        after.handle = try after.recovery.open("vm1", .recover, map: 2)
        #expect(try begin(after, 3, generation: 4) == base, "a fill that a restart has ended has made nothing complete")
        #expect(try end(after, 3) == .ok)
        #expect(try begin(after, 4, generation: 4) == Version(generation: 4, sequence: 0))
    }

    /// It may be here alone, and nobody would look at it again.
    @Test func anOrphanIsAboveTheBase() throws {
        let scene = try scene()
        let writer = try back(scene, 0, session: 3)
        #expect(try scene.writer.write(writer, block: 0, TestClient.blocks(1, 1), sequence: 7) { $0.mark = 6 }.header.status == .ok)
        _ = try back(scene, 0, session: 1, generation: 3)
        #expect(try begin(scene, 1, generation: 3) == Version(generation: 2, sequence: 6))
    }

    #if MUTANTS
        private func holds(_ mutant: Mutant) throws -> Bool {
            switch mutant {
            case .fillCoversLive: try liveWritesStay()
            case .fillForgetsDoubt: try doubtIsKept()
            case .fillNeverDies: try deadFillsAreRefused()
            case .takesOlderFills: try replacedFillsAreRefused()
            case .fillEndsUnflushed: try theEndIsDurable()
            case .fillKeepsWriters: try olderSessionsAreCutOff()
            case _: true
            }
        }

        @Test(arguments: [
            Mutant.fillCoversLive, .fillForgetsDoubt, .fillNeverDies, .takesOlderFills, .fillEndsUnflushed, .fillKeepsWriters,
        ])
        func eachRuleIsNeeded(_ mutant: Mutant) throws {
            Mutant.active = mutant
            defer { Mutant.active = nil }
            #expect(try !holds(mutant), "without the rule the scene ends as with it")
        }
    #endif
}

extension Version {
    fileprivate func with(generation: UInt64) -> Version { Version(generation: generation, sequence: sequence) }
}
