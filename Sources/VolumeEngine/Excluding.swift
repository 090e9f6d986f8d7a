import Base
import Wire

// Going on without a peer (P1). One that is gone for longer than a moment, does not answer, or may have lost what it acknowledged keeps the
// operations that need it waiting, until the owner has had it excluded at the MDT and comes with the new map. Before that counts, every
// peer that remains has its number on stable media, so that no other client can take the old map for the present one.
//
// The last member in sync is never given up, and nobody is while those who would remain are not there themselves: a client that is cut off
// must not exclude everybody.

extension VolumeEngine {
    /// A broken connection gets this long to come back.
    public static let graceWithout = Interval.milliseconds(500)
    /// So long without a byte, with something to answer, is too long where others can go on.
    static let silenceAmongMany = Interval.seconds(3)
    /// So long a writer reads without a word from each member in sync.
    static let trustWithoutWord = Interval.seconds(4)
    static let silenceBeforePing = Interval.milliseconds(1500)
    private static let exclusionRecheck = Interval.milliseconds(100)

    /// Something cannot be done before this peer is back or excluded.
    mutating func want(_ peer: Int) {
        guard rows.width > 1, !peers.at(peer).pointee.isWanted else { return }
        peers.at(peer).pointee.isWanted = true
        exclusionCheckAt = min(exclusionCheckAt, max(now, peers.at(peer).pointee.detachedAt + VolumeEngine.graceWithout))
    }

    /// Those that have been gone for so long are missed also where nothing waits for them: a member that is not there must not count as a
    /// copy for ever, only because nobody writes.
    public mutating func missAbsent(for time: Interval) {
        guard isWritable, !isDead else { return }
        for peer in 0..<peers.count where peers.at(peer).pointee.isUsed && peers.at(peer).pointee.phase == .detached {
            if now - peers.at(peer).pointee.detachedAt >= time { want(peer) }
        }
        settle()
    }

    /// Its state may be lost: it has come back after a loss of power, with acknowledged writes that were not durable.
    mutating func taint(_ peer: Int) {
        marks.hit(.excludedAfterPowerLoss)
        peers.at(peer).pointee.isTainted = true
        exclusionCheckAt = now
        reset(peer, .excluded)
    }

    mutating func checkExclusions(isLate: Bool) {
        guard now >= exclusionCheckAt else { return }
        exclusionCheckAt = .never
        for peer in 0..<peers.count where peers.at(peer).pointee.isUsed && !peers.at(peer).pointee.isExclusionAsked {
            if tableNext?.isUsed(peer) == false { continue }
            let state = peers.at(peer)
            if state.pointee.isTainted { reconsider(tainted: peer) }
            guard state.pointee.isTainted || (state.pointee.isWanted && state.pointee.phase == .detached) else { continue }
            if isLate { state.pointee.detachedAt = now }
            let due = state.pointee.isTainted ? now : state.pointee.detachedAt + VolumeEngine.graceWithout
            if mutated(.excludesAlone), now >= due, state.pointee.phase == .detached, canDo(without: peer) {
                excludeAlone(peer)
            } else if now >= due, isWritable, canDo(without: peer) {
                state.pointee.isExclusionAsked = true
                effects.append(.exclude(peer))
            } else {
                exclusionCheckAt = min(exclusionCheckAt, max(due, now + VolumeEngine.exclusionRecheck))
            }
        }
    }

    /// What must never be done: see the mutant.
    private mutating func excludeAlone(_ peer: Int) {
        for member in 0..<rows.count where rows.members[member].peer == peer { rows.members[member].state = .stale }
        peers.at(peer).pointee.isUsed = false
        forget(peer)
    }

    private func canDo(without peer: Int) -> Bool {
        (tableNext ?? table).couldDo(without: peer) { other in
            if peers.at(other).pointee.isTainted { return peers.at(peer).pointee.isTainted && outranks(other, peer) }
            return peers.at(other).pointee.phase == .attached
        }
    }

    /// Of two that may have lost something: which one counts where both are. An old copy of a disk lacks what was flushed, too.
    private func outranks(_ peer: Int, _ other: Int) -> Bool {
        if peers.at(peer).pointee.isRolledBack { return false }
        return peers.at(other).pointee.isRolledBack || peer < other
    }

    /// Whether the map that was last told holds, with a session at this peer.
    public func isReady(_ peer: Int) -> Bool {
        tableNext == nil && peers.at(peer).pointee.isUsed && peers.at(peer).pointee.phase == .attached
    }

    /// Whether not all have been told the newest map yet.
    public var isMapPending: Bool { tableNext != nil }

    /// Whether this writer has had a session with the peer, and has not given it up since.
    public func hasMet(_ peer: Int) -> Bool { peers.at(peer).pointee.boot != .zero }

    public func isAttached(_ peer: Int) -> Bool { peers.at(peer).pointee.isUsed && peers.at(peer).pointee.phase == .attached }

    /// Whether the owner shall keep a connection to this peer.
    public func wantsConnection(_ peer: Int) -> Bool {
        guard peers.at(peer).pointee.isUsed, !peers.at(peer).pointee.isTainted, !isDead, !isClosed else { return false }
        return !peers.at(peer).pointee.isFull || !(tableNext ?? table).members.contains { $0.peer == peer && $0.state == .filling }
    }

    /// The owner is about to ask the MDT to have this peer filled.
    public mutating func fillBegins(_ peer: Int) { peers.at(peer).pointee.isFull = false }

    /// Whether its last fill had to be given up for want of room.
    public func isFull(_ peer: Int) -> Bool { peers.at(peer).pointee.isFull }

    /// The owner could not open a session with it when the volume was opened, and asks the MDT to exclude it. What it has in doubt is not
    /// reconciled, so it is not read before that map holds, also if it comes back meanwhile.
    public mutating func missed(_ peer: Int) { peers.at(peer).pointee.isMissed = true }

    /// The MDT has refused, for good as things are: somebody else would be needed.
    public mutating func exclusionRefused(_ peer: Int) {
        peers.at(peer).pointee.isExclusionAsked = false
        if peers.at(peer).pointee.isTainted { reconsider(tainted: peer) }
        exclusionCheckAt = min(exclusionCheckAt, now + VolumeEngine.exclusionRecheck)
        settle()
    }

    /// What it may have lost nobody else in sync has for certain, in no placement that it still takes part in: then it is lost, as with a
    /// single OST. Of several that lost power at once one is taken for the truth in each placement, the first of them, and the others are
    /// excluded from it: never may two count that have lost different things.
    private mutating func reconsider(tainted peer: Int) {
        let isOld = peers.at(peer).pointee.isRolledBack
        let isDoubted = (tableNext ?? table).shares(peer) { isOld || !peers.at($0).pointee.isTainted || outranks($0, peer) }
        if isDoubted || isFillEnding(beside: peer) { return }
        peers.at(peer).pointee.isTainted = false
        // The other one was excluded while this one was away. It is refused whenever it comes, until that is with its newest disk.
        if isOld { return }
        peers.at(peer).pointee.isLacking = tableNext != nil
        for other in 0..<peers.count where mutated(.countsAllThatLostPower) && peers.at(other).pointee.isTainted {
            peers.at(other).pointee.isTainted = false
            peers.at(other).pointee.durability.settleLoss()
        }
        powerLost()
        settleLoss(of: peer)
    }

    /// What it has lost nobody will bring back. Whoever is excluded from now on may have some of that, below the mark.
    mutating func settleLoss(of peer: Int) {
        if !mutated(.excludesAboveLoss) { lossFloor = min(lossFloor, peers.at(peer).pointee.durability.durable) }
        peers.at(peer).pointee.durability.settleLoss()
    }

    /// The owner is about to ask the MDT to have this peer in sync, which has everything now. Until a map says what became of that, the one
    /// beside it that is the last in sync may be the last no more: what that loses with its power this one has. It is excluded then, and is
    /// believed only if the fill has come to nothing.
    public mutating func fillEnds(_ peer: Int) { fillEnding = peer }

    func isFillEnding(beside peer: Int) -> Bool {
        guard let fillEnding, !mutated(.settlesLossAtTheEndOfAFill) else { return false }
        return fillEnding != peer && (tableNext ?? table).isFilling(fillEnding, beside: peer)
    }

    /// What the MDT says now: after an exclusion that was asked for, or when a peer knew of a newer map.
    public mutating func mapChanged(_ new: MemberTable, bytes: UInt64? = nil) {
        // An older one comes late.
        if let bytes, new.number >= mapNumber { changeSize(bytes) }
        invariant(
            new.placementCount == table.placementCount, "a map of \(new.placementCount) placements, before of \(table.placementCount)")
        while peers.count < new.peerCount { peers.append(now: now) }
        isMapWanted = false
        for peer in 0..<peers.count { peers.at(peer).pointee.isExclusionAsked = false }
        guard new.number > mapNumber else {
            if new.number == mapNumber { exclusionCheckAt = now }
            return settle()
        }
        tableNext = new
        mapNumber = new.number
        if let ending = fillEnding, !new.members.contains(where: { $0.peer == ending && $0.state == .filling }) { fillEnding = nil }
        for peer in 0..<peers.count {
            // One that joins hears it when its session is opened.
            let isTold = isWritable && new.isUsed(peer) && peers.at(peer).pointee.isUsed && !mutated(.excludesOnlyAtServer)
            peers.at(peer).pointee.stampWanted = isTold ? new.number : 0
            if peers.at(peer).pointee.isTainted, new.isUsed(peer) { reconsider(tainted: peer) }
        }
        stampsChanged()
        pump()
        settle()
    }

    /// Tells the new number to those who have not heard it.
    mutating func sendStamps() {
        guard let record = tableNext?.record else { return }
        for peer in 0..<peers.count {
            let state = peers.at(peer)
            guard state.pointee.stampWanted > 0, state.pointee.phase == .attached, !state.pointee.isStampInFlight else { continue }
            state.pointee.setStamp(StampRequest(record: record).encoded)
            state.pointee.isStampInFlight = control(peer, .stamp, .stamp)
            state.pointee.stampSent = mapNumber
        }
    }

    /// When all have it the new map holds.
    mutating func stampsChanged() {
        guard let new = tableNext else { return }
        for peer in 0..<peers.count where peers.at(peer).pointee.stampWanted > 0 {
            if peers.at(peer).pointee.phase != .attached { wantForStamp(peer) }
            return
        }
        marks.hit(.stamped)
        tableNext = nil
        changeSeats(to: new)
        floorChanged()
        for peer in 0..<peers.count {
            let state = peers.at(peer)
            let wasUsed = state.pointee.isUsed
            state.pointee.isUsed = table.isUsed(peer)
            state.pointee.isLacking = false
            state.pointee.isMissed = false
            if !wasUsed, state.pointee.isUsed {
                // It has its time from now on.
                state.pointee.detachedAt = now
                state.pointee.isTainted = false
                state.pointee.isWanted = false
            }
            guard wasUsed else { continue }
            guard !state.pointee.isUsed else {
                if state.pointee.isTainted { reconsider(tainted: peer) }
                forgetStale(peer)
                continue
            }
            marks.hit(.excludedPeer)
            effects.append(.notice(.excluded(peer)))
            state.pointee.isTainted = false
            state.pointee.isWanted = false
            if state.pointee.phase == .detached { forget(peer) } else { reset(peer, .excluded) }
        }
        // A fill has compared whatever somebody had more.
        let areEqual = table.members.allSatisfy { $0.state == .inSync } && (0..<peers.count).allSatisfy { !peers.at($0).pointee.isTainted }
        if areEqual { lossFloor = .max }
        exclusionCheckAt = now
        effects.append(.notice(.membersChanged))
        advanceMark()
    }

    /// One that cannot be told must be excluded in its turn, with a number of its own; that map replaces the one it was not told.
    private mutating func wantForStamp(_ peer: Int) {
        peers.at(peer).pointee.isWanted = true
        exclusionCheckAt = min(exclusionCheckAt, max(now, peers.at(peer).pointee.detachedAt + VolumeEngine.graceWithout))
    }

    /// Nobody waits for what a peer that is gone was sent as a member that is stale now. One that is there answers.
    mutating func forgetStale(_ peer: Int) {
        let state = peers.at(peer)
        guard state.pointee.phase == .detached else { return }
        for index in 0..<state.pointee.requests.capacity {
            let request = state.pointee.requests.at(index)
            guard request.pointee.state != .free, request.pointee.part != SlotList.none, request.pointee.opcode != .flush else { continue }
            let row = rows.range(ofChunk: parts.at(request.pointee.part).pointee.block >> chunkShift)
            let isFilling =
                mutated(.acknowledgesWithoutFilling) && row.contains { rows.members[$0].peer == peer && rows.members[$0].state == .filling }
            if isFilling || !rows.takesWrites(peer, in: row) { requestEnded(peer, index) }
        }
    }

    /// An excluded peer is detached: nobody waits for it any more, and what it acknowledged is of no account when it is filled again.
    mutating func forget(_ peer: Int) {
        let state = peers.at(peer)
        state.pointee.boot = .zero
        state.pointee.durability = Durability()
        for index in 0..<state.pointee.requests.capacity where state.pointee.requests.at(index).pointee.state != .free {
            if state.pointee.requests.at(index).pointee.part == SlotList.none {
                state.pointee.requests.release(index)
            } else {
                requestEnded(peer, index)
            }
        }
    }
}
