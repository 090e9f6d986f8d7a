import Base
import Blocking
import CSystem
import Environment
import MetaStore

/// The catalogue of several metadata servers: in etcd, asked over HTTP by a thread of its own. The reactor only posts calls to it and is
/// woken when they have ended; they are served one after the other.
///
/// Belongs to one world, and is used from its tasks. What is asked is the matter of `EtcdMessages`, of whom that of `EtcdClient`.
public final class EtcdMetaStore: MetaStore, @unchecked Sendable {
    public let address: EtcdAddress
    private let world: any World
    private let thread: BlockingThread
    private let client: EtcdClient
    private let messages: EtcdMessages
    private let calls = MetaCalls()
    private var isReachable = true

    public var isShared: Bool { true }

    private init(_ address: EtcdAddress, _ trust: EtcdTrust, _ world: any World) throws(Failure) {
        self.address = address
        self.world = world
        messages = EtcdMessages(name: address.name)
        thread = try BlockingThread()
        client = try EtcdClient(address, messages, trust)
    }

    /// Makes a catalogue under a name under which there is none, and opens it.
    public static func create(
        _ address: EtcdAddress, _ trust: EtcdTrust = EtcdTrust(), in world: any World
    ) async throws(Failure) -> EtcdMetaStore {
        let store = try EtcdMetaStore(address, trust, world)
        do throws(Failure) {
            try await MetaFormat.begin(store, name: "\(address)")
            world.log(.info, "catalogue made", [LogField("address", address)])
            return store
        } catch {
            await store.close()
            throw error
        }
    }

    /// Refuses a catalogue that a newer program has made.
    public static func open(
        _ address: EtcdAddress, _ trust: EtcdTrust = EtcdTrust(), in world: any World
    ) async throws(Failure) -> EtcdMetaStore {
        let store = try EtcdMetaStore(address, trust, world)
        do throws(Failure) {
            guard try await store.read(MetaFormat.key) != nil else {
                throw Failure(.notFound, "there is no catalogue at \(address); make it first, with rawstor-mdt init \(address)")
            }
            try await MetaFormat.check(store, name: "\(address)")
            world.log(.info, "catalogue opened", [LogField("address", address)])
            return store
        } catch {
            await store.close()
            throw error
        }
    }

    public func read(_ keys: [MetaKey]) async throws(Failure) -> MetaSnapshot {
        try MetaArguments.check(keys: keys)
        let messages = messages
        return try await call { client, end throws(Failure) in
            let answer = try client.read("txn", messages.read(keys), endsBy: end)
            return (try readable { () throws(Failure) in try messages.snapshot(answer.json, of: keys) }, answer.moved)
        }
    }

    public func list(_ prefix: MetaKey, after: MetaKey?, limit: Int) async throws(Failure) -> MetaPage {
        try MetaArguments.check(limit: limit)
        let messages = messages
        let asked = MetaKeyRange(prefix: prefix, after: after)
        return try await call { client, end throws(Failure) in
            var range = asked
            var page: MetaPage?
            var moved: String?
            var bytes = 0
            // Values may be large: a few, and then as many as fit by what those were.
            var piece = min(16, limit + 1)
            while true {
                let answer = try client.read("range", messages.list(range, limit: piece, at: page?.revision ?? .none), endsBy: end)
                moved = answer.moved ?? moved
                let (revision, entries, hasMore) = try readable { () throws(Failure) in try messages.entries(answer.json, of: range) }
                var whole = page ?? MetaPage(revision)
                for entry in entries {
                    guard whole.append(entry, limit: limit) else { return (whole, moved) }
                    bytes += entry.key.bytes.count + entry.value.bytes.count
                    range.first = MetaKey(entry.key.bytes + [0])
                }
                page = whole
                if !hasMore || entries.isEmpty { return (whole, moved) }
                // One more than the page takes tells whether there are more.
                let room = max(Limits.metaPageBytesMax - bytes, 0)
                piece = min(max(room / max(bytes / whole.entries.count, 1), 1), limit + 1 - whole.entries.count)
            }
        }
    }

    public func commit(_ transaction: MetaTransaction) async throws(Failure) -> MetaOutcome {
        try transaction.check()
        let messages = messages
        return try await call { client, end throws(Failure) in
            let body = messages.commit(transaction)
            let answer =
                transaction.changes.isEmpty
                ? try client.read("txn", body, endsBy: end) : try client.change(body, endsBy: end)
            return (try readable { () throws(Failure) in try messages.outcome(answer.json, of: transaction) }, answer.moved)
        }
    }

    public func close() async { _ = await calls.close() }

    private func call<Value: Sendable>(
        _ body: @escaping @Sendable (EtcdClient, UInt64) throws(Failure) -> (Value, moved: String?)
    ) async throws(Failure) -> Value {
        try calls.begin()
        defer { calls.end() }
        let client = client
        // From now on: also whoever waits behind others, each of which waits for servers that are silent, does not wait for ever.
        let end = rs_monotonic_nanoseconds() + Limits.etcdCallTimeout.nanoseconds
        let outcome = await thread.run { () -> Result<(Value, moved: String?), Failure> in
            do throws(Failure) { return .success(try body(client, end)) } catch { return .failure(error) }
        }
        note(outcome)
        return try outcome.get().0
    }

    private func note<Value>(_ outcome: Result<(Value, moved: String?), Failure>) {
        switch outcome {
        case .success((_, let moved)):
            if !isReachable { world.log(.info, "etcd answers again", [LogField("address", address)]) }
            isReachable = true
            if let moved { world.log(.warning, "another server of etcd is asked", [LogField("reason", moved)]) }
        case .failure(let failure):
            switch failure.status {
            case .unreachable:
                if isReachable { world.log(.error, "etcd does not answer", [LogField("reason", failure.detail)]) }
                isReachable = false
            case .damaged, .diskFailed, .noSpace, .permissionDenied:
                world.log(.error, "catalogue failed", [LogField("address", address), LogField("error", failure.detail)])
            case _: break
            }
        }
    }
}

/// An answer that cannot be read leaves open what has happened, whatever it was an answer to.
private func readable<Value>(_ body: () throws(Failure) -> Value) throws(Failure) -> Value {
    do throws(Failure) { return try body() } catch {
        throw error.status == .malformed ? Failure(.unreachable, "etcd's answer cannot be read: \(error.detail)") : error
    }
}
