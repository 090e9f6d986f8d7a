import Base
import Placement
import Wire

/// Members that move to other OSTs: off one that lost its disk, or that is being emptied. Pure, like all changes of a volume.
///
/// Invariants:
/// - A member that moves keeps its old place, in whatever state that is, until it has everything in the new one. Then the one replaces the
///   other, in one change of the map: no placement ever has fewer members in sync for it.
/// - The new place is never in sync before that: `arrive` is the only way, and the end of its fill the only one who calls it.
/// - A store that has lost its last place is a stray, from the same change of the map on: its object is removed when every store in use
///   knows that map, since a catalogue that is rebuilt from one that does not would look for the data there.
extension VolumeRecord {
    /// A store that may have the object although it keeps no member.
    public struct Stray: Hashable, Sendable {
        public var store: Identifier
        /// The map number that took its last place; 0 if it never had one.
        public var since: UInt64

        public init(store: Identifier, since: UInt64) {
            self.store = store
            self.since = since
        }
    }

    /// What is known of the OSTs when it is decided who moves where.
    public struct Surroundings: Sendable {
        /// All OSTs of the cluster; those that members may move to take parts.
        public var candidates: [Candidate]
        /// Drained or forgotten: members leave, whatever state they are in.
        public var leaving: Set<Identifier>
        /// Away for so long that members that are not in sync leave.
        public var lost: Set<Identifier>
        /// No good to move to: away, leaving, or just found to be full. What is on its way there and not being filled goes elsewhere.
        public var unfit: Set<Identifier>
        /// Strays that have just got the object, for members that are about to move there.
        public var prepared: Set<Identifier>

        public init(
            candidates: [Candidate], leaving: Set<Identifier>, lost: Set<Identifier>, unfit: Set<Identifier>, prepared: Set<Identifier> = []
        ) {
            self.candidates = candidates
            self.prepared = prepared
            self.leaving = leaving
            self.lost = lost
            self.unfit = unfit
        }
    }

    /// What is to be changed.
    public struct MovePlan: Hashable, Sendable {
        public struct Wish: Hashable, Sendable {
            public var placement: Int
            public var member: Int
            public var from: Identifier
            public var to: Identifier
        }

        /// In the order of placements.
        public var wishes: [Wish] = []
        /// Moves that are given up, as they were seen.
        public var dropped: [MemberMove] = []
        /// Why a member that should move does not, of the first of them.
        public var obstacle: Failure?

        public init() {}

        public var isEmpty: Bool { wishes.isEmpty && dropped.isEmpty }
        /// Where objects will be needed.
        public var targets: [Identifier] { Set(wishes.map(\.to)).sorted() }
    }

    /// A writer counts the places of a row in the bits of a word, and needs one that is none.
    static func canMove(members: Int) -> Bool { members + 2 <= Limits.membersMax }
    private var canMove: Bool { VolumeRecord.canMove(members: members) }

    /// Whether the member should be on another OST.
    private func mustMove(_ entry: MemberEntry, _ leaving: Set<Identifier>, _ lost: Set<Identifier>) -> Bool {
        leaving.contains(stores[entry.ost]) || (entry.state == .stale && lost.contains(stores[entry.ost]))
    }

    /// Whether a plan would have anything to do, as far as stores of this volume tell.
    public func isMoveDue(leaving: Set<Identifier>, lost: Set<Identifier>, unfit: Set<Identifier>) -> Bool {
        if moves.contains(where: { isVain($0, leaving, lost, unfit) }) { return true }
        guard moves.count < Limits.movesMax, canMove else { return false }
        let moving = Set(moves.map(\.placement))
        return entries.indices.contains { !moving.contains($0 / members) && mustMove(entries[$0], leaving, lost) }
    }

    /// Its member need not move any more, or cannot move there. One that is being filled with success is let go on.
    private func isVain(_ move: MemberMove, _ leaving: Set<Identifier>, _ lost: Set<Identifier>, _ unfit: Set<Identifier>) -> Bool {
        let entry = entries[move.placement * members + move.member]
        if !mustMove(entry, leaving, lost), move.entry.state == .stale || entry.state == .inSync { return true }
        let target = stores[move.entry.ost]
        return leaving.contains(target) || (move.entry.state == .stale && unfit.contains(target))
    }

    /// Who moves where: one member of a placement at a time, as many at once as a map has room for.
    public func plan(_ around: Surroundings) throws(Failure) -> MovePlan {
        var plan = MovePlan()
        plan.dropped = moves.filter { isVain($0, around.leaving, around.lost, around.unfit) }
        guard canMove else { return plan }
        let choice = try PlacementChoice(volume: id, kind: object.layout.kind, members: members, level: level.domainLevel)
        // Whoever still has the object of a former membership gets rid of it first.
        let barred = around.unfit.union(around.leaving).union(Set(strays.map(\.store)).subtracting(around.prepared))
        let candidates = around.candidates.map { candidate in
            var candidate = candidate
            if barred.contains(candidate.store) { candidate.takesParts = false }
            return candidate
        }
        let staying = moves.filter { !plan.dropped.contains($0) }
        let moving = Set(staying.map(\.placement))
        var known = Set(stores)
        var count = staying.count
        for placement in 0..<placementCount where !moving.contains(placement) {
            let row = placement * members..<(placement + 1) * members
            let leavers = row.filter { mustMove(entries[$0], around.leaving, around.lost) }
            // What is missing comes before what is only to be elsewhere.
            guard let leaver = leavers.first(where: { entries[$0].state != .inSync }) ?? leavers.first else { continue }
            guard count < Limits.movesMax else { break }
            // Others that will move too keep nobody from their domains.
            let others = Set(leavers.map { stores[entries[$0].ost] })
            do throws(Failure) {
                let target = try choice.spare(
                    for: row.map { stores[entries[$0].ost] }, number: placement, lost: leaver - row.lowerBound, of: candidates,
                    leaving: others)
                known.insert(target)
                guard VolumeMap.bytesMax(osts: known.count, entries: entries.count, moves: count + 1) <= Limits.volumeRecordBytesMax else {
                    known.remove(target)
                    throw Failure(.noSpace, "the map of '\(object.name)' has no room for one more OST; it is moved when others have left")
                }
                plan.wishes.append(
                    MovePlan.Wish(placement: placement, member: leaver - row.lowerBound, from: stores[entries[leaver].ost], to: target))
                count += 1
            } catch {
                if plan.obstacle == nil {
                    plan.obstacle = Failure(
                        error.status,
                        "no OST to put a member of '\(object.name)' on, now on \(stores[entries[leaver].ost]): \(error.detail)")
                }
            }
        }
        return plan
    }

    // The changes

    /// Stores that are about to get the object: should it come to nothing, it is removed there.
    mutating func expect(_ targets: [Identifier]) throws(Failure) -> Bool {
        try checkUsable()
        let new = targets.filter { store in !stores.contains(store) && !strays.contains { $0.store == store } }
        strays += new.map { Stray(store: $0, since: 0) }
        return !new.isEmpty
    }

    /// For the writer of this generation. What has changed since the plan was made is left out; `ready`: who has the object.
    mutating func move(_ plan: MovePlan, ready: Set<Identifier>, generation: UInt64) throws(Failure) -> Bool {
        try check(generation: generation)
        let before = moves
        moves.removeAll { move in plan.dropped.contains(move) }
        let number = object.map + 1
        for wish in plan.wishes where ready.contains(wish.to) && moves.count < Limits.movesMax {
            let row = wish.placement * members..<(wish.placement + 1) * members
            guard wish.placement < placementCount, wish.member < members, !moves.contains(where: { $0.placement == wish.placement }),
                stores[entries[row.lowerBound + wish.member].ost] == wish.from, !row.contains(where: { stores[entries[$0].ost] == wish.to })
            else { continue }
            if !stores.contains(wish.to) { stores.append(wish.to) }
            guard let ost = stores.firstIndex(of: wish.to) else { unreachable("\(wish.to) was just listed") }
            let entry = MemberEntry(ost: ost, state: .stale, changed: number, incarnation: number)
            moves.append(MemberMove(placement: wish.placement, member: wish.member, entry: entry))
        }
        guard moves != before else { return false }
        moves.sort { $0.placement < $1.placement }
        object.map = number
        relist()
        return true
    }

    /// The member has everything in its new place, which is its only one from now on.
    mutating func arrive(_ move: MemberMove) {
        var entry = move.entry
        entry.state = .inSync
        entry.changed = object.map
        if entries[move.placement * members + move.member].state == .inSync { left = object.map }
        entries[move.placement * members + move.member] = entry
        moves.removeAll { $0.placement == move.placement }
    }

    /// What must never be done: see the mutant.
    mutating func replaceEarly(_ begun: [MemberMove]) {
        for move in begun where inSync(in: move.placement) > inSyncNeeded {
            arrive(move)
            entries[move.placement * members + move.member].state = .filling
        }
        relist()
    }

    mutating func makeMoveStale(_ index: Int) {
        moves[index].entry.state = .stale
        moves[index].entry.changed = object.map
    }

    /// Lists exactly the stores that have a place. Behind a change with a new map number.
    mutating func relist() {
        let before = stores
        let used = Set((entries + moves.map(\.entry)).map { before[$0.ost] })
        stores = used.sorted()
        var place: [Identifier: Int] = [:]
        for (index, store) in stores.enumerated() { place[store] = index }
        func moved(_ ost: Int) -> Int {
            guard let index = place[before[ost]] else { unreachable("\(before[ost]) has a place and is not listed") }
            return index
        }
        for index in entries.indices { entries[index].ost = moved(entries[index].ost) }
        for index in moves.indices { moves[index].entry.ost = moved(moves[index].entry.ost) }
        unresized.removeAll { !used.contains($0.store) }
        bases.removeAll { base in !entries.contains { $0.state != .inSync && stores[$0.ost] == base.store } }
        strays.removeAll { used.contains($0.store) }
        strays += before.filter { !used.contains($0) }.map { Stray(store: $0, since: object.map) }
    }

    /// These have no object of the volume any more; not one that got a place meanwhile.
    mutating func tidied(_ gone: Set<Identifier>) -> Bool {
        guard state == .ready, strays.contains(where: { gone.contains($0.store) }) else { return false }
        strays.removeAll { gone.contains($0.store) }
        return true
    }

    // Keeping it

    func checkMoves() throws(Failure) {
        let known = Set(stores)
        guard strays.allSatisfy({ !known.contains($0.store) && $0.since <= object.map }), Set(strays.map(\.store)).count == strays.count
        else { throw Failure(.malformed, "a store keeps members, and is said to keep none") }
    }

    func encodeMoves(to body: inout BodyWriter) {
        body.put(UInt16(moves.count))
        for move in moves {
            body.put(UInt16(move.placement))
            body.put(UInt16(move.member))
            body.put(move.entry)
        }
        body.put(UInt16(strays.count))
        for stray in strays {
            body.put(stray.store)
            body.put(stray.since)
        }
    }

    static func decodeMoves(from body: inout BodyReader) throws(Failure) -> ([MemberMove], [Stray]) {
        var moves: [MemberMove] = []
        for _ in 0..<Int(try body.get(UInt16.self)) {
            let placement = Int(try body.get(UInt16.self))
            moves.append(MemberMove(placement: placement, member: Int(try body.get(UInt16.self)), entry: try body.getMemberEntry()))
        }
        var strays: [Stray] = []
        for _ in 0..<Int(try body.get(UInt16.self)) {
            strays.append(Stray(store: try body.getIdentifier(), since: try body.get(UInt64.self)))
        }
        return (moves, strays)
    }
}
