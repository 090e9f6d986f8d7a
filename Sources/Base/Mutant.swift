/// Deliberate bugs, one at a time, that prove that the simulator's checks fire. Only debug builds contain them.
public enum Mutant: String, CaseIterable, Sendable {
    /// The store answers a flush without flushing the disk.
    case forgetsFlush
    /// The store acknowledges a write although an older one of the log is not on disk yet.
    case acknowledgesOutOfLogOrder
    /// The store gives a replaced block out again before the record that replaced it is durable.
    case reusesBlockEarly
    /// The OST takes requests of a session that a newer one has replaced.
    case acceptsOldSession
    /// Neither the OST nor the client compares a block read with its check.
    case skipsCheck
    /// The store takes writes of a fill that another one or a restart has ended.
    case fillNeverDies
    /// A fill write covers what the writer has written since the fill began.
    case fillCoversLive
    /// A fill write of a block in doubt at its source is not in doubt.
    case fillForgetsDoubt
    /// The end of a fill is answered before what it has brought is on stable media.
    case fillEndsUnflushed
    /// Handles of writers stay as they are when a fill begins.
    case fillKeepsWriters
    /// A stamp leaves out the volume record that it came with.
    case stampsOnlyTheNumber
    /// A catalogue is rebuilt without making the OSTs refuse the old one first.
    case rebuildsWithoutRaising
    /// A catalogue is rebuilt although a member that was being filled, and may count since, was not asked.
    case rebuildsWithoutFilling

    /// A writer opens without making equal what its predecessor left in doubt.
    case skipsReconcile
    /// A member that is away is left out before the metadata server knows.
    case excludesAlone
    /// A write that some members refused lets go of its blocks although they differ.
    case skipsRewrite
    /// The pages that a member lacks are listed before writes go to it.
    case listsBeforeFilling
    /// A second attempt to fill a member begins at the mark that the first one has moved.
    case forgetsFillBase
    /// An exclusion does not say up to where the member had everything: it is asked itself when it is filled.
    case excludesWithoutBase
    /// A member that moves to an OST is filled from the base that other members have there.
    case movesFromBase
    /// The old place of a member that moves is given up when its fill begins.
    case movesBeforeFilled

    #if MUTANTS
        /// Set by the test that looks for it; one thread simulates at a time.
        nonisolated(unsafe) public static var active: Mutant?
    #endif
}

/// Whether this bug is switched on.
@inlinable @inline(__always)
public func mutated(_ mutant: Mutant) -> Bool {
    #if MUTANTS
        Mutant.active == mutant
    #else
        false
    #endif
}
