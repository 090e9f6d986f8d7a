import Base
import Environment
import OSTDaemon
import OSTEngine
import PartStore
import Simulation

/// The daemon, as its executable builds it: a store on a disk, and the shipping server on top.
final class OSTProcess {
    static let endpoint = Endpoint.tcp(host: "ost", port: 7710)
    static let path = "/disk"

    let world: SimWorld
    private unowned let run: ClusterRun
    private(set) var server: OSTServer?
    private var disk: DiskID?
    private(set) var isStopped = false
    private var isStopping = false

    init(_ run: ClusterRun, _ host: SimHost) {
        self.run = run
        world = host.start("ost")
    }

    func start(format: Bool) {
        world.spawn { [self] in
            do throws(Failure) { try await serve(format: format) } catch { run.ostFailed(self, error) }
        }
    }

    private func serve(format: Bool) async throws(Failure) {
        let operations = Operations(world)
        let path = OSTProcess.path
        let options = run.options.store
        let disk = try world.openDisk(path, .readWrite)
        self.disk = disk
        if format { try await StoreFile.initialize(operations, disk: disk, path: path, cluster: Identifier(high: 1, low: 1)) }
        let store = try await StoreFile.load(operations, disk: disk, path: path, options: options)
        let found = StoreMark.allCases.filter { store.marks.contains($0) }.map { "\($0)" }.joined(separator: " ")
        world.log(.info, "store loaded", [LogField("boot", store.boot), LogField("found", found)])
        let made = try OSTServer(world: world, disk: disk, store: store, configuration: run.options.ost) { () throws(Failure) in
            try await StoreFile.load(operations, disk: disk, path: path, options: options, afterFailure: true)
        }
        server = made
        try made.listen(on: OSTProcess.endpoint)
        run.ostServes(self)
    }

    var isServing: Bool { server != nil && !isStopping && world.isAlive }

    /// As on SIGTERM.
    func stop() {
        guard let server, !isStopping else { return }
        isStopping = true
        world.spawn { [self] in
            await server.stop()
            if server.engine.isStoreQuiet, let disk { world.closeDisk(disk) }
            isStopped = true
        }
    }

    func release() {
        server = nil
    }

    func checkInvariants() { server?.engine.checkInvariants() }
}
