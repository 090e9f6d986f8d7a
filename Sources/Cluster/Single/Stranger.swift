import Base
import Environment
import Simulation
import Wire

/// Somebody who keeps no rule of the protocol, on a volume of his own: bad frames, silence, greed, sessions of the past. Whatever it does,
/// the daemon lives on and others notice nothing (P9).
final class Stranger {
    private static let name = "strange"
    private static let memberName = "strange-member"
    private let world: SimWorld
    private unowned let run: SingleRun
    private var isWorking = true
    /// Of the object that is a member of a cluster's volume; it gives them out itself.
    private var memberGeneration: UInt64 = 0
    private var memberFill: UInt64 = 0

    init(_ run: SingleRun) {
        self.run = run
        world = run.strangerHost.start("stranger")
        for _ in 0..<2 { world.spawn { [self] in await work() } }
    }

    func stopWorking() { isWorking = false }

    /// Its process ends; what it has open ends with it.
    func close() { world.exit() }

    private func work() async {
        let operations = Operations(world)
        while isWorking {
            await operations.sleep(.milliseconds(run.universe.choices.between(1, 1_500)))
            guard isWorking else { return }
            let choice = run.universe.choices.below(17)
            world.spawn { [self] in
                guard let connection = await RawConnection.open(world) else { return }
                await play(choice, connection)
                connection.close()
            }
        }
    }

    private func play(_ choice: Int, _ connection: RawConnection) async {
        switch choice {
        case 0: await connection.waitForEnd()
        case 1:
            _ = await connection.send((0..<300).map { _ in UInt8(truncatingIfNeeded: run.universe.choices.next()) })
            await connection.waitForEnd()
        case 2: _ = await connection.hello(role: .ost)
        case 3: _ = await connection.hello(cluster: Identifier(high: 7, low: 7))
        case 4:
            guard await connection.hello() else { return }
            _ = await connection.send(FrameHeader(.ping), opcode: 99)
            await connection.waitForEnd()
        case 5: if await connection.hello() { await connection.waitForEnd() }
        case 6: await crowd()
        case 14, 15: await misuseMember(connection)
        case 16: await raiseIncarnation(connection)
        case _: await misuse(choice, connection)
        }
    }

    private func crowd() async {
        var all: [RawConnection] = []
        for _ in 0..<40 {
            guard let connection = await RawConnection.open(world) else { break }
            all.append(connection)
        }
        for connection in all { connection.close() }
    }

    // With a volume of its own

    private func misuse(_ choice: Int, _ connection: RawConnection) async {
        guard await connection.hello() else { return }
        var layout = Layout()
        layout.chunkBytes = 4 << 20
        let record = ObjectRecord(
            id: Identifier(high: 3, low: 3), name: Stranger.name, bytes: 2 << 20, layout: layout, createdMilliseconds: 1)
        _ = await connection.ask(FrameHeader(.create), CreateRequest(record).encoded)
        let nonce = Identifier(high: 9, low: run.universe.choices.next())
        let isSettling = run.universe.choices.coin()
        guard let opened = await writeOpen(connection, nonce, settles: isSettling, session: 5) else { return }
        switch choice {
        case 7: await stopInPayload(connection, opened)
        case 8: await takeNothing(connection, opened)
        case 9: await openTooMany(connection)
        case 10:
            // Nobody has heard of this generation.
            var header = write(opened, sequence: 1)
            header.generation += 7
            _ = await connection.ask(header, checks, payload: payload)
        case 11:
            for sequence: UInt64 in [1, 2, 5, 3, 4] { _ = await askWrite(connection, opened, sequence) }
            // Nothing of the last generation settles: its blocks stay in doubt.
            let again = await writeOpen(connection, Identifier(high: 9, low: run.universe.choices.next()), settles: false, session: 6)
            guard let again else { return }
            for sequence in 1...UInt64(6) { _ = await askWrite(connection, again, sequence) }
            var header = write(again, sequence: 0)
            header.opcode = .mark
            header.payloadBytes = 0
            header.mark = 6
            _ = await connection.ask(header)
        case 12:
            _ = await writeOpen(connection, nonce, settles: true, session: 6)
            _ = await connection.ask(write(opened, sequence: 1), checks, payload: payload)
        case _:
            var header = FrameHeader(.open)
            header.session = 4
            header.generation = opened.generation
            _ = await connection.ask(header, OpenRequest(name: Stranger.name, flags: .write, nonce: nonce).encoded)
        }
    }

    // With a member of a cluster's volume

    /// Two writers after each other, what a third may not do, and the first one who does not stop. At last everything is rewritten and
    /// marked, or orphans would fill the store.
    private func misuseMember(_ stranger: RawConnection) async {
        // Of nobody's catalogue; then of the one that the OST belongs to.
        guard await stranger.hello(), let connection = await RawConnection.open(world) else { return }
        defer { connection.close() }
        guard await connection.hello(incarnation: stranger.incarnation) else { return }
        let record = ObjectRecord(
            id: Identifier(high: 3, low: 4), name: Stranger.memberName, bytes: 1 << 20, createdMilliseconds: 1)
        var create = FrameHeader(.create)
        create.map = 1
        _ = await connection.ask(create, CreateRequest(record, record: volumeRecord).encoded)
        _ = await connection.ask(FrameHeader(.volumeRecord), NameRequest(name: Stranger.memberName).encoded)
        await endFill(connection)
        guard let old = await fence(connection, session: 5) else { return }
        for sequence in 1...UInt64(4) { _ = await askWrite(connection, old, sequence) }
        guard var new = await fence(connection, session: 1) else { return }
        _ = await connection.ask(write(old, sequence: 9), checks, payload: payload)
        for argument in [0, run.universe.choices.next(), 1] { _ = await askMember(connection, .doubts, new, argument: argument) }
        for step in [UInt64(2), 0, 1] {
            let body = StampRequest(record: volumeRecord).encoded
            guard let stamped = await askMember(connection, .stamp, new, map: new.map + step, body: body) else { return }
            if stamped.status == .ok, step == 2 {
                _ = await connection.ask(write(new, sequence: 1), checks, payload: payload)
                new.map += step
            }
        }
        await openWrongly(connection, new)
        await recover(connection, new)
        let session = 1_000_000 + memberFill
        guard let back = await fence(connection, session: session, generation: new.generation) else { return }
        for block in 0...UInt32(4) {
            var header = write(back, sequence: UInt64(block) + 1)
            header.firstBlock = block
            _ = await connection.ask(header, checks, payload: payload)
        }
        var flush = write(back, sequence: 0)
        flush.opcode = .flush
        flush.payloadBytes = 0
        flush.mark = 5
        _ = await connection.ask(flush)
        _ = await askMember(connection, .mark, back, mark: 5)
    }

    /// Opaque to the OST; sometimes as large as one can be.
    private var volumeRecord: [UInt8] {
        let isLarge = run.universe.choices.below(16) == 0
        let count = isLarge ? Limits.volumeRecordBytesMax : Int(run.universe.choices.between(0, 600))
        return [UInt8](repeating: UInt8(truncatingIfNeeded: run.universe.choices.next()), count: count)
    }

    /// As who rebuilds a catalogue; then as somebody who comes from the old one.
    private func raiseIncarnation(_ connection: RawConnection) async {
        guard await connection.hello() else { return }
        var header = FrameHeader(.adopt)
        for (old, new) in [
            (connection.incarnation, connection.incarnation + 2), (connection.incarnation, connection.incarnation + 3), (9, 3),
        ] {
            header.sequence = old
            header.argument = new
            _ = await connection.ask(header)
        }
        guard let late = await RawConnection.open(world) else { return }
        _ = await late.hello(incarnation: connection.incarnation + 1)
        late.close()
    }

    /// What an earlier play has left unfinished would keep every writer out.
    private func endFill(_ connection: RawConnection) async {
        guard var recovery = await openRecovery(connection) else { return }
        recovery.generation = max(recovery.generation, memberGeneration)
        memberFill += 2
        for opcode in [Opcode.fillBegin, .fillEnd] { _ = await askMember(connection, opcode, recovery, argument: memberFill) }
    }

    private func openRecovery(_ connection: RawConnection) async -> FrameHeader? {
        var header = FrameHeader(.open)
        header.map = .max
        let reply = await connection.ask(header, OpenRequest(name: Stranger.memberName, flags: .recover).encoded)
        return reply?.status == .ok ? reply : nil
    }

    /// Asks what a recovery asks, fills a little, goes on after the end, and leaves a fill behind that has not ended. The writer is told
    /// that it must know of that.
    private func recover(_ connection: RawConnection, _ opened: FrameHeader) async {
        guard await openRecovery(connection) != nil, var recovery = await openRecovery(connection) else { return }
        recovery.generation = opened.generation
        let above = ChangedRequest(above: Version(generation: opened.generation / 2, sequence: 0))
        _ = await askMember(connection, .changed, recovery, body: above.encoded)
        _ = await askMember(connection, .checks, recovery)
        memberFill += 2
        for (opcode, number) in [(Opcode.fillBegin, memberFill), (.fillBegin, memberFill - 1)] {
            _ = await askMember(connection, opcode, recovery, argument: number)
        }
        var fill = write(recovery, sequence: 1)
        fill.flags = run.universe.choices.coin() ? .fill : [.fill, .inDoubt]
        for number in [memberFill, memberFill + 1] {
            fill.argument = number
            _ = await connection.ask(fill, checks, payload: payload)
        }
        // The writer, that knows and that does not: one write of a block that the fill has not brought yet, which is then lost to it.
        for number in [0, memberFill] {
            guard let back = await fence(connection, session: 3 + number, generation: opened.generation, fill: number) else { continue }
            fill.argument = number
            var live = write(back, sequence: 1000)
            (live.firstBlock, fill.firstBlock) = (7, 7)
            (recovery.map, fill.map) = (back.map, back.map)
            _ = await connection.ask(live, checks, payload: payload)
            (fill.generation, fill.sequence) = (opened.generation, 900)
            _ = await connection.ask(fill, checks, payload: payload)
            _ = await askMember(connection, .mark, back, mark: 1000)
        }
        _ = await askMember(connection, .fillPage, recovery, argument: memberFill)
        for _ in 0..<2 { _ = await askMember(connection, .fillEnd, recovery, argument: memberFill) }
        if run.universe.choices.below(8) == 0 { _ = await askMember(connection, .fillBegin, recovery, argument: memberFill + 1) }
    }

    /// As nobody's client, with the map of the day before, and with a session of the day before.
    private func openWrongly(_ connection: RawConnection, _ opened: FrameHeader) async {
        let name = Stranger.memberName
        _ = await connection.ask(FrameHeader(.open), OpenRequest(name: name, flags: [.write, .force, .settle]).encoded)
        for (session, map) in [(UInt64(7), opened.map - 1), (1, opened.map), (7, 0)] {
            var header = FrameHeader(.open)
            header.session = session
            header.generation = opened.generation
            header.map = map
            _ = await connection.ask(header, OpenRequest(name: name, flags: [.write, .fence]).encoded)
        }
    }

    private func fence(
        _ connection: RawConnection, session: UInt64, generation: UInt64 = 0, fill: UInt64 = 0
    ) async -> FrameHeader? {
        memberGeneration += generation == 0 ? 1 : 0
        var header = FrameHeader(.open)
        header.session = session
        header.generation = generation == 0 ? memberGeneration : generation
        // Above what was stamped since.
        header.map = 1_000_000 + 10 * header.generation + (generation == 0 ? 0 : 5)
        header.argument = fill
        let request = OpenRequest(name: Stranger.memberName, flags: [.write, .fence], record: volumeRecord)
        var reply = await connection.ask(header, request.encoded)
        guard reply?.status == .ok else { return nil }
        reply?.session = session
        return reply
    }

    private func askMember(
        _ connection: RawConnection, _ opcode: Opcode, _ opened: FrameHeader, map: UInt64? = nil, argument: UInt64 = 0, mark: UInt64 = 0,
        body: [UInt8] = []
    ) async -> FrameHeader? {
        var header = write(opened, sequence: 0)
        header.opcode = opcode
        header.payloadBytes = 0
        header.map = map ?? opened.map
        header.argument = argument
        header.mark = mark
        return await connection.ask(header, body)
    }

    // Of both

    private func writeOpen(_ connection: RawConnection, _ nonce: Identifier, settles: Bool, session: UInt64) async -> FrameHeader? {
        var header = FrameHeader(.open)
        header.session = session
        let flags: OpenRequest.Flags = settles ? [.write, .force, .settle] : [.write, .force]
        var reply = await connection.ask(header, OpenRequest(name: Stranger.name, flags: flags, nonce: nonce).encoded)
        guard reply?.status == .ok else { return nil }
        reply?.session = session
        return reply
    }

    private let payload = [UInt8](repeating: 0, count: Block.bytes)
    private var checks: [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: Checksum.ofZeroBlock >> (8 * $0)) } }

    private func write(_ opened: FrameHeader, sequence: UInt64) -> FrameHeader {
        var header = FrameHeader(.write)
        header.handle = opened.handle
        header.generation = opened.generation
        header.session = opened.session
        header.map = opened.map
        header.sequence = sequence
        header.firstBlock = UInt32(run.universe.choices.below(4))
        header.blockCount = 1
        header.payloadBytes = UInt32(Block.bytes)
        return header
    }

    /// Two blocks, durably: in part what has been written since may be newer.
    private func askWrite(_ connection: RawConnection, _ opened: FrameHeader, _ sequence: UInt64) async -> FrameHeader? {
        var header = write(opened, sequence: sequence)
        header.flags = .durable
        header.blockCount = 2
        header.payloadBytes *= 2
        return await connection.ask(header, checks + checks, payload: payload + payload)
    }

    private func stopInPayload(_ connection: RawConnection, _ opened: FrameHeader) async {
        _ = await connection.send(write(opened, sequence: 1), checks, payload: Array(payload[..<1000]))
        await connection.waitForEnd()
    }

    /// Asks for far more than fits its window, and receives none of it.
    private func takeNothing(_ connection: RawConnection, _ opened: FrameHeader) async {
        var header = FrameHeader(.read)
        header.handle = opened.handle
        header.generation = opened.generation
        header.session = opened.session
        header.blockCount = 256
        for _ in 0..<4 { _ = await connection.send(header) }
        let operations = Operations(world)
        await operations.sleep(.seconds(40))
        operations.close()
    }

    private func openTooMany(_ connection: RawConnection) async {
        for _ in 0...Limits.handlesPerConnectionMax {
            guard let reply = await connection.ask(FrameHeader(.open), OpenRequest(name: Stranger.name, flags: []).encoded) else { return }
            if reply.status != .ok { return }
        }
    }
}
