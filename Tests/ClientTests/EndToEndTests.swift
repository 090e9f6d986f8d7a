import Base
import Client
import Environment
import OSTDaemon
import OSTEngine
import PartStore
import Simulation
import Testing
import VolumeEngine
import Wire

/// The client against the OST that ships, both in the simulated world.
@Suite struct EndToEndTests {
    private static let endpoint = Endpoint.tcp(host: "oss", port: 7710)

    /// Starts the daemon's shell in a new process of the host; makes the store when it is the first.
    private func startOST(_ host: SimHost, isFirst: Bool) {
        let world = host.start("ost")
        world.spawn {
            do throws(Failure) {
                let disk = try world.openDisk("/disk", .readWrite)
                let operations = Operations(world)
                if isFirst {
                    try await StoreFile.initialize(operations, disk: disk, path: "/disk", cluster: Identifier(high: 1, low: 1))
                }
                let load: OSTServer.Loader = { () async throws(Failure) -> PartStore in
                    try await StoreFile.load(operations, disk: disk, path: "/disk")
                }
                let server = try OSTServer(world: world, disk: disk, store: try await load(), configuration: .small, load: load)
                _ = try server.listen(on: EndToEndTests.endpoint)
            } catch {
                Issue.record("the OST does not start: \(error)")
            }
        }
    }

    @Test(arguments: UInt64(1)...6)
    func acknowledgedWritesSurviveKillsAndResets(seed: UInt64) throws {
        let universe = Universe(seed: seed)
        let host = universe.addHost("oss")
        host.addDisk("/disk", bytes: 1 << 30)
        startOST(host, isFirst: true)
        universe.run(for: .seconds(2))
        let client = universe.addHost("client").start("client")
        let before = client.outstanding
        universe.faults.reset = 500
        for round in 1...4 {
            universe.after(.milliseconds(UInt64(360 * round - 330) + seed)) {
                for process in host.processes { process.kill() }
                universe.after(.milliseconds(300)) { startOST(host, isFirst: false) }
            }
        }
        universe.after(.seconds(20)) { universe.heal() }
        var result: Result<Void, any Error>?
        client.spawn {
            do {
                try await work(universe, client)
                result = .success(())
            } catch {
                result = .failure(error)
            }
        }
        universe.run(while: { result == nil }, limit: .seconds(300))
        let end = try #require(result, "it does not end")
        try end.get()
        #expect(client.outstanding == before)
        universe.end()
    }

    private func work(_ universe: Universe, _ client: SimWorld) async throws {
        let catalogue = OSTCatalogue(client, EndToEndTests.endpoint)
        _ = try await catalogue.create("vm", bytes: 64 << 20)
        catalogue.close()
        let volume = try await Volume.open(client, Address(EndToEndTests.endpoint, name: "vm"), OpenOptions())
        var sessions = 1
        volume.onNotice = { if $0 == .connected(0) { sessions += 1 } }
        var model = [UInt8](repeating: 0, count: 4 << 20)
        for round in 0..<250 {
            let sectors = universe.choices.below(UInt64(40)) + 1
            let offset = Int(universe.choices.below(UInt64(model.count / 512) - sectors)) * 512
            let range = offset..<offset + Int(sectors) * 512
            let buffer = memory(range.count, UInt8(truncatingIfNeeded: round))
            switch universe.choices.below(UInt64(8)) {
            case 0: try await volume.flush()
            case 1:
                try await volume.discard(at: UInt64(offset), bytes: UInt64(range.count))
                model.replaceSubrange(range, with: repeatElement(0, count: range.count))
            case 2, 3, 4:
                try await volume.read(at: UInt64(offset), into: buffer)
                #expect(Array(buffer) == Array(model[range]))
            default:
                try await volume.write(at: UInt64(offset), from: buffer, isDurable: round % 5 == 0)
                model.replaceSubrange(range, with: Array(buffer))
            }
            volume.checkInvariants()
        }
        let all = memory(model.count)
        try await volume.read(at: 0, into: all)
        #expect(Array(all) == model)
        #expect(sessions > 1, "no kill came in between")
        await volume.close()
    }
}
