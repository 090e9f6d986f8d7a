import Arguments
import Base
import Client
import Environment
import Reactor
import VolumeEngine

/// A volume into a file.

func exportVolume(_ invocation: Invocation) throws(Failure) {
    let (address, name) = try invocation.volume()
    let path = invocation.command.positionals[1]
    if path == "-", invocation.isJSON {
        throw Failure(.invalidArgument, "standard output takes the data, so there is no place for --json; leave one of them out")
    }
    try LocalFile.checkToWrite(path, replaces: invocation.command.has("force"))
    let timeout = try invocation.timeout()
    let result = try inWorld { reactor throws(Failure) in
        try await ExportJob(reactor, address, name, path, invocation, timeout).run()
    }
    let seconds = Double(result.time.nanoseconds) / 1e9
    let rate = Progress.rate(result.bytes, result.time)
    let text =
        "exported \(ByteSize.text(result.bytes)) of '\(name)' in \(decimalText(seconds, digits: 1)) s, "
        + "\(decimalText(rate, digits: 0)) MB/s; "
        + "\(ByteSize.text(result.bytes - result.dataBytes)) of it are holes\n"
    if path == "-" { return invocation.command.has("quiet") ? () : writeToStandardError(text) }
    invocation.answer(
        .object([
            ("url", .string("\(address)")), ("file", .string(path)), ("exported_bytes", .integer(result.bytes)),
            ("data_bytes", .integer(result.dataBytes)), ("seconds", .decimal(seconds, 3)), ("mbs", .decimal(rate, 1)),
        ]), text)
}

private struct ExportResult {
    var bytes: UInt64
    /// Written to the file; the rest are holes.
    var dataBytes: UInt64
    var time: Interval
}

private final class ExportJob {
    private let reactor: Reactor
    private let address: Address
    private let name: String
    private let path: String
    private let invocation: Invocation
    private let timeout: Interval
    private var replaces: Bool { invocation.command.has("force") }

    init(
        _ reactor: Reactor, _ address: Address, _ name: String, _ path: String, _ invocation: Invocation, _ timeout: Interval
    ) {
        self.reactor = reactor
        self.address = address
        self.name = name
        self.path = path
        self.invocation = invocation
        self.timeout = timeout
    }

    func run() async throws(Failure) -> ExportResult {
        try await warnOfWriter()
        var options = OpenOptions(write: false)
        options.client = ProcessName.text
        options.deadline = min(timeout, options.deadline)
        let volume = try await Volume.open(reactor, address, options)
        let result: Result<ExportResult, Failure>
        do throws(Failure) { result = .success(try await copy(volume)) } catch { result = .failure(error) }
        return try await leave(volume, result)
    }

    private func warnOfWriter() async throws(Failure) {
        let catalogue = address.catalogue(in: reactor, deadline: timeout)
        defer { catalogue.close() }
        if try await catalogue.stat(name).hasWriter, !invocation.command.has("quiet") {
            syntax.complain("'\(name)' is open for writing: the copy may mix older and newer blocks; for a sound one close it there first")
        }
    }

    private func copy(_ volume: Volume) async throws(Failure) -> ExportResult {
        let bytes = volume.object.bytes
        let file = try LocalFile.toWrite(path, bytes: bytes, replaces: replaces)
        let interruption = try Interruption(reactor) {
            file.discard()
            return "interrupted: the copy in \(file.name) is not complete"
        }
        let progress = Progress(reactor, "exported", total: bytes, isQuiet: invocation.command.has("quiet"))
        defer { progress.end() }
        let slots = try TransferSlots(reactor)
        var dataBytes: UInt64 = 0
        let pieces = Int((bytes + UInt64(TransferSlots.pieceBytes) - 1) / UInt64(TransferSlots.pieceBytes))
        for piece in 0..<min(TransferSlots.count, pieces) { read(piece, volume, bytes, slots) }
        do throws(Failure) {
            for piece in 0..<pieces {
                try await slots[piece].wait()
                let (offset, count) = range(piece, bytes)
                dataBytes += UInt64(
                    try await file.write(UnsafeMutableRawBufferPointer(rebasing: slots[piece].memory[..<count]), at: offset))
                if piece + TransferSlots.count < pieces { read(piece + TransferSlots.count, volume, bytes, slots) }
                progress.update(offset + UInt64(count))
            }
            guard volume.object.bytes == bytes else {
                throw Failure(
                    .busy, "'\(name)' was resized from \(bytes) to \(volume.object.bytes) bytes during the export; export it again")
            }
            try await file.finish(path: path, replaces: replaces)
        } catch {
            // Removed at once: waiting for what is under way may take long.
            file.discard()
            await slots.settle(after: error)
            throw error
        }
        withExtendedLifetime(interruption) {}
        return ExportResult(bytes: bytes, dataBytes: dataBytes, time: progress.elapsed)
    }

    private func range(_ piece: Int, _ bytes: UInt64) -> (offset: UInt64, count: Int) {
        let offset = UInt64(piece) * UInt64(TransferSlots.pieceBytes)
        return (offset, Int(min(UInt64(TransferSlots.pieceBytes), bytes - offset)))
    }

    private func read(_ piece: Int, _ volume: Volume, _ bytes: UInt64, _ slots: TransferSlots) {
        let slot = slots[piece]
        let (offset, count) = range(piece, bytes)
        let timeout = timeout
        slot.start { () throws(Failure) in
            try await volume.read(at: offset, into: UnsafeMutableRawBufferPointer(rebasing: slot.memory[..<count]), deadline: timeout)
        }
    }
}
