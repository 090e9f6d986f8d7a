/// Branches that a healthy day never takes. The simulator provokes each and proves that it was reached.
public enum OSTMark: Int, CaseIterable, Sendable {
    case connectionLimit
    case helloLate
    case helloRefused
    case malformedFrame
    case unknownOpcode
    case stalledForRoom
    case stalledForBuffer
    case deadlineExceeded
    case peerTakesNothing
    case payloadStopped
    case idleConnection
    case closingForced
    case checksumMismatch
    case busyRefused
    case openForced
    case fencedByNumber
    case oldCopyRefused
    case clusterRefused
    case staleMap
    case doubtsListed
    case mapStamped
    case recoveryOpened
    case recoveryReplaced
    case changesListed
    case checksListed
    case fillBegun
    case fillEnded
    case fillRefused
    case writerFenced
    case writerReturned
    case staleSession
    case nonceRepeated
    case controlWaited
    case handleLimit
    case removeRefused
    case sizeChanged
    case disconnectedWithRequests
    case damagedRead
    case storeFailed
    case storeReplaced
    case incarnationRaised
    case incarnationRefused
    case stopped
}

/// Which marks were hit, a bit each.
public struct OSTMarks: Hashable, Sendable {
    public private(set) var bits: UInt64 = 0

    public init() {}
    public mutating func hit(_ mark: OSTMark) { bits |= 1 << UInt64(mark.rawValue) }
    public func contains(_ mark: OSTMark) -> Bool { bits & 1 << UInt64(mark.rawValue) != 0 }
}
