import Base

/// How a volume is opened and how long that and its end may take. Deadlines of single operations are theirs.
public struct OpenOptions: Hashable, Sendable {
    /// For writing. Only one writer at a time.
    public var write = true
    /// Although another writer is connected; that one is fenced.
    public var force = false
    /// For connecting and opening together.
    public var deadline = Limits.helloDeadline
    /// How long `close` waits for operations under way.
    public var closeDeadline = Interval.seconds(10)
    /// Refuses a store of another cluster; zero takes any.
    public var cluster = Identifier.zero
    /// Operations that may be under way at once.
    public var slots = Limits.operationsPerVolumeMax

    /// What others are told of who has the volume open; at most `Limits.nameBytesMax` bytes.
    public var client = OpenOptions.clientDefault
    public static let clientDefault = "librawstor"

    public init(write: Bool = true, force: Bool = false) {
        self.write = write
        self.force = force
    }
}
