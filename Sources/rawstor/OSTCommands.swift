import Arguments
import Base
import Client
import CSystem
import Wire

/// What is asked about one OST of a cluster: named by its store, or by an address where it listens.

func showOST(_ invocation: Invocation) throws(Failure) {
    let address = try invocation.address()
    let (report, volumes) = try inCluster(invocation, address) { catalogue throws(Failure) in
        let report = try await find(catalogue, invocation.command.positionals[1])
        return (report, try await held(catalogue, by: report.registration.store))
    }
    let head = table([
        ["store", "\(report.registration.store)"], ["address", report.address], ["host", report.registration.host],
        ["domain", report.registration.domain], ["state", report.state], ["last heard", report.lastHeard],
        ["capacity", ByteSize.text(report.registration.capacityBytes)], ["free", ByteSize.text(report.registration.freeBytes)],
        ["mounts", "\(report.registration.mountCounter)"], ["catalogue", "incarnation \(report.registration.incarnation)"],
        ["volumes", volumes.isEmpty ? "none" : "\(volumes.count)"],
    ])
    let rows = volumes.map { [$0.name, "\($0.inSync)", "\($0.stale)", "\($0.filling)", "\($0.arriving)", "\($0.last)"] }
    let columns = ["VOLUME", "IN SYNC", "STALE", "FILLING", "MOVING IN", "LAST COPY OF"]
    let list = volumes.isEmpty ? "" : "\n" + table([columns] + rows, right: [1, 2, 3, 4, 5])
    invocation.answer(
        .object([
            ("ost", report.json), ("incarnation", .integer(report.registration.incarnation)),
            ("volumes", .array(volumes.map(\.json))),
        ]), head + list)
}

func removeOST(_ invocation: Invocation) throws(Failure) {
    let address = try invocation.address()
    let losesData = invocation.command.has("lose-data")
    let (report, lost) = try inCluster(invocation, address) { catalogue throws(Failure) in
        let report = try await find(catalogue, invocation.command.positionals[1])
        return (report, losesData ? try await held(catalogue, by: report.registration.store).filter { $0.last > 0 } : [])
    }
    try inCluster(invocation, address) { catalogue throws(Failure) in
        try await catalogue.remove(ost: report.registration.store, losesData: losesData)
    }
    let losses = lost.map {
        "lost: '\($0.name)', \($0.last) of \($0.placements) placements had their last copy there; they cannot be read, unless this store "
            + "is served again\n"
    }
    invocation.answer(
        .object([("removed", .string("\(report.registration.store)")), ("lost", .array(lost.map(\.json)))]),
        "removed OST \(report.address), store \(report.registration.store)\n" + losses.joined())
}

func find(_ catalogue: MDTCatalogue, _ text: String) async throws(Failure) -> OSTReport {
    let found = try await catalogue.osts().map(OSTReport.init).filter {
        "\($0.registration.store)" == text || $0.registration.endpoints.contains(text)
    }
    guard let report = found.first else {
        throw Failure(.notFound, "there is no OST '\(text)' in this cluster; 'rawstor ost ls' lists all of them, with address and store")
    }
    guard found.count == 1 else {
        throw Failure(.invalidArgument, "\(found.count) OSTs were at '\(text)' when they registered last; name one by its store")
    }
    return report
}

/// Members of one volume on one OST.
struct HeldVolume {
    var name: String
    /// Somebody has it open for writing, and moves its members.
    var hasWriter: Bool
    var placements: Int
    var inSync: Int
    var stale: Int
    var filling: Int
    /// On their way there, from other OSTs.
    var arriving: Int
    /// Placements that have nobody else in sync.
    var last: Int

    /// What it has to be rid of before it is empty.
    var places: Int { inSync + stale + filling + arriving }

    init(_ map: VolumeMap, _ ost: Int, hasWriter: Bool) {
        func count(_ state: MemberState) -> Int { map.entries.count { $0.ost == ost && $0.state == state } }
        name = map.object.name
        self.hasWriter = hasWriter
        placements = map.placementCount
        arriving = map.moves.count { $0.entry.ost == ost }
        (inSync, stale, filling) = (count(.inSync), count(.stale), count(.filling))
        last = (0..<map.placementCount).count { placement in
            map.count(.inSync, in: placement) == 1
                && (0..<map.membersPerPlacement).contains { map[placement, $0].ost == ost && map[placement, $0].state == .inSync }
        }
    }

    var json: JSON {
        .object([
            ("name", .string(name)), ("in_sync", .integer(UInt64(inSync))), ("stale", .integer(UInt64(stale))),
            ("filling", .integer(UInt64(filling))), ("moving_in", .integer(UInt64(arriving))),
            ("last_copy_of_placements", .integer(UInt64(last))),
        ])
    }
}

func held(_ catalogue: MDTCatalogue, by store: Identifier) async throws(Failure) -> [HeldVolume] {
    var found: [HeldVolume] = []
    for volume in try await catalogue.volumes() where volume.state == .ready {
        do throws(Failure) {
            let (map, hasWriter) = try await catalogue.map(named: volume.object.name)
            if let ost = map.index(of: store) { found.append(HeldVolume(map, ost, hasWriter: hasWriter)) }
        } catch {
            // Removed since the volumes were listed.
            if error.status != .notFound { throw error }
        }
    }
    return found
}
