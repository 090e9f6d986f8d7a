/// Branches that a healthy day never takes. The simulator provokes each and proves that it was reached.
public enum StoreMark: Int, CaseIterable, Sendable {
    // Found at the mount
    /// The log ended in a batch that had begun and was not whole.
    case tailTorn
    /// Records whose data is not on the disk were left out, and the log says so now.
    case recordsVoided
    /// The log had moved to the other half and the snapshot of what was before was not finished.
    case snapshotRestarted
    case mountedUnderOldBoot
    case mountedAfterFailure
    /// Pages of an object whose removal was not swept to its end.
    case orphanedPagesDropped

    // The log
    case halfSwitched
    case snapshotFinished
    case marksLogged

    // Space
    case waitedForSpace
    case spaceWaitRanOut
    case refusedForSpace
    case waitingRefused
    case barrierForDoubts
    case barrierForBytes
    case barrierForTime

    // Writes and reads
    case resentAnswered
    case olderDropped
    case durableWentBack
    case readMoved
    case readDamaged

    // Objects
    case doubtsSettled
    case doubtsOrphaned
    case orphansForgotten
    case orphanReplaced
    case removedSwept
    case removedWithDoubts
    case trimmed
    case fillLost
    case fillPutBelow

    case failed
}

/// Which marks were hit, a bit each.
public struct StoreMarks: Hashable, Sendable {
    public private(set) var bits: UInt64 = 0

    public init() {}
    @inline(__always)
    mutating func hit(_ mark: StoreMark) { bits |= 1 << UInt64(mark.rawValue) }
    public func contains(_ mark: StoreMark) -> Bool { bits & 1 << UInt64(mark.rawValue) != 0 }
    public func union(_ other: StoreMarks) -> StoreMarks {
        var all = self
        all.bits |= other.bits
        return all
    }
}
