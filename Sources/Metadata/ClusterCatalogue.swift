import Base
import Environment
import MetaStore
import Wire

/// The catalogue of a cluster: its volumes and its OSTs, in a store that several servers may share.
///
/// Every call is one transaction, or a few of which each is whole by itself. What a change is decided from is read in the same attempt, and
/// the transaction is conditional on it; nothing is remembered from one call to the next. An attempt that met a conflict begins anew, and
/// so does one whose outcome is not known (an answer of the store that was lost): all changes are such that who finds his own already made
/// is done. That is what the records' changes are written for.
///
/// It leaves to the server: who is alive, sessions of writers, and the objects on the OSTs.
public final class ClusterCatalogue: @unchecked Sendable {
    public let cluster: Identifier
    /// How often it was rebuilt from the disks, and more; OSTs refuse what comes from an older one.
    public let incarnation: UInt64
    let store: any MetaStore
    let world: any World
    private let operations: Operations
    /// The disk of the store has failed: it answers nothing more until it is opened anew.
    public private(set) var storeFailure: Failure?
    /// Whether the last call of the store had an answer.
    public private(set) var isReachable = true
    /// Whether other servers may serve the same catalogue.
    public var isShared: Bool { store.isShared }

    /// How long a call goes on trying. Beyond, its outcome is not known; who asked asks again.
    static let patience = Interval.seconds(10)
    private static let delayMin = Interval.milliseconds(2)
    private static let delayMax = Interval.milliseconds(500)

    private init(_ store: any MetaStore, _ world: any World, cluster: Identifier, incarnation: UInt64) {
        self.incarnation = incarnation
        self.store = store
        self.world = world
        self.cluster = cluster
        operations = Operations(world)
    }

    /// Makes an empty store of a catalogue (`MetaFormat`) that of a cluster. What it begins with is put before it says of which: one that
    /// was left half way is none.
    public static func create(
        in store: any MetaStore, _ world: any World, cluster: Identifier, incarnation: UInt64 = 1, contents: [MetaTransaction] = []
    ) async throws(Failure) -> ClusterCatalogue {
        for transaction in contents {
            guard case .committed = try await store.commit(transaction) else {
                throw Failure(.alreadyExists, "there is a catalogue already; name an empty place for this one")
            }
        }
        let record = ClusterRecord(cluster: cluster, createdMilliseconds: world.wallClockMilliseconds, incarnation: incarnation)
        let key = CatalogueKeys.cluster
        let transaction = MetaTransaction(if: [.absent(key)], [.put(key, record.value)])
        switch try await store.commit(transaction) {
        case .committed: return ClusterCatalogue(store, world, cluster: cluster, incarnation: incarnation)
        case .conflict:
            let other = try await open(store, world)
            guard other.cluster == cluster else {
                throw Failure(.alreadyExists, "this is the catalogue of cluster \(other.cluster) already")
            }
            return other
        }
    }

    public static func open(_ store: any MetaStore, _ world: any World) async throws(Failure) -> ClusterCatalogue {
        guard let value = try await store.read(CatalogueKeys.cluster) else {
            throw Failure(.notFound, "the catalogue does not say which cluster it is of: making it was not finished; make it again")
        }
        let record = try ClusterRecord(value, of: CatalogueKeys.cluster)
        return ClusterCatalogue(store, world, cluster: record.cluster, incarnation: record.incarnation)
    }

    /// What one attempt comes to.
    enum Step<Value> {
        /// There is nothing to change, perhaps because an attempt before has done it.
        case done(Value)
        case commit(MetaTransaction, Value)
    }

    /// Repeats the attempt until it is done or committed. It is given up with an error of its own, and with the store's when that cannot
    /// heal or does not within `patience`.
    func transact<Value>(_ attempt: () async throws(Failure) -> Step<Value>) async throws(Failure) -> Value {
        let end = world.now + ClusterCatalogue.patience
        var delay = ClusterCatalogue.delayMin
        while true {
            let obstacle: Failure
            do throws(Failure) {
                switch try await attempt() {
                case .done(let value):
                    isReachable = true
                    return value
                case .commit(let transaction, let value):
                    let outcome = try await store.commit(transaction)
                    isReachable = true
                    switch outcome {
                    case .committed: return value
                    case .conflict(let key):
                        world.mark("metadata: conflict")
                        obstacle = Failure(.overloaded, "others change '\(key)' of the catalogue all the time; try again")
                    }
                }
            } catch {
                if error.status == .diskFailed { storeFailure = error }
                guard error.isTransient else { throw error }
                isReachable = false
                world.mark("metadata: unknown outcome")
                obstacle = error
            }
            guard world.now < end else { throw obstacle }
            await operations.sleep(Interval(nanoseconds: world.random() % delay.nanoseconds))
            delay = min(Interval(nanoseconds: delay.nanoseconds * 2), ClusterCatalogue.delayMax)
        }
    }

    /// A call that changes nothing, repeated while the store is out of reach.
    func reading<Value>(_ body: () async throws(Failure) -> Value) async throws(Failure) -> Value {
        try await transact { () throws(Failure) in .done(try await body()) }
    }

    /// Reads as many keys as one likes, in several calls.
    func values(_ keys: [MetaKey]) async throws(Failure) -> [MetaValue?] {
        var values: [MetaValue?] = []
        while values.count < keys.count {
            let next = keys[values.count..<min(values.count + Limits.metaTransactionKeysMax, keys.count)]
            values += try await store.read(Array(next)).values
        }
        return values
    }
}

extension Failure {
    /// Of a call of the store: it may go well the next time.
    fileprivate var isTransient: Bool {
        switch status {
        case .unreachable, .deadlineExceeded: true
        case .ok, .invalidArgument, .malformed, .wrongVersion, .notFound, .alreadyExists, .busy, .outOfRange, .noSpace, .fenced,
            .staleSession, .staleMap, .checksumMismatch, .damaged, .diskFailed, .overloaded, .closed, .unsupported, .wrongCluster,
            .readOnly, .powerLost, .outOfMemory, .permissionDenied, .unavailable, .wrongStore:
            false
        }
    }
}
