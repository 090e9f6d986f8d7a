import Base
import Client
import Environment
import MetaStore
import Metadata
import Wire

/// Asks the OSTs of a cluster what they keep, for a catalogue that is rebuilt from it; and the rebuild itself, in the order on which it
/// stands:
///
/// 1. All are asked. If no catalogue comes of it, nothing has changed.
/// 2. The incarnation is raised on each, from the one that it had then. From here on nothing that an old catalogue decides counts: what
///    was stamped before is in the log before it, what comes later is refused. Of two rebuilds at once one finds another number.
/// 3. All are asked again: between 1 and 2 an old catalogue may have decided something. What they say now stays.
/// 4. The catalogue is written.
public final class CatalogueScan {
    private let world: any World
    private let endpoints: [Endpoint]
    private let cluster: Identifier
    private let deadline: Interval

    /// `deadline` is for each request to each OST.
    public init(_ world: any World, _ endpoints: [Endpoint], cluster: Identifier, deadline: Interval = .seconds(10)) {
        self.world = world
        self.endpoints = endpoints
        self.cluster = cluster
        self.deadline = deadline
    }

    /// Who answered, and why the others did not.
    public struct Findings: Sendable {
        public var scans: [CatalogueRebuild.Scan] = []
        public var failures: [String] = []
    }

    /// All at once. `progress` hears of each as it has answered.
    public func ask(_ progress: @escaping (CatalogueRebuild.Scan) -> Void = { _ in }) async -> Findings {
        var scans = [CatalogueRebuild.Scan?](repeating: nil, count: endpoints.count)
        var failures = [String?](repeating: nil, count: endpoints.count)
        await world.together(endpoints.count) { [self] index in
            do throws(Failure) {
                let scan = try await ask(endpoints[index])
                scans[index] = scan
                progress(scan)
            } catch {
                failures[index] = "\(endpoints[index]) cannot be asked: \(error.detail)"
            }
        }
        return Findings(scans: scans.compactMap(\.self), failures: failures.compactMap(\.self))
    }

    private func ask(_ endpoint: Endpoint) async throws(Failure) -> CatalogueRebuild.Scan {
        let ost = OSTCatalogue(world, endpoint, cluster: cluster, deadline: deadline)
        defer { ost.close() }
        let hello = try await ost.hello()
        let statistics = try await ost.statistics()
        var objects: [CatalogueRebuild.ScannedObject] = []
        for stat in try await ost.list() {
            let (map, resizes) = try await ost.volumeRecord(of: stat.object.name)
            objects.append(CatalogueRebuild.ScannedObject(stat.object, map: map, resizes: resizes))
        }
        return CatalogueRebuild.Scan(
            endpoint: "\(endpoint)", hello: hello, capacityBytes: statistics.capacityBytes, freeBytes: statistics.freeBytes,
            objects: objects)
    }

    /// Step 2. What was raised stays so, whatever comes after.
    public func raise(_ scans: [CatalogueRebuild.Scan], to incarnation: UInt64) async throws(Failure) {
        for scan in scans {
            let endpoint = try Address("ost://" + scan.endpoint).endpoint
            let expected = OSTCatalogue.ExpectedStore(scan.hello.store, mountCounter: scan.hello.mountCounter)
            let ost = OSTCatalogue(world, endpoint, cluster: cluster, expecting: expected, deadline: deadline)
            defer { ost.close() }
            do throws(Failure) {
                try await ost.adopt(from: scan.hello.incarnation, to: incarnation)
            } catch {
                let why = error.status == .staleMap ? "somebody else rebuilds the catalogue too; let one of you go on" : error.detail
                throw Failure(error.status, "\(scan.endpoint) does not follow: \(why). Nothing was written; begin again")
            }
        }
    }

    /// Steps 2 to 4, for what step 1 has found. `store` is empty.
    public func rebuild(
        _ found: [CatalogueRebuild.Scan], in store: any MetaStore, _ plan: ([CatalogueRebuild.Scan]) -> CatalogueRebuild
    ) async throws(Failure) -> CatalogueRebuild {
        let incarnation = plan(found).incarnation
        if !mutated(.rebuildsWithoutRaising) { try await raise(found, to: incarnation) }
        let again = await ask()
        var last = plan(again.scans)
        // What was raised is not raised once more.
        last.incarnation = incarnation
        if let problem = (again.failures + last.refusals).first {
            throw Failure(.unavailable, "\(problem) (asked again after the incarnation was raised; nothing was written)")
        }
        _ = try await ClusterCatalogue.create(in: store, world, cluster: cluster, incarnation: incarnation, contents: last.contents)
        return last
    }
}
