import Base
import Environment
import MDTDaemon
import MetaStore
import Metadata
import Simulation

/// The metadata server as it ships, on a store that outlives it.
final class MDTProcess {
    static let endpoint = Endpoint.tcp(host: "mds", port: 7700)

    let world: SimWorld
    private let contents: MemoryMetaContents
    private unowned let run: ReplicatedRun
    private(set) var server: MDTServer?
    private(set) var isStopped = false

    init(_ run: ReplicatedRun, _ host: SimHost, _ contents: MemoryMetaContents) {
        self.run = run
        self.contents = contents
        world = host.start("mdt")
    }

    func start(format: Bool) {
        world.spawn { [self] in
            do throws(Failure) {
                try await serve(format: format)
            } catch {
                // As its service manager does.
                run.mdtFailed(self, error)
            }
        }
    }

    private func serve(format: Bool) async throws(Failure) {
        let catalogue: ClusterCatalogue
        if format {
            let store = try await MemoryMetaStore.create(contents, in: world)
            catalogue = try await ClusterCatalogue.create(in: store, world, cluster: OSTProcess.cluster)
        } else {
            catalogue = try await ClusterCatalogue.open(try await MemoryMetaStore.open(contents, in: world), world)
        }
        var options = MDTServer.Options()
        options.spareAfter = run.plan.spareAfter
        let made = MDTServer(world: world, catalogue: catalogue, options: options)
        server = made
        try made.listen(on: MDTProcess.endpoint)
    }

    func kill() {
        world.kill()
        ended()
    }

    /// It is gone, with its machine or alone.
    func ended() {
        contents.processEnded()
        server = nil
    }

    func stop() {
        guard let server else { return isStopped = true }
        world.spawn { [self] in
            await server.stop()
            isStopped = true
        }
    }
}
