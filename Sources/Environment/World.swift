import Base

/// Everything an engine's shell and the rare straight-line code may ask of the outside: disk, wire, clock, randomness, log.
///
/// Two implementations: the io_uring reactor and the simulator. A world belongs to one thread; all of its calls and completions happen
/// there. (It is `Sendable` so that tasks pinned to its executor may capture it.)
///
/// Every operation names a `Ticket`. When it ends, the ticket's sink gets `completed` exactly once, never from within the call that
/// started it. Memory handed to an operation belongs to the world until then. Vector lists are copied by the call.
public protocol World: AnyObject, Sendable {
    var now: Instant { get }
    /// Milliseconds since 1970; only for names and logs, never for a decision.
    var wallClockMilliseconds: UInt64 { get }
    func random() -> UInt64
    /// Names the time since this machine was started: what a disk's cache has taken in since is there as long as it stays the same.
    var hostBoot: Identifier { get }
    /// Names the network that this process is in on this machine: where two are equal, each can reach what the other listens at. Zero
    /// where it is not known.
    var place: Identifier { get }
    var executor: any WorldExecutor { get }
    func log(_ level: LogLevel, _ message: String, _ fields: [LogField])
    func mark(_ name: StaticString)

    /// Page-aligned zeroed memory that disks and streams reach fastest. It lives as long as the world; ask once, at start.
    func allocate(bytes: Int) throws(Failure) -> UnsafeMutableRawBufferPointer

    // Sinks
    func attach(_ sink: any CompletionSink) -> SinkID
    /// No completion reaches the sink afterwards; what is under way is dropped when it ends. Its memory must outlive that.
    func detach(_ sink: SinkID)

    // Disks. Offsets and lengths are multiples of the sector. A result is 0, or a negative errno; a short transfer is an error (-EIO).
    func openDisk(_ path: String, _ mode: DiskMode) throws(Failure) -> DiskID
    func traits(of disk: DiskID) -> DiskTraits
    func read(_ disk: DiskID, at offset: UInt64, into vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket)
    func write(_ disk: DiskID, at offset: UInt64, from vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket)
    /// What was completed before this call is on stable media when it ends well.
    func flush(_ disk: DiskID, _ ticket: Ticket)
    /// Gives the range back to the file system or device where that is possible. Contents are undefined afterwards.
    func punch(_ disk: DiskID, at offset: UInt64, bytes: UInt64, _ ticket: Ticket)
    /// Nothing may be under way.
    func closeDisk(_ disk: DiskID)

    // Streams. At most one accept per listener, one receive and one send per stream are under way.
    func listen(on endpoint: Endpoint) throws(Failure) -> ListenerID
    /// Where it listens: the port chosen, if port 0 was asked for.
    func endpoint(of listener: ListenerID) -> Endpoint
    /// The result is a `StreamID`, or a negative errno.
    func accept(_ listener: ListenerID, _ ticket: Ticket)
    /// Ends an accept under way with -ECANCELED.
    func closeListener(_ listener: ListenerID)
    /// The result is a `StreamID`, or a negative errno. Ends with -ETIMEDOUT at the deadline.
    func connect(to endpoint: Endpoint, deadline: Instant, _ ticket: Ticket)
    /// The result is the number of bytes (0: the peer has closed), or a negative errno.
    func receive(_ stream: StreamID, into vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket)
    /// The result is the number of bytes, which may be fewer than given, or a negative errno.
    func send(_ stream: StreamID, from vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket)
    /// Ends what is under way in both directions soon, with 0 or an error.
    func shutdown(_ stream: StreamID)
    /// Nothing may be under way.
    func close(_ stream: StreamID)

    // Time
    /// Completes once with 0 at or after the instant.
    func wake(at instant: Instant, _ ticket: Ticket) -> TimerID
    /// A timer that is cancelled does not complete. Cancelling one that has completed does nothing.
    func cancel(_ timer: TimerID)
}

/// Where completions go. Shells implement it; asynchronous code goes through `Operations`.
public protocol CompletionSink: AnyObject {
    func completed(_ token: UInt32, result: Int32)
    /// All completions that were there at once have been delivered: the moment for work that is cheaper together (one log write, one
    /// send per connection). Called only after at least one `completed`.
    func batchEnded()
}

/// Which sink, and what it needs to know again when the operation ends.
public struct Ticket: Hashable, Sendable {
    public var sink: SinkID
    public var token: UInt32

    @inlinable
    public init(_ sink: SinkID, _ token: UInt32) {
        self.sink = sink
        self.token = token
    }
}

public struct SinkID: Hashable, Sendable {
    public var index: UInt16
    @inlinable
    public init(_ index: UInt16) { self.index = index }
}

public struct DiskID: Hashable, Sendable {
    public var index: Int32
    @inlinable
    public init(_ index: Int32) { self.index = index }
}

public struct ListenerID: Hashable, Sendable {
    public var index: Int32
    @inlinable
    public init(_ index: Int32) { self.index = index }
}

public struct StreamID: Hashable, Sendable {
    public var index: Int32
    @inlinable
    public init(_ index: Int32) { self.index = index }
}

public struct TimerID: Hashable, Sendable {
    public var raw: UInt64
    @inlinable
    public init(_ raw: UInt64) { self.raw = raw }
}

public enum DiskMode: Hashable, Sendable {
    /// Makes the file if there is none; refuses a file that is not empty. For a block device `bytes` must be its size or 0.
    case create(bytes: UInt64)
    /// Exclusive: a disk that another process has open is refused.
    case readWrite
    /// Exclusive as well: what is read must not change meanwhile.
    case readOnly
}

public struct DiskTraits: Hashable, Sendable {
    public var bytes: UInt64
    /// 512 or 4096: what offsets and lengths must be multiples of.
    public var sectorBytes: Int
    /// Whether a completed write needs a flush to be on stable media. What cannot be determined counts as volatile.
    public var isVolatile: Bool
    public var isBlockDevice: Bool

    public init(bytes: UInt64, sectorBytes: Int, isVolatile: Bool, isBlockDevice: Bool) {
        self.bytes = bytes
        self.sectorBytes = sectorBytes
        self.isVolatile = isVolatile
        self.isBlockDevice = isBlockDevice
    }
}

public enum Endpoint: Hashable, Sendable, CustomStringConvertible {
    case tcp(host: String, port: UInt16)
    case unix(path: String)

    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): path
        }
    }

    /// The Unix socket of a daemon that goes by this name, which is drawn anew at each start, for clients on its machine
    /// (docs/decisions/0023). No file: it goes with the daemon, and only its network namespace sees it.
    public static func nearby(_ name: Identifier) -> Endpoint { .unix(path: "@rawstor/\(name)") }
}

public enum LogLevel: Int, Comparable, Sendable {
    case debug, info, warning, error
    public static func < (left: LogLevel, right: LogLevel) -> Bool { left.rawValue < right.rawValue }
}

public struct LogField: Sendable {
    public var name: String
    public var value: String
    public init(_ name: String, _ value: some CustomStringConvertible) {
        self.name = name
        self.value = value.description
    }
}

/// Runs all asynchronous code of one world, on that world's thread.
public protocol WorldExecutor: SerialExecutor, TaskExecutor {}
