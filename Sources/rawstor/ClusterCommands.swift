import Arguments
import Base
import Client
import Environment
import Reactor
import Wire

/// The commands that ask a metadata server for what only a cluster has.

func createClusterVolume(_ invocation: Invocation, _ address: Address, _ name: String, bytes: UInt64, layout: Layout) throws(Failure) {
    let request = VolumeCreateRequest(
        name: name, bytes: bytes, layout: layout, level: try invocation.spreadLevel(),
        floor: try invocation.count("floor", 1...UInt64(Limits.membersMax)) ?? 0,
        placements: try invocation.count("placements", 1...UInt64(Limits.placementsMax)) ?? 0)
    let details = try inCluster(invocation, address) { catalogue throws(Failure) in
        _ = try await catalogue.create(request)
        return try await describe(catalogue, address, name)
    }
    invocation.answer(
        details.json,
        "created '\(name)' of \(ByteSize.text(bytes)), \(layout.dataMembers) replicas on \(details.map.osts.count) OSTs: "
            + "\(details.report.address)\n")
}

func showClusterVolume(_ invocation: Invocation, _ address: Address, _ name: String) throws(Failure) {
    let details = try inCluster(invocation, address) { catalogue throws(Failure) in try await describe(catalogue, address, name) }
    invocation.answer(details.json, details.text)
}

private func describe(_ catalogue: MDTCatalogue, _ address: Address, _ name: String) async throws(Failure) -> ClusterVolumeDetails {
    let stat = try await catalogue.stat(name)
    let (summary, map) = try await catalogue.summary(of: name)
    return ClusterVolumeDetails(
        report: ClusterVolumeReport(address, summary), map: map, usedBytes: stat.mappedBlocks * UInt64(Block.bytes))
}

/// Opens the volume for writing; the library does the rest.
func recoverVolume(_ invocation: Invocation) throws(Failure) {
    let (address, name) = try invocation.volume()
    guard address.kind == .cluster else {
        throw Failure(.invalidArgument, "a volume of one OST has no other copies; write rawstor://HOST:PORT/\(name)")
    }
    var wait: UInt64 = 600
    if let text = invocation.command.value("wait") { wait = try invocation.number(text, 1...604_800, "--wait is a number") }
    let timeout = try invocation.timeout()
    let isQuiet = invocation.command.has("json")
    let healed = try inWorld { reactor throws(Failure) in
        var options = OpenOptions()
        options.deadline = min(timeout, options.deadline)
        let volume = try await Volume.open(reactor, address, options)
        let result: Result<Healed, Failure>
        do throws(Failure) {
            result = .success(try await waitForCopies(reactor, volume, name, .seconds(wait), isQuiet: isQuiet))
        } catch { result = .failure(error) }
        return try await leave(volume, result)
    }
    let text =
        healed.before == 0
        ? "all copies of '\(name)' were up to date\n"
        : "brought \(healed.before) copies of parts of '\(name)' up to date, copying \(ByteSize.text(healed.bytes))\n"
    invocation.answer(
        .object([
            ("name", .string(name)), ("members_behind_before", .integer(UInt64(healed.before))), ("copied_bytes", .integer(healed.bytes)),
            ("milliseconds", .integer(healed.time.milliseconds)),
        ]),
        text)
}

private struct Healed {
    var before: Int
    var bytes: UInt64
    var time: Interval
}

private func waitForCopies(
    _ reactor: Reactor, _ volume: Volume, _ name: String, _ wait: Interval, isQuiet: Bool
) async throws(Failure) -> Healed {
    let operations = Operations(reactor)
    defer { operations.close() }
    let began = reactor.now
    let before = volume.membersBehind
    var told = Int.max
    while volume.membersBehind > 0 {
        if volume.isDead { throw Failure(.fenced, "another writer has opened '\(name)', and goes on with this") }
        if reactor.now - began > wait {
            throw Failure(
                .deadlineExceeded,
                "\(volume.membersBehind) of \(before) copies of parts of '\(name)' are still behind; "
                    + "see which OSTs are away with rawstor status")
        }
        if !isQuiet, volume.membersBehind != told {
            told = volume.membersBehind
            complain("\(told) copies of parts of '\(name)' are behind")
        }
        await operations.sleep(.milliseconds(100))
    }
    return Healed(before: before, bytes: volume.resyncedBytes, time: reactor.now - began)
}

func listClusterVolumes(_ invocation: Invocation, _ address: Address) throws(Failure) {
    let volumes = try inCluster(invocation, address) { catalogue throws(Failure) in try await catalogue.volumes() }
    let reports = try below(address, volumes.map { ClusterVolumeReport(address, $0) }, name: \.object.name)
    invocation.answer(
        .object([("volumes", .array(reports.map(\.json)))]),
        table([ClusterVolumeReport.columns] + reports.map(\.row), right: [1, 2]))
}

func listOSTs(_ invocation: Invocation) throws(Failure) {
    let address = try invocation.address()
    let osts = try inCluster(invocation, address) { catalogue throws(Failure) in try await catalogue.osts() }
    let reports = osts.map(OSTReport.init)
    invocation.answer(
        .object([("osts", .array(reports.map(\.json)))]), table([OSTReport.columns] + reports.map(\.row), right: [4, 5]))
}

/// Healthy only where everything is: all OSTs answer, and every member of every volume has everything.
func showStatus(_ invocation: Invocation) throws(Failure) {
    let address = try invocation.address()
    let (cluster, osts, volumes) = try inCluster(invocation, address) { catalogue throws(Failure) in
        let osts = try await catalogue.osts().map(OSTReport.init)
        let volumes = try await catalogue.volumes().map { ClusterVolumeReport(address, $0) }
        return (catalogue.cluster, osts, volumes)
    }
    let sick = volumes.filter { !$0.isHealthy }
    let away = osts.filter { !$0.status.isAlive }
    let isHealthy = sick.isEmpty && away.isEmpty
    let capacity = osts.reduce(UInt64(0)) { $0 &+ $1.registration.capacityBytes }
    let free = osts.reduce(UInt64(0)) { $0 &+ $1.registration.freeBytes }
    let provisioned = volumes.reduce(UInt64(0)) { $0 &+ $1.object.bytes &* UInt64($1.members) }
    var text = table([
        ["cluster", "\(cluster)"], ["health", isHealthy ? "healthy" : "degraded"],
        ["volumes", "\(volumes.count), \(sick.isEmpty ? "all healthy" : "\(sick.count) not healthy")"],
        ["OSTs", "\(osts.count), \(away.isEmpty ? "all up" : "\(away.count) away")"],
        ["space", "\(ByteSize.text(free)) free of \(ByteSize.text(capacity)), \(ByteSize.text(provisioned)) provisioned with all copies"],
    ])
    if !osts.isEmpty { text += "\n" + table([OSTReport.columns] + osts.map(\.row), right: [4, 5]) }
    if !sick.isEmpty { text += "\n" + table([["VOLUME", "HEALTH"]] + sick.map { [$0.object.name, $0.health] }) }
    invocation.answer(
        .object([
            ("cluster", .string("\(cluster)")), ("healthy", .bool(isHealthy)), ("volumes", .integer(UInt64(volumes.count))),
            ("volumes_not_healthy", .array(sick.map(\.json))), ("osts", .array(osts.map(\.json))),
            ("capacity_bytes", .integer(capacity)), ("free_bytes", .integer(free)), ("provisioned_bytes", .integer(provisioned)),
        ]), text)
}

/// The one that the address names, and those below it; all of them where it names none.
func below<Report>(_ address: Address, _ reports: [Report], name: (Report) -> String) throws(Failure) -> [Report] {
    guard let wanted = address.name else { return reports }
    let folder = wanted.hasSuffix("/") ? wanted : wanted + "/"
    let found = reports.filter { name($0) == wanted || name($0).hasPrefix(folder) }
    if found.isEmpty {
        throw Failure(.notFound, "there is no volume '\(wanted)' on \(address.daemon), and none below '\(folder)'")
    }
    return found
}

/// Asks a metadata server of the cluster at `address`.
func inCluster<Value>(
    _ invocation: Invocation, _ address: Address, _ body: @escaping (MDTCatalogue) async throws(Failure) -> Value
) throws(Failure) -> Value {
    guard address.kind == .cluster else {
        throw Failure(.invalidArgument, "'\(address)' is one OST; this is asked of a cluster: rawstor://HOST:PORT")
    }
    let timeout = try invocation.timeout()
    return try inWorld { reactor throws(Failure) in
        let catalogue = MDTCatalogue(reactor, address.endpoints, deadline: timeout)
        defer { catalogue.close() }
        return try await body(catalogue)
    }
}

extension Invocation {
    /// A number that may be left out.
    func count(_ option: String, _ range: ClosedRange<UInt64>) throws(Failure) -> Int? {
        guard let text = command.value(option) else { return nil }
        return Int(try number(text, range, "--\(option) is a number"))
    }

    func spreadLevel() throws(Failure) -> SpreadLevel {
        switch command.value("domain") ?? "host" {
        case "ost": return .ost
        case "host": return .host
        case "rack": return .rack
        case "room": return .room
        case let other: throw Failure(.invalidArgument, "--domain is ost, host, rack or room, not '\(other)'")
        }
    }
}
