import Base
import CRawstor
import Client
import Reactor
import VolumeEngine

// Volumes, as the header says. Arguments are checked here; what they mean is the handle's business.

@c @implementation
public func rawstor_volume_open(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ options: UnsafePointer<rawstor_volume_options>!,
    _ volume: UnsafeMutablePointer<OpaquePointer?>!, _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    with(context) { context throws(Failure) in
        let url = try text(url, "URL")
        let address = try Address(url)
        let options = try SizedStruct.read(options, empty: rawstor_volume_options())
        let pointer = try required(volume, "pointer to the volume")
        let callback = try required(callback, "callback")
        guard address.name != nil else { throw Failure(.invalidArgument, "'\(url)' names no volume; write its name behind the last slash") }
        try check(options)
        let openOptions = OpenOptions(options)
        guard context.hasRoomForVolume else {
            throw Failure(.overloaded, "a context has at most \(Limits.volumesPerContextMax) volumes; close one or create another context")
        }
        try context.start(callback, argument) { context throws(Failure) in
            let opened = try await Volume.open(context.reactor, address, openOptions)
            if context.isEnding {
                await opened.close()
                throw Failure(.closed, "\(url): the context was destroyed before the volume was open")
            }
            let handle = VolumeHandle(context, opened, url: url, options)
            context.add(handle)
            pointer.pointee = OpaquePointer(Unmanaged.passRetained(handle).toOpaque())
            // Behind the callback of the open, which comes at the end of this task.
            context.reactor.spawn { handle.tellWhetherDegraded() }
        }
    }
}

extension OpenOptions {
    fileprivate init(_ options: rawstor_volume_options) {
        self.init(write: options.flags & 1 == 0, force: options.flags & 2 != 0)
        if options.open_timeout_ms > 0 { deadline = .milliseconds(options.open_timeout_ms) }
        closeDeadline = Context.closeDeadline
        slots = VolumeHandle.operationsMax(options)
        client = ProcessName.text
    }
}

private func check(_ options: rawstor_volume_options) throws(Failure) {
    guard options.flags & ~3 == 0 else { throw Failure(.invalidArgument, "the flags \(options.flags) of an open are not known") }
    guard options.operations_max <= UInt64(Limits.operationsPerVolumeMax) else {
        throw Failure(
            .invalidArgument, "operations_max is \(options.operations_max); it is at most \(Limits.operationsPerVolumeMax)")
    }
    // So that sums of times cannot overflow.
    let timeoutMax: UInt64 = 86_400_000
    guard options.open_timeout_ms <= timeoutMax, options.request_timeout_ms <= timeoutMax else {
        throw Failure(.invalidArgument, "a timeout is at most one day, \(timeoutMax) ms")
    }
}

@c @implementation
public func rawstor_volume_close(
    _ volume: OpaquePointer!, _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    guard let handle = VolumeHandle.of(volume) else { return noHandle("volume") }
    if handle.isClosing { return handle.refuse(.closed, "the volume is being closed already") }
    handle.startClose(callback, argument)
    return 0
}

@c @implementation
public func rawstor_volume_size(_ volume: OpaquePointer!) -> UInt64 { VolumeHandle.of(volume)?.volume.object.bytes ?? 0 }

@c @implementation
public func rawstor_volume_context(_ volume: OpaquePointer!) -> OpaquePointer! { VolumeHandle.of(volume)?.context.handle }

@c @implementation
public func rawstor_volume_error_message(_ volume: OpaquePointer!) -> UnsafePointer<CChar>! {
    VolumeHandle.of(volume)?.message.cString ?? UnsafePointer(rs_thread_message())
}

@c @implementation
public func rawstor_volume_limits(_ volume: OpaquePointer!, _ limits: UnsafeMutablePointer<rawstor_volume_limits>!) -> Int32 {
    guard let handle = VolumeHandle.of(volume) else { return noHandle("volume") }
    return with(handle.context.handle) { _ throws(Failure) in
        let pointer = try required(limits, "pointer to the limits")
        let size = try SizedStruct.size(pointer)
        var limits = rawstor_volume_limits()
        limits.sector_bytes = UInt64(Block.sectorBytes)
        limits.physical_block_bytes = UInt64(Block.bytes)
        limits.optimal_bytes = UInt64(Block.bytes)
        limits.memory_alignment = UInt64(Block.bytes)
        limits.transfer_bytes_max = VolumeHandle.bytesMax(.write)
        limits.zero_bytes_max = VolumeHandle.bytesMax(.discard)
        limits.segments_max = UInt64(Operation.vectorsMax)
        limits.operations_max = UInt64(handle.operationsMax)
        SizedStruct.write(limits, to: pointer, size: size)
    }
}

@c @implementation
public func rawstor_read(
    _ volume: OpaquePointer!, _ iov: UnsafePointer<iovec>!, _ count: UInt32, _ offset: UInt64, _ flags: UInt32,
    _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    transfer(.read, volume, iov, count, offset, flags, callback, argument)
}

@c @implementation
public func rawstor_write(
    _ volume: OpaquePointer!, _ iov: UnsafePointer<iovec>!, _ count: UInt32, _ offset: UInt64, _ flags: UInt32,
    _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    transfer(.write, volume, iov, count, offset, flags, callback, argument)
}

@c @implementation
public func rawstor_flush(_ volume: OpaquePointer!, _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!) -> Int32 {
    guard let handle = VolumeHandle.of(volume) else { return noHandle("volume") }
    return handle.start(.flush, 0, 0, 0, noVectors, callback, argument)
}

@c @implementation
public func rawstor_discard(
    _ volume: OpaquePointer!, _ offset: UInt64, _ bytes: UInt64, _ flags: UInt32, _ callback: rawstor_callback!,
    _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    guard let handle = VolumeHandle.of(volume) else { return noHandle("volume") }
    return handle.start(.discard, offset, bytes, flags, noVectors, callback, argument)
}

@c @implementation
public func rawstor_write_zeroes(
    _ volume: OpaquePointer!, _ offset: UInt64, _ bytes: UInt64, _ flags: UInt32, _ callback: rawstor_callback!,
    _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    guard let handle = VolumeHandle.of(volume) else { return noHandle("volume") }
    return handle.start(.writeZeroes, offset, bytes, flags, noVectors, callback, argument)
}

@c @implementation
public func rawstor_resize(
    _ volume: OpaquePointer!, _ bytes: UInt64, _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    guard let handle = VolumeHandle.of(volume) else { return noHandle("volume") }
    if handle.isClosing { return handle.refuse(.closed, "the volume is being closed") }
    if let refusal = handle.volume.refusalOfChanges { return handle.refuse(refusal, refusal.sentence) }
    return with(handle.context.handle) { context throws(Failure) in
        let callback = try required(callback, "callback")
        try ObjectRecord.check(bytes: bytes)
        try context.start(callback, argument, of: handle) { _ throws(Failure) in try await handle.resize(to: bytes) }
    }
}

private var noVectors: UnsafeBufferPointer<IOVector> { UnsafeBufferPointer(start: nil, count: 0) }

private func transfer(
    _ kind: Operation.Kind, _ volume: OpaquePointer?, _ iov: UnsafePointer<iovec>?, _ count: UInt32, _ offset: UInt64, _ flags: UInt32,
    _ callback: rawstor_callback?, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    guard let handle = VolumeHandle.of(volume) else { return noHandle("volume") }
    guard let iov, count > 0 else { return handle.refuse(.invalidArgument, "the iovec array is NULL or empty") }
    guard count <= Operation.vectorsMax else {
        return handle.refuse(.invalidArgument, "\(count) segments are more than the \(Operation.vectorsMax) of one operation")
    }
    var bytes: UInt64 = 0
    var hasEmpty = false
    for index in 0..<Int(count) {
        let length = iov[index].iov_len
        // A size_t: what is negative here is absurd there.
        guard length >= 0, length <= Int(VolumeHandle.bytesMax(kind)), iov[index].iov_base != nil || length == 0 else {
            return handle.refuse(.invalidArgument, "segment \(index) is NULL or too long")
        }
        bytes += UInt64(length)
        if length == 0 { hasEmpty = true }
    }
    if hasEmpty { return handle.refuse(.invalidArgument, "a segment is empty") }
    // An iovec without NULL is an IOVector.
    let vectors = UnsafeRawPointer(iov).assumingMemoryBound(to: IOVector.self)
    return handle.start(
        kind, offset, bytes, flags, UnsafeBufferPointer(start: vectors, count: Int(count)), callback, argument)
}
