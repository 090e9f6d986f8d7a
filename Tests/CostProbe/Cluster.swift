import Base
import Client
import Environment
import OSTDaemon
import OSTEngine
import PartStore
import Simulation
import VolumeEngine

/// One OST and one client in a world without faults and without chance: the same instructions in every run.
///
/// Invariant: `depth` operations of 4 KiB are under way until `count` have been submitted.
final class Cluster {
    private static let endpoint = Endpoint.tcp(host: "oss", port: 7710)
    private static let path = "/disk"
    private static let volumeBytes: UInt64 = 64 << 20

    private let universe = Universe(seed: 1, timing: .constant)
    private let client: SimWorld
    private let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * Block.bytes, alignment: Block.bytes)
    private var volume: Volume?
    private var kind = Operation.Kind.write
    private var toSubmit = 0
    private var underWay = 0
    private var position: UInt64 = 0

    init() {
        let host = universe.addHost("oss")
        host.addDisk(Cluster.path, bytes: 4 << 30)
        client = universe.addHost("client").start("client")
        memory.initializeMemory(as: UInt8.self, repeating: 0x5a)
        serve(host.start("ost"))
        universe.run(for: .seconds(2))
        open()
    }

    private func serve(_ world: SimWorld) {
        world.spawn {
            do throws(Failure) {
                let disk = try world.openDisk(Cluster.path, .readWrite)
                let operations = Operations(world)
                try await StoreFile.initialize(operations, disk: disk, path: Cluster.path, cluster: Identifier(high: 1, low: 1))
                let load: OSTServer.Loader = { () async throws(Failure) -> PartStore in
                    try await StoreFile.load(operations, disk: disk, path: Cluster.path)
                }
                let server = try OSTServer(world: world, disk: disk, store: try await load(), load: load)
                _ = try server.listen(on: Cluster.endpoint)
            } catch { unreachable("the OST does not start: \(error.detail)") }
        }
    }

    private func open() {
        client.spawn { [self] in
            do throws(Failure) {
                let catalogue = OSTCatalogue(client, Cluster.endpoint)
                _ = try await catalogue.create("vm", bytes: Cluster.volumeBytes)
                catalogue.close()
                let volume = try await Volume.open(client, Address(Cluster.endpoint, name: "vm"), OpenOptions())
                volume.onCompletion = { [unowned self] tag, status in
                    invariant(status == .ok, "operation \(tag) ended with \(status)")
                    underWay -= 1
                    submitNext(tag.first)
                }
                self.volume = volume
            } catch { unreachable("the volume does not open: \(error.detail)") }
        }
        universe.run(while: { volume == nil }, limit: .seconds(10))
    }

    /// Runs `count` operations at random places, `depth` at a time.
    func run(_ kind: Operation.Kind, count: Int, depth: Int) {
        self.kind = kind
        toSubmit = count
        for lane in 0..<depth { submitNext(UInt(lane)) }
        universe.run(while: { underWay > 0 }, limit: .seconds(3600))
        invariant(underWay == 0 && toSubmit == 0, "\(underWay) operations do not end")
    }

    private func submitNext(_ lane: UInt) {
        guard toSubmit > 0, let volume else { return }
        toSubmit -= 1
        underWay += 1
        let blocks = Cluster.volumeBytes / UInt64(Block.bytes)
        // Any odd step visits all blocks before one comes again.
        position = (position + 6_367) % blocks
        let operation = Operation(
            kind, offset: position * UInt64(Block.bytes), bytes: UInt64(Block.bytes), tag: Operation.Tag(lane, 0))
        guard let base = memory.baseAddress else { unreachable("there is memory") }
        var vector = IOVector(base + Int(lane) * Block.bytes, Block.bytes)
        let refusal = withUnsafePointer(to: &vector) { volume.submit(operation, UnsafeBufferPointer(start: $0, count: 1)) }
        invariant(refusal == nil, "an operation is refused")
        volume.kick()
    }
}
