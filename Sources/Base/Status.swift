/// Everything that can be wrong with a request, as it travels on the wire and becomes an errno at the C interface.
///
/// One closed list for all layers: a status is never invented on the way. The raw values are part of the wire format.
public enum Status: UInt16, Sendable, Hashable, CaseIterable {
    case ok = 0
    /// An argument that can never be right: a bad name, an unaligned offset, a count of zero.
    case invalidArgument = 1
    /// The frame or record contradicts itself; the connection that carried it is closed.
    case malformed = 2
    /// The peer speaks a protocol version that this side does not.
    case wrongVersion = 3
    case notFound = 4
    case alreadyExists = 5
    /// The object is open elsewhere.
    case busy = 6
    /// The range ends beyond the object.
    case outOfRange = 7
    case noSpace = 8
    /// A writer of a newer generation has opened the object.
    case fenced = 9
    /// A newer session of the same writer has replaced this one.
    case staleSession = 10
    /// The request carries an older map number than the store has seen.
    case staleMap = 11
    /// The payload does not match the checks that came with it: nothing was written.
    case checksumMismatch = 12
    /// A stored block does not match its check. EIO until it is overwritten.
    case damaged = 13
    /// The disk failed. What was acknowledged and flushed is safe; the store reloads.
    case diskFailed = 14
    /// Some limit of the daemon is reached; try again later.
    case overloaded = 15
    case deadlineExceeded = 16
    /// No connection could be had in time.
    case unreachable = 17
    /// The session or volume has been closed.
    case closed = 18
    /// Known, and not supported by this side.
    case unsupported = 19
    /// The store belongs to another cluster.
    case wrongCluster = 20
    case readOnly = 21
    /// Acknowledged and unflushed writes may be gone: the store lost power since they were taken.
    case powerLost = 22
    /// No memory or slot left on this side.
    case outOfMemory = 23
    case permissionDenied = 24
    /// Members that are needed are out of reach, and none of them can be done without.
    case unavailable = 25
    /// Another disk than expected: an old copy of it, or a second one with its identity.
    case wrongStore = 26

    /// A sentence a user can act on, without the name of the thing (the caller knows that).
    public var sentence: String {
        switch self {
        case .ok: "no error"
        case .invalidArgument: "the argument is not valid"
        case .malformed: "the message contradicts itself"
        case .wrongVersion: "the other side speaks another protocol version; update the older one"
        case .notFound: "there is no such volume"
        case .alreadyExists: "a volume of this name exists already"
        case .busy: "the volume is open elsewhere; close it there first"
        case .outOfRange: "the range ends beyond the volume"
        case .noSpace: "the store is full; remove or shrink a volume, or add a disk"
        case .fenced: "another writer has opened the volume"
        case .staleSession: "a newer connection of the same writer has replaced this one"
        case .staleMap: "the map of the volume has changed"
        case .checksumMismatch: "the data was altered on its way"
        case .damaged: "a stored block is damaged; overwrite it or restore it from a copy"
        case .diskFailed: "the disk failed"
        case .overloaded: "a limit of the daemon is reached; try again later"
        case .deadlineExceeded: "the deadline has passed"
        case .unreachable: "the daemon cannot be reached"
        case .closed: "the volume is closed"
        case .unsupported: "this is not supported"
        case .wrongCluster: "the store belongs to another cluster"
        case .readOnly: "the volume is open for reading only"
        case .powerLost: "the store lost power; writes since the last flush may be gone"
        case .outOfMemory: "out of memory or request slots"
        case .permissionDenied: "permission denied"
        case .unavailable: "fewer up-to-date copies can be reached than are needed; bring an OST back"
        case .wrongStore: "the disk is not the one that is expected here: an old copy of it, or a second one of the same identity"
        }
    }

    /// The errno a C caller gets.
    public var errno: Int32 {
        switch self {
        case .ok: 0
        case .invalidArgument, .outOfRange: 22  // EINVAL
        case .malformed, .wrongVersion: 71  // EPROTO
        case .notFound: 2  // ENOENT
        case .alreadyExists: 17  // EEXIST
        case .busy: 16  // EBUSY
        case .noSpace: 28  // ENOSPC
        case .fenced, .staleSession, .staleMap: 116  // ESTALE
        case .checksumMismatch, .damaged, .diskFailed, .powerLost, .unavailable: 5  // EIO
        case .overloaded: 11  // EAGAIN
        case .deadlineExceeded: 110  // ETIMEDOUT
        case .unreachable: 111  // ECONNREFUSED
        case .closed: 9  // EBADF
        case .unsupported: 95  // EOPNOTSUPP
        case .wrongCluster, .wrongStore: 18  // EXDEV
        case .readOnly: 30  // EROFS
        case .outOfMemory: 12  // ENOMEM
        case .permissionDenied: 13  // EACCES
        }
    }
}

/// An error with its sentence: the status decides what happens, the detail names the thing and what to do next.
public struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
    public var status: Status
    public var detail: String

    public init(_ status: Status, _ detail: String) {
        self.status = status
        self.detail = detail
    }

    public init(_ status: Status) { self.init(status, status.sentence) }

    public var description: String { detail }
}
