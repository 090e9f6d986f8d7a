import Base
import Wire

/// What a reply means for the request. One total table, so that a status added to the list must be decided here.
enum Verdict {
    case done
    /// Send it again at once.
    case again
    /// A read: ask another member.
    case elsewhere
    /// Send it again a little later.
    case later
    /// The same, and find out the map meanwhile.
    case refreshMap
    /// Nothing is known of the outcome: a new session makes it definite, and the request is sent again there.
    case reconnect
    /// As when the deadline passed on this side.
    case expired
    /// The volume is lost to this writer.
    case fenced
    /// It has not happened and will not; the user gets the status.
    case failed

    /// A write is copied after the first mismatch, since a guest may change its buffer in flight. Further ones are real damage on the way.
    static let writeMismatchesMax = 3
    static let readMismatchesMax = 1

    /// `isAlone`: nobody else has the blocks.
    init(_ status: Status, _ opcode: Opcode, mismatches: UInt8, isAlone: Bool) {
        let changesBlocks = opcode.changesBlocks
        let readFails: Verdict = isAlone || opcode != .read ? .failed : .elsewhere
        switch status {
        case .ok: self = .done
        case .checksumMismatch:
            let limit = changesBlocks ? Verdict.writeMismatchesMax : Verdict.readMismatchesMax
            self = Int(mismatches) < limit ? .again : changesBlocks ? .failed : readFails
        case .overloaded: self = .later
        case .closed: self = .reconnect
        case .deadlineExceeded: self = .expired
        case .fenced, .staleSession: self = .fenced
        case .staleMap: self = isAlone ? .failed : .refreshMap
        case .diskFailed, .powerLost, .malformed, .wrongVersion, .unreachable, .wrongCluster, .wrongStore, .unavailable:
            self = changesBlocks || (opcode == .flush && !isAlone) ? .reconnect : readFails
        case .damaged: self = readFails
        case .invalidArgument, .notFound, .alreadyExists, .busy, .outOfRange, .noSpace, .unsupported, .readOnly, .outOfMemory,
            .permissionDenied:
            self = .failed
        }
    }
}
