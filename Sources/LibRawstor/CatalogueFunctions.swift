import Base
import CRawstor
import Client
import Wire

// Volumes by name. Each call has a connection of its own: they are rare, and a broken one is nobody else's trouble.

@c @implementation
public func rawstor_create(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ bytes: UInt64, _ options: UnsafePointer<rawstor_create_options>!,
    _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    with(context) { context throws(Failure) in
        let (address, name) = try volumeAddress(url)
        let options = try SizedStruct.read(options, empty: rawstor_create_options())
        let layout = options.chunk_bytes == 0 ? Layout() : Layout(chunkBytes: options.chunk_bytes)
        try layout.check()
        try ObjectRecord.check(bytes: bytes)
        guard options.timeout_ms <= 86_400_000 else { throw Failure(.invalidArgument, "timeout_ms is more than a day") }
        let deadline = options.timeout_ms == 0 ? catalogueDeadline : .milliseconds(options.timeout_ms)
        try start(context, address, callback, argument, deadline) { catalogue throws(Failure) in
            _ = try await catalogue.create(name, bytes: bytes, layout: layout)
        }
    }
}

@c @implementation
public func rawstor_stat(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ info: UnsafeMutablePointer<rawstor_volume_info>!,
    _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    with(context) { context throws(Failure) in
        let (address, name) = try volumeAddress(url)
        let pointer = try required(info, "pointer to the info")
        let size = try SizedStruct.size(pointer)
        try start(context, address, callback, argument) { catalogue throws(Failure) in
            SizedStruct.write(rawstor_volume_info(try await catalogue.stat(name)), to: pointer, size: size)
        }
    }
}

@c @implementation
public func rawstor_remove(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    with(context) { context throws(Failure) in
        let (address, name) = try volumeAddress(url)
        try start(context, address, callback, argument) { catalogue throws(Failure) in try await catalogue.remove(name) }
    }
}

@c @implementation
public func rawstor_list(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ entry: rawstor_list_callback!, _ callback: rawstor_callback!,
    _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    startList(context, url, entry, argument, callback, argument)
}

/// The waiting form has one argument for the entries and another for the end.
func startList(
    _ context: OpaquePointer?, _ url: UnsafePointer<CChar>?, _ entry: rawstor_list_callback?, _ entryArgument: UnsafeMutableRawPointer?,
    _ callback: rawstor_callback?, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    with(context) { context throws(Failure) in
        let address = try Address(try text(url, "URL"))
        let entry = try required(entry, "callback for the entries")
        let callback = try required(callback, "callback")
        try context.startList(address, entry, entryArgument, callback, argument)
    }
}

@c @implementation
public func rawstor_df(
    _ context: OpaquePointer!, _ url: UnsafePointer<CChar>!, _ space: UnsafeMutablePointer<rawstor_space>!,
    _ callback: rawstor_callback!, _ argument: UnsafeMutableRawPointer!
) -> Int32 {
    with(context) { context throws(Failure) in
        let address = try Address(try text(url, "URL"))
        let pointer = try required(space, "pointer to the space")
        let size = try SizedStruct.size(pointer)
        try start(context, address, callback, argument) { catalogue throws(Failure) in
            let statistics = try await catalogue.statistics()
            var space = rawstor_space()
            space.capacity_bytes = statistics.capacityBytes
            space.used_bytes = statistics.usedBytes
            space.free_bytes = statistics.freeBytes
            space.volumes = statistics.objects
            SizedStruct.write(space, to: pointer, size: size)
        }
    }
}

private let catalogueDeadline = Limits.helloDeadline

private func volumeAddress(_ url: UnsafePointer<CChar>?) throws(Failure) -> (Address, String) {
    let url = try text(url, "URL")
    let address = try Address(url)
    guard let name = address.name else {
        throw Failure(.invalidArgument, "'\(url)' names no volume; write its name behind the last slash")
    }
    return (address, name)
}

private func start(
    _ context: Context, _ address: Address, _ callback: rawstor_callback?, _ argument: UnsafeMutableRawPointer?,
    _ deadline: Interval = catalogueDeadline, _ body: @escaping (any Catalogue) async throws(Failure) -> Void
) throws(Failure) {
    let callback = try required(callback, "callback")
    try context.start(callback, argument) { context throws(Failure) in
        let catalogue = address.catalogue(in: context.reactor, deadline: deadline)
        defer { catalogue.close() }
        do throws(Failure) { try await body(catalogue) } catch {
            // The daemon's sentences do not say which of several daemons speaks.
            throw error.detail.contains("\(address.endpoint)") ? error : Failure(error.status, "\(address): \(error.detail)")
        }
    }
}

extension Context {
    /// Entries are told with the end, outside of the reactor's turn as all callbacks.
    fileprivate func startList(
        _ address: Address, _ entry: rawstor_list_callback, _ entryArgument: UnsafeMutableRawPointer?, _ callback: rawstor_callback,
        _ argument: UnsafeMutableRawPointer?
    ) throws(Failure) {
        try start(callback, argument) { context throws(Failure) in
            let catalogue = address.catalogue(in: context.reactor, deadline: catalogueDeadline)
            defer { catalogue.close() }
            context.ended(.entries(entry, entryArgument, try await catalogue.list()))
        }
    }
}

extension rawstor_volume_info {
    init(_ stat: StatReply) {
        self.init()
        size = MemoryLayout<rawstor_volume_info>.size
        flags = stat.hasWriter ? 1 : 0
        volume_bytes = stat.object.bytes
        used_bytes = stat.mappedBlocks * UInt64(Block.bytes)
        chunk_bytes = stat.object.layout.chunkBytes
        generation = stat.object.generation
        created_milliseconds = stat.object.createdMilliseconds
        withUnsafeMutableBytes(of: &id) { $0.copyText(stat.object.id.description) }
        withUnsafeMutableBytes(of: &name) { $0.copyText(stat.object.name) }
    }
}

extension UnsafeMutableRawBufferPointer {
    fileprivate func copyText(_ text: String) {
        withMemoryRebound(to: CChar.self) {
            guard let base = $0.baseAddress else { return }
            Message.copy(text, to: base, capacity: $0.count)
        }
    }
}
