import Arguments
import Base
import CSystem
import Client
import Wire

/// The commands that only ask the catalogue.

func createVolume(_ invocation: Invocation) throws(Failure) {
    let (address, name) = try invocation.volume()
    guard let bytes = try invocation.volumeSize("size") else { unreachable("--size is required") }
    var layout = Layout()
    if let chunk = try invocation.size("chunk") { layout.chunkBytes = chunk }
    if address.kind == .cluster {
        layout.dataMembers = UInt16(try invocation.count("replicas", 1...UInt64(Limits.membersMax)) ?? 2)
        try layout.check()
        return try createClusterVolume(invocation, address, name, bytes: bytes, layout: layout)
    }
    for option in ["replicas", "domain", "floor", "below-floor", "placements"] where invocation.command.has(option) {
        throw Failure(.invalidArgument, "--\(option) is for a cluster, rawstor://HOST:PORT/NAME; '\(address)' is one OST")
    }
    try layout.check()
    let wanted = layout
    let stat = try inCatalogue(invocation, address) { catalogue throws(Failure) in
        _ = try await catalogue.create(name, bytes: bytes, layout: wanted)
        return try await catalogue.stat(name)
    }
    let report = VolumeReport(address, stat)
    invocation.answer(report.json, "created '\(name)' of \(ByteSize.text(bytes)): \(report.address)\n")
}

func listVolumes(_ invocation: Invocation) throws(Failure) {
    let address = try invocation.address()
    if address.kind == .cluster { return try listClusterVolumes(invocation, address) }
    let listed = try inCatalogue(invocation, address) { catalogue throws(Failure) in try await catalogue.list() }
    let stats = try below(address, listed, name: \.object.name)
    let reports = stats.map { VolumeReport(address, $0) }
    invocation.answer(
        .object([("volumes", .array(reports.map(\.json)))]), table([VolumeReport.columns] + reports.map(\.row), right: [1, 2]))
}

func showVolume(_ invocation: Invocation) throws(Failure) {
    let (address, name) = try invocation.volume()
    if address.kind == .cluster { return try showClusterVolume(invocation, address, name) }
    let stat = try inCatalogue(invocation, address) { catalogue throws(Failure) in try await catalogue.stat(name) }
    let report = VolumeReport(address, stat)
    invocation.answer(report.json, report.text)
}

func resizeVolume(_ invocation: Invocation) throws(Failure) {
    let (address, name) = try invocation.volume()
    guard let bytes = try invocation.volumeSize("size") else { unreachable("--size is required") }
    let mayShrink = invocation.command.has("shrink")
    let (before, after) = try inCatalogue(invocation, address) { catalogue throws(Failure) in
        let before = try await catalogue.stat(name)
        if bytes < before.object.bytes, !mayShrink {
            throw Failure(.invalidArgument, shrinkWarning(VolumeReport(address, before), to: bytes))
        }
        try await catalogue.resize(name, bytes: bytes)
        return (before, try await catalogue.stat(name))
    }
    let report = VolumeReport(address, after)
    invocation.answer(
        report.json, "resized '\(name)' from \(ByteSize.text(before.object.bytes)) to \(ByteSize.text(after.object.bytes))\n")
}

private func shrinkWarning(_ volume: VolumeReport, to bytes: UInt64) -> String {
    "'\(volume.object.name)' has \(ByteSize.text(volume.object.bytes)): at \(ByteSize.text(bytes)) the last "
        + "\(ByteSize.text(volume.object.bytes - bytes)) and what is stored there (\(ByteSize.text(volume.usedBytes)) are in use "
        + "altogether) would be lost; shrink the file system in it first, then say --shrink"
}

func removeVolume(_ invocation: Invocation) throws(Failure) {
    let (address, name) = try invocation.volume()
    if !invocation.command.has("yes") {
        guard rs_file_is_terminal(0), !invocation.isJSON else {
            throw Failure(.invalidArgument, "removing '\(name)' loses its data for good; to do it without being asked, say --yes")
        }
        // Not within the catalogue's connection: that may end by idleness before somebody answers.
        let stat = try inCatalogue(invocation, address) { catalogue throws(Failure) in try await catalogue.stat(name) }
        let report = VolumeReport(address, stat)
        writeToStandardError(
            "remove '\(name)' of \(ByteSize.text(report.object.bytes)), \(ByteSize.text(report.usedBytes)) of it in use, for good? [y/N] ")
        guard let answer = readLine(), ["y", "yes"].contains(answer.lowercased()) else {
            throw Failure(.closed, "nothing was removed")
        }
    }
    try inCatalogue(invocation, address) { catalogue throws(Failure) in try await catalogue.remove(name) }
    invocation.answer(.object([("removed", .string(name)), ("url", .string("\(address)"))]), "removed '\(name)'\n")
}

func showSpace(_ invocation: Invocation) throws(Failure) {
    let address = try invocation.address()
    let (space, volumes) = try inCatalogue(invocation, address) { catalogue throws(Failure) in
        (try await catalogue.statistics(), try await catalogue.list())
    }
    let daemon = address.daemon
    // Of a cluster with all copies, as its space is told. An object of an OST is one copy, whatever its volume has.
    let provisioned = volumes.reduce(UInt64(0)) { sum, volume in
        sum &+ volume.object.bytes &* (address.kind == .cluster ? UInt64(volume.object.layout.dataMembers) : 1)
    }
    let percent = space.capacityBytes == 0 ? 0 : 100 * Double(space.usedBytes) / Double(space.capacityBytes)
    invocation.answer(
        .object([
            ("url", .string("\(daemon)")), ("capacity_bytes", .integer(space.capacityBytes)), ("used_bytes", .integer(space.usedBytes)),
            ("free_bytes", .integer(space.freeBytes)), ("provisioned_bytes", .integer(provisioned)),
            ("volumes", .integer(UInt64(volumes.count))), ("damaged_reads", .integer(space.damagedReads)),
        ]),
        table(
            [
                [address.kind == .ost ? "OST" : "CLUSTER", "CAPACITY", "USED", "FREE", "USE%", "VOLUMES", "PROVISIONED", "DAMAGED READS"],
                [
                    "\(daemon)", ByteSize.text(space.capacityBytes), ByteSize.text(space.usedBytes), ByteSize.text(space.freeBytes),
                    decimalText(percent, digits: 0) + "%", "\(volumes.count)", ByteSize.text(provisioned), "\(space.damagedReads)",
                ],
            ], right: [1, 2, 3, 4, 5, 6, 7]))
}
