import Base
import PartStore

/// What the engine wants done. Plain data: the shell performs it against the world and says how it ended.
public enum OSTEffect: Hashable {
    /// Receive into the vectors of `nextReceive`, then say `received` or `disconnected`.
    case receive(ConnectionID)
    /// Send from the vectors of `nextSend`, then say `sent` or `disconnected`.
    case send(ConnectionID)
    /// End the connection; `disconnected` when neither a receive nor a send is under way.
    case close(ConnectionID, Failure)
    /// A disk operation of the part store, for `diskDone`. `.finished` and `.damaged` never come out of the engine.
    case store(StoreEffect)
    case log(OSTLogEntry)
    /// The disk failed. Load the store anew once `isStoreQuiet`, and hand it to `replaceStore`.
    case reload(String)
}

/// A connection's slot. Used again after `disconnected`, and not before its last request has ended.
public struct ConnectionID: Hashable, Sendable {
    public var index: UInt32

    @inlinable
    public init(_ index: UInt32) { self.index = index }
}

/// A line of the log, not yet written.
public struct OSTLogEntry: Hashable, Sendable {
    public enum Severity: UInt8, Hashable, Sendable {
        case debug, info, warning, error
    }

    public struct Field: Hashable, Sendable {
        public var name: String
        public var value: String
    }

    public var severity: Severity
    public var message: String
    public var fields: [Field]

    init(_ severity: Severity, _ message: String, _ fields: KeyValuePairs<String, String> = [:]) {
        self.severity = severity
        self.message = message
        self.fields = fields.map { Field(name: $0.key, value: $0.value) }
    }
}
