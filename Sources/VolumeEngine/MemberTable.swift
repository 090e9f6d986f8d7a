import Base

/// Who keeps what, as the engine needs it: for each placement its members, each with the peer that keeps it and its state. Chunk i uses
/// placement i mod their number.
///
/// While members move to other OSTs every row has one seat more: that of the member that moves, where it is going to. It is never in sync
/// there: with that it takes its old seat. In rows without one the seat is empty, which is the same as stale.
public struct MemberTable: Hashable, Sendable {
    public enum State: UInt8, Hashable, Sendable {
        case inSync
        /// Was away for writes; knows nothing that counts.
        case stale
        /// Gets every write, and from somebody else what it lacks.
        case filling
    }

    public struct Member: Hashable, Sendable {
        /// Index of the OST among the volume's peers.
        public var peer: Int
        public var state: State
        public var incarnation: UInt64
        /// Which member of its placement it is, for the address of its parts: in its old seat and in the one that it moves to.
        public var number: UInt16

        /// Without a number: the one of its seat.
        public init(peer: Int, state: State = .inSync, incarnation: UInt64 = 0, number: UInt16 = .max) {
            self.peer = peer
            self.state = state
            self.incarnation = incarnation
            self.number = number
        }

        /// A seat that nobody has, since no member of its row moves.
        public static let nobody = Member(peer: 0, state: .stale, number: noNumber)
        static let noNumber = UInt16.max - 1

        /// Whether it takes part in writes and flushes.
        @inlinable
        public var takesWrites: Bool { state != .stale }
    }

    /// The map number.
    public var number: UInt64
    public var peerCount: Int
    /// Seats of each row.
    public var membersPerPlacement: Int
    /// The fewest members in sync with which writes of a placement go on.
    public var floor: Int
    /// How long a write waits for that many before it fails; nil: until its deadline.
    public var floorPatience: Interval?
    public private(set) var members: ContiguousArray<Member>
    /// What the OSTs keep of this map; it goes to them with its number.
    public private(set) var record: [UInt8]

    /// A volume that one OST keeps whole.
    public static let single = MemberTable(number: 0, peerCount: 1, membersPerPlacement: 1, members: [Member(peer: 0)])

    public init(
        number: UInt64, peerCount: Int, membersPerPlacement: Int, floor: Int = 1, floorPatience: Interval? = nil,
        members: ContiguousArray<Member>, record: [UInt8] = []
    ) {
        invariant(membersPerPlacement >= 1 && members.count % membersPerPlacement == 0, "\(members.count) members of a map")
        invariant(!members.isEmpty && members.allSatisfy { $0.peer < peerCount }, "a map of \(peerCount) peers names others")
        self.number = number
        self.peerCount = peerCount
        self.membersPerPlacement = membersPerPlacement
        self.floor = floor
        self.floorPatience = floorPatience
        self.members = members
        self.record = record
        for index in members.indices where members[index].number == .max {
            self.members[index].number = UInt16(truncatingIfNeeded: index % membersPerPlacement)
        }
    }

    public var placementCount: Int { members.count / membersPerPlacement }

    /// Whether writes can go on without this peer in some placement, and in each it has either another member in sync whose peer satisfies
    /// the condition, or is the last one, which stays.
    func couldDo(without peer: Int, _ isUsable: (Int) -> Bool) -> Bool {
        var isAnyFree = false
        var first = 0
        while first < members.count {
            let range = first..<first + membersPerPlacement
            first += membersPerPlacement
            guard range.contains(where: { members[$0].peer == peer && members[$0].takesWrites }) else { continue }
            let others = range.filter { members[$0].peer != peer && members[$0].state == .inSync }
            if others.contains(where: { isUsable(members[$0].peer) }) { isAnyFree = true } else if !others.isEmpty { return false }
        }
        return isAnyFree
    }

    /// Whether in some placement where this peer takes writes there is another one in sync that satisfies the condition.
    func shares(_ peer: Int, _ isBetter: (Int) -> Bool) -> Bool {
        var first = 0
        while first < members.count {
            let range = first..<first + membersPerPlacement
            first += membersPerPlacement
            guard range.contains(where: { members[$0].peer == peer && members[$0].takesWrites }) else { continue }
            let others = range.filter { members[$0].peer != peer && members[$0].state == .inSync }
            if others.contains(where: { isBetter(members[$0].peer) }) { return true }
        }
        return false
    }

    /// Whether this peer is being filled in some placement where the other one takes writes, too.
    func isFilling(_ peer: Int, beside other: Int) -> Bool {
        (0..<placementCount).contains { placement in
            let row = members[placement * membersPerPlacement..<(placement + 1) * membersPerPlacement]
            return row.contains { $0.peer == peer && $0.state == .filling } && row.contains { $0.peer == other && $0.takesWrites }
        }
    }

    /// Whether some member is not in sync. One that moves has a second seat, which says nothing of that as long as it is in sync in its
    /// first.
    var isAnyoneMissing: Bool {
        (0..<placementCount).contains { placement in
            let row = members[placement * membersPerPlacement..<(placement + 1) * membersPerPlacement]
            return row.contains { seat in
                seat.state != .inSync && seat.number != Member.noNumber
                    && !row.contains { $0.number == seat.number && $0.state == .inSync }
            }
        }
    }

    /// Whether any member of this peer takes writes.
    public func isUsed(_ peer: Int) -> Bool { members.contains { $0.peer == peer && $0.takesWrites } }
}

/// The members of a table in memory that does not move, for the data plane: reading an array there costs more than what is read.
struct MemberRows: ~Copyable {
    let members: UnsafeMutablePointer<MemberTable.Member>
    let count: Int
    /// Seats of a placement.
    let width: Int
    let placementCount: Int
    private(set) var floorPatience: Interval?
    /// Whether some placement has fewer members in sync than the floor.
    private(set) var isAnyBelowFloor = false
    /// Of each placement: since when that is so; `never`: it has enough.
    private let belowFloor: UnsafeMutablePointer<Instant>

    init(_ table: MemberTable) {
        count = table.members.count
        width = table.membersPerPlacement
        placementCount = table.placementCount
        members = .allocate(capacity: count)
        for index in 0..<count { (members + index).initialize(to: table.members[index]) }
        belowFloor = .allocate(capacity: placementCount)
        belowFloor.initialize(repeating: .never, count: placementCount)
        measureFloor(table, at: .zero)
    }

    deinit {
        members.deallocate()
        belowFloor.deallocate()
    }

    /// Those of the table that comes after this one. What lasted goes on.
    func followed(by table: MemberTable, at now: Instant) -> MemberRows {
        var next = MemberRows(table)
        for placement in 0..<placementCount { next.belowFloor[placement] = belowFloor[placement] }
        next.measureFloor(table, at: now)
        return next
    }

    /// Whether a peer takes writes in this row; it has one seat there at most that does.
    func takesWrites(_ peer: Int, in row: Range<Int>) -> Bool {
        for member in row where members[member].peer == peer && members[member].takesWrites { return true }
        return false
    }

    private mutating func measureFloor(_ table: MemberTable, at now: Instant) {
        floorPatience = table.floorPatience
        isAnyBelowFloor = false
        for placement in 0..<placementCount {
            var inSync = 0
            for member in placement * width..<(placement + 1) * width where members[member].state == .inSync { inSync += 1 }
            if inSync >= table.floor {
                belowFloor[placement] = .never
            } else {
                isAnyBelowFloor = true
                if belowFloor[placement] == .never { belowFloor[placement] = now }
            }
        }
    }

    func belowFloorSince(ofChunk chunk: UInt64) -> Instant { belowFloor[Int(chunk % UInt64(placementCount))] }

    /// Where the members of a placement stand in `members`.
    @inline(__always)
    func range(ofChunk chunk: UInt64) -> Range<Int> {
        let first = placementCount == 1 ? 0 : Int(chunk % UInt64(placementCount)) * width
        return first..<first + width
    }
}
