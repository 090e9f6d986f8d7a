import Base

/// Bodies of what is said to a metadata server, by clients and by OSTs.

/// What the writer of a volume may believe of one member of one placement.
public enum MemberState: UInt8, Sendable, Hashable, CaseIterable {
    /// It has every acknowledged write.
    case inSync = 1
    /// It may lack writes: neither read nor written until a recovery fills it.
    case stale = 2
    /// A recovery fills it: every write goes there too, no read does.
    case filling = 3
}

/// One member of one placement: where it is, and whether it has what it should.
public struct MemberEntry: Hashable, Sendable {
    /// Into `VolumeMap.osts`.
    public var ost: Int
    public var state: MemberState
    /// The map number at which the state became what it is.
    public var changed: UInt64
    /// The map number at which the member was placed on this OST; part of the address of its parts.
    public var incarnation: UInt64

    public init(ost: Int, state: MemberState = .inSync, changed: UInt64, incarnation: UInt64) {
        self.ost = ost
        self.state = state
        self.changed = changed
        self.incarnation = incarnation
    }
}

/// A member on its way to another OST: the place that it will have there. Its place in the table counts until this one has everything, and
/// then is given up for it, in one change of the map.
public struct MemberMove: Hashable, Sendable {
    public var placement: Int
    /// Which of the placement's members.
    public var member: Int
    /// Stale or filling, never in sync. The incarnation tells its parts from whatever else that OST has, or had.
    public var entry: MemberEntry

    public init(placement: Int, member: Int, entry: MemberEntry) {
        self.placement = placement
        self.member = member
        self.entry = entry
    }
}

/// An OST that a map refers to, as it registered last.
public struct OSTEntry: Hashable, Sendable {
    public var store: Identifier
    /// Of its last registration. A daemon that says a smaller one in its hello serves an old copy of the disk.
    public var mountCounter: UInt64
    /// The machine it runs on, as that calls itself; empty where it is not known.
    public var host: String
    /// Where it listens, `HOST:PORT` each. Empty: it has not registered since the catalogue was rebuilt.
    public var endpoints: [String]

    public init(store: Identifier, mountCounter: UInt64, host: String, endpoints: [String]) {
        self.store = store
        self.mountCounter = mountCounter
        self.host = host
        self.endpoints = endpoints
    }

    /// The most that one takes in the body of a map.
    public static let bytesMax =
        16 + 8 + 2 + Limits.hostNameBytesMax + 1 + Limits.endpointsPerOSTMax * 2 + Limits.endpointsBytesMax
}

/// All that a client needs to know of a volume: chunk i has its members in placement i mod their number.
///
/// Its encoding is also the **volume record**: whoever hands an OST a new map number hands it the map of that number, so that the catalogue
/// can be rebuilt from the disks. Therefore the map says more than a client asks for: what the catalogue would lose otherwise.
///
/// Invariants, which `check` holds and no body without them is read: every placement has as many members as the layout says, on as many
/// different OSTs, each of which is listed; of each placement at most one member moves, to an OST that has none of them; every listed OST
/// is used; and the whole fits the body of one frame.
public struct VolumeMap: Message {
    /// Its generation is the one granted to the last writer, its map number that of all the states below.
    public var object: ObjectRecord
    /// The fewest members in sync with which writes of a placement go on.
    public var floor: Int
    /// And what they do otherwise.
    public var belowFloor: BelowFloor
    public var osts: [OSTEntry]
    public var membersPerPlacement: Int
    /// Placement by placement, each in the order of its members.
    public var entries: [MemberEntry]

    /// Of the catalogue that this comes from.
    public var incarnation: UInt64
    public var level: SpreadLevel
    /// The size that the objects on the OSTs get, and how often that has changed.
    public var objectBytes: UInt64
    public var resizes: UInt64
    public var unresized: [Unresized]
    public var bases: [FillBase]
    /// In the order of placements.
    public var moves: [MemberMove]

    /// An OST whose object may have another size than `objectBytes`, and to which size that must be cut first.
    public struct Unresized: Hashable, Sendable {
        /// Into `osts`.
        public var ost: Int
        public var cut: UInt64

        public init(ost: Int, cut: UInt64) {
            self.ost = ost
            self.cut = cut
        }
    }

    /// Up to where an OST with members that are not in sync had everything.
    public struct FillBase: Hashable, Sendable {
        /// Into `osts`.
        public var ost: Int
        public var version: Version

        public init(ost: Int, version: Version) {
            self.ost = ost
            self.version = version
        }
    }

    public init(
        object: ObjectRecord, floor: Int, belowFloor: BelowFloor = .wait, osts: [OSTEntry], membersPerPlacement: Int,
        entries: [MemberEntry], incarnation: UInt64 = 0, level: SpreadLevel = .host, objectBytes: UInt64? = nil, resizes: UInt64 = 0,
        unresized: [Unresized] = [], bases: [FillBase] = [], moves: [MemberMove] = []
    ) {
        self.object = object
        self.floor = floor
        self.belowFloor = belowFloor
        self.osts = osts
        self.membersPerPlacement = membersPerPlacement
        self.entries = entries
        self.incarnation = incarnation
        self.level = level
        self.objectBytes = objectBytes ?? object.bytes
        self.resizes = resizes
        self.unresized = unresized
        self.bases = bases
        self.moves = moves
    }

    public var placementCount: Int { entries.count / membersPerPlacement }

    public subscript(placement: Int, member: Int) -> MemberEntry {
        get { entries[placement * membersPerPlacement + member] }
        set { entries[placement * membersPerPlacement + member] = newValue }
    }

    /// The placement of a chunk.
    public func placement(ofChunk chunk: UInt64) -> Int { Int(chunk % UInt64(placementCount)) }

    public func ost(_ placement: Int, _ member: Int) -> OSTEntry { osts[self[placement, member].ost] }

    /// Members of a placement that are in this state.
    public func count(_ state: MemberState, in placement: Int) -> Int {
        (0..<membersPerPlacement).count { self[placement, $0].state == state }
    }

    /// The member of a placement that is on its way to another OST.
    public func move(in placement: Int) -> MemberMove? { moves.first { $0.placement == placement } }

    /// Whether any place on this OST, also one that a member is moving to, is in a state like this.
    public func has(_ isIt: (MemberState) -> Bool, on store: Identifier) -> Bool {
        guard let index = index(of: store) else { return false }
        return entries.contains { $0.ost == index && isIt($0.state) } || moves.contains { $0.entry.ost == index && isIt($0.entry.state) }
    }

    /// Where in `osts` a store is listed.
    public func index(of store: Identifier) -> Int? { osts.firstIndex { $0.store == store } }

    /// What a map with so much in it takes at most, whatever its OSTs call themselves.
    public static func bytesMax(osts: Int, entries: Int, moves: Int = 0) -> Int {
        recordBytesMax + 2 + 4 + 2 + osts * (OSTEntry.bytesMax + 10 + 18) + 2 + 2 + entries * entryBytes + 8 + 1 + 8 + 8 + 2 + 2 + 2
            + moves * (2 + 2 + entryBytes)
    }

    private static let recordBytesMax = 16 + 2 + Limits.nameBytesMax + 8 + 1 + 8 + 2 + 2 + 8 + 8 + 8
    private static let entryBytes = 2 + 1 + 8 + 8

    public func encode(to body: inout BodyWriter) {
        object.encode(to: &body)
        body.put(UInt16(floor))
        body.put(belowFloor)
        body.put(UInt16(osts.count))
        for ost in osts {
            body.put(ost.store)
            body.put(ost.mountCounter)
            body.put(ost.host)
            body.put(endpoints: ost.endpoints)
        }
        body.put(UInt16(membersPerPlacement))
        body.put(UInt16(placementCount))
        for entry in entries { body.put(entry) }
        body.put(incarnation)
        body.put(level.rawValue)
        body.put(objectBytes)
        body.put(resizes)
        body.put(UInt16(unresized.count))
        for entry in unresized {
            body.put(UInt16(entry.ost))
            body.put(entry.cut)
        }
        body.put(UInt16(bases.count))
        for base in bases {
            body.put(UInt16(base.ost))
            body.put(base.version.generation)
            body.put(base.version.sequence)
        }
        body.put(UInt16(moves.count))
        for move in moves {
            body.put(UInt16(move.placement))
            body.put(UInt16(move.member))
            body.put(move.entry)
        }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        object = try ObjectRecord(from: &body)
        floor = Int(try body.get(UInt16.self))
        belowFloor = try body.getBelowFloor()
        osts = []
        for _ in 0..<Int(try body.get(UInt16.self)) {
            osts.append(
                OSTEntry(
                    store: try body.getIdentifier(), mountCounter: try body.get(UInt64.self), host: try body.getString(),
                    endpoints: try body.getEndpoints()))
        }
        membersPerPlacement = Int(try body.get(UInt16.self))
        let placements = Int(try body.get(UInt16.self))
        entries = []
        for _ in 0..<placements * membersPerPlacement { entries.append(try body.getMemberEntry()) }
        incarnation = try body.get(UInt64.self)
        level = try body.getSpreadLevel()
        objectBytes = try body.get(UInt64.self)
        resizes = try body.get(UInt64.self)
        unresized = []
        for _ in 0..<Int(try body.get(UInt16.self)) {
            unresized.append(Unresized(ost: Int(try body.get(UInt16.self)), cut: try body.get(UInt64.self)))
        }
        bases = []
        for _ in 0..<Int(try body.get(UInt16.self)) {
            let ost = Int(try body.get(UInt16.self))
            bases.append(
                FillBase(ost: ost, version: Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self))))
        }
        moves = []
        for _ in 0..<Int(try body.get(UInt16.self)) {
            let placement = Int(try body.get(UInt16.self))
            moves.append(MemberMove(placement: placement, member: Int(try body.get(UInt16.self)), entry: try body.getMemberEntry()))
        }
        try check()
    }

    /// What every map keeps, wherever it comes from.
    public func check() throws(Failure) {
        let members = Int(object.layout.dataMembers) + Int(object.layout.parityMembers)
        guard membersPerPlacement == members, (1...Limits.membersMax).contains(members) else {
            throw Failure(.malformed, "a map has \(membersPerPlacement) members a placement, its layout \(members)")
        }
        guard (1...Limits.placementsMax).contains(entries.count / members), entries.count % members == 0 else {
            throw Failure(.malformed, "a map of \(members) members a placement has \(entries.count) of them altogether")
        }
        guard (1...members).contains(floor) else { throw Failure(.malformed, "a map of \(members) members has a floor of \(floor)") }
        guard Set(osts.map(\.store)).count == osts.count else { throw Failure(.malformed, "a map lists an OST twice") }
        var isUsed = [Bool](repeating: false, count: osts.count)
        for placement in 0..<placementCount {
            var taken: [Int] = []
            for member in 0..<members {
                let ost = self[placement, member].ost
                guard ost < osts.count, !taken.contains(ost) else {
                    throw Failure(.malformed, "member \(member) of placement \(placement) is on OST number \(ost) of \(osts.count)")
                }
                taken.append(ost)
                isUsed[ost] = true
            }
        }
        for (number, move) in moves.enumerated() {
            guard move.placement < placementCount, move.member < members, move.entry.ost < osts.count, move.entry.state != .inSync,
                number == 0 || moves[number - 1].placement < move.placement,
                (0..<members).allSatisfy({ self[move.placement, $0].ost != move.entry.ost })
            else {
                throw Failure(
                    .malformed,
                    "member \(move.member) of placement \(move.placement) is moving to OST number \(move.entry.ost), which cannot be")
            }
            isUsed[move.entry.ost] = true
        }
        guard !isUsed.contains(false) else { throw Failure(.malformed, "a map lists an OST that keeps nothing of the volume") }
        guard Set(unresized.map(\.ost)).count == unresized.count, Set(bases.map(\.ost)).count == bases.count,
            unresized.allSatisfy({ $0.ost < osts.count }), bases.allSatisfy({ $0.ost < osts.count })
        else { throw Failure(.malformed, "a map says of an OST what it has said of it before, or of one that it does not list") }
    }
}

/// Between which domains the members of a placement are spread.
public enum SpreadLevel: UInt8, Sendable, Hashable, CaseIterable {
    case ost = 1
    case host = 2
    case rack = 3
    case room = 4
}

/// Makes a volume. What is zero is chosen by the server.
public struct VolumeCreateRequest: Message {
    public var name: String
    public var bytes: UInt64
    public var layout: Layout
    public var level: SpreadLevel
    /// The fewest members in sync with which writes go on; 0: one (replicas), or as many as there are data members.
    public var floor: Int
    /// Rows of the table; 0: as many as suit the size and the number of OSTs.
    public var placements: Int
    public var belowFloor: BelowFloor

    public init(
        name: String, bytes: UInt64, layout: Layout, level: SpreadLevel = .host, floor: Int = 0, placements: Int = 0,
        belowFloor: BelowFloor = .wait
    ) {
        self.name = name
        self.bytes = bytes
        self.layout = layout
        self.level = level
        self.floor = floor
        self.placements = placements
        self.belowFloor = belowFloor
    }

    public func encode(to body: inout BodyWriter) {
        body.put(name)
        body.put(bytes)
        body.put(layout)
        body.put(level.rawValue)
        body.put(UInt16(floor))
        body.put(UInt16(placements))
        body.put(belowFloor)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        name = try body.getString()
        bytes = try body.get(UInt64.self)
        layout = try body.getLayout()
        level = try body.getSpreadLevel()
        floor = Int(try body.get(UInt16.self))
        placements = Int(try body.get(UInt16.self))
        belowFloor = try body.getBelowFloor()
    }
}

/// Opens a volume. For writing it raises the generation, once for each nonce: whoever asks again with the nonce of the last raise gets that
/// generation, and nothing is changed. The reply says in its header's argument whether an earlier writer may still read on members that
/// have left, so that this one has to wait. A header with a generation is that of a writer that comes back to a server: it only becomes the
/// volume's session there, and is `fenced` when a newer generation was granted.
///
/// The connection is the writer's session until it ends or the volume is closed on it. It is kept alive by a frame (a ping) at least every
/// `Limits.writerPingInterval`: one that is silent for `Limits.writerSilenceMax` gives way to the next who opens.
public struct VolumeOpenRequest: Message {
    public struct Flags: OptionSet, Hashable, Sendable {
        public var rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let write = Flags(rawValue: 1)
        /// Although another writer's session is alive.
        public static let force = Flags(rawValue: 2)
        static let known: UInt8 = 3
    }

    public var name: String
    public var flags: Flags
    public var nonce: Identifier

    public init(name: String, flags: Flags, nonce: Identifier = .zero) {
        self.name = name
        self.flags = flags
        self.nonce = nonce
    }

    public func encode(to body: inout BodyWriter) {
        body.put(name)
        body.put(flags.rawValue)
        body.put(nonce)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        name = try body.getString()
        let raw = try body.get(UInt8.self)
        guard raw & ~Flags.known == 0 else { throw Failure(.unsupported, "flags \(raw) of an open are unknown") }
        flags = Flags(rawValue: raw)
        nonce = try body.getIdentifier()
    }
}

/// Changes the state of all members of a volume on these OSTs, in one transaction. Which change it is the opcode says: an exclusion makes
/// them stale, a fill makes stale ones filling, and its end those in sync that the fill with the number in the header's argument began. An
/// exclusion with such a number makes only those stale.
public struct VolumeMembersRequest: Message {
    public var id: Identifier
    /// The writer's own: an older one is `fenced`.
    public var generation: UInt64
    public var stores: [Identifier]
    /// Of an exclusion or a fill: the version up to which the members have everything. The reply to a fill has in its header's generation
    /// and sequence the lowest that any has named since they became stale: what the members say of themselves moves on.
    public var base: Version

    public init(id: Identifier, generation: UInt64, stores: [Identifier], base: Version = .zero) {
        self.id = id
        self.generation = generation
        self.stores = stores
        self.base = base
    }

    public func encode(to body: inout BodyWriter) {
        body.put(id)
        body.put(generation)
        body.put(UInt16(stores.count))
        for store in stores { body.put(store) }
        body.put(base.generation)
        body.put(base.sequence)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        id = try body.getIdentifier()
        generation = try body.get(UInt64.self)
        stores = []
        for _ in 0..<Int(try body.get(UInt16.self)) { stores.append(try body.getIdentifier()) }
        base = Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self))
    }
}

/// Asks for a map, by id, or where that is zero by name.
public struct VolumeMapRequest: Message {
    public var id: Identifier
    public var name: String

    public init(id: Identifier) {
        self.id = id
        name = ""
    }

    public init(name: String) {
        id = .zero
        self.name = name
    }

    public func encode(to body: inout BodyWriter) {
        body.put(id)
        body.put(name)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        id = try body.getIdentifier()
        name = try body.getString()
    }
}

/// What the reply to `volumeMap` says beside the map, in its header's argument.
public struct VolumeMapNotes: Hashable, Sendable {
    /// A writer's session is alive at the server that answers.
    public var hasWriter: Bool
    public var level: SpreadLevel
    /// Objects on OSTs that have not learned the volume's size yet.
    public var unresized: Int
    /// Some member should be on another OST: its writer asks for `volumeReplace`.
    public var isMoveDue: Bool
    /// A member has left with this map or one before it, and nobody has said yet that no writer reads there any more: the one who has
    /// heard of it says `volumeSettle`.
    public var isUnsettled: Bool

    public init(hasWriter: Bool, level: SpreadLevel, unresized: Int, isMoveDue: Bool = false, isUnsettled: Bool = false) {
        self.hasWriter = hasWriter
        self.level = level
        self.unresized = unresized
        self.isMoveDue = isMoveDue
        self.isUnsettled = isUnsettled
    }

    public var argument: UInt64 {
        (hasWriter ? 1 : 0) | (isMoveDue ? 2 : 0) | (isUnsettled ? 4 : 0) | UInt64(level.rawValue) << 8 | UInt64(
            UInt16(clamping: unresized)) << 16
    }

    public init(argument: UInt64) throws(Failure) {
        let raw = UInt8(truncatingIfNeeded: argument >> 8)
        guard let level = SpreadLevel(rawValue: raw) else { throw Failure(.malformed, "level \(raw) of failure domains is unknown") }
        self.init(
            hasWriter: argument & 1 != 0, level: level, unresized: Int(UInt16(truncatingIfNeeded: argument >> 16)),
            isMoveDue: argument & 2 != 0, isUnsettled: argument & 4 != 0)
    }
}

/// The writer is done; its session on this connection ends. The body of `volumeSettle` is the same: with the map number in the header's
/// argument, no writer up to this one reads on members that have left with that map or before.
public struct VolumeCloseRequest: Message {
    public var id: Identifier
    public var generation: UInt64

    public init(id: Identifier, generation: UInt64) {
        self.id = id
        self.generation = generation
    }

    public func encode(to body: inout BodyWriter) {
        body.put(id)
        body.put(generation)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        id = try body.getIdentifier()
        generation = try body.get(UInt64.self)
    }
}

/// What a list tells of a volume: how it is made, and how well it is.
public struct VolumeSummary: Message {
    public enum State: UInt8, Sendable, Hashable, CaseIterable {
        case ready = 1
        /// Its objects are being made; it cannot be opened yet.
        case creating = 2
        /// Its objects are being removed; it cannot be opened any more.
        case removing = 3
    }

    public var object: ObjectRecord
    public var level: SpreadLevel
    public var floor: Int
    public var placements: Int
    public var state: State
    /// A writer's session is alive at the server that answers.
    public var hasWriter: Bool
    /// Members of all placements that are stale, and that are being filled.
    public var stale: Int
    public var filling: Int
    /// Members in sync of the placement that has the fewest.
    public var inSyncMin: Int
    /// Objects on OSTs that have not learned the volume's size yet.
    public var unresized: Int
    public var belowFloor: BelowFloor
    /// Members in sync on OSTs that the server that answers does not hear of: nobody may have missed them yet.
    public var away: Int
    /// As `inSyncMin`, without those.
    public var reachableMin: Int
    /// As its writer has told the server that answers: operations that keep blocks locked, since these cannot be made equal on all members.
    public var stalled: Int

    public init(
        object: ObjectRecord, level: SpreadLevel, floor: Int, placements: Int, state: State, hasWriter: Bool, stale: Int, filling: Int,
        inSyncMin: Int, unresized: Int, belowFloor: BelowFloor = .wait, away: Int = 0, reachableMin: Int? = nil, stalled: Int = 0
    ) {
        self.object = object
        self.level = level
        self.floor = floor
        self.placements = placements
        self.state = state
        self.hasWriter = hasWriter
        self.stale = stale
        self.filling = filling
        self.inSyncMin = inSyncMin
        self.unresized = unresized
        self.belowFloor = belowFloor
        self.away = away
        self.reachableMin = reachableMin ?? inSyncMin
        self.stalled = stalled
    }

    public func encode(to body: inout BodyWriter) {
        object.encode(to: &body)
        body.put(level.rawValue)
        body.put(UInt16(floor))
        body.put(UInt16(placements))
        body.put(state.rawValue)
        body.put(UInt8(hasWriter ? 1 : 0))
        body.put(UInt32(stale))
        body.put(UInt32(filling))
        body.put(UInt16(inSyncMin))
        body.put(UInt16(unresized))
        body.put(belowFloor)
        body.put(UInt32(away))
        body.put(UInt16(reachableMin))
        body.put(UInt32(clamping: stalled))
    }

    public init(from body: inout BodyReader) throws(Failure) {
        object = try ObjectRecord(from: &body)
        level = try body.getSpreadLevel()
        floor = Int(try body.get(UInt16.self))
        placements = Int(try body.get(UInt16.self))
        let raw = try body.get(UInt8.self)
        guard let state = State(rawValue: raw) else { throw Failure(.malformed, "state \(raw) of a volume is unknown") }
        self.state = state
        hasWriter = try body.get(UInt8.self) != 0
        stale = Int(try body.get(UInt32.self))
        filling = Int(try body.get(UInt32.self))
        inSyncMin = Int(try body.get(UInt16.self))
        unresized = Int(try body.get(UInt16.self))
        belowFloor = try body.getBelowFloor()
        away = Int(try body.get(UInt32.self))
        reachableMin = Int(try body.get(UInt16.self))
        stalled = Int(try body.get(UInt32.self))
    }
}

/// The volumes after a name in the order of names; an empty list is the end.
public struct VolumeListReply: Message {
    /// What a server puts into one answer; it fits whatever the names are.
    public static let countMax = 128

    public var volumes: [VolumeSummary]

    public init(volumes: [VolumeSummary]) { self.volumes = volumes }

    public func encode(to body: inout BodyWriter) {
        body.put(UInt16(volumes.count))
        for volume in volumes { volume.encode(to: &body) }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        volumes = []
        for _ in 0..<Int(try body.get(UInt16.self)) { volumes.append(try VolumeSummary(from: &body)) }
    }
}

extension BodyWriter {
    mutating func put(_ layout: Layout) {
        put(layout.kind.rawValue)
        put(layout.chunkBytes)
        put(layout.dataMembers)
        put(layout.parityMembers)
    }

    public mutating func put(_ entry: MemberEntry) {
        put(UInt16(entry.ost))
        put(entry.state.rawValue)
        put(entry.changed)
        put(entry.incarnation)
    }

    mutating func put(endpoints: [String]) {
        put(UInt8(endpoints.count))
        for endpoint in endpoints { put(endpoint) }
    }
}

extension BodyReader {
    mutating func getLayout() throws(Failure) -> Layout {
        let kind = try get(UInt8.self)
        guard let kind = Layout.Kind(rawValue: kind) else { throw Failure(.malformed, "layout \(kind) is unknown") }
        return Layout(
            kind: kind, chunkBytes: try get(UInt64.self), dataMembers: try get(UInt16.self), parityMembers: try get(UInt16.self))
    }

    public mutating func getMemberEntry() throws(Failure) -> MemberEntry {
        let ost = Int(try get(UInt16.self))
        let state = try get(UInt8.self)
        guard let state = MemberState(rawValue: state) else { throw Failure(.malformed, "member state \(state) is unknown") }
        return MemberEntry(ost: ost, state: state, changed: try get(UInt64.self), incarnation: try get(UInt64.self))
    }

    mutating func getSpreadLevel() throws(Failure) -> SpreadLevel {
        let raw = try get(UInt8.self)
        guard let level = SpreadLevel(rawValue: raw) else { throw Failure(.malformed, "level \(raw) of failure domains is unknown") }
        return level
    }

    /// `HOST:PORT` each; what an OST may say of itself and no more.
    mutating func getEndpoints() throws(Failure) -> [String] {
        var endpoints: [String] = []
        for _ in 0..<Int(try get(UInt8.self)) { endpoints.append(try getString(max: Limits.endpointsBytesMax)) }
        return endpoints
    }
}
