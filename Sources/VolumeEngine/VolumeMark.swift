/// Rare branches of the engine. A simulator run that never reached one of them has not tested it.
public enum VolumeMark: Int, CaseIterable, Sendable {
    case edgesRead
    case edgesMerged
    case overlapWait
    case wideOperation
    case operationSplit
    case vectorsOverflowed
    case slotsExhausted
    case wireLimitReached
    case readMismatchRetried
    case readDamaged
    case writeMismatchRetried
    case overloadedRetried
    case deadlineBeforeSent
    case deadlineOfSentRead
    case deadlineOfSentWrite
    case deadlineWhilePinned
    case lateClockForgiven
    case replyToAbandoned
    case replyBeforeSent
    case resentWrite
    case resentRead
    case ghostSettled
    case flushFailedAfterPowerLoss
    case powerLostWithNothingAtRisk
    case repeatedAfterPowerLoss
    case fenced
    case failed
    case storeRefused
    case markSentAlone
    case markAskedAgain
    case keepAlive
    case silence
    case peerMalformed
    case sizeChanged
    case closedWhileDetached
    case replicated
    case readElsewhere
    case heldUnequal
    case rewritten
    case repaired
    case damagedEverywhere
    case overtaken
    case mapRefreshed
    case excludedPeer
    case excludedAfterPowerLoss
    case stamped
    case askedBeforeReading
    case rolledBack
    case belowFloor
    case repeatedBelowFloor
}

/// Which marks were reached.
public struct VolumeMarks: Hashable, Sendable {
    public private(set) var bits: UInt64 = 0

    @inline(__always)
    mutating func hit(_ mark: VolumeMark) { bits |= 1 << UInt64(mark.rawValue) }

    public func contains(_ mark: VolumeMark) -> Bool { bits & (1 << UInt64(mark.rawValue)) != 0 }
    public mutating func formUnion(_ other: VolumeMarks) { bits |= other.bits }
    public init() {}
}
