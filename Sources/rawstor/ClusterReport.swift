import Arguments
import Base
import Client
import Wire

/// What is told about volumes and OSTs of a cluster: the same keys wherever one appears, and those of a volume of one OST among them.

/// A volume as a list has it.
struct ClusterVolumeReport {
    var address: Address
    var summary: VolumeSummary
    var object: ObjectRecord { summary.object }
    var members: Int { Int(object.layout.dataMembers) + Int(object.layout.parityMembers) }

    init(_ address: Address, _ summary: VolumeSummary) {
        self.address = address.with(name: summary.object.name)
        self.summary = summary
    }

    /// All members have everything and are there, no OST has still to learn something, and the writer is in no trouble.
    var isHealthy: Bool {
        summary.state == .ready && summary.reachableMin == members && summary.filling == 0 && summary.unresized == 0
            && summary.stalled == 0
    }

    /// Of the placement that is worst off.
    private var copies: String {
        summary.away == 0
            ? "\(summary.inSyncMin) of \(members) copies in sync"
            : "\(summary.reachableMin) of \(members) copies can be reached and are in sync"
    }

    /// What the floor does to writes.
    var floorText: String {
        let what =
            switch summary.belowFloor {
            case .wait: "wait"
            case .fail(let patience): "fail after \(decimalText(Double(patience.milliseconds) / 1000, digits: 0)) s"
            }
        return "writes \(what) while fewer than \(summary.floor) of \(members) copies are up to date"
    }

    /// In a word, and what is wrong.
    var health: String {
        switch summary.state {
        case .creating: return "creating"
        case .removing: return "removing"
        case .ready: break
        }
        if isHealthy { return "healthy" }
        var parts: [String] = []
        if summary.reachableMin < members { parts.append(copies) }
        if summary.reachableMin < summary.floor {
            switch summary.belowFloor {
            case .wait: parts.append("writes wait, the floor is \(summary.floor)")
            case .fail: parts.append("writes fail, the floor is \(summary.floor)")
            }
        }
        if summary.stale > 0 { parts.append("\(summary.stale) members stale") }
        if summary.filling > 0 { parts.append("\(summary.filling) being filled") }
        if summary.away > 0 { parts.append("\(summary.away) on OSTs that are away") }
        if summary.unresized > 0 { parts.append("\(summary.unresized) OSTs to learn its size") }
        if summary.stalled > 0 { parts.append("\(summary.stalled) operations cannot end") }
        return "degraded: " + parts.joined(separator: ", ")
    }

    var keys: [(String, JSON)] {
        [
            ("name", .string(object.name)), ("url", .string("\(address)")), ("id", .string("\(object.id)")),
            ("size_bytes", .integer(object.bytes)), ("chunk_bytes", .integer(object.layout.chunkBytes)),
            ("generation", .integer(object.generation)), ("open_for_writing", .bool(summary.hasWriter)),
            ("created", .string(dateText(object.createdMilliseconds))), ("replicas", .integer(UInt64(members))),
            ("floor", .integer(UInt64(summary.floor))),
            ("below_floor_fail_seconds", summary.belowFloor.patience.map { .decimal(Double($0.milliseconds) / 1000, 3) } ?? .null),
            ("domain", .string("\(summary.level)")), ("map", .integer(object.map)),
            ("state", .string("\(summary.state)")), ("healthy", .bool(isHealthy)), ("in_sync_min", .integer(UInt64(summary.inSyncMin))),
            ("stale", .integer(UInt64(summary.stale))), ("filling", .integer(UInt64(summary.filling))),
            ("unresized", .integer(UInt64(summary.unresized))), ("away", .integer(UInt64(summary.away))),
            ("reachable_min", .integer(UInt64(summary.reachableMin))), ("stalled_operations", .integer(UInt64(summary.stalled))),
        ]
    }

    var json: JSON { .object(keys + [("placements", .integer(UInt64(summary.placements)))]) }

    static let columns = ["NAME", "SIZE", "REPLICAS", "WRITER", "CREATED", "HEALTH"]

    var row: [String] {
        [
            object.name, ByteSize.text(object.bytes), "\(members)", summary.hasWriter ? "open" : "-", dateText(object.createdMilliseconds),
            health,
        ]
    }
}

/// A volume with its map.
struct ClusterVolumeDetails {
    var report: ClusterVolumeReport
    var map: VolumeMap
    var usedBytes: UInt64
    var health: VolumeHealthReply

    var json: JSON {
        let osts = map.osts.enumerated().map { index, ost in
            JSON.object(
                [
                    ("store", .string("\(ost.store)")), ("addresses", .array(ost.endpoints.map { .string($0) })),
                    ("host", .string(ost.host)), ("mounts", .integer(ost.mountCounter)),
                    ("behind_since", since(ost.store).map { .string(dateText($0)) } ?? .null),
                ] + MemberState.allCases.map { (name(of: $0, "_"), .integer(UInt64(count($0, on: index)))) })
        }
        let placements = (0..<map.placementCount).map { placement in
            JSON.array(
                (0..<map.membersPerPlacement).map { member in
                    let entry = map[placement, member]
                    return .object([
                        ("ost", .integer(UInt64(entry.ost))), ("state", .string(name(of: entry.state, "_"))),
                        ("since_map", .integer(entry.changed)), ("incarnation", .integer(entry.incarnation)),
                    ])
                })
        }
        let moves = map.moves.map { move in
            JSON.object([
                ("placement", .integer(UInt64(move.placement))), ("member", .integer(UInt64(move.member))),
                ("ost", .integer(UInt64(move.entry.ost))), ("state", .string(name(of: move.entry.state, "_"))),
                ("since_map", .integer(move.entry.changed)), ("incarnation", .integer(move.entry.incarnation)),
            ])
        }
        return .object(
            report.keys + [
                ("used_bytes", .integer(usedBytes)), ("osts", .array(osts)), ("placements", .array(placements)), ("moves", .array(moves)),
            ])
    }

    var text: String {
        let object = map.object
        let head = table([
            ["name", object.name], ["url", "\(report.address)"], ["id", "\(object.id)"],
            ["size", "\(ByteSize.text(object.bytes)) (\(object.bytes) bytes)"],
            ["used", "\(ByteSize.text(usedBytes)) (\(usedBytes) bytes) of each copy"], ["chunk", ByteSize.text(object.layout.chunkBytes)],
            ["replicas", "\(map.membersPerPlacement), on different \(report.summary.level)s; \(report.floorText)"],
            ["health", report.health], ["placements", "\(map.placementCount)"], ["generation", "\(object.generation)"],
            ["map", "\(object.map)"], ["open for writing", writer],
            ["created", dateText(object.createdMilliseconds)],
        ])
        let rows = map.osts.enumerated().map { index, ost in
            [ost.endpoints.joined(separator: " "), ost.host] + MemberState.allCases.map { "\(count($0, on: index))" }
                + ["\(map.moves.count { $0.entry.ost == index })", since(ost.store).map(dateText) ?? "-", "\(ost.store)"]
        }
        let columns =
            ["OST", "HOST"] + MemberState.allCases.map { name(of: $0, " ").uppercased() } + ["MOVING IN", "BEHIND SINCE", "STORE"]
        return head + "\n" + table([columns] + rows, right: [2, 3, 4, 5])
    }

    private var writer: String {
        switch health.writer {
        case .nobody: "no"
        case .here: "by \(health.client)"
        case .elsewhere: "by \(health.client), at another metadata server"
        }
    }

    /// Since when some member of this store is not in sync, as far as is known.
    private func since(_ store: Identifier) -> UInt64? {
        let member = health.members.first { $0.store == store }
        return member.flatMap { $0.sinceMilliseconds == 0 ? nil : $0.sinceMilliseconds }
    }

    private func count(_ state: MemberState, on ost: Int) -> Int { map.entries.count { $0.ost == ost && $0.state == state } }

    private func name(of state: MemberState, _ space: String) -> String {
        switch state {
        case .inSync: "in\(space)sync"
        case .stale: "stale"
        case .filling: "filling"
        }
    }
}

/// An OST of a cluster.
struct OSTReport {
    var status: OSTStatus
    var registration: OSTRegisterRequest { status.registration }
    var address: String { registration.endpoints.joined(separator: " ") }

    var state: String { status.isConnected ? (status.isDrained ? "drained" : "up") : "away" }

    var lastHeard: String {
        if status.silence.nanoseconds == .max { return "not since the server's start" }
        return agoText(status.silence)
    }

    var json: JSON {
        .object([
            ("store", .string("\(registration.store)")), ("addresses", .array(registration.endpoints.map { .string($0) })),
            ("host", .string(registration.host)), ("domain", .string(registration.domain)),
            ("mounts", .integer(registration.mountCounter)), ("capacity_bytes", .integer(registration.capacityBytes)),
            ("free_bytes", .integer(registration.freeBytes)), ("state", .string(state)), ("drained", .bool(status.isDrained)),
            (
                "silence_seconds",
                status.silence.nanoseconds == .max ? .null : .decimal(Double(status.silence.milliseconds) / 1000, 1)
            ),
        ])
    }

    static let columns = ["OST", "DOMAIN", "STATE", "LAST HEARD", "CAPACITY", "FREE", "STORE"]

    var row: [String] {
        [
            address, registration.domain, state, lastHeard, ByteSize.text(registration.capacityBytes),
            ByteSize.text(registration.freeBytes), "\(registration.store)",
        ]
    }
}

func agoText(_ silence: Interval) -> String {
    let seconds = silence.milliseconds / 1000
    return seconds < 60 ? "\(seconds) s ago" : durationText(seconds) + " ago"
}
