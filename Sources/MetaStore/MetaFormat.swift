import Base

/// The version of what a catalogue's keys and values mean, kept under a key of the store itself: an upgrade raises it in the transaction
/// that rewrites what has changed. How a store keeps its bytes is that store's own matter.
public enum MetaFormat {
    public static let version: UInt32 = 1
    public static let key: MetaKey = "format version"

    /// Makes an empty store a catalogue of this version; one that was begun and has nothing in it yet counts as empty. `name` is what
    /// messages call the store.
    public static func begin(_ store: any MetaStore, name: String) async throws(Failure) {
        let change = MetaChange.put(key, Array("\(version)".utf8))
        switch try await store.commit(MetaTransaction(if: [.absent(key)], [change])) {
        case .committed: return
        case .conflict:
            try await check(store, name: name)
            let page = try await store.list("", after: nil, limit: 1)
            guard page.entries.map(\.key) == [key], !page.hasMore else {
                throw Failure(.alreadyExists, "\(name) holds a catalogue already; open it, or remove it first")
            }
        }
    }

    /// Refuses what this program cannot read.
    public static func check(_ store: any MetaStore, name: String) async throws(Failure) {
        guard let value = try await store.read(key) else {
            throw Failure(.notFound, "\(name) holds no catalogue: making it was begun and not finished; remove it and make it again")
        }
        guard let found = UInt32(String(decoding: value.bytes, as: UTF8.self)), found > 0 else {
            throw Failure(.damaged, "\(name): the key '\(key)' holds no number; restore the catalogue from a backup")
        }
        guard found <= version else {
            throw Failure(.wrongVersion, "\(name) has format version \(found), this program knows \(version); use a newer one")
        }
    }
}
