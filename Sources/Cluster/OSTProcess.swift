import Base
import Environment
import OSTDaemon
import OSTEngine
import PartStore
import Registrar
import Simulation
import Wire

/// The daemon, as its executable builds it: a store on a disk, and the shipping server on top.
final class OSTProcess {
    static let path = "/disk"
    /// Where the store is: another one on a machine that has lost its disk.
    let path: String
    static let cluster = Identifier(high: 1, low: 1)

    /// Behind the superblocks and the log: where damage meets data. A store whose log has rotted is refused, as it must be, and says
    /// nothing more.
    static func dataBegins(diskBytes: UInt64) -> UInt64 {
        do throws(Failure) { return try Geometry(diskBytes: diskBytes).firstDataBlock * UInt64(Block.bytes) } catch {
            unreachable("a disk of \(diskBytes) bytes holds no store: \(error.detail)")
        }
    }

    let world: SimWorld
    let endpoint: Endpoint
    private let servers: [Endpoint]
    private unowned let run: ClusterRun
    private(set) var server: OSTServer?
    private var membership: OSTMembership?
    private var disk: DiskID?
    private(set) var isStopped = false
    private var isStopping = false

    /// `servers` are the metadata servers where it registers.
    init(_ run: ClusterRun, _ host: SimHost, _ endpoint: Endpoint, servers: [Endpoint] = [], path: String = OSTProcess.path) {
        self.path = path
        self.run = run
        self.endpoint = endpoint
        self.servers = servers
        world = host.start(host.name)
        run.daemons.append(self)
    }

    func start(format: Bool) {
        world.spawn { [self] in
            do throws(Failure) { try await serve(format: format) } catch { run.ostFailed(self, error) }
        }
    }

    private func serve(format: Bool) async throws(Failure) {
        let operations = Operations(world)
        let options = run.options.store
        let disk = try world.openDisk(path, .readWrite)
        self.disk = disk
        if format { try await StoreFile.initialize(operations, disk: disk, path: path, cluster: OSTProcess.cluster) }
        let store = try await StoreFile.load(operations, disk: disk, path: path, options: options)
        let found = StoreMark.allCases.filter { store.marks.contains($0) }.map { "\($0)" }.joined(separator: " ")
        world.log(.info, "store loaded", [LogField("boot", store.boot), LogField("found", found)])
        let made = try OSTServer(world: world, disk: disk, store: store, configuration: run.options.ost) { [path] () throws(Failure) in
            try await StoreFile.load(operations, disk: disk, path: path, options: options, afterFailure: true)
        }
        server = made
        try made.listen(on: endpoint)
        if !servers.isEmpty {
            let membership = OSTMembership(world, mdts: servers, cluster: OSTProcess.cluster) { [weak self] in self?.registration }
            self.membership = membership
            membership.start()
        }
        run.ostServes(self)
    }

    var isServing: Bool { server != nil && !isStopping && world.isAlive }

    /// What it says of itself.
    private var registration: OSTRegisterRequest? {
        guard let server, let identity = server.engine.identity else { return nil }
        let statistics = server.engine.storeStatistics
        return OSTRegisterRequest(
            store: identity.store, mountCounter: identity.mountCounter, boot: identity.boot, endpoints: ["\(endpoint)"],
            host: world.host.name, domain: world.host.name, capacityBytes: statistics.capacityBytes, freeBytes: statistics.freeBytes,
            incarnation: identity.incarnation)
    }

    var store: Identifier? { server?.engine.identity?.store }
    var isRegistered: Bool { membership?.metadata.standings.allSatisfy { $0 == .registered } == true }

    /// As on SIGTERM.
    func stop() {
        guard let server, !isStopping else { return }
        isStopping = true
        membership?.stop()
        world.spawn { [self] in
            await server.stop()
            if server.engine.isStoreQuiet, let disk { world.closeDisk(disk) }
            isStopped = true
        }
    }

    func release() {
        server = nil
        membership = nil
    }

    func checkInvariants() { server?.engine.checkInvariants() }
}
