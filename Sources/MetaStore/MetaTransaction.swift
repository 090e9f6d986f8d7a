import Base

/// Compare-and-set over several keys: if all conditions hold, all changes are made. The checks of arguments that all stores share are here
/// too, so that they refuse the same with the same sentence.
public struct MetaTransaction: Hashable, Sendable {
    public var conditions: [MetaCondition]
    /// At most one of a key.
    public var changes: [MetaChange]

    public init(if conditions: [MetaCondition] = [], _ changes: [MetaChange]) {
        self.conditions = conditions
        self.changes = changes
    }

    public func check() throws(Failure) {
        try checkCount(conditions.count, Limits.metaTransactionKeysMax, "a transaction has", "conditions")
        try checkCount(changes.count, Limits.metaTransactionKeysMax, "a transaction has", "changes")
        for condition in conditions { try condition.key.check() }
        var bytes = 0
        var keys: Set<MetaKey> = []
        for change in changes {
            try change.key.check()
            let count = change.valueByteCount
            if count > Limits.metaValueBytesMax {
                throw Failure(
                    .invalidArgument,
                    "a value has at most \(Limits.metaValueBytesMax) bytes, that of key \(change.key) has \(count); cut it into several"
                )
            }
            guard keys.insert(change.key).inserted else {
                throw Failure(.invalidArgument, "a transaction changes a key once, this one changes \(change.key) twice")
            }
            bytes += change.key.bytes.count + count
        }
        if bytes > Limits.metaTransactionBytesMax {
            throw Failure(
                .invalidArgument,
                "keys and values of a transaction have at most \(Limits.metaTransactionBytesMax) bytes together, not \(bytes); make several"
            )
        }
    }
}

/// That a key still has a revision.
public struct MetaCondition: Hashable, Sendable {
    public var key: MetaKey
    /// `.none`: the key is absent.
    public var revision: MetaRevision

    public init(_ key: MetaKey, hasRevision revision: MetaRevision) {
        self.key = key
        self.revision = revision
    }

    public static func absent(_ key: MetaKey) -> MetaCondition { MetaCondition(key, hasRevision: .none) }

    /// That the key is as it was read.
    public static func unchanged(_ key: MetaKey, since value: MetaValue?) -> MetaCondition {
        MetaCondition(key, hasRevision: value?.revision ?? .none)
    }
}

public enum MetaChange: Hashable, Sendable {
    case put(MetaKey, [UInt8])
    case delete(MetaKey)

    public var key: MetaKey {
        switch self {
        case .put(let key, _), .delete(let key): key
        }
    }

    var valueByteCount: Int {
        switch self {
        case .put(_, let value): value.count
        case .delete: 0
        }
    }
}

public enum MetaOutcome: Hashable, Sendable {
    /// The revision of the store at which it was applied.
    case committed(MetaRevision)
    /// The first condition that did not hold is about this key; nothing has changed.
    case conflict(MetaKey)
}

/// The checks of the other calls' arguments.
public enum MetaArguments {
    public static func check(keys: [MetaKey]) throws(Failure) {
        try checkCount(keys.count, Limits.metaTransactionKeysMax, "one call reads", "keys")
        for key in keys { try key.check() }
    }

    public static func check(limit: Int) throws(Failure) {
        guard (1...Limits.metaPageEntriesMax).contains(limit) else {
            throw Failure(.invalidArgument, "a page of a listing has 1 to \(Limits.metaPageEntriesMax) entries, not \(limit)")
        }
    }
}

private func checkCount(_ count: Int, _ most: Int, _ who: String, _ what: String) throws(Failure) {
    if count > most { throw Failure(.invalidArgument, "\(who) at most \(most) \(what), not \(count); make several of it") }
}
