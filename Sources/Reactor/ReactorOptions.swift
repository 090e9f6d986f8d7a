import Base
import Environment

/// How a reactor is made.
public struct ReactorOptions: Sendable {
    /// Entries of the submission queue: what one turn can hand to the kernel at once. More than that is handed over in pieces.
    public var queueDepth = 1024
    /// Transfers of disks that are handed to the kernel at once in each turn, instead of with the rest at its end, so that an idle device
    /// gets to work early. Every further piece is twice as large, up to a limit: each is a system call and a notice to the device.
    public var transfersAtOnce = 2
    public var transfersAtOnceMax = 64
    /// A wait that will most likely be shorter than this, while little is under way, is spent looking instead of sleeping: waking up costs
    /// more than the wait is worth. Zero: always sleeps.
    public var spin = Interval(nanoseconds: 500_000)
    /// Operations under way at once, of all kinds. Beyond it they end with -ENOBUFS.
    public var operationsMax = 16384
    /// The ring is not bound to a thread, so that the caller may drive the reactor from one thread now and from another later, one at a
    /// time. Costs some speed. Otherwise the reactor belongs to the thread that makes it.
    public var callerDriven = false
    public var logLevel = LogLevel.info
    /// The program's name in log lines.
    public var name = "rawstor"
    /// Where complete log lines go; standard error by default.
    public var logWriter: (@Sendable (String) -> Void)?

    public init() {}
}
