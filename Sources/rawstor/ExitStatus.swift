import Arguments
import Base

/// What the program ends with beside what all do. Scripts depend on these numbers: they never change their meaning.
extension ExitStatus {
    static let damaged: Int32 = 3
    static let notFound: Int32 = 4
    static let busy: Int32 = 5
    static let noSpace: Int32 = 6
    static let unreachable: Int32 = 7
    /// Of `status`: the cluster answers, and something is not as it should be.
    static let degraded: Int32 = 8
    /// Ended by a signal: this and its number, as a shell counts.
    static let signal: Int32 = 128

    static func of(_ status: Status) -> Int32 {
        switch status {
        case .ok: well
        case .invalidArgument, .outOfRange: usage
        case .checksumMismatch, .damaged: damaged
        case .notFound: notFound
        case .busy, .fenced, .staleSession, .overloaded: busy
        case .noSpace: noSpace
        case .deadlineExceeded, .unreachable, .unavailable: unreachable
        case .malformed, .wrongVersion, .alreadyExists, .staleMap, .diskFailed, .closed, .unsupported, .wrongCluster, .readOnly,
            .powerLost, .outOfMemory, .permissionDenied, .wrongStore:
            failure
        }
    }
}
