import Base
import Wire

/// What an operator may choose about one OST's memory and limits. Everything else is in `Limits`.
public struct OSTConfiguration: Hashable, Sendable {
    public var connectionsMax = Limits.connectionsMax
    public var requestsMax = Limits.requestsMax
    /// Size of the arena: replies and buffers together. The engine never has more payload in memory than fits.
    public var memoryBytes = Limits.memoryForBuffers
    /// One for every request, so that small requests wait for nothing but the disk; the rest of the arena is large buffers.
    public var smallBuffers = Limits.requestsMax
    /// How the daemon calls itself in the hello.
    public var software = "rawstor-ost"
    /// Where it listens for clients on its machine.
    public var nearby: Nearby?

    public init() {}

    /// A tenth of everything, for tests and the simulator.
    public static var small: OSTConfiguration {
        var small = OSTConfiguration()
        small.connectionsMax = 64
        small.requestsMax = Limits.requestsPerConnectionMax
        small.smallBuffers = Limits.requestsPerConnectionMax
        small.memoryBytes = 8 << 20
        return small
    }
}
