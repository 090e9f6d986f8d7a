import Base
import Environment

/// What a store in memory contains. It belongs to whoever plays the machine, so that it outlives the process that has it open: what was
/// applied is kept through kills and losses of power.
///
/// All of it is touched by one thread, that of the simulated universe.
public final class MemoryMetaContents {
    /// Calls that end with `.unreachable`, per million. What a test does with certainty is a million.
    public struct Faults: Hashable, Sendable {
        /// Nothing has happened.
        public var before: UInt32 = 0
        /// It has happened.
        public var after: UInt32 = 0
        /// It happens, of commits, some time after its caller has the error, as with a server that has the request in its queue.
        public var late: UInt32 = 0

        public init() {}
    }

    public var faults = Faults()
    /// How long each way takes, there and back.
    public var delayMin = Interval.microseconds(20)
    public var delayMax = Interval.milliseconds(2)
    /// The process whose calls do not get through for now.
    public var heldUp: (any World)?
    /// Whether several processes may have it open, as with a server; otherwise it is like a file of one.
    public let isShared: Bool

    fileprivate var table = MetaTable()
    fileprivate var owner: MemoryMetaStore?

    public init(isShared: Bool = false) { self.isShared = isShared }

    /// What whoever plays the machine sees without asking.
    public var revision: MetaRevision { table.revision }
    public func value(_ key: MetaKey) -> MetaValue? { table.read([key]).values[0] }

    /// The process that has it open has been killed, or its machine has lost power.
    public func processEnded() { owner = nil }
}

/// The store of the simulator: takes virtual time, and fails when told to.
///
/// A call goes there, takes effect in one stretch without `await`, and comes back; a process that is killed on either way never knows.
public final class MemoryMetaStore: MetaStore, @unchecked Sendable {
    private let contents: MemoryMetaContents
    private let world: any World
    private let operations: Operations
    private let calls = MetaCalls()

    public var isShared: Bool { contents.isShared }

    private init(_ contents: MemoryMetaContents, _ world: any World) throws(Failure) {
        if contents.owner != nil { throw Failure(.busy, "the catalogue in memory is open in another process; end that first") }
        self.contents = contents
        self.world = world
        operations = Operations(world)
        if !contents.isShared { contents.owner = self }
    }

    /// Makes a catalogue of empty contents, and opens it.
    public static func create(_ contents: MemoryMetaContents, in world: any World) async throws(Failure) -> MemoryMetaStore {
        try await make(contents, world) { store throws(Failure) in try await MetaFormat.begin(store, name: "the catalogue in memory") }
    }

    public static func open(_ contents: MemoryMetaContents, in world: any World) async throws(Failure) -> MemoryMetaStore {
        try await make(contents, world) { store throws(Failure) in try await MetaFormat.check(store, name: "the catalogue in memory") }
    }

    private static func make(
        _ contents: MemoryMetaContents, _ world: any World, _ body: (MemoryMetaStore) async throws(Failure) -> Void
    ) async throws(Failure) -> MemoryMetaStore {
        let store = try MemoryMetaStore(contents, world)
        do throws(Failure) {
            try await body(store)
            return store
        } catch {
            await store.close()
            throw error
        }
    }

    public func read(_ keys: [MetaKey]) async throws(Failure) -> MetaSnapshot {
        try MetaArguments.check(keys: keys)
        return try await call(mayBeLate: false) { contents in contents.table.read(keys) }
    }

    public func list(_ prefix: MetaKey, after: MetaKey?, limit: Int) async throws(Failure) -> MetaPage {
        try MetaArguments.check(limit: limit)
        return try await call(mayBeLate: false) { contents in
            contents.table.list(MetaKeyRange(prefix: prefix, after: after), limit: limit)
        }
    }

    public func commit(_ transaction: MetaTransaction) async throws(Failure) -> MetaOutcome {
        try transaction.check()
        return try await call(mayBeLate: true) { contents in contents.table.commit(transaction) }
    }

    public func close() async {
        guard await calls.close() else { return }
        operations.close()
        if contents.owner === self { contents.owner = nil }
    }

    private func call<Value>(
        mayBeLate: Bool, _ body: @escaping (MemoryMetaContents) -> Value
    ) async throws(Failure) -> Value {
        try calls.begin()
        defer { calls.end() }
        await travel()
        if strikes(contents.faults.before) {
            await travel()
            throw unreachable("it has done nothing")
        }
        if mayBeLate, strikes(contents.faults.late) {
            applyLater { contents in _ = body(contents) }
            throw unreachable("it may yet do it")
        }
        let value = body(contents)
        let isLost = strikes(contents.faults.after)
        await travel()
        if isLost { throw unreachable("it has done it") }
        return value
    }

    private func applyLater(_ body: @escaping (MemoryMetaContents) -> Void) {
        calls.join()
        world.spawn { [self] in
            await travel()
            world.mark("meta store: late commit")
            body(contents)
            calls.end()
        }
    }

    /// What happened is for the log of a test; a caller must not decide by it.
    private func unreachable(_ truth: String) -> Failure {
        Failure(.unreachable, "the catalogue in memory cannot be reached (\(truth))")
    }

    private func strikes(_ perMillion: UInt32) -> Bool { perMillion > 0 && world.random() % 1_000_000 < UInt64(perMillion) }

    private func travel() async {
        while contents.heldUp === world { await operations.sleep(contents.delayMax) }
        let span = contents.delayMax.nanoseconds - contents.delayMin.nanoseconds
        await operations.sleep(Interval(nanoseconds: contents.delayMin.nanoseconds + world.random() % (span + 1)))
    }
}
