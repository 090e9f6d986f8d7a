import Base
import OSTEngine
import Simulation
import Testing
import Wire

/// Bad, slow and dead clients: only they notice.
@Suite struct RobustnessTests {
    private let write: OpenRequest.Flags = [.write, .settle]

    /// Another client, whose volume must go on working whatever the first one does.
    private func witness(_ bench: EngineBench) throws -> (TestClient, TestClient.Volume) {
        let client = try bench.ready("witness")
        try client.create("witness")
        let volume = try client.open("witness", write)
        #expect(try client.write(volume, block: 0, TestClient.blocks(1, 1), sequence: 1).header.status == .ok)
        return (client, volume)
    }

    private func expectAlive(_ witness: (TestClient, TestClient.Volume)) throws {
        #expect(try witness.0.read(witness.1, block: 0).payload == TestClient.blocks(1, 1))
    }

    // Hello

    @Test func aClientOfAnotherClusterIsRefusedWithBothNames() throws {
        let bench = try EngineBench()
        let client = try #require(bench.connect())
        let other = Identifier(high: 9, low: 9)
        let reply = try client.call(.hello, meta: Hello(role: .client, cluster: other).encoded)
        #expect(reply.header.status == .wrongCluster)
        #expect(reply.sentence.contains("\(other)") && reply.sentence.contains("\(EngineBench.cluster)"))
        #expect(client.closeReason?.status == .wrongCluster)
        let same = try #require(bench.connect())
        let hello = try same.call(.hello, meta: Hello(role: .client, cluster: EngineBench.cluster).encoded)
        #expect(hello.header.status == .ok)
        let body = try hello.decode(Hello.self)
        #expect(body.role == .ost && body.cluster == EngineBench.cluster && body.mountCounter == 1 && body.boot != .zero)
    }

    @Test func anythingBeforeTheHelloEndsTheConnection() throws {
        let bench = try EngineBench()
        let client = try #require(bench.connect())
        #expect(try client.call(.ping).header.status == .malformed)
        #expect(!client.isConnected)
        let twice = try bench.ready()
        #expect(try twice.call(.hello, meta: Hello(role: .client).encoded).header.status == .malformed)
        #expect(!twice.isConnected)
        let silent = try #require(bench.connect())
        bench.settle()
        bench.universe.run(for: Limits.helloDeadline)
        bench.universe.run(for: .seconds(11))
        #expect(!silent.isConnected)
        #expect(bench.engine.marks.contains(.helloLate) && bench.engine.marks.contains(.helloRefused))
        #expect(bench.engine.connectionCount == 0)
    }

    @Test func connectionsAreLimitedAndUsedAgain() throws {
        let bench = try EngineBench()
        for _ in 0..<OSTConfiguration.small.connectionsMax { _ = try bench.ready() }
        #expect(bench.connect() == nil)
        #expect(bench.engine.marks.contains(.connectionLimit))
        for client in bench.clients { bench.disconnect(client) }
        for _ in 0..<OSTConfiguration.small.connectionsMax { _ = try bench.ready() }
    }

    // Frames

    /// What the engine wanted of the stream that is gone must not be done to the one that comes.
    @Test func aConnectionIsNotUsedAgainBeforeItsEffectsWerePerformed() throws {
        let bench = try EngineBench()
        let first = bench.engine.accept(on: "test")
        bench.engine.disconnected(try #require(first))
        let second = bench.engine.accept(on: "test")
        #expect(second != nil && second != first)
        bench.engine.endBatch()
        bench.engine.clearEffects()
        let third = bench.engine.accept(on: "test")
        #expect(third == first)
    }

    @Test func malformedFramesAreAnsweredOnceAndEndTheirConnection() throws {
        let bench = try EngineBench()
        let witness = try witness(bench)
        let cases: [(String, (TestClient) -> Void, Status)] = [
            ("no magic", { $0.sendBytes([UInt8](repeating: 0x41, count: 500)) }, .malformed),
            ("reply", { $0.send(.ping) { $0.flags = .reply } }, .malformed),
            ("event", { $0.send(.event) }, .malformed),
            ("body cut", { $0.send(.stat, meta: [9]) }, .malformed),
            ("meta check", { $0.send(.stat, meta: NameRequest(name: "x").encoded) { $0.metaCheck ^= 1 } }, .malformed),
            ("payload without blocks", { $0.send(.write, payload: [UInt8](repeating: 0, count: 4096)) }, .malformed),
            ("read of nothing", { $0.send(.read) }, .malformed),
        ]
        for (name, body, status) in cases {
            let client = try bench.ready(name)
            let request = client.send(.ping)
            body(client)
            client.send(.ping)
            bench.settle()
            #expect(client.replies[request]?.header.status == .ok, "\(name): what came before is answered")
            #expect(client.closeReason?.status == status, "\(name)")
            let refusals = client.events.map(\.header.status) + client.replies.values.map(\.header.status).filter { $0 != .ok }
            #expect(refusals == [status], "\(name)")
        }
        #expect(bench.engine.counters.malformedFrames == UInt64(cases.count))
        try expectAlive(witness)
    }

    @Test func anUnknownOpcodeIsAnsweredUnderItsRequest() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        var bytes = [UInt8](repeating: 0, count: FrameHeader.bytes)
        var header = FrameHeader(.ping)
        header.requestID = 4711
        bytes.withUnsafeMutableBytes { raw in
            guard let base = raw.baseAddress else { return }
            header.encode(to: base)
            base.store(UInt8(99), at: 6)
            base.store(Checksum.of(UnsafeRawBufferPointer(start: base, count: 124)), at: 124)
        }
        client.sendBytes(bytes)
        bench.settle()
        #expect(client.replies[4711]?.header.status == .unsupported)
        #expect(client.replies[4711]?.sentence.contains("99") == true)
        #expect(!client.isConnected && bench.engine.marks.contains(.unknownOpcode))
    }

    @Test func randomAndMutatedFramesHurtNobodyElse() throws {
        let bench = try EngineBench()
        let witness = try witness(bench)
        try witness.0.create("target", bytes: 8 << 20)
        try witness.0.create("member", bytes: 8 << 20, map: 1)
        try witness.0.create("filled", bytes: 8 << 20, map: 1)
        var random = Random(seed: 42)
        var client = try bench.ready("fuzzer")
        var volume = try target(bench, &client, 0)
        for round in 0..<5000 {
            if !client.isConnected || round % 4 == 0 { volume = try target(bench, &client, round) }
            for _ in 0..<25 { fuzz(client, volume, &random) }
            bench.settle()
            if round % 16 == 0 { bench.universe.run(for: .milliseconds(2)) }
            if round % 500 == 0 { try expectAlive(witness) }
            if round % 64 == 63 { bench.disconnect(client) }
        }
        bench.disconnect(client)
        bench.universe.run(for: .seconds(2))
        try expectAlive(witness)
        #expect(bench.engine.requestsInFlight == 0)
        #expect(bench.reloads.isEmpty)
        // That it was no fight against the first check: most frames got through to what they ask for.
        let counters = bench.engine.counters
        for opcode in Opcode.allCases where opcode != .event { #expect(counters.requests[Int(opcode.rawValue)] > 20, "\(opcode)") }
        #expect(counters.replies[0] > 20_000)
        // A malformed frame has an event for its answer, counted all the same.
        for status in [
            Status.malformed, .outOfRange, .closed, .fenced, .staleSession, .busy, .invalidArgument, .unsupported, .staleMap,
            .permissionDenied,
        ] {
            #expect(counters.replies[Int(status.rawValue)] > 0, "no reply was '\(status)'")
        }
    }

    /// The volume anew: what was fuzzed may have fenced or closed it, or still be on its way and end the connection.
    private func target(_ bench: EngineBench, _ client: inout TestClient, _ round: Int) throws -> TestClient.Volume {
        if client.isConnected {
            do { return try open(client, round) } catch { bench.disconnect(client) }
        }
        client = try bench.ready("fuzzer")
        return try open(client, round)
    }

    /// Now the volume of this OST, now the member of a cluster's, now one that is filled.
    private func open(_ client: TestClient, _ round: Int) throws -> TestClient.Volume {
        if round % 12 < 4 { return try client.open("target", [.write, .settle, .force]) }
        if round % 12 >= 8 { return try client.open("filled", .recover, map: .max) }
        let known = try client.call(.stat, meta: NameRequest(name: "member").encoded).decode(StatReply.self).object
        return try client.open("member", [.write, .fence], generation: known.generation + 1, map: known.map)
    }

    /// A frame that is almost right: most fields fit, some are random, and now and then bytes are flipped or cut behind its check.
    private func fuzz(_ client: TestClient, _ volume: TestClient.Volume, _ random: inout Random) {
        let opcodes = Opcode.allCases
        let opcode = opcodes[Int(random.next() % UInt64(opcodes.count))]
        var meta: [UInt8] = []
        var payload: [UInt8] = []
        var count: UInt32 = 0
        switch opcode {
        case .write:
            count = UInt32(1 + random.next() % 3)
            payload = TestClient.blocks(Int(count), UInt8(truncatingIfNeeded: random.next()))
            for start in stride(from: 0, to: payload.count, by: Block.bytes) {
                let check = payload[start..<start + Block.bytes].withUnsafeBytes { Checksum.of($0) }
                withUnsafeBytes(of: check) { meta += $0 }
            }
        case .read, .writeZeroes, .discard: count = UInt32(1 + random.next() % 8)
        case .open:
            // The member of a cluster is fenced; a fence would make one of the other, too.
            let flags = OpenRequest.Flags(rawValue: UInt8(truncatingIfNeeded: random.next()) & (volume.map > 0 ? 31 : 23))
            meta = OpenRequest(name: volume.record.name, flags: flags).encoded
        case .stat, .list, .volumeRecord: meta = NameRequest(name: random.next() % 2 == 0 ? "target" : "x").encoded
        case .resize: meta = ResizeRequest(name: random.next() % 2 == 0 ? "target" : "x").encoded
        case .create:
            let record = TestClient.record("f\(random.next() % 4)", bytes: 4096 * (1 + random.next() % 9))
            meta = CreateRequest(record, record: [2, 3]).encoded
        case .remove: meta = NameRequest(name: "f\(random.next() % 4)").encoded
        case .hello, .close, .statistics, .ping, .adopt, .flush, .mark, .doubts, .stamp, .fillBegin, .fillEnd, .fillPage, .event: break
        case .changed: meta = ChangedRequest(above: Version(generation: random.next() % 4, sequence: 0)).encoded
        case .checks: count = UInt32(1 + random.next() % 1024)
        case .volumeCreate, .volumeOpen, .volumeExclude, .volumeMap, .volumeList, .volumeRemove, .volumeResize, .volumeClose, .volumeFill,
            .volumeInSync, .volumeSet, .volumeHealth, .volumeReplace, .volumeSettle,
            .ostRegister,
            .ostList, .ostRemove, .ostDrain, .mdtRegister, .mdtList:
            break
        }
        // A hello, an event or a flipped bit ends the connection; rarely, so that most frames are looked at.
        if opcode == .hello || opcode == .event || opcode == .close, random.next() % 64 != 0 { return }
        let kind = random.next() % 256
        let field = random.next() % 12
        // A generation or map at the end of all numbers would leave none to go on with.
        let isRaised = (opcode == .open || opcode == .stamp || opcode == .fillBegin) && (field == 1 || field == 3)
        let value = isRaised ? volume.generation / 2 + random.next() % (volume.generation + 8) : random.next()
        client.send(opcode, meta: meta, payload: payload) { header in
            client.address(&header, volume, block: UInt32(value % 2048), count: Int(count))
            header.sequence = random.next() % 1000 + 1
            header.argument = 8 << 20
            if opcode == .fillBegin { header.argument += random.next() % 3 }
            if volume.record.name == "filled" { header.flags = FrameHeader.Flags(rawValue: UInt8(random.next() % 4) << 2) }
            // Half of the opens are fresh, the others a writer's that returns.
            if opcode == .open, value % 2 == 0 { header.generation = 0 }
            guard kind < 64 else { return }
            switch field {
            case 0: header.handle = UInt32(truncatingIfNeeded: value)
            case 1: header.generation = value
            case 2: header.session = value
            case 3: header.map = value
            case 4: header.mark = value
            case 5: header.part.chunk = UInt32(truncatingIfNeeded: value)
            case 6: header.part.member = UInt16(truncatingIfNeeded: value)
            case 7: header.firstBlock = UInt32(truncatingIfNeeded: value)
            case 8: header.snapshot = UInt16(truncatingIfNeeded: value)
            case 9: header.argument = value
            case 10: header.deadlineOrStatus = UInt32(truncatingIfNeeded: value)
            case _: header.blockCount = UInt32(truncatingIfNeeded: value)
            }
        }
        if kind == 64 { client.sendBytes((0..<(random.next() % 300)).map { UInt8(truncatingIfNeeded: $0 &* value) }) }
        if kind == 65 { client.flipLast(random.next()) }
    }

    // Room

    @Test func aClientThatTakesNoRepliesStallsOnlyItself() throws {
        let bench = try EngineBench()
        let witness = try witness(bench)
        let client = try bench.ready("stuck")
        try client.create("vm1")
        let volume = try client.open("vm1", write)
        client.reads = false
        for _ in 0..<4000 { client.sendRead(volume, block: 0) }
        for _ in 0..<50 { client.sendRead(volume, block: 0, count: 256) }
        bench.settle()
        bench.universe.run(for: .seconds(1))
        #expect(client.outgoing.count > 1000 * FrameHeader.bytes, "its socket is not read any more")
        #expect(bench.engine.requestsInFlight <= OSTConfiguration.small.requestsMax / 2 + 1)
        #expect(bench.engine.marks.contains(.stalledForRoom))
        try expectAlive(witness)
        bench.universe.run(for: Limits.stallTimeout)
        bench.universe.run(for: .seconds(1))
        #expect(!client.isConnected)
        #expect(bench.engine.marks.contains(.peerTakesNothing))
        #expect(bench.engine.requestsInFlight == 0)
        try expectAlive(witness)
    }

    @Test func clientsThatSendPayloadsByteByByteKeepNoBuffers() throws {
        let bench = try EngineBench()
        let witness = try witness(bench)
        let crawlers = try (0..<bench.engine.freeBuffers.large).map { _ in try bench.ready("crawler") }
        for (number, crawler) in crawlers.enumerated() {
            try crawler.create("crawled\(number)")
            let volume = try crawler.open("crawled\(number)", write)
            crawler.limitBytes = 2000
            _ = crawler.sendWrite(volume, block: 0, TestClient.blocks(256, 3), sequence: 1) { $0.deadlineOrStatus = 3_600_000 }
        }
        bench.settle()
        #expect(bench.engine.freeBuffers.large == 0)
        let data = TestClient.blocks(256, 4)
        let written = witness.0.sendWrite(witness.1, block: 0, data, sequence: 1_000)
        for _ in 0..<20 where witness.0.replies[written] == nil {
            for crawler in crawlers where crawler.isConnected { crawler.limitBytes = 100 }
            bench.settle()
            bench.universe.run(for: .seconds(1))
        }
        #expect(witness.0.replies[written]?.header.status == .ok)
        #expect(bench.engine.marks.contains(.payloadStopped))
        #expect(!crawlers.contains { $0.isConnected }, "those that came later wait for the others' buffers, too")
    }

    @Test func aClientThatTakesRepliesByteByByteKeepsNoBuffers() throws {
        let bench = try EngineBench()
        let witness = try witness(bench)
        let large = bench.engine.freeBuffers.large
        let crawlers = try (0..<large).map { _ in try bench.ready("crawler") }
        for (number, crawler) in crawlers.enumerated() {
            try crawler.create("crawled\(number)")
            let volume = try crawler.open("crawled\(number)", write)
            crawler.takesBytes = 2000
            for _ in 0..<large { crawler.sendRead(volume, block: 0, count: 256) }
        }
        bench.settle()
        bench.universe.run(for: .seconds(1))
        #expect(bench.engine.freeBuffers.large == 0)
        let read = witness.0.sendRead(witness.1, block: 0, count: 256)
        for _ in 0..<20 where witness.0.replies[read] == nil {
            for crawler in crawlers where crawler.isConnected { crawler.takesBytes = 100 }
            bench.settle()
            bench.universe.run(for: .seconds(1))
        }
        #expect(witness.0.replies[read]?.header.status == .ok)
        #expect(bench.engine.marks.contains(.peerTakesNothing))
    }

    @Test func requestsWithoutABufferWaitForOneInOrder() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", write)
        let data = TestClient.blocks(256, 3)
        #expect(try client.write(volume, block: 0, data, sequence: 1).header.status == .ok)
        bench.holdsDisk = true
        let reads = (0..<20).map { _ in client.sendRead(volume, block: 0, count: 256) }
        let written = client.sendWrite(volume, block: 1024, data, sequence: 2)
        let ping = client.send(.ping)
        bench.settle()
        #expect(bench.engine.marks.contains(.stalledForBuffer))
        #expect(client.replies[ping] == nil)
        bench.releaseDisk()
        for read in reads { #expect(try client.reply(to: read).payload == data) }
        #expect(try client.reply(to: written).header.status == .ok)
        #expect(try client.reply(to: ping).header.status == .ok)
        #expect(bench.engine.requestsInFlight == 0)
    }

    @Test func whatWaitsTooLongIsAnsweredSo() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", write)
        #expect(try client.write(volume, block: 0, TestClient.blocks(256, 3), sequence: 1).header.status == .ok)
        bench.holdsDisk = true
        for _ in 0..<3 { client.sendRead(volume, block: 0, count: 256) }
        bench.settle()
        let late = client.sendRead(volume, block: 0, count: 256) { $0.deadlineOrStatus = 500 }
        let lateWrite = client.sendWrite(volume, block: 0, TestClient.blocks(256, 4), sequence: 2) { $0.deadlineOrStatus = 700 }
        let ping = client.send(.ping)
        #expect(try client.reply(to: late, within: .seconds(1)).header.status == .deadlineExceeded)
        #expect(try client.reply(to: lateWrite, within: .seconds(1)).header.status == .deadlineExceeded)
        #expect(try client.reply(to: ping).header.status == .ok, "the payload that nobody wanted was passed over")
        bench.releaseDisk()
        bench.universe.run(for: .seconds(1))
        #expect(bench.engine.requestsInFlight == 0)
    }

    @Test func halfAPayloadAndAnIdleClientAreEnded() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", write)
        client.limitBytes = 2000
        _ = client.sendWrite(volume, block: 0, TestClient.blocks(1, 4), sequence: 2)
        let idle = try bench.ready("idle")
        bench.settle()
        bench.universe.run(for: Limits.stallTimeout)
        bench.universe.run(for: .seconds(11))
        #expect(!client.isConnected && idle.isConnected)
        #expect(bench.engine.marks.contains(.payloadStopped))
        bench.universe.run(for: Limits.idleTimeout)
        #expect(!idle.isConnected)
        #expect(bench.engine.marks.contains(.idleConnection))
        #expect(bench.engine.freeBuffers.small == OSTConfiguration.small.smallBuffers)
        #expect(bench.engine.wakeAt >= bench.world.now + .seconds(60), "an OST without clients sleeps")
    }

    // The end

    @Test func aClientThatGoesAwayLeavesNothingBehind() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", write)
        bench.holdsDisk = true
        _ = client.sendWrite(volume, block: 0, TestClient.blocks(256, 4), sequence: 1)
        _ = client.sendRead(volume, block: 0)
        client.limitBytes = FrameHeader.bytes * 3 + 1024 + (1 << 20)
        _ = client.sendWrite(volume, block: 0, TestClient.blocks(256, 4), sequence: 2)
        bench.settle()
        bench.disconnect(client)
        #expect(bench.engine.marks.contains(.disconnectedWithRequests))
        #expect(bench.engine.connectionCount == 1)
        bench.releaseDisk()
        bench.universe.run(for: .seconds(1))
        #expect(bench.engine.requestsInFlight == 0 && bench.engine.connectionCount == 0)
    }

    @Test func afterADiskFailureClientsComeBackToTheSameData() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", write)
        #expect(try client.write(volume, block: 0, TestClient.blocks(1, 1), sequence: 1) { $0.flags = .durable }.header.status == .ok)
        bench.failsDisk = true
        let reply = try client.write(volume, block: 0, TestClient.blocks(1, 2), sequence: 2)
        #expect(reply.header.status == .diskFailed)
        bench.universe.run(for: .seconds(1))
        #expect(!client.isConnected && client.closeReason?.status == .diskFailed)
        #expect(bench.connect() == nil, "nobody is accepted meanwhile")
        #expect(bench.reloads.count == 1)
        bench.failsDisk = false
        try bench.reload()
        let back = try bench.ready()
        let again = try back.open("vm1", write, session: 2, generation: volume.generation)
        let data = try back.read(again, block: 0).payload
        #expect(data == TestClient.blocks(1, 1) || data == TestClient.blocks(1, 2))
        #expect(bench.engine.marks.contains(.storeFailed) && bench.engine.marks.contains(.storeReplaced))
    }

    @Test func stoppingTellsClientsAndEndsWhatIsUnderWay() throws {
        let bench = try EngineBench()
        let client = try bench.ready()
        try client.create("vm1")
        let volume = try client.open("vm1", write)
        _ = try client.open("vm1", [])
        bench.holdsDisk = true
        let underWay = client.sendWrite(volume, block: 0, TestClient.blocks(1, 1), sequence: 1)
        bench.settle()
        bench.engine.stop()
        bench.settle()
        #expect(client.isConnected && client.events.map(\.header.argument) == [3, 3])
        bench.releaseDisk()
        #expect(try client.reply(to: underWay).header.status == .ok)
        bench.settle()
        #expect(client.closeReason?.status == .closed)
        #expect(bench.engine.connectionCount == 0 && bench.connect() == nil)
    }
}
