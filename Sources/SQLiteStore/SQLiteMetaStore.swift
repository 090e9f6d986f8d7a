import Base
import Blocking
import Environment
import MetaStore

/// The catalogue of a metadata server that is alone: a file of this machine, kept by SQLite on a thread of its own. The reactor only posts
/// calls to it and is woken when they have ended; they are served one after the other, which is what makes each of them atomic.
///
/// Belongs to one world, and is used from its tasks. What is in the file is the matter of `CatalogueFile`.
public final class SQLiteMetaStore: MetaStore, @unchecked Sendable {
    public let path: String
    private let world: any World
    private let thread: BlockingThread
    private let file: CatalogueFile
    private let calls = MetaCalls()

    public var isShared: Bool { false }

    private init(_ path: String, _ world: any World) throws(Failure) {
        self.path = path
        self.world = world
        thread = try BlockingThread()
        file = CatalogueFile(path)
    }

    /// Who lets go of it without closing it leaves the file to be closed soon, behind what is under way.
    deinit {
        let file = file
        thread.post { file.close() }
    }

    /// Makes a catalogue in a file that is not there, or empty, and opens it.
    public static func create(_ path: String, in world: any World) async throws(Failure) -> SQLiteMetaStore {
        try await make(path, world, create: true) { store throws(Failure) in try await MetaFormat.begin(store, name: path) }
    }

    /// Refuses a file that another process has open, that is damaged, or that a newer program has made.
    public static func open(_ path: String, in world: any World) async throws(Failure) -> SQLiteMetaStore {
        try await make(path, world, create: false) { store throws(Failure) in try await MetaFormat.check(store, name: path) }
    }

    private static func make(
        _ path: String, _ world: any World, create: Bool, _ body: (SQLiteMetaStore) async throws(Failure) -> Void
    ) async throws(Failure) -> SQLiteMetaStore {
        let store = try SQLiteMetaStore(path, world)
        do throws(Failure) {
            let count = try await store.call { file throws(Failure) in
                try file.open(create: create)
                return file.entryCount
            }
            try await body(store)
            world.log(.info, create ? "catalogue made" : "catalogue opened", [LogField("path", path), LogField("entries", count)])
            return store
        } catch {
            await store.close()
            throw error
        }
    }

    public func read(_ keys: [MetaKey]) async throws(Failure) -> MetaSnapshot {
        try MetaArguments.check(keys: keys)
        return try await call { file throws(Failure) in try file.read(keys) }
    }

    public func list(_ prefix: MetaKey, after: MetaKey?, limit: Int) async throws(Failure) -> MetaPage {
        try MetaArguments.check(limit: limit)
        let range = MetaKeyRange(prefix: prefix, after: after)
        return try await call { file throws(Failure) in try file.list(range, limit: limit) }
    }

    public func commit(_ transaction: MetaTransaction) async throws(Failure) -> MetaOutcome {
        try transaction.check()
        return try await call { file throws(Failure) in try file.commit(transaction) }
    }

    /// The lock of the file is given back when this returns.
    public func close() async {
        _ = await calls.close()
        let file = file
        await thread.run { file.close() }
    }

    private func call<Value: Sendable>(
        _ body: @escaping @Sendable (CatalogueFile) throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        try calls.begin()
        defer { calls.end() }
        let file = file
        let outcome = await thread.run { () -> Result<Value, Failure> in
            do throws(Failure) { return .success(try body(file)) } catch { return .failure(error) }
        }
        if case .failure(let failure) = outcome, failure.status == .damaged || failure.status == .diskFailed {
            world.log(.error, "catalogue failed", [LogField("path", path), LogField("error", failure.detail)])
        }
        return try outcome.get()
    }
}
