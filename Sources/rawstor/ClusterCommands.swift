import Arguments
import Base
import Client
import Environment
import Reactor
import Wire

/// The commands that ask a metadata server, or a management server for one, for what only a cluster has.

func createClusterVolume(_ invocation: Invocation, _ address: Address, _ name: String, bytes: UInt64, layout: Layout) throws(Failure) {
    let request = VolumeCreateRequest(
        name: name, bytes: bytes, layout: layout, level: try invocation.spreadLevel(),
        floor: try invocation.count("floor", 1...UInt64(Limits.membersMax)) ?? 0,
        placements: try invocation.count("placements", 1...UInt64(Limits.placementsMax)) ?? 0,
        belowFloor: try invocation.belowFloor() ?? .wait)
    let details = try inCluster(invocation, address) { catalogue throws(Failure) in
        _ = try await catalogue.create(request)
        return try await describe(catalogue, address, name)
    }
    invocation.answer(
        details.json,
        "created '\(name)' of \(ByteSize.text(bytes)), \(layout.dataMembers) replicas on \(details.map.osts.count) OSTs: "
            + "\(details.report.address)\n")
}

func setVolume(_ invocation: Invocation) throws(Failure) {
    let (address, name) = try invocation.volume()
    let request = VolumeSetRequest(
        name: name, floor: try invocation.count("floor", 1...UInt64(Limits.membersMax)), belowFloor: try invocation.belowFloor())
    guard request.floor != nil || request.belowFloor != nil else {
        throw Failure(.invalidArgument, "say what is to be set: --floor N, --below-floor wait, or --below-floor fail:SECONDS")
    }
    let details = try inCluster(invocation, address) { catalogue throws(Failure) in
        _ = try await catalogue.set(request)
        return try await describe(catalogue, address, name)
    }
    invocation.answer(details.json, "set '\(name)': \(details.report.floorText)\n")
}

func showClusterVolume(_ invocation: Invocation, _ address: Address, _ name: String) throws(Failure) {
    let details = try inCluster(invocation, address) { catalogue throws(Failure) in try await describe(catalogue, address, name) }
    invocation.answer(details.json, details.text)
}

private func describe(_ catalogue: MDTCatalogue, _ address: Address, _ name: String) async throws(Failure) -> ClusterVolumeDetails {
    let stat = try await catalogue.stat(name)
    let health = try await catalogue.health(of: name)
    let map = try await catalogue.map(named: name).map
    return ClusterVolumeDetails(
        report: ClusterVolumeReport(address, health.summary), map: map, usedBytes: stat.mappedBlocks * UInt64(Block.bytes),
        health: health)
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
        options.client = ProcessName.text
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
    do throws(Failure) {
        // Of those on OSTs that are gone, or are to be emptied.
        try await volume.moveMembers()
    } catch {
        if !isQuiet { syntax.complain(error.detail) }
    }
    let before = volume.membersBehind
    var told = Int.max
    while volume.membersBehind > 0 || volume.isMapPending {
        if volume.isDead { throw Failure(.fenced, "another writer has opened '\(name)', and goes on with this") }
        if reactor.now - began > wait {
            throw Failure(
                .deadlineExceeded,
                "\(volume.membersBehind) of \(before) copies of parts of '\(name)' are still behind; "
                    + "see which OSTs are away with rawstor status")
        }
        if !isQuiet, volume.membersBehind != told {
            told = volume.membersBehind
            syntax.complain("\(told) copies of parts of '\(name)' are behind")
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
    try inCluster(invocation, address) { catalogue, _ throws(Failure) in try await body(catalogue) }
}

func inCluster<Value>(
    _ invocation: Invocation, _ address: Address, _ body: @escaping (MDTCatalogue, Reactor) async throws(Failure) -> Value
) throws(Failure) -> Value {
    guard address.kind == .cluster else {
        throw Failure(.invalidArgument, "'\(address)' is one OST; this is asked of a cluster: rawstor://HOST:PORT")
    }
    let timeout = try invocation.timeout()
    return try inWorld { reactor throws(Failure) in
        let catalogue = MDTCatalogue(reactor, address.endpoints, deadline: timeout)
        defer { catalogue.close() }
        return try await body(catalogue, reactor)
    }
}

extension Invocation {
    /// A number that may be left out.
    func count(_ option: String, _ range: ClosedRange<UInt64>) throws(Failure) -> Int? {
        guard let text = command.value(option) else { return nil }
        return Int(try number(text, range, "--\(option) is a number"))
    }

    /// `wait`, or `fail:SECONDS`.
    func belowFloor() throws(Failure) -> BelowFloor? {
        guard let text = command.value("below-floor") else { return nil }
        if text == "wait" { return .wait }
        let most = Limits.floorPatienceMax.milliseconds / 1000
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0] == "fail", let seconds = UInt64(parts[1]), (1...most).contains(seconds) else {
            throw Failure(
                .invalidArgument,
                "--below-floor is wait, or fail:SECONDS with 1 to \(most) seconds, as in fail:10, not '\(text)'")
        }
        return .fail(after: .seconds(seconds))
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
