/// Deliberate bugs, one at a time, that prove that the simulator's checks fire. Only debug builds contain them. Each rule of the protocol's
/// models has one that leaves out just that rule; the table in docs/protocols/replication.md says which, and what notices.
public enum Mutant: String, CaseIterable, Sendable {
    /// The store answers a flush without flushing the disk.
    case forgetsFlush
    /// The store acknowledges a write although an older one of the log is not on disk yet.
    case acknowledgesOutOfLogOrder
    /// The store gives a replaced block out again before the record that replaced it is durable.
    case reusesBlockEarly
    /// The OST takes requests of a session that a newer one has replaced. Rule `session`.
    case acceptsOldSession
    /// Neither the OST nor the client compares a block read with its check.
    case skipsCheck
    /// A write adds to what older generations left in doubt of its block, instead of taking its place.
    case keepsEveryOrphan
    /// A fence does not refuse the writes that wait for room: they land after it. Rule `drain`.
    case fencesWithoutDraining
    /// An OST goes on taking requests of the writer before the fence. Rule `fence`.
    case ignoresFences
    /// What was in doubt is not after a loss of power. Rule `lost_doubt`.
    case forgetsDoubtAfterPowerLoss
    /// A store that is loaded anew after a failed flush keeps its boot identity. Rule `fail_boot`.
    case keepsBootAfterFailure
    /// The store takes writes of a fill that a restart has ended. Rule `fill_boot`.
    case fillNeverDies
    /// The store takes writes of a fill that another one has ended. Rule `fill_id`.
    case takesOlderFills
    /// A fill write covers what the writer has written since the fill began. Rule `fill_live`.
    case fillCoversLive
    /// A fill write of a block in doubt at its source is not in doubt. Rule `fill_doubt`.
    case fillForgetsDoubt
    /// The end of a fill is answered before what it has brought is on stable media. Rule `fill_flush`.
    case fillEndsUnflushed
    /// Handles of writers stay as they are when a fill begins.
    case fillKeepsWriters
    /// A stamp leaves out the volume record that it came with.
    case stampsOnlyTheNumber
    /// A catalogue is rebuilt without making the OSTs refuse the old one first.
    case rebuildsWithoutRaising
    /// A catalogue is rebuilt although a member that was being filled, and may count since, was not asked.
    case rebuildsWithoutFilling

    /// A writer opens without making equal what its predecessor left in doubt. Rule `reconcile`.
    case skipsReconcile
    /// A member that is away is left out before the metadata server knows. Rule `exclude`.
    case excludesAlone
    /// An exclusion counts when the metadata server has it, and no OST hears of it. Rule `map`.
    case excludesOnlyAtServer
    /// The mark passes a write that only some members have. Rule `watermark`.
    case marksWhatSomeHave
    /// The mark passes what is not on stable media everywhere. Rule `mark_flushed`.
    case marksUnflushed
    /// The same of what makes members equal. Rule `drop_flushed`.
    case marksUnflushedRewrites
    /// Reads do not wait for writes that they overlap. Rule `hold_reads`.
    case readsOverlapWrites
    /// A writer reads on without the word of every member. Rule `confirm`.
    case readsUnheard
    /// A writer reads without the word of members that it believes to be filling. Rule `confirm_fill`.
    case readsWithoutFilling
    /// An open does not wait for earlier writers that may read on members which have left. Rule `confirm`, of the successor.
    case opensWithoutWaiting
    /// Clients that only read do so also from members that are being filled. Rule `reader`.
    case readerReadsFilling
    /// A member that came back after a loss of power counts on, whatever it lost. In the place of rule `replay`.
    case trustsMemberThatLostPower
    /// Of several members that lost different things all count on. In the place of rule `bound_waits`.
    case countsAllThatLostPower
    /// What a member may have lost is read from another one before the first is excluded. In the place of rule `replay`.
    case readsBesideLoss
    /// A write that only a member has taken that lost power since is not sent again. In the place of rule `keep`.
    case forgetsWhatOneTook
    /// The last member in sync loses power, and the next flush ends well. Rule `boot`.
    case hidesPowerLoss
    /// A flush ends at once when nothing was acknowledged since the last one, whatever the open has rewritten. Rule `flush_todo`.
    case flushSkipsRewrites
    /// A flush does not go to members that are being filled. Rule `flush_fill`.
    case flushSkipsFilling
    /// A write that some members refused lets go of its blocks although they differ.
    case skipsRewrite
    /// The pages that a member lacks are listed before writes go to it. Rule `fill_told`.
    case listsBeforeFilling
    /// A member is filled before everything in doubt is equal. Rule `fill_todo`.
    case fillsBeforeReconciling
    /// Writes are acknowledged without a member that is being filled and cannot be reached. Rule `ack_filling`.
    case acknowledgesWithoutFilling
    /// The end of a fill counts although the member was excluded, or another fill begun, in between. Rule `fill_cas`.
    case endsAnyFill
    /// A fill goes on when its target has lost power. Rule `fill_boot`, of the writer.
    case fillSurvivesPowerLoss
    /// A fill goes on when its source has lost power. In the place of rule `fill_kept`.
    case fillSurvivesLossOfSource
    /// The last member in sync loses power while the end of a fill is asked for, and is believed. In the place of rule `fill_kept`.
    case settlesLossAtTheEndOfAFill
    /// What fills a member does not wait for writes of the same blocks. Rule `fill_live`, of the writer.
    case fillIgnoresWrites
    /// A member that was filled is in sync before it was flushed. Rule `fill_flush`, of the writer.
    case fillSkipsFlush
    /// A member is filled also from one that is stale.
    case resyncsFromStale
    /// A page that is found equal keeps its old version on the member that is filled.
    case equalPageKeepsVersion
    /// A second attempt to fill a member begins at the mark that the first one has moved.
    case forgetsFillBase
    /// A client asks a management server for the metadata servers whenever it needs one, and keeps none.
    case forgetsListedServers
    /// An OST leaves a metadata server that a management server does not list, although it answers.
    case leavesUnlistedServers
    /// A store that has gone back behind the fence of a writer takes that again when the writer returns.
    case fencesOldCopies
    /// An exclusion does not say up to where the member had everything: it is asked itself when it is filled.
    case excludesWithoutBase
    /// A member that moves to an OST is filled from the base that other members have there.
    case movesFromBase
    /// The old place of a member that moves is given up when its fill begins.
    case movesBeforeFilled
    /// A member that is excluded after another one has lost power for good has all that was acknowledged, and nothing more than that.
    case excludesAboveLoss
    /// An OST that was away while the volume was cut and grown again is told the last size only.
    case forgetsMissedCuts
    /// A volume that is changed while it is opened cannot be opened.
    case opensOnce

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
