import Base
import Environment
import Simulation
import Wire

/// Somebody who keeps no rule of the protocol, on a volume of his own: bad frames, silence, greed, sessions of the past. Whatever it does,
/// the daemon lives on and others notice nothing (P9).
final class Stranger {
    private static let name = "strange"
    private let world: SimWorld
    private unowned let run: ClusterRun
    private var isWorking = true

    init(_ run: ClusterRun) {
        self.run = run
        world = run.strangerHost.start("stranger")
        for _ in 0..<2 { world.spawn { [self] in await work() } }
    }

    func stopWorking() { isWorking = false }

    /// Its process ends; what it has open ends with it.
    func close() { world.kill() }

    private func work() async {
        let operations = Operations(world)
        while isWorking {
            await operations.sleep(.milliseconds(run.universe.choices.between(1, 1_500)))
            guard isWorking else { return }
            let choice = run.universe.choices.below(14)
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
            id: Identifier(high: 3, low: 3), name: Stranger.name, bytes: 2 << 20, layout: layout, map: 5, createdMilliseconds: 1)
        _ = await connection.ask(FrameHeader(.create), record.encoded)
        let nonce = Identifier(high: 9, low: run.universe.choices.next())
        let isSettling = run.universe.choices.coin()
        guard let opened = await writeOpen(connection, nonce, settles: isSettling, session: 5) else { return }
        switch choice {
        case 7: await stopInPayload(connection, opened)
        case 8: await takeNothing(connection, opened)
        case 9: await openTooMany(connection)
        case 10: _ = await connection.ask(write(opened, sequence: 1, map: 4), checks, payload: payload)
        case 11:
            for sequence in 1...5 { _ = await connection.ask(write(opened, sequence: UInt64(sequence)), checks, payload: payload) }
            // Nothing of the last generation settles: its blocks stay in doubt.
            _ = await writeOpen(connection, Identifier(high: 9, low: run.universe.choices.next()), settles: false, session: 6)
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

    private func write(_ opened: FrameHeader, sequence: UInt64, map: UInt64 = 5) -> FrameHeader {
        var header = FrameHeader(.write)
        header.handle = opened.handle
        header.generation = opened.generation
        header.session = opened.session
        header.map = map
        header.sequence = sequence
        header.firstBlock = UInt32(run.universe.choices.below(4))
        header.blockCount = 1
        header.payloadBytes = UInt32(Block.bytes)
        return header
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
        header.map = 5
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
