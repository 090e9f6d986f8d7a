import Arguments
import Base
import Client
import Wire

/// Why a volume of a cluster is not healthy, since when, and what is being done about it: in sentences, and as JSON. It is made of what a
/// metadata server and the volume's writer have said, and decides nothing itself.
struct VolumeCondition {
    var report: ClusterVolumeReport
    /// Nil where there are too many volumes to ask about each.
    var health: VolumeHealthReply?
    var osts: [Identifier: OSTCondition]

    /// The volume in a line, then what there is to say of each of its OSTs.
    var lines: [String] {
        var lines = ["\(report.object.name): \(report.health)\(sinceText)"]
        lines += problems.map { "  " + $0 }
        return lines
    }

    private var sinceText: String {
        guard let health, let since = health.members.map(\.sinceMilliseconds).filter({ $0 > 0 }).min() else { return "" }
        return ", since \(momentText(since, now: health.nowMilliseconds))"
    }

    var problems: [String] {
        guard let health else { return [] }
        var sentences: [String] = []
        for member in health.members {
            if member.stale + member.filling > 0 { sentences.append(behind(member, health)) }
            if member.inSync > 0, let away = osts[member.store]?.absence { sentences.append(missing(member, away)) }
        }
        let summary = health.summary
        if summary.unresized > 0 {
            sentences.append("\(summary.unresized) of its OSTs have still to learn its size, and do when they are back")
        }
        if summary.stalled > 0 {
            sentences.append(
                "\(summary.stalled) operations hold blocks that cannot be made equal on all copies; whoever needs these waits: is a disk "
                    + "full?")
        }
        if health.writer == .here, health.silence > VolumeCondition.silenceWorthTelling {
            sentences.append("its writer, \(health.client), was heard of \(spanText(health.silence)) ago")
        }
        return sentences
    }

    private static let silenceWorthTelling = Interval(nanoseconds: Limits.writerPingInterval.nanoseconds * 3)

    private func name(_ store: Identifier) -> String { osts[store]?.name ?? "store \(store)" }

    /// Of an OST that lacks writes.
    private func behind(_ member: VolumeHealthReply.Member, _ health: VolumeHealthReply) -> String {
        let since = member.sinceMilliseconds > 0 ? " since \(momentText(member.sinceMilliseconds, now: health.nowMilliseconds))" : ""
        let count = member.stale + member.filling
        let whole = count + member.inSync
        let what = "\(name(member.store)) lacks writes\(since), in \(count) of \(whole) members: "
        let absence = osts[member.store]?.absence
        switch health.writer {
        case .nobody:
            if let absence { return what + "it is \(absence); once it is back, and nobody has the volume open: \(recover)" }
            return what + "nobody has the volume open: \(recover)"
        case .elsewhere:
            return what + "\(health.client) brings it up to date, and tells how far it is to another metadata server: name that in the URL"
        case .here:
            guard let resync = member.resync else {
                return what + (absence.map { "it is \($0)" } ?? "\(health.client) is about to bring it up to date")
            }
            return what + text(resync, absence, health)
        }
    }

    private var recover: String { "rawstor volume recover \(report.address)" }

    private func text(_ resync: ResyncProgress, _ absence: String?, _ health: VolumeHealthReply) -> String {
        switch resync.state {
        case .waiting:
            if let absence { return "waits for it, it is \(absence)" }
            return "\(health.client) could not bring it up to date \(spanText(resync.elapsed)) ago, and tries again: \(resync.trouble)"
        case .listing: return "\(health.client) finds out what it lacks"
        case .copying:
            let left = secondsLeft(resync).map { ", about \(spanText(.seconds($0))) left" } ?? ""
            return "\(health.client) brings it up to date: \(ByteSize.text(resync.doneBytes)) of \(ByteSize.text(resync.totalBytes)) "
                + "compared, \(ByteSize.text(resync.copiedBytes)) copied\(left)"
        }
    }

    /// At the rate so far.
    private func secondsLeft(_ resync: ResyncProgress) -> UInt64? {
        guard resync.doneBytes > 0, resync.doneBytes <= resync.totalBytes else { return nil }
        let rate = Double(resync.doneBytes) / (Double(max(resync.elapsed.nanoseconds, 1)) / 1e9)
        let left = Double(resync.totalBytes - resync.doneBytes) / rate
        return left < 1e9 ? UInt64(left.rounded(.up)) : nil
    }

    /// Of one that has everything, and is not there.
    private func missing(_ member: VolumeHealthReply.Member, _ absence: String) -> String {
        let last =
            member.last == 0
            ? "the next write goes on without it" : "it has the only copy in \(member.last) placements: who needs that waits"
        return "\(name(member.store)) has everything and is \(absence); \(last)"
    }

    var json: JSON {
        guard let health else { return report.json }
        let members = health.members.map { member in
            JSON.object([
                ("store", .string("\(member.store)")), ("ost", .string(osts[member.store]?.report.address ?? "")),
                ("state", .string(osts[member.store]?.state ?? "unknown")), ("in_sync", .integer(UInt64(member.inSync))),
                ("stale", .integer(UInt64(member.stale))), ("filling", .integer(UInt64(member.filling))),
                ("last_copy_of_placements", .integer(UInt64(member.last))),
                ("behind_since", member.sinceMilliseconds == 0 ? .null : .string(dateText(member.sinceMilliseconds))),
                (
                    "behind_seconds",
                    member.sinceMilliseconds == 0
                        ? .null : .integer((health.nowMilliseconds - min(health.nowMilliseconds, member.sinceMilliseconds)) / 1000)
                ),
                ("resync", member.resync.map(json) ?? .null),
            ])
        }
        let place =
            switch health.writer {
            case .nobody: "nobody"
            case .here: "here"
            case .elsewhere: "elsewhere"
            }
        let writer = JSON.object([
            ("session", .string(place)), ("client", .string(health.client)),
            ("silence_seconds", health.writer == .here ? .decimal(Double(health.silence.milliseconds) / 1000, 1) : .null),
        ])
        return .object(
            report.keys + [
                ("placements", .integer(UInt64(report.summary.placements))), ("writer", writer), ("members", .array(members)),
                ("problems", .array(problems.map { .string($0) })),
            ])
    }

    private func json(_ resync: ResyncProgress) -> JSON {
        .object([
            ("state", .string("\(resync.state)")), ("total_bytes", .integer(resync.totalBytes)),
            ("done_bytes", .integer(resync.doneBytes)), ("copied_bytes", .integer(resync.copiedBytes)),
            ("seconds", .decimal(Double(resync.elapsed.milliseconds) / 1000, 1)),
            ("seconds_left", secondsLeft(resync).map { .integer($0) } ?? .null), ("trouble", .string(resync.trouble)),
        ])
    }
}

/// An OST with what it says of itself.
struct OSTCondition {
    var report: OSTReport
    /// What it answered when it was asked; nil: it was not.
    var answer: Result<StatisticsReply, Failure>?
    /// By the clock of this machine.
    var nowMilliseconds: UInt64

    var name: String { "OST \(report.address)\(report.registration.host.isEmpty ? "" : " on \(report.registration.host)")" }

    var state: String {
        if absence == nil { return report.status.isDrained ? "drained" : "up" }
        return report.status.isConnected ? "unreachable" : "away"
    }

    /// Why it is not there, as behind "it is"; nil where it is.
    var absence: String? {
        let status = report.status
        if !status.isConnected {
            if status.silence.nanoseconds == .max { return "away: not heard of since the metadata server was started" }
            return "away since \(momentText(nowMilliseconds - min(nowMilliseconds, status.silence.milliseconds), now: nowMilliseconds))"
        }
        guard case .failure(let failure) = answer else { return nil }
        return "known to the metadata server and does not answer here: \(failure.detail)"
    }

    var freeBytes: UInt64 {
        if case .success(let statistics) = answer { return statistics.freeBytes }
        return report.registration.freeBytes
    }

    /// What is wrong with it, beside its volumes.
    var problems: [String] {
        var sentences: [String] = []
        if let absence { sentences.append("\(name) is \(absence)") }
        let reserve = Limits.reserveBytes(ofCapacity: report.registration.capacityBytes)
        if freeBytes <= reserve {
            sentences.append(
                "\(name) is full: \(ByteSize.text(freeBytes)) are free, and \(ByteSize.text(reserve)) of that are kept for overwrites; "
                    + "writes of new blocks end with noSpace")
        }
        if case .success(let statistics) = answer, statistics.damagedBlocks > 0 {
            sentences.append(
                "\(name) cannot read \(statistics.damagedBlocks) blocks; its log names them. A writer repairs those that it reads and of "
                    + "which there is another copy; else they are errors until they are overwritten")
        }
        return sentences
    }

    var json: JSON {
        guard case .object(let keys) = report.json else { unreachable("an OST is an object") }
        var (answered, damaged) = (JSON.null, JSON.null)
        if let answer {
            switch answer {
            case .success(let statistics):
                answered = .bool(true)
                damaged = .integer(statistics.damagedBlocks)
            case .failure: answered = .bool(false)
            }
        }
        return .object(
            keys.map { $0.0 == "state" ? ("state", .string(state)) : $0.0 == "free_bytes" ? ("free_bytes", .integer(freeBytes)) : $0 } + [
                ("answers", answered), ("problems", .array(problems.map { .string($0) })), ("damaged_blocks", damaged),
            ])
    }
}

/// A moment for people: when, and how long ago that is.
func momentText(_ milliseconds: UInt64, now: UInt64) -> String {
    "\(dateText(milliseconds)) (\(spanText(.milliseconds(now - min(now, milliseconds)))))"
}

/// A length of time in its largest unit.
func spanText(_ interval: Interval) -> String {
    let seconds = interval.milliseconds / 1000
    switch seconds {
    case 0..<120: return "\(seconds) s"
    case 120..<7200: return "\(seconds / 60) min"
    case 7200..<172_800: return "\(seconds / 3600) h"
    case _: return "\(seconds / 86400) days"
    }
}
