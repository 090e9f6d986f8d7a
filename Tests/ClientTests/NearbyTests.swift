import Base
import Client
import Environment
import Simulation
import Testing
import Wire

/// Which way a client takes to a daemon that has a Unix socket for its machine (docs/decisions/0023).
@Suite struct NearbyTests {
    private static let name = Identifier(high: 3, low: 4)
    private static let socket = Endpoint.nearby(name)

    private func writeOnce(_ bench: Bench, from client: SimWorld) throws {
        try bench.run {
            let volume = try await Volume.open(client, bench.address, OpenOptions())
            try await volume.write(at: 0, from: memory(4096, 7))
            await volume.close()
        }
    }

    @Test func aClientOnItsMachineGoesOnThroughTheSocket() throws {
        let bench = try Bench()
        let client = bench.server.start("neighbour")
        bench.daemon.nearby = Nearby(place: client.place, name: NearbyTests.name)
        try bench.daemon.listen(on: NearbyTests.socket)
        let before = client.outstanding
        try writeOnce(bench, from: client)
        // One hello, and everything else.
        #expect(bench.daemon.frames[FakeDaemon.endpoint] == 1)
        #expect(try #require(bench.daemon.frames[NearbyTests.socket]) > 2)
        #expect(client.outstanding == before)
    }

    /// Also not where somebody on the client's machine has taken the name.
    @Test func aClientElsewhereStaysOnTCP() throws {
        let bench = try Bench()
        bench.daemon.nearby = Nearby(place: bench.daemon.world.place, name: NearbyTests.name)
        try bench.daemon.listen(on: NearbyTests.socket)
        let stranger = bench.client.host.start("stranger")
        let operations = Operations(stranger)
        let listener = try stranger.listen(on: NearbyTests.socket)
        var isAsked = false
        stranger.spawn {
            _ = await operations.accept(listener)
            isAsked = true
        }
        try writeOnce(bench, from: bench.client)
        #expect(!isAsked)
        #expect(Set(bench.daemon.frames.keys) == [FakeDaemon.endpoint])
    }

    @Test(arguments: [true, false]) func whereTheSocketDoesNotAnswerTCPGoesOn(_ isTaken: Bool) throws {
        let bench = try Bench()
        let client = bench.server.start("neighbour")
        bench.daemon.nearby = Nearby(place: client.place, name: NearbyTests.name)
        if isTaken { _ = try bench.daemon.world.listen(on: NearbyTests.socket) }
        try writeOnce(bench, from: client)
        #expect(Set(bench.daemon.frames.keys) == [FakeDaemon.endpoint])
        // Refused at once, or silent for a second.
        #expect((client.now > Instant.zero + Limits.nearbyDeadline) == isTaken)
    }
}
