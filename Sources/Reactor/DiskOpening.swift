import Base
import CSystem
import Environment

/// Opens files and block devices as disks: direct, locked, and with a sentence for everything that can be wrong.
enum DiskOpening {
    static func open(_ path: String, _ mode: DiskMode) throws(Failure) -> (descriptor: Int32, traits: DiskTraits) {
        switch rs_file_kind(path) {
        case rs_file_block_device: return try openDevice(path, mode)
        case rs_file_regular: return try openFile(path, mode, isNew: false)
        case rs_file_none:
            guard case .create = mode else { throw Failure(.notFound, "\(path) does not exist, or its directory cannot be read") }
            return try openFile(path, mode, isNew: true)
        case _: throw Failure(.invalidArgument, "\(path) is neither a file nor a block device")
        }
    }

    private static func openDevice(_ path: String, _ mode: DiskMode) throws(Failure) -> (Int32, DiskTraits) {
        // Exclusive: neither mounted, nor part of an array, nor opened like this by another process.
        let descriptor = rs_disk_open(path, mode.isWriting, false, true)
        if descriptor < 0 { throw openFailure(path, -descriptor) }
        do throws(Failure) {
            try lock(path, descriptor)
            let traits = try traits(path, descriptor)
            if case .create(let bytes) = mode, bytes != 0, bytes != traits.bytes {
                throw Failure(.invalidArgument, "the device \(path) has \(traits.bytes) bytes, not \(bytes); leave out the size")
            }
            return (descriptor, traits)
        } catch {
            rs_close(descriptor)
            throw error
        }
    }

    private static func openFile(_ path: String, _ mode: DiskMode, isNew: Bool) throws(Failure) -> (Int32, DiskTraits) {
        let descriptor = rs_disk_open(path, mode.isWriting, isNew, isNew)
        if descriptor < 0 { throw openFailure(path, -descriptor) }
        do throws(Failure) {
            try lock(path, descriptor)
            if case .create(let bytes) = mode { try reserve(path, descriptor, bytes) }
            return (descriptor, try traits(path, descriptor))
        } catch {
            if isNew { rs_unlink(path) }
            rs_close(descriptor)
            throw error
        }
    }

    private static func reserve(_ path: String, _ descriptor: Int32, _ bytes: UInt64) throws(Failure) {
        var found = rs_disk_traits()
        let result = rs_disk_traits(descriptor, &found)
        if result < 0 { throw Failure(.diskFailed, "\(path) cannot be examined: \(ErrorCode.text(-result))") }
        if found.bytes != 0 {
            throw Failure(.alreadyExists, "\(path) is not empty (\(found.bytes) bytes); remove it, or name another file")
        }
        if bytes == 0 || bytes % UInt64(Block.bytes) != 0 || bytes > UInt64(Int64.max) {
            throw Failure(.invalidArgument, "\(path) cannot be made \(bytes) bytes large: a file is a positive multiple of \(Block.bytes)")
        }
        var error = rs_disk_reserve(descriptor, bytes)
        if error == 0 { error = rs_disk_sync_parent(path) }
        switch -error {
        case 0: return
        case ErrorCode.noSpace: throw Failure(.noSpace, "the file system of \(path) has no room for \(bytes) bytes")
        case ErrorCode.notSupported:
            throw Failure(.unsupported, "the file system of \(path) cannot reserve space; use ext4 or XFS, or a block device")
        case let code: throw Failure(.diskFailed, "\(path) cannot be made \(bytes) bytes large: \(ErrorCode.text(code))")
        }
    }

    private static func lock(_ path: String, _ descriptor: Int32) throws(Failure) {
        let result = rs_disk_lock(descriptor)
        if result == -ErrorCode.again { throw inUse(path) }
        if result < 0 { throw Failure(.diskFailed, "\(path) cannot be locked: \(ErrorCode.text(-result))") }
    }

    private static func traits(_ path: String, _ descriptor: Int32) throws(Failure) -> DiskTraits {
        var found = rs_disk_traits()
        let result = rs_disk_traits(descriptor, &found)
        if result < 0 { throw Failure(.diskFailed, "\(path) cannot be examined: \(ErrorCode.text(-result))") }
        if found.sector_bytes == 0 { throw refusesDirect(path) }
        if found.sector_bytes != 512, found.sector_bytes != 4096 {
            throw Failure(.unsupported, "\(path) has sectors of \(found.sector_bytes) bytes; 512 and 4096 are supported")
        }
        return DiskTraits(
            bytes: found.bytes, sectorBytes: Int(found.sector_bytes), isVolatile: found.is_volatile, isBlockDevice: found.is_block_device)
    }

    private static func inUse(_ path: String) -> Failure {
        Failure(.busy, "another process has \(path) open, or it is mounted; stop that first")
    }

    private static func refusesDirect(_ path: String) -> Failure {
        Failure(.unsupported, "the file system of \(path) refuses direct I/O; use ext4 or XFS, or a block device")
    }

    private static func openFailure(_ path: String, _ code: Int32) -> Failure {
        switch code {
        case ErrorCode.busy: inUse(path)
        case ErrorCode.invalid: refusesDirect(path)
        case ErrorCode.notFound: Failure(.notFound, "\(path) cannot be made: its directory does not exist")
        case ErrorCode.exists: Failure(.busy, "another process has just made \(path)")
        case ErrorCode.accessDenied, ErrorCode.notPermitted:
            Failure(.permissionDenied, "no permission to open \(path); run as its owner, or change its mode")
        case ErrorCode.readOnlyFileSystem: Failure(.readOnly, "\(path) is on a read-only file system or device")
        case _: Failure(.diskFailed, "\(path) cannot be opened: \(ErrorCode.text(code))")
        }
    }
}

extension DiskMode {
    fileprivate var isWriting: Bool { self != .readOnly }
}
