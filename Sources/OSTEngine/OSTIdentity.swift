import Base
import PartStore

/// Which store this is at the moment: what an OST tells of itself in its hello and to a metadata server.
public struct OSTIdentity: Hashable, Sendable {
    public var cluster: Identifier
    public var store: Identifier
    public var mountCounter: UInt64
    public var boot: Identifier
    public var incarnation: UInt64
}

extension OSTEngine {
    /// Nil while the store is loaded anew.
    public var identity: OSTIdentity? {
        if hasFailed { return nil }
        return OSTIdentity(
            cluster: store.cluster, store: store.store, mountCounter: store.mountCounter, boot: store.boot, incarnation: store.incarnation)
    }
}
