import Base
import CRawstor

// The calls that wait: each starts the operation of the same name and turns the context until that has ended.

@c @implementation
public func rawstor_volume_open_sync(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ options: UnsafePointer<rawstor_volume_options>!,
    _ volume: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    wait(for: context) { rawstor_volume_open(context, url, options, volume, $0, $1) }
}

@c @implementation
public func rawstor_volume_close_sync(_ volume: OpaquePointer!) -> Int32 {
    wait(on: volume) { rawstor_volume_close(volume, $0, $1) }
}

@c @implementation
public func rawstor_read_sync(_ volume: OpaquePointer!, _ buffer: UnsafeMutableRawPointer!, _ bytes: Int, _ offset: UInt64) -> Int32 {
    var vector = iovec(iov_base: buffer, iov_len: bytes)
    return wait(on: volume) { rawstor_read(volume, &vector, 1, offset, 0, $0, $1) }
}

@c @implementation
public func rawstor_write_sync(
    _ volume: OpaquePointer!, _ buffer: UnsafeRawPointer!, _ bytes: Int, _ offset: UInt64, _ flags: UInt32
) -> Int32 {
    var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: buffer), iov_len: bytes)
    return wait(on: volume) { rawstor_write(volume, &vector, 1, offset, flags, $0, $1) }
}

@c @implementation
public func rawstor_flush_sync(_ volume: OpaquePointer!) -> Int32 {
    wait(on: volume) { rawstor_flush(volume, $0, $1) }
}

@c @implementation
public func rawstor_discard_sync(_ volume: OpaquePointer!, _ offset: UInt64, _ bytes: UInt64, _ flags: UInt32) -> Int32 {
    wait(on: volume) { rawstor_discard(volume, offset, bytes, flags, $0, $1) }
}

@c @implementation
public func rawstor_write_zeroes_sync(_ volume: OpaquePointer!, _ offset: UInt64, _ bytes: UInt64, _ flags: UInt32) -> Int32 {
    wait(on: volume) { rawstor_write_zeroes(volume, offset, bytes, flags, $0, $1) }
}

@c @implementation
public func rawstor_resize_sync(_ volume: OpaquePointer!, _ bytes: UInt64) -> Int32 {
    wait(on: volume) { rawstor_resize(volume, bytes, $0, $1) }
}

@c @implementation
public func rawstor_create_sync(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ bytes: UInt64, _ options: UnsafePointer<rawstor_create_options>!
) -> Int32 {
    wait(for: context) { rawstor_create(context, url, bytes, options, $0, $1) }
}

@c @implementation
public func rawstor_stat_sync(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ info: UnsafeMutablePointer<rawstor_volume_info>!
) -> Int32 {
    wait(for: context) { rawstor_stat(context, url, info, $0, $1) }
}

@c @implementation
public func rawstor_remove_sync(_ context: OpaquePointer!, _ url: UnsafePointer<CChar>!) -> Int32 {
    wait(for: context) { rawstor_remove(context, url, $0, $1) }
}

@c @implementation
public func rawstor_list_sync(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ entry: rawstor_list_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    wait(for: context) { startList(context, url, entry, argument, $0, $1) }
}

@c @implementation
public func rawstor_df_sync(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ space: UnsafeMutablePointer<rawstor_space>!
) -> Int32 {
    wait(for: context) { rawstor_df(context, url, space, $0, $1) }
}

private func wait(on volume: OpaquePointer?, _ start: (rawstor_callback, UnsafeMutableRawPointer) -> Int32) -> Int32 {
    guard let made = VolumeHandle.of(volume) else { return noHandle("volume") }
    return wait(for: made.context.handle, start)
}
