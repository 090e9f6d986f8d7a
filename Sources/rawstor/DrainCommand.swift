import Arguments
import Base
import Client
import Environment
import Reactor
import Wire

/// `rawstor ost drain`: says that an OST is to be emptied, or not any more, and waits for it if that is wanted. Who has a volume open for
/// writing moves its members; of those that nobody has open they are moved here, by opening them.

func drainOST(_ invocation: Invocation) throws(Failure) {
    let address = try invocation.address()
    let isUndone = invocation.command.has("undo")
    let wait = try invocation.command.value("wait").map { text throws(Failure) in
        Interval.seconds(try invocation.number(text, 1...604_800, "--wait is a number of seconds"))
    }
    if isUndone, wait != nil { throw Failure(.invalidArgument, "--undo is done at once; leave out --wait") }
    let (report, before) = try inCluster(invocation, address) { catalogue throws(Failure) in
        let report = try await find(catalogue, invocation.command.positionals[1])
        let store = report.registration.store
        try await catalogue.drain(ost: store, !isUndone)
        return (report, try await held(catalogue, by: store))
    }
    if isUndone {
        return invocation.answer(
            .object([("store", .string("\(report.registration.store)")), ("drained", .bool(false))]),
            "OST \(report.address) takes members again, and keeps those that it has\n")
    }
    var drain = Drain(before)
    if let wait, !before.isEmpty { drain = try empty(report.registration.store, wait, drain, invocation, address) }
    invocation.answer(drain.json(report), drain.text(report))
}

/// What there was to move, what is left of it, and what that has cost.
private struct Drain {
    var before: [HeldVolume]
    var left: [HeldVolume]
    /// By this program, not by writers.
    var copiedBytes: UInt64 = 0

    init(_ before: [HeldVolume]) {
        self.before = before
        left = before
    }

    var placesBefore: Int { before.reduce(0) { $0 + $1.places } }
    var placesLeft: Int { left.reduce(0) { $0 + $1.places } }

    /// Of what is left: each volume, with the reason where it has one of its own.
    func failure(_ failures: [String: Failure]) -> Failure {
        let reasons = left.map { volume in "'\(volume.name)'" + (failures[volume.name].map { " (\($0.detail))" } ?? "") }
        return Failure(
            left.lazy.compactMap { failures[$0.name]?.status }.first ?? .deadlineExceeded,
            "\(placesLeft) members of \(left.count) volumes are still there: \(reasons.joined(separator: ", ")); members of a volume move "
                + "while it is open for writing, or when this is asked again")
    }

    func json(_ ost: OSTReport) -> JSON {
        .object([
            ("store", .string("\(ost.registration.store)")), ("drained", .bool(true)), ("empty", .bool(left.isEmpty)),
            ("members_before", .integer(UInt64(placesBefore))), ("members_left", .integer(UInt64(placesLeft))),
            ("copied_bytes", .integer(copiedBytes)), ("volumes", .array(left.map(\.json))),
        ])
    }

    func text(_ ost: OSTReport) -> String {
        if left.isEmpty {
            let moved = placesBefore == 0 ? "keeps nothing" : "is empty: \(placesBefore) members of \(before.count) volumes have moved"
            return "OST \(ost.address) \(moved); it gets no new ones\n"
        }
        let idle = left.filter { !$0.hasWriter }
        return "OST \(ost.address) gets no new members, and is left by \(placesLeft) of \(left.count) volumes:\n"
            + table(
                [["VOLUME", "MEMBERS", "MOVED BY"]] + left.map { [$0.name, "\($0.places)", $0.hasWriter ? "its writer" : "nobody yet"] },
                right: [1])
            + (idle.isEmpty ? "" : "members of a volume that nobody has open move with --wait SECONDS, or when it is opened\n")
    }
}

private func empty(
    _ store: Identifier, _ wait: Interval, _ begun: Drain, _ invocation: Invocation, _ address: Address
) throws(Failure) -> Drain {
    let timeout = try invocation.timeout()
    let isQuiet = invocation.isJSON || invocation.command.has("quiet")
    return try inWorld { reactor throws(Failure) in
        let operations = Operations(reactor)
        defer { operations.close() }
        let catalogue = MDTCatalogue(reactor, address.endpoints, deadline: timeout)
        defer { catalogue.close() }
        let bar = MemberProgress(reactor, total: begun.placesBefore, isQuiet: isQuiet)
        defer { bar.end() }
        var drain = begun
        let end = reactor.now + wait
        // Volumes that could not be opened, or moved. The others go on.
        var failures: [String: Failure] = [:]
        while true {
            drain.left = try await held(catalogue, by: store)
            bar.update(left: drain.placesLeft)
            guard !drain.left.isEmpty else { return drain }
            guard reactor.now < end, drain.left.contains(where: { $0.hasWriter || failures[$0.name] == nil }) else {
                throw drain.failure(failures)
            }
            if let idle = drain.left.first(where: { !$0.hasWriter && failures[$0.name] == nil }) {
                do throws(Failure) {
                    drain.copiedBytes += try await move(
                        idle.name, off: store, reactor, operations, address, end, bar, drain.placesLeft - idle.places)
                } catch {
                    // Else somebody has opened it, and moves them.
                    if error.status != .busy, error.status != .fenced { failures[idle.name] = error }
                }
            }
            await operations.sleep(.milliseconds(500))
        }
    }
}

/// Opens a volume, which moves what is to be moved; returns how much that has copied.
private func move(
    _ name: String, off store: Identifier, _ reactor: Reactor, _ operations: Operations, _ address: Address, _ end: Instant,
    _ bar: MemberProgress, _ others: Int
) async throws(Failure) -> UInt64 {
    let volume = try await Volume.open(reactor, address.with(name: name), OpenOptions())
    let result: Result<UInt64, Failure>
    do throws(Failure) {
        try await volume.moveMembers()
        while volume.places(on: store) > 0 || volume.isMapPending {
            if volume.isDead { throw Failure(.fenced, "another writer has opened '\(name)', and goes on with this") }
            guard reactor.now < end else { break }
            bar.update(left: others + volume.places(on: store))
            await operations.sleep(.milliseconds(100))
        }
        result = .success(volume.resyncedBytes)
    } catch { result = .failure(error) }
    // Whatever went wrong: other volumes are to follow, and this one would seem to have a writer meanwhile.
    await volume.close()
    return try result.get()
}

/// How many members have moved, on standard error: a bar that changes on a terminal, a line every few seconds elsewhere.
private final class MemberProgress {
    private static let width = 30

    private let line: Progress
    private let total: Int

    init(_ world: any World, total: Int, isQuiet: Bool) {
        line = Progress(world, "moved", total: nil, isQuiet: isQuiet)
        self.total = total
    }

    func update(left: Int) {
        let moved = max(0, total - left)
        let filled = total == 0 ? MemberProgress.width : moved * MemberProgress.width / total
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: MemberProgress.width - filled)
        line.show("[\(bar)] \(moved) of \(total) members moved")
    }

    func end() { line.end() }
}
