import Base
import Environment
import Simulation
@testable import SimulationProbe
import Testing

/// A client and a server on two hosts, connected.
private struct Wire {
    let universe: Universe
    let server: SimWorld
    let client: SimWorld
    let listener: ListenerID
    let atServer: Recorder
    let atClient: Recorder
    let serverEnd: StreamID
    let clientEnd: StreamID

    init(seed: UInt64, timing: Timing = .drawn) throws {
        universe = Universe(seed: seed, timing: timing)
        server = universe.addHost("server").start("server")
        client = universe.addHost("client").start("client")
        atServer = Recorder(server)
        atClient = Recorder(client)
        listener = try server.listen(on: .tcp(host: "server", port: 7))
        server.accept(listener, atServer.ticket(1000))
        client.connect(to: .tcp(host: "server", port: 7), deadline: .never, atClient.ticket(1000))
        #expect(universe.runUntilQuiet(limit: .seconds(10)))
        serverEnd = StreamID(try #require(atServer.result(of: 1000)))
        clientEnd = StreamID(try #require(atClient.result(of: 1000)))
    }

    func send(_ memory: Memory, _ range: Range<Int>, _ token: UInt32) {
        [memory.vector(range)].withUnsafeBufferPointer { client.send(clientEnd, from: $0, atClient.ticket(token)) }
    }

    func receive(_ memory: Memory, _ range: Range<Int>, _ token: UInt32) {
        [memory.vector(range)].withUnsafeBufferPointer { server.receive(serverEnd, into: $0, atServer.ticket(token)) }
    }

    /// Whether a byte sent now arrives.
    func delivers(within limit: Interval, _ token: UInt32) -> Bool {
        let out = Memory(1, filledWith: 1)
        let back = Memory(1)
        send(out, 0..<1, token)
        receive(back, 0..<1, token)
        return universe.run(while: { atServer.result(of: token) == nil }, limit: limit)
    }
}

@Suite struct NetworkTests {
    @Test func bytesArriveInOrderHoweverTheyAreSplit() throws {
        var pieces: Set<Int32> = []
        for seed in UInt64(0)..<20 {
            let wire = try Wire(seed: seed)
            let total = 300_000
            let out = Memory(total)
            for at in 0..<total { out.all[at] = UInt8(truncatingIfNeeded: at &* 2_654_435_761 >> 13) }
            let back = Memory(total)
            var sent = 0
            var received = 0
            func receive() {
                // Several vectors, cut where it hurts.
                let middle = min(total, received + 1 + received % 5000)
                [back.vector(received..<middle), back.vector(middle..<total)].withUnsafeBufferPointer {
                    wire.server.receive(wire.serverEnd, into: $0, wire.atServer.ticket(2))
                }
            }
            wire.atClient.onCompletion = { _, result in
                #expect(result > 0)
                sent += Int(result)
                if sent < total { wire.send(out, sent..<total, 1) }
            }
            wire.atServer.onCompletion = { _, result in
                #expect(result > 0)
                pieces.insert(result)
                received += Int(result)
                if received < total { receive() }
            }
            wire.send(out, 0..<total, 1)
            receive()
            #expect(wire.universe.run(while: { received < total }, limit: .seconds(60)))
            #expect(back.contents == out.contents)
            #expect(sent == total)
        }
        #expect(pieces.count > 30)
    }

    @Test func receiverThatDoesNotReadBlocksItsSender() throws {
        for seed in UInt64(0)..<10 {
            let wire = try Wire(seed: seed)
            let out = Memory(1 << 20)
            var sent = 0
            wire.atClient.onCompletion = { token, result in
                sent += Int(result)
                wire.send(out, 0..<out.all.count, token + 1)
            }
            wire.send(out, 0..<out.all.count, 1)
            #expect(!wire.universe.runUntilQuiet(limit: .seconds(10)))
            let stopped = sent
            #expect(stopped >= 1 << 14 && stopped <= 1 << 20)
            wire.universe.run(for: .seconds(10))
            #expect(sent == stopped)
            #expect(wire.client.outstanding.sends == 1)
            // Reading lets it go on.
            let back = Memory(1 << 14)
            wire.receive(back, 0..<back.all.count, 1)
            wire.universe.run(for: .seconds(1))
            #expect(sent > stopped)
        }
    }

    @Test func orderlyCloseComesAfterTheBytes() throws {
        for seed in UInt64(0)..<20 {
            let wire = try Wire(seed: seed)
            let out = Memory(1000, filledWith: 3)
            wire.send(out, 0..<1000, 1)
            wire.universe.run(while: { wire.atClient.result(of: 1) == nil }, limit: .seconds(1))
            let sent = Int(try #require(wire.atClient.result(of: 1)))
            wire.client.close(wire.clientEnd)
            let back = Memory(1000)
            var received = 0
            var ended = false
            wire.atServer.onCompletion = { token, result in
                #expect(result >= 0)
                received += Int(result)
                ended = result == 0
                if !ended { wire.receive(back, 0..<1000, token + 1) }
            }
            wire.receive(back, 0..<1000, 1)
            #expect(wire.universe.run(while: { !ended }, limit: .seconds(10)))
            #expect(received == sent)
            wire.server.close(wire.serverEnd)
            #expect(wire.server.outstanding.streams == 0)
            #expect(wire.client.outstanding.streams == 0)
        }
    }

    @Test func closingWithUnreadBytesResetsThePeer() throws {
        let wire = try Wire(seed: 1)
        let out = Memory(1000)
        wire.send(out, 0..<1000, 1)
        #expect(wire.universe.runUntilQuiet(limit: .seconds(1)))
        wire.server.close(wire.serverEnd)
        [out.vector(0..<1)].withUnsafeBufferPointer { wire.client.receive(wire.clientEnd, into: $0, wire.atClient.ticket(2)) }
        wire.universe.run(for: .seconds(1))
        #expect(wire.atClient.result(of: 2) == -104)
        wire.send(out, 0..<1, 3)
        wire.universe.run(for: .seconds(1))
        #expect(wire.atClient.result(of: 3) == -104)
    }

    @Test func shutdownEndsWhatIsUnderWay() throws {
        let wire = try Wire(seed: 1)
        let memory = Memory(8 << 20)
        [memory.vector(0..<1)].withUnsafeBufferPointer { wire.client.receive(wire.clientEnd, into: $0, wire.atClient.ticket(1)) }
        // More than any window, so that one send waits.
        wire.atClient.onCompletion = { token, result in
            if token > 1, result > 0 { wire.send(memory, 0..<memory.all.count, token + 1) }
        }
        wire.send(memory, 0..<memory.all.count, 2)
        wire.universe.run(for: .seconds(1))
        #expect(wire.client.outstanding.sends == 1)
        #expect(wire.client.outstanding.receives == 1)
        wire.client.shutdown(wire.clientEnd)
        #expect(wire.client.outstanding.sends == 0)
        wire.universe.run(for: .seconds(1))
        #expect(wire.atClient.result(of: 1) == 0)
        #expect(wire.atClient.completions.last?.result == -32 || wire.atClient.completions.last?.result == 0)
        wire.client.close(wire.clientEnd)
        #expect(wire.client.outstanding.operations == 0)
    }

    @Test func partitionHoldsAndHealingDelivers() throws {
        for seed in UInt64(0)..<10 {
            let wire = try Wire(seed: seed)
            wire.universe.partition(wire.client.host, wire.server.host)
            #expect(!wire.delivers(within: .seconds(30), 1))
            wire.universe.healPartition(wire.client.host, wire.server.host)
            #expect(wire.universe.run(while: { wire.atServer.result(of: 1) == nil }, limit: .seconds(1)))
            #expect(wire.delivers(within: .seconds(1), 2))
        }
    }

    @Test func oneWayPartitionHoldsOneWay() throws {
        let wire = try Wire(seed: 1)
        wire.universe.block(from: wire.server.host, to: wire.client.host)
        #expect(wire.delivers(within: .seconds(1), 1))
        let memory = Memory(1)
        memory.vectors.withUnsafeBufferPointer {
            wire.client.receive(wire.clientEnd, into: $0, wire.atClient.ticket(2))
            wire.server.send(wire.serverEnd, from: $0, wire.atServer.ticket(3))
        }
        wire.universe.run(for: .seconds(10))
        #expect(wire.atServer.result(of: 3) == 1)
        #expect(wire.atClient.result(of: 2) == nil)
        wire.universe.heal()
        wire.universe.run(for: .seconds(1))
        #expect(wire.atClient.result(of: 2) == 1)
    }

    @Test func connectionMayBreakWhenAPartitionEnds() throws {
        var resumed = 0
        var broken = 0
        for seed in UInt64(0)..<200 {
            let wire = try Wire(seed: seed)
            wire.universe.faults.resetAfterPartition = 500_000
            wire.universe.partition(wire.client.host, wire.server.host)
            _ = wire.delivers(within: .seconds(1), 1)
            wire.universe.healPartition(wire.client.host, wire.server.host)
            wire.universe.run(for: .seconds(1))
            let result = try #require(wire.atServer.result(of: 1))
            if result == 1 { resumed += 1 } else { broken += 1 }
            #expect((wire.universe.counts[.resetAfterPartition] > 0) || result == 1)
        }
        #expect(resumed > 5)
        #expect(broken > 5, "\(resumed) resumed, \(broken) broken")
    }

    @Test func resetsStrikeBothEndsAndAreCounted() throws {
        let wire = try Wire(seed: 1)
        wire.universe.faults.reset = 1_000_000
        let memory = Memory(2)
        [memory.vector(0..<1)].withUnsafeBufferPointer { wire.client.receive(wire.clientEnd, into: $0, wire.atClient.ticket(9)) }
        wire.send(memory, 1..<2, 1)
        wire.universe.run(for: .seconds(1))
        #expect(wire.atClient.result(of: 9) == -104)
        #expect(wire.universe.counts[.reset] == 1)
        wire.universe.heal()
        // What had arrived may be read first.
        for token in UInt32(1)...2 {
            wire.receive(memory, 0..<1, token)
            wire.universe.run(for: .seconds(1))
        }
        #expect(wire.atServer.result(of: 2) == -104)
    }

    @Test func testMayBreakConnections() throws {
        let wire = try Wire(seed: 1)
        let memory = Memory(1)
        wire.receive(memory, 0..<1, 1)
        wire.universe.breakConnections(wire.client.host, wire.server.host)
        wire.universe.run(for: .seconds(1))
        #expect(wire.atServer.result(of: 1) == -104)
    }

    @Test func clogsEndByThemselves() throws {
        var plan = FaultPlan()
        plan.clog = 1_000_000
        plan.clogMax = .milliseconds(100)
        let wire = try Wire(seed: 1)
        wire.universe.faults = plan
        #expect(wire.delivers(within: .seconds(60), 1) || wire.universe.counts[.clog] > 5)
        wire.universe.faults = .none
        wire.universe.run(for: .seconds(1))
        #expect(wire.atServer.result(of: 1) == 1)
        #expect(wire.universe.counts[.clog] > 0)
    }

    @Test func connectIsRefusedWhereNobodyListens() throws {
        let wire = try Wire(seed: 1)
        wire.client.connect(to: .tcp(host: "server", port: 8), deadline: .never, wire.atClient.ticket(1))
        wire.client.connect(to: .tcp(host: "nowhere", port: 7), deadline: .never, wire.atClient.ticket(2))
        wire.client.connect(to: .unix(path: "/none"), deadline: .never, wire.atClient.ticket(3))
        #expect(wire.universe.runUntilQuiet(limit: .seconds(1)))
        #expect(wire.atClient.result(of: 1) == -111)
        #expect(wire.atClient.result(of: 2) == -113)
        #expect(wire.atClient.result(of: 3) == -111)
    }

    @Test func connectTimesOutBehindAPartition() throws {
        let wire = try Wire(seed: 1)
        wire.universe.partition(wire.client.host, wire.server.host)
        let deadline = wire.client.now + .seconds(2)
        wire.client.connect(to: .tcp(host: "server", port: 7), deadline: deadline, wire.atClient.ticket(1))
        #expect(wire.client.outstanding.connects == 1)
        wire.universe.run(for: .seconds(3))
        #expect(wire.atClient.result(of: 1) == -110)
        #expect(wire.client.outstanding.connects == 0)
        // A later one gets through after healing.
        wire.client.connect(to: .tcp(host: "server", port: 7), deadline: .never, wire.atClient.ticket(2))
        wire.universe.run(for: .seconds(1))
        wire.universe.heal()
        wire.universe.run(for: .seconds(1))
        #expect(try #require(wire.atClient.result(of: 2)) >= 0)
    }

    @Test func unixSocketsStayOnTheirHost() throws {
        let universe = Universe(seed: 1)
        let host = universe.addHost("a")
        let server = host.start("server")
        let client = host.start("client")
        let stranger = universe.addHost("b").start("stranger")
        let listener = try server.listen(on: .unix(path: "/socket"))
        #expect(throws: Failure.self) { try client.listen(on: .unix(path: "/socket")) }
        let atServer = Recorder(server)
        let atClient = Recorder(client)
        let atStranger = Recorder(stranger)
        server.accept(listener, atServer.ticket())
        client.connect(to: .unix(path: "/socket"), deadline: .never, atClient.ticket())
        stranger.connect(to: .unix(path: "/socket"), deadline: .never, atStranger.ticket())
        #expect(universe.runUntilQuiet(limit: .seconds(1)))
        #expect(atServer.completions.count == 1)
        #expect(try #require(atClient.result(of: 0)) >= 0)
        #expect(atStranger.result(of: 0) == -111)
    }

    @Test func listenersChooseFreePortsAndCanBeClosed() throws {
        let universe = Universe(seed: 1)
        let world = universe.addHost("a").start("a")
        let recorder = Recorder(world)
        let first = try world.listen(on: .tcp(host: "0.0.0.0", port: 0))
        let second = try world.listen(on: .tcp(host: "127.0.0.1", port: 0))
        #expect(world.endpoint(of: first) != world.endpoint(of: second))
        #expect(throws: Failure.self) { try world.listen(on: .tcp(host: "b", port: 1)) }
        world.accept(first, recorder.ticket(1))
        world.closeListener(first)
        universe.run(for: .seconds(1))
        #expect(recorder.result(of: 1) == -125)
        #expect(world.outstanding.listeners == 1)
    }

    @Test func killedServerIsNoticedAtTheLatestWhenSending() throws {
        var results: Set<Int32> = []
        for seed in UInt64(0)..<30 {
            let wire = try Wire(seed: seed)
            let memory = Memory(1)
            memory.vectors.withUnsafeBufferPointer { wire.client.receive(wire.clientEnd, into: $0, wire.atClient.ticket(1)) }
            wire.server.kill()
            wire.universe.run(for: .seconds(1))
            if wire.atClient.result(of: 1) == nil {
                results.insert(1)
                wire.send(memory, 0..<1, 2)
                wire.universe.run(for: .seconds(1))
            }
            results.insert(try #require(wire.atClient.result(of: 1)))
            // The port is free for the next life.
            _ = try wire.server.host.start("server").listen(on: .tcp(host: "server", port: 7))
        }
        #expect(results == [1, 0, -104])
    }

    @Test func hostWithoutPowerIsSilentAndAnswersWithResetsLater() throws {
        for seed in UInt64(0)..<10 {
            let wire = try Wire(seed: seed)
            let memory = Memory(2)
            [memory.vector(1..<2)].withUnsafeBufferPointer { wire.client.receive(wire.clientEnd, into: $0, wire.atClient.ticket(1)) }
            wire.server.host.losePower()
            wire.send(memory, 0..<1, 2)
            wire.universe.run(for: .seconds(10))
            #expect(wire.atClient.result(of: 1) == nil)
            wire.server.host.restorePower()
            wire.universe.run(for: .seconds(1))
            #expect(wire.atClient.result(of: 1) == -104)
            #expect(wire.universe.counts[.powerLoss] == 1)
        }
    }

    @Test func connectToAHostWithoutPowerWaits() throws {
        let wire = try Wire(seed: 1)
        wire.server.host.losePower()
        wire.client.connect(to: .tcp(host: "server", port: 7), deadline: wire.client.now + .seconds(5), wire.atClient.ticket(1))
        wire.universe.run(for: .seconds(4))
        #expect(wire.atClient.result(of: 1) == nil)
        wire.universe.run(for: .seconds(2))
        #expect(wire.atClient.result(of: 1) == -110)
    }

    @Test func operationsRunDeterministically() {
        func run(_ seed: UInt64) -> (Int, UInt64) {
            let scenario = Scenario(seed: seed, requests: 100)
            #expect(scenario.run())
            #expect(scenario.lost == 0)
            return (scenario.acknowledged, scenario.universe.trace.hash)
        }
        for seed in UInt64(0)..<5 {
            let first = run(seed)
            #expect(first.0 > 50)
            #expect(first == run(seed))
        }
    }
}
