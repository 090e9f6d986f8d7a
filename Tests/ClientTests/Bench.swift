import Base
import Client
import Environment
import Simulation
import Testing
import VolumeEngine
import Wire

/// A client and a fake OST on two hosts.
final class Bench {
    let universe: Universe
    let server: SimHost
    let client: SimWorld
    let store = FakeStore()
    var daemon: FakeDaemon
    var notices: [VolumeNotice] = []

    init(seed: UInt64 = 1, faults: FaultPlan = .none) throws {
        universe = Universe(seed: seed)
        server = universe.addHost("oss")
        client = universe.addHost("client").start("client")
        store.objects["vm/disk1"] = ObjectRecord(id: Identifier(high: 1, low: 2), name: "vm/disk1", bytes: 16 << 20)
        daemon = try FakeDaemon(server.start("ost"), store)
        universe.faults = faults
    }

    var address: Address { Address(FakeDaemon.endpoint, name: "vm/disk1") }

    /// Runs straight-line code of the client to its end.
    func run(_ limit: Interval = .seconds(120), _ body: @escaping () async throws -> Void) throws {
        var result: Result<Void, any Error>?
        client.spawn {
            do {
                try await body()
                result = .success(())
            } catch {
                result = .failure(error)
            }
        }
        universe.run(while: { result == nil }, limit: limit)
        let end = try #require(result, "it does not end")
        try end.get()
    }

    func open(_ options: OpenOptions = OpenOptions()) async throws -> Volume {
        let volume = try await Volume.open(client, address, options)
        volume.onNotice = { [unowned self] in notices.append($0) }
        return volume
    }

    func killDaemon() {
        daemon.world.kill()
    }

    func restartDaemon() throws {
        daemon = try FakeDaemon(server.start("ost"), store)
    }
}

/// Memory of a test, never freed: an operation under way may outlive the last use of the variable.
func memory(_ bytes: Int, _ byte: UInt8 = 0) -> UnsafeMutableRawBufferPointer {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: 4096)
    memory.initializeMemory(as: UInt8.self, repeating: byte)
    return memory
}
