import Arguments
import Base
import CSystem

/// A file, block device or stream of this machine that a volume is copied from or to.
///
/// A new regular file is written under the name FILE.partial, which is locked, and gets its own name when it is complete and durable: what
/// bears the name is never half a copy, and one that is replaced is there until then.
final class LocalFile {
    enum Kind {
        /// Holes stand for zeros.
        case regular
        case blockDevice
        /// Pipes, terminals and the like: bytes in sequence.
        case stream
    }

    /// For sentences.
    let name: String
    let kind: Kind
    /// Where it is known.
    let bytes: UInt64?
    private let descriptor: Int32
    private let ownsDescriptor: Bool
    private let thread: FileThread
    private var partialPath: String?

    private init(_ name: String, _ kind: Kind, _ bytes: UInt64?, _ descriptor: Int32, partialPath: String? = nil) throws(Failure) {
        self.name = name
        self.kind = kind
        self.bytes = bytes
        self.descriptor = descriptor
        ownsDescriptor = descriptor > 2
        self.partialPath = partialPath
        thread = try FileThread()
    }

    deinit {
        discard()
        if ownsDescriptor { rs_close(descriptor) }
    }

    // Opening

    static func toRead(_ path: String) throws(Failure) -> LocalFile {
        let name = path == "-" ? "standard input" : "'\(path)'"
        let descriptor = path == "-" ? 0 : rs_file_open(path, rs_file_to_read)
        if descriptor < 0 { throw failure(-descriptor, "opening \(name)") }
        let bytes = rs_file_bytes(descriptor)
        // Standard input that was opened by somebody else may stand anywhere in its file: it is read as a stream.
        if path != "-", bytes >= 0 {
            let kind: Kind = rs_file_kind(path) == rs_file_block_device ? .blockDevice : .regular
            return try LocalFile(name, kind, UInt64(bytes), descriptor)
        }
        let isReadable = bytes >= 0 || bytes == -Int64(ErrorNumber.notSeekable)
        if !isReadable { throw failure(Int32(truncatingIfNeeded: -bytes), "reading \(name)") }
        return try LocalFile(name, .stream, nil, descriptor)
    }

    /// Refuses at once what an export of some volume could not go to.
    static func checkToWrite(_ path: String, replaces: Bool) throws(Failure) {
        if path == "-" || replaces { return }
        let kind = rs_file_kind(path)
        if kind == rs_file_regular || kind == rs_file_block_device {
            throw Failure(.invalidArgument, "'\(path)' exists; choose another name, or say --force to overwrite it")
        }
    }

    static func toWrite(_ path: String, bytes: UInt64, replaces: Bool) throws(Failure) -> LocalFile {
        if path == "-" { return try LocalFile("standard output", .stream, nil, 1) }
        try checkToWrite(path, replaces: replaces)
        let name = "'\(path)'"
        let kind = rs_file_kind(path)
        if kind == rs_file_none || kind == rs_file_regular { return try partial(path, bytes: bytes) }
        let descriptor = rs_file_open(path, rs_file_to_write)
        if descriptor < 0 { throw failure(-descriptor, "opening \(name)") }
        guard kind == rs_file_block_device else { return try LocalFile(name, .stream, nil, descriptor) }
        let file = try LocalFile(name, .blockDevice, UInt64(max(0, rs_file_bytes(descriptor))), descriptor)
        if let room = file.bytes, room < bytes {
            throw Failure(.noSpace, "\(name) has \(ByteSize.text(room)), the volume has \(ByteSize.text(bytes)); choose a larger device")
        }
        return file
    }

    private static func partial(_ path: String, bytes: UInt64) throws(Failure) -> LocalFile {
        let partialPath = path + partialSuffix
        let descriptor = rs_file_open(partialPath, rs_file_to_make)
        if descriptor < 0 { throw failure(-descriptor, "making '\(partialPath)'") }
        if rs_disk_lock(descriptor) < 0 {
            rs_close(descriptor)
            throw Failure(.busy, "'\(partialPath)' is being written by another export; wait for it, or choose another name")
        }
        let file = try LocalFile("'\(path)'", .regular, bytes, descriptor, partialPath: partialPath)
        // What an export that was killed has left there goes first.
        for size in [0, bytes] {
            let result = rs_file_resize(descriptor, size)
            if result < 0 { throw failure(-result, "making '\(partialPath)' of \(ByteSize.text(bytes))") }
        }
        return file
    }

    private static let partialSuffix = ".partial"

    // Bytes. Memory belongs to the file until the call ends.

    /// Fewer only at the end.
    func read(into memory: UnsafeMutableRawBufferPointer, at offset: UInt64) async throws(Failure) -> Int {
        let place = place(memory, offset)
        let result = await thread.run { rs_file_get(place.descriptor, place.base, place.count, place.offset) }
        if result < 0 { throw LocalFile.failure(Int32(truncatingIfNeeded: -result), "reading \(name)") }
        return Int(result)
    }

    /// Returns how many of them are not left out as holes.
    func write(_ memory: UnsafeMutableRawBufferPointer, at offset: UInt64) async throws(Failure) -> Int {
        let place = place(memory, offset)
        let result =
            switch kind {
            case .regular: await thread.run { rs_file_put_sparse(place.descriptor, place.base, place.count, place.offset) }
            case .blockDevice, .stream: await thread.run { rs_file_put(place.descriptor, place.base, place.count, place.offset) }
            }
        if result < 0 { throw LocalFile.failure(Int32(truncatingIfNeeded: -result), "writing \(name)") }
        return Int(result)
    }

    /// Where data begins at or behind `offset`; nil if there is none any more.
    func nextData(from offset: UInt64) -> UInt64? {
        guard kind == .regular else { return offset }
        let next = rs_file_next_data(descriptor, offset)
        return next < 0 ? nil : UInt64(next)
    }

    private struct Place: @unchecked Sendable {
        var descriptor: Int32
        var base: UnsafeMutableRawPointer?
        var count: Int
        var offset: Int64
    }

    private func place(_ memory: UnsafeMutableRawBufferPointer, _ offset: UInt64) -> Place {
        let isStream = kind == .stream
        return Place(descriptor: descriptor, base: memory.baseAddress, count: memory.count, offset: isStream ? -1 : Int64(offset))
    }

    // The end of writing

    /// Makes it durable, checks its size, and gives it its name.
    func finish(path: String, replaces: Bool) async throws(Failure) {
        let descriptor = descriptor
        let synced = await thread.run { Int64(rs_file_sync(descriptor)) }
        if synced < 0 { throw LocalFile.failure(Int32(truncatingIfNeeded: -synced), "making \(name) durable") }
        guard let partialPath else { return }
        let found = rs_file_bytes(descriptor)
        guard let bytes, found == Int64(bytes) else {
            throw Failure(.diskFailed, "'\(partialPath)' has \(found) bytes where \(bytes ?? 0) were written: somebody else has changed it")
        }
        let result = rs_file_rename(partialPath, path, replaces)
        if result < 0 { throw LocalFile.failure(-result, "naming the complete copy \(name)") }
        self.partialPath = nil
        let parent = rs_disk_sync_parent(path)
        if parent < 0 { throw LocalFile.failure(-parent, "making the name \(name) durable") }
    }

    /// Removes what is not complete.
    func discard() {
        if let partialPath { _ = rs_unlink(partialPath) }
        partialPath = nil
    }

    private enum ErrorNumber {
        static let notFound: Int32 = 2
        static let accessDenied: Int32 = 13
        static let noSpace: Int32 = 28
        static let notSeekable: Int32 = 29
        static let quotaExceeded: Int32 = 122
    }

    private static func failure(_ code: Int32, _ what: String) -> Failure {
        let status: Status =
            switch code {
            case ErrorNumber.notFound: .notFound
            case ErrorNumber.accessDenied: .permissionDenied
            case ErrorNumber.noSpace, ErrorNumber.quotaExceeded: .noSpace
            case _: .diskFailed
            }
        return Failure(status, "\(what) failed: \(errorText(code))")
    }
}
