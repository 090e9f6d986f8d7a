import Arguments
import Base
import CSystem
import Client
import Environment
import Reactor
import Wire

/// `rawstor status`: how a cluster is, on one screen.

/// All that was found out at one time.
struct ClusterStatus {
    var cluster: Identifier
    var nowMilliseconds: UInt64
    var osts: [OSTCondition]
    var volumes: [ClusterVolumeReport]
    /// Those that are not healthy.
    var sick: [VolumeCondition]
    var servers: [KnownServer]

    /// Each volume that is not healthy is asked about, up to this number; more would not fit any screen, and take long.
    static let askedMax = 1000
    private static let shownMax = 20
    private static let probeDeadline = Interval.seconds(2)

    static func find(_ catalogue: MDTCatalogue, _ address: Address, in world: any World) async throws(Failure) -> ClusterStatus {
        let listed = try await catalogue.osts()
        let answers = await catalogue.probe(listed, deadline: probeDeadline)
        // After the OSTs: whatever was excluded while they were asked is told.
        let volumes = try await catalogue.volumes().map { ClusterVolumeReport(address, $0) }
        let now = world.wallClockMilliseconds
        let osts = zip(listed, answers).map { OSTCondition(report: OSTReport(status: $0), answer: $1, nowMilliseconds: now) }
        let known = Dictionary(osts.map { ($0.report.registration.store, $0) }) { first, _ in first }
        var status = ClusterStatus(cluster: catalogue.cluster, nowMilliseconds: now, osts: osts, volumes: volumes, sick: [], servers: [])
        status.servers = await catalogue.knownServers()
        for volume in volumes where !volume.isHealthy {
            var condition = VolumeCondition(report: volume, health: nil, osts: known)
            if volume.summary.state == .ready, status.sick.count < askedMax {
                do throws(Failure) {
                    let health = try await catalogue.health(of: volume.object.name)
                    condition.health = health
                    condition.report.summary = health.summary
                } catch {
                    // Removed meanwhile.
                    guard error.status == .notFound || error.status == .busy else { throw error }
                }
            }
            status.sick.append(condition)
        }
        return status
    }

    var isHealthy: Bool { sick.isEmpty && osts.allSatisfy { $0.problems.isEmpty } }

    private var space: (capacity: UInt64, free: UInt64, provisioned: UInt64) {
        (
            osts.reduce(0) { $0 &+ $1.report.registration.capacityBytes }, osts.reduce(0) { $0 &+ $1.freeBytes },
            volumes.reduce(0) { $0 &+ $1.object.bytes &* UInt64($1.members) }
        )
    }

    var text: String {
        let (capacity, free, provisioned) = space
        let away = osts.count { $0.absence != nil }
        var text = table([
            ["cluster", "\(cluster)"], ["health", isHealthy ? "healthy" : "degraded"],
            ["volumes", "\(volumes.count), \(sick.isEmpty ? "all healthy" : "\(sick.count) not healthy")"],
            ["OSTs", "\(osts.count), \(away == 0 ? "all up" : "\(away) away")"],
            ["MDTs", servers.summary(of: .mdt) ?? "none"], ["MGSs", servers.summary(of: .mgs) ?? "none"],
            [
                "space",
                "\(ByteSize.text(free)) free of \(ByteSize.text(capacity)), \(ByteSize.text(provisioned)) provisioned with all copies",
            ],
        ])
        let rows = osts.map { ost in
            var row = ost.report.row
            row[2] = ost.state
            row[5] = ByteSize.text(ost.freeBytes)
            return row
        }
        text += "\n" + table([ServerReport.columns] + servers.map { ServerReport($0).row })
        if !osts.isEmpty { text += "\n" + table([OSTReport.columns] + rows, right: [4, 5]) }
        for part in [osts.flatMap(\.problems), sick.prefix(ClusterStatus.shownMax).flatMap(\.lines)] where !part.isEmpty {
            text += "\n" + part.joined(separator: "\n") + "\n"
        }
        if sick.count > ClusterStatus.shownMax {
            text += "and \(sick.count - ClusterStatus.shownMax) volumes more; 'rawstor volume ls' lists them\n"
        }
        return text
    }

    var json: JSON {
        let (capacity, free, provisioned) = space
        return .object([
            ("cluster", .string("\(cluster)")), ("time", .string(dateText(nowMilliseconds))), ("healthy", .bool(isHealthy)),
            ("volumes", .integer(UInt64(volumes.count))), ("volumes_not_healthy", .array(sick.map(\.json))),
            ("osts", .array(osts.map(\.json))), ("servers", .array(servers.map { ServerReport($0).json })),
            ("capacity_bytes", .integer(capacity)), ("free_bytes", .integer(free)),
            ("provisioned_bytes", .integer(provisioned)),
        ])
    }
}

/// Healthy only where everything is: all OSTs answer, and every member of every volume has everything and is there.
func showStatus(_ invocation: Invocation) throws(Failure) -> Int32 {
    let address = try invocation.address()
    if invocation.command.has("watch") { return try watchStatus(invocation, address) }
    let status = try inCluster(invocation, address) { (catalogue: MDTCatalogue, reactor: Reactor) async throws(Failure) in
        try await ClusterStatus.find(catalogue, address, in: reactor)
    }
    invocation.answer(status.json, status.text)
    return status.isHealthy ? ExitStatus.well : ExitStatus.degraded
}

/// Again and again, until the process is interrupted: on a terminal in the same place, elsewhere one below the other. A metadata server
/// that does not answer is told and asked again: whoever watches wants to see it come back.
private func watchStatus(_ invocation: Invocation, _ address: Address) throws(Failure) -> Int32 {
    let seconds = try invocation.number(invocation.command.value("watch") ?? "2", 1...3600, "--watch is a number of seconds")
    let isInPlace = rs_file_is_terminal(1) && !invocation.isJSON
    return try inCluster(invocation, address) { (catalogue: MDTCatalogue, reactor: Reactor) async throws(Failure) -> Int32 in
        let operations = Operations(reactor)
        defer { operations.close() }
        if isInPlace { try writeToStandardOutput("\u{1B}[2J") }
        while true {
            var text: String
            do throws(Failure) {
                let status = try await ClusterStatus.find(catalogue, address, in: reactor)
                text = invocation.isJSON ? status.json.text + "\n" : dateText(status.nowMilliseconds) + "\n" + status.text
            } catch {
                let now = dateText(reactor.wallClockMilliseconds)
                text = invocation.isJSON ? json(error).text + "\n" : "\(now)\nrawstor: \(error.detail)\n"
            }
            if isInPlace {
                text =
                    "\u{1B}[H" + text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\u{1B}[K\n") + "\u{1B}[J"
            } else if !invocation.isJSON {
                text += "\n"
            }
            try writeToStandardOutput(text)
            await operations.sleep(.seconds(seconds))
        }
    }
}

private func writeToStandardOutput(_ text: String) throws(Failure) {
    let result = write(text, to: 1)
    if result < 0 { throw Failure(.closed, "standard output: \(errorText(-result))") }
}
