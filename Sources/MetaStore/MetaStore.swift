import Base

/// Where a metadata server keeps its catalogue: keys and values of bytes, in the order of the keys. It knows nothing of what they mean.
///
/// Whoever implements it (a file of this machine, etcd, memory for the simulator) keeps these rules; Tests/MetaStoreTests holds each
/// implementation against them.
///
/// - **One history.** Each call takes effect at one instant between its beginning and its end, for all users of the store alike: what a
///   call returned, every later one sees.
/// - **Snapshot.** The values of one `read`, and the entries of one page, are of one and the same revision, which comes with them. Two
///   calls are two snapshots.
/// - **Order.** Keys are compared byte by byte, without a sign; a key comes before those it is the beginning of.
/// - **All or nothing.** The changes of a transaction are applied together if all its conditions hold at that instant, and none of them
///   otherwise.
/// - **Conflict names the key.** Of conditions that do not hold, the first one's key is reported. Nothing has changed then.
/// - **Committed means durable.** What `commit` has reported survives the end of any process, and the loss of power.
/// - **Revisions grow.** A transaction with changes raises the revision of the store, and each key that it puts gets that revision. A
///   revision never comes again, not for a key that was deleted and put anew, and not after a restart. They may skip numbers.
/// - **Absent is a state.** A key that is absent has the revision `.none`, and a condition can ask for it. Deleting it changes nothing but
///   the revision of the store, if that.
/// - **Unknown outcome.** A commit that throws an error with `leavesCommitOpen` may have been applied, or still be: a server goes on with
///   what it has received. Whoever must know tries again with the same conditions, of which one is about a key that both attempts put:
///   either that is committed, and the first attempt is excluded for ever, or it is a conflict, and a read tells whose change it was. After
///   any other error nothing has changed.
/// - **Bounds.** Keys have 1 to `Limits.metaKeyBytesMax` bytes, values 0 to `Limits.metaValueBytesMax`; calls are bounded as well. Beyond
///   it is `.invalidArgument`, with a sentence, before anything is done.
/// - **Damage is an error.** What cannot be read is `.damaged` with the place and what to do, never an absent key. One thing is beyond
///   SQLite: rot at the end of its log is taken for the end, and the last transactions are gone. The map numbers that OSTs keep tell.
/// - **Format.** The key `MetaFormat.key` tells how the rest is to be read; a store of a newer version is refused when it is opened.
/// - **Close.** `close` returns when all calls under way have ended; those that come later end with `.closed`.
///
/// The same rules hold for etcd: a revision is its `mod_revision`, conditions are compares of it, and its limits are above ours.
public protocol MetaStore: AnyObject, Sendable {
    /// Whether other processes may have it open too, as with a server.
    var isShared: Bool { get }
    /// The values of these keys, in their order; `nil` for one that is absent.
    func read(_ keys: [MetaKey]) async throws(Failure) -> MetaSnapshot
    /// Keys that begin with `prefix` (empty: all) and come behind `after`, in order. A page ends at `limit`, or before when it is large.
    func list(_ prefix: MetaKey, after: MetaKey?, limit: Int) async throws(Failure) -> MetaPage
    func commit(_ transaction: MetaTransaction) async throws(Failure) -> MetaOutcome
    func close() async
}

extension MetaStore {
    public func read(_ key: MetaKey) async throws(Failure) -> MetaValue? { try await read([key]).values[0] }
}

extension Failure {
    /// Whether a commit that threw this may have been applied, or still be.
    public var leavesCommitOpen: Bool {
        switch status {
        case .unreachable, .deadlineExceeded, .diskFailed: true
        case .ok, .invalidArgument, .malformed, .wrongVersion, .notFound, .alreadyExists, .busy, .outOfRange, .noSpace, .fenced,
            .staleSession, .staleMap, .checksumMismatch, .damaged, .overloaded, .closed, .unsupported, .wrongCluster, .readOnly, .powerLost,
            .outOfMemory, .permissionDenied, .unavailable, .wrongStore:
            false
        }
    }
}

/// A value, and the revision of the transaction that put it.
public struct MetaValue: Hashable, Sendable {
    public var bytes: [UInt8]
    public var revision: MetaRevision

    public init(_ bytes: [UInt8], _ revision: MetaRevision) {
        self.bytes = bytes
        self.revision = revision
    }
}

public struct MetaSnapshot: Hashable, Sendable {
    /// Of the store, when this was read.
    public var revision: MetaRevision
    public var values: [MetaValue?]

    public init(_ revision: MetaRevision, _ values: [MetaValue?]) {
        self.revision = revision
        self.values = values
    }
}

public struct MetaEntry: Hashable, Sendable {
    public var key: MetaKey
    public var value: MetaValue

    public init(_ key: MetaKey, _ value: MetaValue) {
        self.key = key
        self.value = value
    }

    var byteCount: Int { key.bytes.count + value.bytes.count }
}

/// A piece of a listing. The next one is asked for with the last key as `after`.
public struct MetaPage: Hashable, Sendable {
    /// Of the store, when this was read. A listing whose pages differ in it was changed meanwhile.
    public var revision: MetaRevision
    public private(set) var entries: [MetaEntry] = []
    /// Whether there are keys behind the last one.
    public private(set) var hasMore = false

    private var bytes = 0

    public init(_ revision: MetaRevision) { self.revision = revision }

    /// Takes the next entry; false when the page was full before it.
    public mutating func append(_ entry: MetaEntry, limit: Int) -> Bool {
        let isFull = entries.count == limit || (!entries.isEmpty && bytes + entry.byteCount > Limits.metaPageBytesMax)
        if isFull {
            hasMore = true
            return false
        }
        bytes += entry.byteCount
        entries.append(entry)
        return true
    }
}
