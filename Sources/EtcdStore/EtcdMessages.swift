import Base
import MetaStore

/// What is asked of etcd and what it answers, in the JSON of its gateway (`/v3/kv/range`, `/v3/kv/txn`). Pure.
///
/// A value in etcd is ours with a CRC32C of key and value behind it (little-endian): etcd checks its own log, not what it keeps, and
/// nobody else is to write there.
struct EtcdMessages {
    /// In front of every key: the catalogue's name and a slash.
    let prefix: [UInt8]

    init(name: String) { prefix = Array(name.utf8) + [UInt8(ascii: "/")] }

    // Requests

    func read(_ keys: [MetaKey]) -> [UInt8] {
        var text = EtcdText()
        text.append("{\"success\":[")
        // Of no key at all the revision is asked for; a transaction of nothing would be answered from what one server happens to know.
        let asked = keys.isEmpty ? [MetaFormat.key] : keys
        text.append(list: asked) { text, key in
            text.append("{\"request_range\":{")
            text.append("key", base64: prefix + key.bytes)
            text.append(keys.isEmpty ? ",\"keys_only\":true}}" : "}}")
        }
        text.append("]}")
        return text.bytes
    }

    /// `revision`: that of the first piece of a page, or `.none` for the newest.
    func list(_ range: MetaKeyRange, limit: Int, at revision: MetaRevision) -> [UInt8] {
        var text = EtcdText()
        text.append("{")
        text.append("key", base64: prefix + range.first.bytes)
        text.append(",")
        text.append("range_end", base64: prefix + range.end.bytes)
        text.append(",\"limit\":\"\(limit)\"")
        if revision != .none { text.append(",\"revision\":\"\(revision)\"") }
        text.append("}")
        return text.bytes
    }

    /// Where conditions do not hold, their keys are read in the same transaction, for the first that does not.
    func commit(_ transaction: MetaTransaction) -> [UInt8] {
        var text = EtcdText()
        text.append("{\"compare\":[")
        text.append(list: transaction.conditions) { text, condition in
            text.append("{\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"\(condition.revision)\",")
            text.append("key", base64: prefix + condition.key.bytes)
            text.append("}")
        }
        text.append("],\"success\":[")
        text.append(list: transaction.changes) { text, change in
            switch change {
            case .put(let key, let value):
                text.append("{\"request_put\":{")
                text.append("key", base64: prefix + key.bytes)
                text.append(",")
                text.append("value", base64: EtcdMessages.sealed(value, of: key))
                text.append("}}")
            case .delete(let key):
                text.append("{\"request_delete_range\":{")
                text.append("key", base64: prefix + key.bytes)
                text.append("}}")
            }
        }
        if transaction.changes.isEmpty { append(lookAtRevision: &text) }
        text.append("],\"failure\":[")
        text.append(list: transaction.conditions) { text, condition in
            text.append("{\"request_range\":{\"keys_only\":true,")
            text.append("key", base64: prefix + condition.key.bytes)
            text.append("}}")
        }
        text.append("]}")
        return text.bytes
    }

    /// A transaction that changes nothing is one that all agree on only if it reads something.
    private func append(lookAtRevision text: inout EtcdText) {
        text.append("{\"request_range\":{\"keys_only\":true,")
        text.append("key", base64: prefix + MetaFormat.key.bytes)
        text.append("}}")
    }

    // Answers

    struct Header: Hashable {
        /// Of etcd, not of ours.
        var cluster: UInt64
        var revision: MetaRevision
    }

    func header(of answer: JSON) throws(Failure) -> Header {
        guard let header = answer["header"] else { throw EtcdMessages.wrong("has no header") }
        let revision = try EtcdMessages.number(header["revision"], "revision")
        guard revision > 0 else { throw EtcdMessages.wrong("has no revision") }
        return Header(cluster: try EtcdMessages.number(header["cluster_id"], "cluster id"), revision: MetaRevision(revision))
    }

    func snapshot(_ answer: JSON, of keys: [MetaKey]) throws(Failure) -> MetaSnapshot {
        let header = try header(of: answer)
        guard answer["succeeded"] == .bool(true) else { throw EtcdMessages.wrong("says that a read without conditions did not succeed") }
        if keys.isEmpty { return MetaSnapshot(header.revision, []) }
        return MetaSnapshot(
            header.revision, try ranges(answer, keys).map { entry throws(Failure) in try entry.map(EtcdMessages.opened)?.value })
    }

    /// The entries of a piece of a listing, and whether there are more.
    func entries(_ answer: JSON, of range: MetaKeyRange) throws(Failure) -> (revision: MetaRevision, entries: [MetaEntry], hasMore: Bool) {
        let header = try header(of: answer)
        var entries: [MetaEntry] = []
        for pair in try EtcdMessages.elements(answer["kvs"], "kvs") {
            let entry = try entry(pair, header.revision)
            guard entry.key >= range.first, entry.key < range.end, entries.last.map({ $0.key < entry.key }) ?? true else {
                throw EtcdMessages.wrong("lists '\(entry.key)' where it does not belong")
            }
            entries.append(try EtcdMessages.opened(entry))
        }
        return (header.revision, entries, answer["more"] == .bool(true))
    }

    func outcome(_ answer: JSON, of transaction: MetaTransaction) throws(Failure) -> MetaOutcome {
        let header = try header(of: answer)
        switch answer["succeeded"] ?? .bool(false) {
        case .bool(true): return .committed(header.revision)
        case .bool(false):
            let found = try ranges(answer, transaction.conditions.map(\.key))
            for (condition, entry) in zip(transaction.conditions, found)
            where entry?.value.revision ?? .none != condition.revision {
                return .conflict(condition.key)
            }
            throw EtcdMessages.wrong("says that a condition does not hold, and all do")
        case .null, .number, .string, .array, .object: throw EtcdMessages.wrong("does not say whether it succeeded")
        }
    }

    /// What a transaction has read of each of these keys, as it is in etcd.
    private func ranges(_ answer: JSON, _ keys: [MetaKey]) throws(Failure) -> [MetaEntry?] {
        let revision = try header(of: answer).revision
        let responses = try EtcdMessages.elements(answer["responses"], "responses")
        guard responses.count == keys.count else {
            throw EtcdMessages.wrong("is about \(responses.count) keys and not \(keys.count)")
        }
        var entries: [MetaEntry?] = []
        for (response, key) in zip(responses, keys) {
            guard let range = response["response_range"] else { throw EtcdMessages.wrong("has no range") }
            let pairs = try EtcdMessages.elements(range["kvs"], "kvs")
            guard let pair = pairs.first else {
                entries.append(nil)
                continue
            }
            let entry = try entry(pair, revision)
            guard pairs.count == 1, entry.key == key else { throw EtcdMessages.wrong("is about '\(entry.key)' and not '\(key)'") }
            entries.append(entry)
        }
        return entries
    }

    /// With its value as it is in etcd.
    private func entry(_ pair: JSON, _ revision: MetaRevision) throws(Failure) -> MetaEntry {
        let key = try EtcdMessages.bytes(pair["key"], "key")
        guard key.starts(with: prefix) else { throw EtcdMessages.wrong("has the key '\(MetaKey(key))', which was not asked for") }
        let number = try EtcdMessages.number(pair["mod_revision"], "mod_revision")
        guard number > 0, number <= revision.number else { throw EtcdMessages.wrong("has revision \(number) of a key at \(revision)") }
        let value = pair["value"] == nil ? [] : try EtcdMessages.bytes(pair["value"], "value")
        return MetaEntry(MetaKey(Array(key.dropFirst(prefix.count))), MetaValue(value, MetaRevision(number)))
    }

    // Values

    private static func sealed(_ value: [UInt8], of key: MetaKey) -> [UInt8] {
        let check = check(value[...], of: key)
        return value + (0..<4).map { UInt8(truncatingIfNeeded: check >> ($0 * 8)) }
    }

    private static func opened(_ entry: MetaEntry) throws(Failure) -> MetaEntry {
        let value = entry.value.bytes.dropLast(4)
        let check = entry.value.bytes.suffix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard entry.value.bytes.count >= 4, check == self.check(value, of: entry.key) else {
            throw Failure(
                .damaged,
                "the entry of key '\(entry.key)' in etcd does not match its check; stop all metadata servers and restore the newest "
                    + "backup of etcd, or rebuild the catalogue from the OSTs")
        }
        return MetaEntry(entry.key, MetaValue(Array(value), entry.value.revision))
    }

    private static func check(_ value: ArraySlice<UInt8>, of key: MetaKey) -> UInt32 {
        let sum = key.bytes.withUnsafeBytes { Checksum.of($0) }
        return value.withUnsafeBytes { Checksum.of($0, continuing: sum) }
    }

    // Fields

    static func wrong(_ what: String) -> Failure { Failure(.malformed, "the answer \(what)") }

    private static func elements(_ value: JSON?, _ name: String) throws(Failure) -> [JSON] {
        guard let value else { return [] }
        guard case .array(let elements) = value else { throw wrong("has no list of '\(name)'") }
        return elements
    }

    private static func bytes(_ value: JSON?, _ name: String) throws(Failure) -> [UInt8] {
        guard case .string(let text)? = value, let bytes = Base64.decode(text) else { throw wrong("has no bytes for '\(name)'") }
        return bytes
    }

    /// Whole and not negative; what is zero is left out by etcd.
    private static func number(_ value: JSON?, _ name: String) throws(Failure) -> UInt64 {
        switch value {
        case nil: return 0
        case .string(let text)?: if let number = UInt64(String(decoding: text, as: UTF8.self)) { return number }
        case .number(let text)?: if let number = UInt64(text) { return number }
        case .null?, .bool?, .array?, .object?: break
        }
        throw wrong("has no number for '\(name)'")
    }
}

/// A text of JSON that grows.
private struct EtcdText {
    private(set) var bytes: [UInt8] = []

    mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    mutating func append(_ name: String, base64 value: [UInt8]) {
        append("\"\(name)\":\"")
        Base64.append(value, to: &bytes)
        append("\"")
    }

    mutating func append<Element>(list elements: [Element], _ body: (inout EtcdText, Element) -> Void) {
        for (index, element) in elements.enumerated() {
            if index > 0 { append(",") }
            body(&self, element)
        }
    }
}
