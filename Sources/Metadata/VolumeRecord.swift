import Base
import Wire

/// A volume as the catalogue keeps it, and every change that may be made of it. Pure: a change is decided here from what was read in its
/// transaction, and is made only if nothing else has changed the volume since.
///
/// Invariants, of every value that is put:
/// - Every placement has a member in sync (of an erasure layout: as many as it has data members), and the members are on different OSTs.
/// - Generation and map number never go back. Members that change their state get the new map number as `changed`, and that is never
///   above the volume's.
/// - A new size of the objects is a new map number.
/// - An object on an OST is at least as large as the volume, except on the OSTs in `unresized`.
/// - A volume that is ready has all its objects; one that is being removed may be nowhere any more and never becomes ready again, unless
///   nothing of it has been removed.
/// - `left` is not 0 while a writer that was granted a generation may believe that a member is in sync which has left since.
/// - A store in `strays` has no place in the table, and none that a member is moving to.
public struct VolumeRecord: CatalogueValue {
    static let noun = "volume"

    /// An OST whose object may have another size than `objectBytes`.
    public struct Unresized: Hashable, Sendable {
        public var store: Identifier
        /// The smallest size that the volume has had since: the object is cut to it first, so that what lay behind is gone.
        public var cut: UInt64
    }

    /// Up to where a store had everything when its members became stale, and when the first of them did.
    public struct FillBase: Hashable, Sendable {
        public var store: Identifier
        public var version: Version
        /// Since 1970, by the clock of the server that was asked; 0: not known, since it was before a rebuild. The map does not have it:
        /// only people ask for it.
        public var sinceMilliseconds: UInt64 = 0
    }

    public var object: ObjectRecord
    public var level: SpreadLevel
    public var floor: Int
    public var belowFloor: BelowFloor
    public var state: VolumeSummary.State
    /// The server that makes the objects, while they are being made: if that one is gone, so is who asked.
    public var maker: Identifier
    /// Of the last raise of the generation.
    public var nonce: Identifier
    /// The size that the objects on the OSTs get. The volume has it too, unless it is larger: then the volume is growing.
    public var objectBytes: UInt64
    /// Raised with every change of `objectBytes`: who has resized objects names it, so that an older attempt counts for nothing.
    public var resizes: UInt64
    public var unresized: [Unresized]
    /// OSTs that may still have the object, of a volume that is being removed.
    public var unremoved: [Identifier]
    /// Of stores with members that are not in sync: what the store itself knows of it moves on with every attempt to fill it, and with
    /// every write to a placement in which it still counts.
    public var bases: [FillBase]
    /// In order; entries name them by their index.
    public var stores: [Identifier]
    public var entries: [MemberEntry]
    /// Members on their way to other OSTs, in the order of placements: see VolumeRecord+Moves.swift.
    public var moves: [MemberMove]
    public var strays: [Stray]
    /// The map number with which a member in sync left last. 0: whoever may still read has heard of that. A writer that lost the answer
    /// goes on reading there, as long as it has the word of the others, and its successor waits for that long.
    public var left: UInt64

    public init(
        object: ObjectRecord, level: SpreadLevel, floor: Int, belowFloor: BelowFloor = .wait, maker: Identifier,
        placements: [[Identifier]]
    ) {
        self.object = object
        self.object.generation = 0
        self.object.map = 1
        self.level = level
        self.floor = floor
        self.belowFloor = belowFloor
        state = .creating
        self.maker = maker
        nonce = .zero
        objectBytes = object.bytes
        resizes = 0
        unresized = []
        unremoved = []
        bases = []
        moves = []
        strays = []
        left = 0
        let stores = Set(placements.joined()).sorted()
        self.stores = stores
        entries = placements.joined().map { store in
            guard let index = stores.firstIndex(of: store) else { unreachable("\(store) is in a placement and not in the list") }
            return MemberEntry(ost: index, changed: 1, incarnation: 1)
        }
    }

    public var id: Identifier { object.id }
    public var members: Int { Int(object.layout.dataMembers) + Int(object.layout.parityMembers) }
    public var placementCount: Int { entries.count / members }

    /// Whether objects are still to be made, removed or resized.
    public var hasWork: Bool { state != .ready || !unresized.isEmpty || !strays.isEmpty }

    /// Every store that may have the object.
    public var everywhere: [Identifier] { stores + strays.map(\.store) }

    /// Members in sync without which a placement has lost data.
    public var inSyncNeeded: Int { object.layout.kind == .replicas ? 1 : Int(object.layout.dataMembers) }

    /// Stores that have a member that writes go to.
    public var storesInUse: Set<Identifier> {
        Set((entries + moves.map(\.entry)).lazy.filter { $0.state != .stale }.map { stores[$0.ost] })
    }

    /// Members in sync of the placement that has the fewest.
    public var inSyncMin: Int { inSyncMin { _ in true } }

    /// The same of those whose store satisfies the condition.
    private func inSyncMin(where isCounted: (Identifier) -> Bool) -> Int {
        let isCounted = stores.map(isCounted)
        return (0..<placementCount).map { placement in
            entries[placement * members..<(placement + 1) * members].count { $0.state == .inSync && isCounted[$0.ost] }
        }.min() ?? 0
    }

    /// Placements that have nobody in sync but this store.
    func lastPlacements(on store: Identifier) -> Int {
        (0..<placementCount).count { placement in
            let inSync = entries[placement * members..<(placement + 1) * members].filter { $0.state == .inSync }
            return inSync.count == 1 && stores[inSync[0].ost] == store
        }
    }

    public func count(_ state: MemberState) -> Int { entries.count { $0.state == state } }

    func inSync(in placement: Int) -> Int {
        entries[placement * members..<(placement + 1) * members].count { $0.state == .inSync }
    }

    /// With what is known of its OSTs; those that are not known keep their place without an address.
    public func map(_ osts: [Identifier: OSTRecord], incarnation: UInt64 = 0) -> VolumeMap {
        func index(_ store: Identifier) -> Int {
            guard let index = stores.firstIndex(of: store) else { unreachable("\(store) keeps nothing of '\(object.name)'") }
            return index
        }
        return VolumeMap(
            object: object, floor: floor, belowFloor: belowFloor,
            osts: stores.map { store in
                let ost = osts[store]?.registration
                return OSTEntry(
                    store: store, mountCounter: ost?.mountCounter ?? 0, host: ost?.host ?? "", endpoints: ost?.endpoints ?? [])
            },
            membersPerPlacement: members, entries: entries, incarnation: incarnation, level: level, objectBytes: objectBytes,
            resizes: resizes, unresized: unresized.map { VolumeMap.Unresized(ost: index($0.store), cut: $0.cut) },
            bases: bases.map { VolumeMap.FillBase(ost: index($0.store), version: $0.version) }, moves: moves)
    }

    /// As a volume record has it. What is not in there is not needed: nobody makes or removes its objects.
    init(_ map: VolumeMap) {
        func store(_ index: Int) -> Identifier { map.osts[index].store }
        object = map.object
        level = map.level
        floor = map.floor
        belowFloor = map.belowFloor
        state = .ready
        maker = .zero
        nonce = .zero
        objectBytes = map.objectBytes
        resizes = map.resizes
        unresized = map.unresized.map { Unresized(store: store($0.ost), cut: $0.cut) }
        unremoved = []
        bases = map.bases.map { FillBase(store: store($0.ost), version: $0.version) }
        stores = map.osts.map(\.store)
        entries = map.entries
        moves = map.moves
        strays = []
        // Who has heard of what is not in the map.
        left = map.object.map
    }

    /// `isHeard`: whether a store shows that it is there.
    public func summary(hasWriter: Bool, stalled: Int = 0, isHeard: (Identifier) -> Bool) -> VolumeSummary {
        let isHeardOf = stores.map(isHeard)
        return VolumeSummary(
            object: object, level: level, floor: floor, placements: placementCount, state: state, hasWriter: hasWriter,
            stale: count(.stale), filling: count(.filling), inSyncMin: inSyncMin, unresized: unresized.count, belowFloor: belowFloor,
            away: entries.count { $0.state == .inSync && !isHeardOf[$0.ost] }, reachableMin: inSyncMin(where: isHeard),
            stalled: stalled)
    }

    /// How it stands with each of its OSTs.
    public var health: [VolumeHealthReply.Member] {
        stores.enumerated().map { index, store in
            func count(_ state: MemberState) -> Int { entries.count { $0.ost == index && $0.state == state } }
            return VolumeHealthReply.Member(
                store: store, inSync: count(.inSync), stale: count(.stale), filling: count(.filling), last: lastPlacements(on: store),
                sinceMilliseconds: bases.first { $0.store == store }?.sinceMilliseconds ?? 0)
        }
    }

    /// That it can be opened, changed and asked about.
    public func checkUsable() throws(Failure) {
        switch state {
        case .ready: return
        case .creating: throw Failure(.busy, "'\(object.name)' is just being made; try again in a moment")
        case .removing: throw Failure(.notFound, "there is no volume '\(object.name)', it is being removed")
        }
    }

    // The changes. Each returns whether there is anything to put.

    /// For a writer: a generation above all before. Who asks again with the same nonce has it already, unless another has opened the volume
    /// in between: then he gets one more, and the one whose answer was lost is nobody's. Members that are being filled become stale, since
    /// the recovery does not know what the new writer will do.
    mutating func raise(nonce: Identifier) throws(Failure) -> Bool {
        try checkUsable()
        guard nonce != .zero else {
            throw Failure(.invalidArgument, "an open for writing needs a nonce, so that it can be asked again without opening twice")
        }
        if self.nonce == nonce { return false }
        self.nonce = nonce
        object.generation += 1
        guard entries.contains(where: { $0.state == .filling }) || moves.contains(where: { $0.entry.state == .filling }) else {
            return true
        }
        object.map += 1
        for index in entries.indices where entries[index].state == .filling { makeStale(index) }
        for index in moves.indices where moves[index].entry.state == .filling { makeMoveStale(index) }
        return true
    }

    /// That the generation is the last one granted.
    public func check(generation: UInt64) throws(Failure) {
        try checkUsable()
        if generation < object.generation {
            throw Failure(
                .fenced, "another writer has opened '\(object.name)': generation \(object.generation) was granted after \(generation)")
        }
        guard generation == object.generation else {
            throw Failure(
                .wrongStore,
                "generation \(generation) of '\(object.name)' is above the catalogue's, which is \(object.generation): the catalogue is an "
                    + "old copy; restore the newest one, or rebuild it")
        }
    }

    /// For the writer of this generation: members on these stores do not count any more, except where one is the last: that stays in sync,
    /// and its placement waits for it. Refused if that is so everywhere. `milliseconds`: since 1970, when that is; 0 where nobody asks.
    /// `fill`: only members that are being filled since that map number; 0: all.
    mutating func exclude(
        _ excluded: Set<Identifier>, generation: UInt64, base: Version, fill: UInt64 = 0, at milliseconds: UInt64 = 0
    ) throws(Failure) -> Bool {
        try check(generation: generation)
        func isOn(_ index: Int) -> Bool { excluded.contains(stores[entries[index].ost]) }
        func isMeant(_ entry: MemberEntry) -> Bool { fill == 0 || entry.state == .filling && entry.changed == fill }
        let wanted = entries.indices.filter { entries[$0].state != .stale && isOn($0) && isMeant(entries[$0]) }
        var leaving: [Int] = []
        for placement in Set(wanted.map { $0 / members }).sorted() {
            var spare = inSync(in: placement) - inSyncNeeded
            for index in wanted where index / members == placement {
                if entries[index].state == .inSync {
                    guard spare > 0 else { continue }
                    spare -= 1
                }
                leaving.append(index)
            }
        }
        let interrupted = moves.indices.filter {
            moves[$0].entry.state == .filling && excluded.contains(stores[moves[$0].entry.ost]) && isMeant(moves[$0].entry)
        }
        if leaving.isEmpty, interrupted.isEmpty {
            // Asked again after an answer was lost.
            if wanted.isEmpty || entries.indices.contains(where: { entries[$0].state == .stale && isOn($0) }) { return false }
            throw Failure(
                .unavailable,
                "without \(excluded.sorted().map(\.description).joined(separator: ", ")) "
                    + "placement \(wanted[0] / members) of '\(object.name)' "
                    + "has \(inSyncNeeded - 1) up-to-date members and needs \(inSyncNeeded): nothing was changed; bring an OST back")
        }
        object.map += 1
        if leaving.contains(where: { entries[$0].state == .inSync }) { left = object.map }
        for index in leaving { makeStale(index) }
        for index in interrupted { makeMoveStale(index) }
        for ost in Set(leaving.map { entries[$0].ost }).sorted() { lower(base, of: stores[ost], at: milliseconds) }
        return true
    }

    /// The lowest of all counts since some member of the store left; and the time of the first of them.
    mutating func lower(_ base: Version, of store: Identifier, at milliseconds: UInt64) {
        if let known = bases.firstIndex(where: { $0.store == store }) {
            bases[known].version = min(bases[known].version, base)
        } else {
            bases.append(FillBase(store: store, version: base, sinceMilliseconds: milliseconds))
        }
    }

    /// The writer brings members up to date that were away: those on these stores get every write from now on. `base`: up to where they
    /// have everything; the lowest of all attempts counts.
    mutating func beginFill(
        _ filled: Set<Identifier>, generation: UInt64, base: Version, at milliseconds: UInt64 = 0
    ) throws(Failure) -> Bool {
        try check(generation: generation)
        // Those of an attempt that came to nothing begin anew with the others.
        let joining = entries.indices.filter { entries[$0].state != .inSync && filled.contains(stores[entries[$0].ost]) }
        let moving = moves.indices.filter { filled.contains(stores[moves[$0].entry.ost]) }
        if joining.isEmpty, moving.isEmpty { return false }
        // What is written behind a cut that it has missed would be lost there when the cut is made up for.
        if let behind = unresized.first(where: { filled.contains($0.store) }) {
            throw Failure(
                .unavailable,
                "OST \(behind.store) has not gone along with a resize of '\(object.name)' yet; the metadata server tells it first")
        }
        object.map += 1
        for index in joining {
            entries[index].state = .filling
            entries[index].changed = object.map
        }
        for index in moving {
            moves[index].entry.state = .filling
            moves[index].entry.changed = object.map
        }
        if mutated(.movesBeforeFilled) { replaceEarly(moving.map { moves[$0] }) }
        // What moves there has nothing yet, whatever that OST has besides.
        for ost in Set(joining.map { entries[$0].ost }).sorted() { lower(base, of: stores[ost], at: milliseconds) }
        return true
    }

    /// The fill that began with map number `number` has brought everything, and it is on stable media.
    mutating func endFill(_ filled: Set<Identifier>, generation: UInt64, number: UInt64) throws(Failure) -> Bool {
        try check(generation: generation)
        let done = entries.indices.filter {
            (entries[$0].state == .filling && entries[$0].changed == number || mutated(.endsAnyFill) && entries[$0].state != .inSync)
                && filled.contains(stores[entries[$0].ost])
        }
        let arrived = moves.filter {
            $0.entry.state == .filling && $0.entry.changed == number && filled.contains(stores[$0.entry.ost])
        }
        if done.isEmpty, arrived.isEmpty { return false }
        object.map += 1
        for index in done {
            entries[index].state = .inSync
            entries[index].changed = object.map
        }
        for move in arrived { arrive(move) }
        relist()
        bases.removeAll { base in filled.contains(base.store) && !entries.contains { $0.state != .inSync && stores[$0.ost] == base.store } }
        return true
    }

    /// The writer of this generation has heard of map `number`, and no earlier one reads any more: those before it were waited for.
    mutating func settle(generation: UInt64, number: UInt64) throws(Failure) -> Bool {
        try check(generation: generation)
        guard left > 0, left <= number else { return false }
        left = 0
        return true
    }

    private mutating func makeStale(_ index: Int) {
        entries[index].state = .stale
        entries[index].changed = object.map
    }

    /// What is not said stays. The OSTs keep it with the map of the next number that they are handed.
    mutating func set(floor: Int?, belowFloor: BelowFloor?) throws(Failure) -> Bool {
        try checkUsable()
        let before = (self.floor, self.belowFloor)
        if let floor { self.floor = try VolumeRecord.check(floor: floor, members: members) }
        if let belowFloor { self.belowFloor = belowFloor }
        guard before != (self.floor, self.belowFloor) else { return false }
        object.map += 1
        return true
    }

    /// Returns it.
    static func check(floor: Int, members: Int) throws(Failure) -> Int {
        guard (1...members).contains(floor) else {
            throw Failure(
                .invalidArgument, "writes cannot go on with at least \(floor) replicas of \(members); the floor is 1 to \(members)")
        }
        return floor
    }

    /// All objects have been made by `maker`.
    mutating func becomeReady(by maker: Identifier) throws(Failure) -> Bool {
        guard state != .ready else { return false }
        guard state == .creating, self.maker == maker else {
            throw Failure(.closed, "'\(object.name)' was not finished in time, and what was made of it is being removed; create it again")
        }
        state = .ready
        return true
    }

    /// What was made of it is removed; not if all of it was made after all.
    mutating func cancelCreation() -> Bool {
        state == .creating && beginRemoval()
    }

    mutating func beginRemoval() -> Bool {
        guard state != .removing else { return false }
        state = .removing
        unremoved = everywhere
        unresized = []
        return true
    }

    /// Nothing of it was removed after all.
    mutating func cancelRemoval() -> Bool {
        guard state == .removing, unremoved == everywhere else { return false }
        state = .ready
        unremoved = []
        return true
    }

    mutating func removed(from gone: Set<Identifier>) -> Bool {
        guard state == .removing, unremoved.contains(where: gone.contains) else { return false }
        unremoved.removeAll(where: gone.contains)
        return true
    }

    /// The objects are to have this size. The volume is smaller at once, but larger only when they are. `generation`: of the writer who
    /// asks for it, or 0.
    mutating func beginResize(to bytes: UInt64, by generation: UInt64 = 0) throws(Failure) -> Bool {
        try checkUsable()
        if generation != 0 { try check(generation: generation) }
        try VolumeRecord.check(bytes: bytes, layout: object.layout)
        try ObjectRecord.check(cutTo: bytes, from: object.bytes)
        if bytes == object.bytes, bytes == objectBytes { return false }
        setObjectBytes(bytes)
        object.bytes = min(object.bytes, bytes)
        return true
    }

    private mutating func setObjectBytes(_ bytes: UInt64) {
        let cuts = Dictionary(uniqueKeysWithValues: unresized.map { ($0.store, $0.cut) })
        unresized = stores.map { Unresized(store: $0, cut: min(cuts[$0] ?? objectBytes, objectBytes, bytes)) }
        objectBytes = bytes
        resizes += 1
        // The OSTs that go along with it keep that they have.
        object.map += 1
    }

    /// The objects of these stores have their size, that of the resize with this number.
    mutating func resized(_ done: Set<Identifier>, number: UInt64) -> Bool {
        guard number == resizes, unresized.contains(where: { done.contains($0.store) }) else { return false }
        unresized.removeAll { done.contains($0.store) }
        let inUse = storesInUse
        if !unresized.contains(where: { inUse.contains($0.store) }) { object.bytes = objectBytes }
        return true
    }

    /// An OST that is needed has not taken part: the volume keeps its size, and the objects get it back by and by.
    mutating func cancelResize(number: UInt64) -> Bool {
        guard number == resizes, objectBytes > object.bytes else { return false }
        setObjectBytes(object.bytes)
        return true
    }

    static func check(bytes: UInt64, layout: Layout) throws(Failure) {
        try ObjectRecord.check(bytes: bytes)
        guard (bytes - 1) / layout.chunkBytes < UInt64(UInt32.max) else {
            throw Failure(.invalidArgument, "\(bytes) bytes are too many chunks of \(layout.chunkBytes); choose larger chunks")
        }
    }
}

extension VolumeRecord {
    func encodeFields(to body: inout BodyWriter) {
        body.put(object.id)
        body.put(object.name)
        body.put(object.bytes)
        body.put(object.layout.kind.rawValue)
        body.put(object.layout.chunkBytes)
        body.put(object.layout.dataMembers)
        body.put(object.layout.parityMembers)
        body.put(object.generation)
        body.put(object.map)
        body.put(object.createdMilliseconds)
        body.put(level.rawValue)
        body.put(UInt16(floor))
        body.put(belowFloor)
        body.put(state.rawValue)
        body.put(maker)
        body.put(nonce)
        body.put(objectBytes)
        body.put(resizes)
        body.put(UInt16(unresized.count))
        for entry in unresized {
            body.put(entry.store)
            body.put(entry.cut)
        }
        body.put(UInt16(unremoved.count))
        for store in unremoved { body.put(store) }
        body.put(UInt16(stores.count))
        for store in stores { body.put(store) }
        body.put(UInt16(bases.count))
        for base in bases {
            body.put(base.store)
            body.put(base.version.generation)
            body.put(base.version.sequence)
            body.put(base.sinceMilliseconds)
        }
        body.put(UInt32(entries.count))
        for entry in entries { body.put(entry) }
        encodeMoves(to: &body)
        body.put(left)
    }

    init(fields body: inout BodyReader) throws(Failure) {
        let id = try body.getIdentifier()
        let name = try body.getString()
        let bytes = try body.get(UInt64.self)
        let kind = try body.get(UInt8.self)
        guard let kind = Layout.Kind(rawValue: kind) else { throw Failure(.malformed, "layout \(kind) is unknown") }
        let layout = Layout(
            kind: kind, chunkBytes: try body.get(UInt64.self), dataMembers: try body.get(UInt16.self),
            parityMembers: try body.get(UInt16.self))
        object = ObjectRecord(
            id: id, name: name, bytes: bytes, layout: layout, generation: try body.get(UInt64.self), map: try body.get(UInt64.self),
            createdMilliseconds: try body.get(UInt64.self))
        let level = try body.get(UInt8.self)
        guard let level = SpreadLevel(rawValue: level) else { throw Failure(.malformed, "level \(level) is unknown") }
        self.level = level
        floor = Int(try body.get(UInt16.self))
        belowFloor = try body.getBelowFloor()
        let state = try body.get(UInt8.self)
        guard let state = VolumeSummary.State(rawValue: state) else { throw Failure(.malformed, "state \(state) is unknown") }
        self.state = state
        maker = try body.getIdentifier()
        nonce = try body.getIdentifier()
        objectBytes = try body.get(UInt64.self)
        resizes = try body.get(UInt64.self)
        unresized = []
        for _ in 0..<Int(try body.get(UInt16.self)) {
            unresized.append(Unresized(store: try body.getIdentifier(), cut: try body.get(UInt64.self)))
        }
        unremoved = []
        for _ in 0..<Int(try body.get(UInt16.self)) { unremoved.append(try body.getIdentifier()) }
        stores = []
        for _ in 0..<Int(try body.get(UInt16.self)) { stores.append(try body.getIdentifier()) }
        bases = []
        for _ in 0..<Int(try body.get(UInt16.self)) {
            bases.append(
                FillBase(
                    store: try body.getIdentifier(),
                    version: Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self)),
                    sinceMilliseconds: try body.get(UInt64.self)))
        }
        entries = []
        for _ in 0..<Int(try body.get(UInt32.self)) { entries.append(try body.getMemberEntry()) }
        (moves, strays) = try VolumeRecord.decodeMoves(from: &body)
        left = try body.get(UInt64.self)
        try checkInvariants()
    }

    /// Of what was read, and in debug builds of what is put.
    func checkInvariants() throws(Failure) {
        try object.layout.check()
        try map([:]).check()
        for placement in 0..<placementCount where inSync(in: placement) < inSyncNeeded {
            throw Failure(.malformed, "placement \(placement) has no member in sync")
        }
        try checkMoves()
        guard (entries + moves.map(\.entry)).allSatisfy({ $0.changed <= object.map && $0.incarnation <= object.map }) else {
            throw Failure(.malformed, "a member changed after map number \(object.map)")
        }
        guard left <= object.map else { throw Failure(.malformed, "a member left with map number \(left), which is above \(object.map)") }
        guard objectBytes >= object.bytes else {
            throw Failure(.malformed, "objects of \(objectBytes) bytes keep a volume of \(object.bytes)")
        }
    }
}
