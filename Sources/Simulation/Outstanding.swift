/// What a process has open and under way. A checker compares it with what it was at the start: whatever is left over is a leak.
public struct Outstanding: Hashable, Sendable {
    public var sinks = 0
    public var openDisks = 0
    public var listeners = 0
    public var streams = 0
    public var timers = 0
    public var diskOperations = 0
    public var accepts = 0
    public var connects = 0
    public var receives = 0
    public var sends = 0
    /// Ended and not delivered yet.
    public var completions = 0
    /// Jobs ready to run.
    public var jobs = 0

    public init() {}

    public var operations: Int { diskOperations + accepts + connects + receives + sends + completions + jobs }
}
