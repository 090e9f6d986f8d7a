import Arguments
import Base
import CSystem
import Client
import Environment
import Reactor
import VolumeEngine

/// A file into a volume.

func importVolume(_ invocation: Invocation) throws(Failure) {
    let (address, name) = try invocation.volume(1)
    let size = try invocation.volumeSize("size")
    let creates = invocation.command.has("create")
    if size != nil, !creates { throw Failure(.invalidArgument, "--size is for a new volume; say --create as well, or leave it out") }
    let source = try LocalFile.toRead(invocation.command.positionals[0])
    if source.bytes == 0 { throw Failure(.invalidArgument, "\(source.name) is empty; there is nothing to import") }
    let wanted = try creates ? newSize(source, size) : nil
    let timeout = try invocation.timeout()
    let result = try inWorld { reactor throws(Failure) in
        let job = ImportJob(reactor, address, name, source, invocation, timeout)
        return try await job.run(newSize: wanted)
    }
    let skipped = result.bytes - result.dataBytes
    invocation.answer(
        .object([
            ("url", .string("\(address)")), ("size_bytes", .integer(result.volumeBytes)), ("imported_bytes", .integer(result.bytes)),
            ("data_bytes", .integer(result.dataBytes)), ("seconds", .decimal(Double(result.time.nanoseconds) / 1e9, 3)),
            ("mbs", .decimal(Progress.rate(result.bytes, result.time), 1)),
        ]),
        "imported \(ByteSize.text(result.bytes)) into '\(name)' in \(decimalText(Double(result.time.nanoseconds) / 1e9, digits: 1)) s, "
            + "\(decimalText(Progress.rate(result.bytes, result.time), digits: 0)) MB/s; \(ByteSize.text(skipped)) of it are zeros\n")
}

/// The size of the volume that is made for `source`.
private func newSize(_ source: LocalFile, _ size: UInt64?) throws(Failure) -> UInt64 {
    guard let bytes = source.bytes else {
        guard let size else {
            throw Failure(.invalidArgument, "\(source.name) does not tell its size; say how large the volume is: --size 20G")
        }
        return size
    }
    let sector = UInt64(Block.sectorBytes)
    let needed = (bytes + sector - 1) / sector * sector
    if let size, size < needed {
        throw Failure(.invalidArgument, "\(source.name) has \(ByteSize.text(bytes)) (\(bytes) bytes), more than --size; leave that out")
    }
    return size ?? needed
}

private struct ImportResult {
    var volumeBytes: UInt64
    /// Of the source.
    var bytes: UInt64
    var dataBytes: UInt64
    var time: Interval
}

private final class ImportJob {
    private let reactor: Reactor
    private let address: Address
    private let name: String
    private let source: LocalFile
    private let invocation: Invocation
    private let timeout: Interval
    /// Nothing was ever written there: zeros need not be.
    private var isFresh = false
    private var dataBytes: UInt64 = 0

    init(
        _ reactor: Reactor, _ address: Address, _ name: String, _ source: LocalFile, _ invocation: Invocation, _ timeout: Interval
    ) {
        self.reactor = reactor
        self.address = address
        self.name = name
        self.source = source
        self.invocation = invocation
        self.timeout = timeout
    }

    func run(newSize: UInt64?) async throws(Failure) -> ImportResult {
        let catalogue = address.catalogue(in: reactor, deadline: timeout)
        defer { catalogue.close() }
        if let newSize { _ = try await catalogue.create(name, bytes: newSize, layout: Layout()) }
        do throws(Failure) { return try await fill(catalogue) } catch {
            guard newSize != nil else { throw error }
            throw await removeUnfinished(catalogue, error)
        }
    }

    /// The volume was made for this import, and nobody can want half of it.
    private func removeUnfinished(_ catalogue: any Catalogue, _ failure: Failure) async -> Failure {
        var left = "; the volume '\(name)' is incomplete, remove it with: rawstor volume rm \(address)"
        if !failure.isSilence {
            do throws(Failure) {
                try await catalogue.remove(name)
                left = "; the unfinished volume '\(name)' was removed"
            } catch { left += " (\(error.detail))" }
        }
        return Failure(failure.status, failure.detail + left)
    }

    private func fill(_ catalogue: any Catalogue) async throws(Failure) -> ImportResult {
        var options = OpenOptions()
        options.client = ProcessName.text
        options.deadline = min(timeout, options.deadline)
        let volume = try await Volume.open(reactor, address, options)
        let name = name
        let interruption: Interruption
        let result: Result<ImportResult, Failure>
        do throws(Failure) {
            interruption = try Interruption(reactor) { "interrupted: the volume '\(name)' holds only a part" }
            try await check(volume, catalogue)
            result = .success(try await copy(to: volume))
            withExtendedLifetime(interruption) {}
        } catch { result = .failure(error) }
        return try await leave(volume, result)
    }

    private func check(_ volume: Volume, _ catalogue: any Catalogue) async throws(Failure) {
        let isForced = invocation.command.has("force")
        var usedBytes: UInt64?
        do throws(Failure) { usedBytes = try await catalogue.usedBlocks(of: name) * UInt64(Block.bytes) } catch {
            guard isForced else {
                throw Failure(error.status, error.detail + "; with --force all of it is overwritten, whatever is there")
            }
        }
        isFresh = usedBytes == 0
        if let usedBytes, usedBytes > 0, !isForced {
            throw Failure(
                .invalidArgument,
                "'\(name)' holds \(ByteSize.text(usedBytes)) already, which would be lost; import into a new volume, or say --force")
        }
        if let bytes = source.bytes, bytes > volume.object.bytes {
            throw Failure(
                .invalidArgument,
                "\(source.name) has \(ByteSize.text(bytes)), '\(name)' has \(ByteSize.text(volume.object.bytes)): enlarge it first, with "
                    + "rawstor volume resize --size \(Block.count(covering: bytes) * UInt64(Block.bytes)) \(address)")
        }
    }

    private func copy(to volume: Volume) async throws(Failure) -> ImportResult {
        let progress = Progress(reactor, "imported", total: source.bytes, isQuiet: invocation.command.has("quiet"))
        defer { progress.end() }
        let slots = try TransferSlots(reactor)
        let volumeBytes = volume.object.bytes
        var piece = 0
        let bytes: UInt64
        do throws(Failure) {
            bytes = try await copySource(to: volume, slots, &piece, progress)
            if !isFresh { try await clear(volume, from: bytes, slots, &piece) }
            try await slots.drain(from: piece)
        } catch {
            await slots.settle(after: error)
            throw error
        }
        try await volume.flush(deadline: timeout)
        return ImportResult(volumeBytes: volumeBytes, bytes: bytes, dataBytes: dataBytes, time: progress.elapsed)
    }

    /// Returns how many bytes the source has.
    private func copySource(
        to volume: Volume, _ slots: TransferSlots, _ piece: inout Int, _ progress: Progress
    ) async throws(Failure) -> UInt64 {
        let room = volume.object.bytes
        var offset: UInt64 = 0
        while offset < room {
            if isFresh, let known = source.bytes {
                // Whole pieces of a hole need not even be read.
                guard let next = source.nextData(from: offset) else { return known }
                offset = max(offset, next / UInt64(TransferSlots.pieceBytes) * UInt64(TransferSlots.pieceBytes))
            }
            let slot = slots[piece]
            try await slot.wait()
            piece += 1
            let wanted = Int(min(UInt64(TransferSlots.pieceBytes), room - offset))
            let count = try await source.read(into: UnsafeMutableRawBufferPointer(rebasing: slot.memory[..<wanted]), at: offset)
            let start = offset
            if count > 0 { slot.start { () throws(Failure) in try await self.write(volume, slot.memory, count, at: start) } }
            offset += UInt64(count)
            progress.update(offset)
            if count < wanted { break }
        }
        return try await checkEnd(slots, &piece, offset, room)
    }

    private func checkEnd(
        _ slots: TransferSlots, _ piece: inout Int, _ offset: UInt64, _ room: UInt64
    ) async throws(Failure) -> UInt64 {
        if let known = source.bytes, known != offset {
            throw Failure(.diskFailed, "\(source.name) changed while it was read: \(known) bytes became \(offset); import it again")
        }
        guard source.bytes == nil, offset == room else {
            if offset == 0 { throw Failure(.invalidArgument, "\(source.name) is empty; there is nothing to import") }
            return offset
        }
        let slot = slots[piece]
        try await slot.wait()
        piece += 1
        if try await source.read(into: UnsafeMutableRawBufferPointer(rebasing: slot.memory[..<1]), at: offset) > 0 {
            throw Failure(.noSpace, "\(source.name) has more than the \(ByteSize.text(room)) of '\(name)'; make the volume larger")
        }
        return offset
    }

    /// One piece: runs of data are written; runs of zeros are skipped where there are zeros already.
    private func write(
        _ volume: Volume, _ memory: UnsafeMutableRawBufferPointer, _ bytes: Int, at offset: UInt64
    ) async throws(Failure) {
        // The last sector of a source may be filled up with zeros.
        let count = roundUp(bytes, to: Block.sectorBytes)
        for index in bytes..<count { memory[index] = 0 }
        var start = 0
        while start < count {
            let isZero = isZeroBlock(memory, start, count)
            var end = min(start + Block.bytes, count)
            while end < count, isZeroBlock(memory, end, count) == isZero { end = min(end + Block.bytes, count) }
            let place = offset + UInt64(start)
            if !isZero {
                try await volume.write(at: place, from: UnsafeMutableRawBufferPointer(rebasing: memory[start..<end]), deadline: timeout)
                dataBytes += UInt64(min(end, bytes) - start)
            } else if !isFresh {
                try await volume.writeZeroes(at: place, bytes: UInt64(end - start), deadline: timeout)
            }
            start = end
        }
    }

    private func isZeroBlock(_ memory: UnsafeMutableRawBufferPointer, _ start: Int, _ count: Int) -> Bool {
        let block = UnsafeMutableRawBufferPointer(rebasing: memory[start..<min(start + Block.bytes, count)])
        return rs_is_zero(block.baseAddress, block.count)
    }

    /// Behind the end of the source there are zeros.
    private func clear(_ volume: Volume, from bytes: UInt64, _ slots: TransferSlots, _ piece: inout Int) async throws(Failure) {
        let sector = UInt64(Block.sectorBytes)
        let step = UInt64(Limits.zeroBlocksMax * Block.bytes)
        var offset = (bytes + sector - 1) / sector * sector
        while offset < volume.object.bytes {
            let start = offset
            let count = min(step - start % step, volume.object.bytes - start)
            let slot = slots[piece]
            try await slot.wait()
            piece += 1
            slot.start { () throws(Failure) in try await volume.writeZeroes(at: start, bytes: count, deadline: self.timeout) }
            offset += count
        }
    }
}
