/// Stops the process with `text` when `condition` does not hold: a failed invariant is our own bug.
///
/// Always on. A bare `precondition` loses its message in release builds, and with it the values that explain the failure.
/// Input from disk, wire, command line or a C caller is never an invariant: it gets a typed error.
@inlinable @inline(__always)
public func invariant(
    _ condition: @autoclosure () -> Bool, _ text: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line
) {
    if _slowPath(!condition()) { invariantFailed(text(), file, line) }
}

/// For a place that cannot be reached unless there is a bug.
@inlinable
public func unreachable(_ text: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line) -> Never {
    invariantFailed(text(), file, line)
}

/// What the process is at, for the message of an invariant that fails: a simulation tells its seed. Set by one thread.
nonisolated(unsafe) public var invariantContext = ""

@usableFromInline @inline(never)
func invariantFailed(_ text: String, _ file: StaticString, _ line: UInt) -> Never {
    fatalError("\(invariantContext)invariant failed: \(text)", file: file, line: line)
}
