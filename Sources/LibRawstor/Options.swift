import Base
import CRawstor

/// RAWSTOR_CONTEXT_NO_SPIN; a macro with a cast is not imported.
let noSpin: UInt64 = 1

// The option structs as text: the same fields by the same names. What has only a meaning inside a process (callbacks) has none.

@c @implementation
public func rawstor_context_options_parse(
    _ options: UnsafeMutablePointer<rawstor_context_options>!, _ text: UnsafePointer<CChar>!
) -> Int32 {
    parse(into: options, empty: rawstor_context_options(), text, ["log_level", "no_spin"]) { options, name, value in
        switch name {
        case "log_level": options.log_level = value
        default: options.flags = value != 0 ? options.flags | noSpin : options.flags & ~noSpin
        }
    }
}

@c @implementation
public func rawstor_volume_options_parse(
    _ options: UnsafeMutablePointer<rawstor_volume_options>!, _ text: UnsafePointer<CChar>!
) -> Int32 {
    let names = ["read_only", "force", "open_timeout_ms", "request_timeout_ms", "operations_max"]
    return parse(into: options, empty: rawstor_volume_options(), text, names) { options, name, value in
        switch name {
        case "read_only": options.flags = value != 0 ? options.flags | 1 : options.flags & ~1
        case "force": options.flags = value != 0 ? options.flags | 2 : options.flags & ~2
        case "open_timeout_ms": options.open_timeout_ms = value
        case "request_timeout_ms": options.request_timeout_ms = value
        default: options.operations_max = value
        }
    }
}

@c @implementation
public func rawstor_create_options_parse(
    _ options: UnsafeMutablePointer<rawstor_create_options>!, _ text: UnsafePointer<CChar>!
) -> Int32 {
    parse(into: options, empty: rawstor_create_options(), text, ["chunk_bytes", "timeout_ms"]) { options, name, value in
        if name == "chunk_bytes" { options.chunk_bytes = value } else { options.timeout_ms = value }
    }
}

/// All or nothing: the caller's struct is unchanged when the text has an error.
private func parse<Options>(
    into pointer: UnsafeMutablePointer<Options>?, empty: Options, _ text: UnsafePointer<CChar>?, _ names: [String],
    _ set: (inout Options, String, UInt64) -> Void
) -> Int32 {
    withThreadMessage { () throws(Failure) in
        guard let pointer else { throw Failure(.invalidArgument, "the options are NULL") }
        let size = try SizedStruct.size(pointer)
        var options = try SizedStruct.read(UnsafePointer(pointer), empty: empty)
        try OptionText.parse(text, names: names) { name, value in set(&options, name, value) }
        SizedStruct.write(options, to: pointer, size: size)
        // What was given stays as it is, or a newer program would lose its further fields.
        UnsafeMutableRawPointer(pointer).storeBytes(of: UInt(size), as: UInt.self)
    }
}
