import Base
import Metadata
import Wire

/// Which members may lack something that they acknowledged, because their machine has lost power since or their store was loaded anew after
/// a failure of its disk.
///
/// Acknowledged data may be gone only when some placement has no member in sync left that is complete. A member becomes complete again by a
/// flush that began after its loss, or by a fill that began after it.
struct Losses: CustomStringConvertible {
    private struct Member {
        var state: MemberState
        var store: Identifier
        var lostAt: Instant?
        /// An old copy is in the place of its disk: no flush makes it complete.
        var isOld = false
        var fillBegan = Instant.zero
        var changed: UInt64 = 0

        mutating func filled() {
            guard let lostAt, lostAt < fillBegan else { return }
            self.lostAt = nil
            isOld = false
        }
    }

    private var members: [Member] = []
    /// By the number of the member: where it is moving to.
    private var moving: [Int: Member] = [:]
    private var membersPerPlacement = 1
    private(set) var map: UInt64 = 0
    /// A member was ever not in sync.
    private(set) var wasDegraded = false

    /// What the catalogue says now. Returns whether acknowledged data may be gone with it: nobody knew of a loss yet when a complete member
    /// was excluded.
    mutating func observe(_ volume: VolumeRecord, now: Instant) -> Bool {
        guard volume.object.map > map else { return false }
        let before = lacking
        map = volume.object.map
        membersPerPlacement = volume.members
        if members.isEmpty {
            members = volume.entries.map { Member(state: $0.state, store: volume.stores[$0.ost]) }
        }
        for (index, entry) in volume.entries.enumerated() where volume.stores[entry.ost] != members[index].store {
            // It has arrived, or is not there at all, which others find out.
            guard var arrived = moving.removeValue(forKey: index) else { continue }
            arrived.filled()
            arrived.state = entry.state
            members[index] = arrived
            wasDegraded = true
        }
        moving = moving.filter { index, member in
            volume.moves.contains { $0.placement * volume.members + $0.member == index && volume.stores[$0.entry.ost] == member.store }
        }
        for move in volume.moves {
            let (index, store) = (move.placement * volume.members + move.member, volume.stores[move.entry.ost])
            var member = moving[index] ?? Member(state: .stale, store: store)
            if move.entry.state == .filling, member.changed != move.entry.changed { member.fillBegan = now }
            member.changed = move.entry.changed
            member.state = move.entry.state
            moving[index] = member
        }
        for (index, entry) in volume.entries.enumerated() where entry.state != members[index].state {
            if entry.state == .filling { members[index].fillBegan = now }
            if entry.state == .inSync { members[index].filled() }
            members[index].state = entry.state
            wasDegraded = true
        }
        return lacking.contains { !before.contains($0) }
    }

    /// Stores on which members began to be filled, or came to be in sync.
    func fillsChanged(since before: Losses) -> [(store: Identifier, hasBegun: Bool)] {
        var found: [(store: Identifier, hasBegun: Bool)] = []
        for (member, old) in zip(members, before.members) where member.state != old.state && member.state != .stale {
            if !found.contains(where: { $0.store == member.store }) { found.append((member.store, member.state == .filling)) }
        }
        for index in moving.keys.sorted() {
            guard let member = moving[index], member.state == .filling, before.moving[index]?.state != .filling else { continue }
            if !found.contains(where: { $0.store == member.store }) { found.append((member.store, true)) }
        }
        return found
    }

    /// Placements without a member in sync that is complete, by their first members.
    private var lacking: [Int] {
        stride(from: 0, to: members.count, by: membersPerPlacement).filter { first in
            members[first..<first + membersPerPlacement].allSatisfy { $0.state != .inSync || $0.lostAt != nil }
        }
    }

    /// The store has lost what was not durable. Returns whether acknowledged data may be gone with it.
    mutating func lost(_ store: Identifier, now: Instant) -> Bool {
        for index in members.indices where members[index].store == store { members[index].lostAt = now }
        for (index, member) in moving where member.store == store { moving[index]?.lostAt = now }
        return !lacking.isEmpty
    }

    /// An old copy is in the place of the disk, until the newest one is back or the old one is brought up to date.
    mutating func wentBack(_ store: Identifier) {
        for index in members.indices where members[index].store == store { members[index].isOld = true }
    }

    mutating func cameBack(_ store: Identifier) {
        for index in members.indices where members[index].store == store { members[index].isOld = false }
    }

    /// Whether some member of it is in sync.
    func counts(_ store: Identifier) -> Bool { members.contains { $0.store == store && $0.state == .inSync } }

    /// Whether it has members in sync, and no others.
    func isInSync(_ store: Identifier) -> Bool {
        let own = members.filter { $0.store == store }
        return !own.isEmpty && own.allSatisfy { $0.state == .inSync } && !moving.values.contains { $0.store == store }
    }

    /// Whether every placement has a complete member in sync somewhere else.
    func canSpare(_ store: Identifier) -> Bool {
        stride(from: 0, to: members.count, by: membersPerPlacement).allSatisfy { first in
            members[first..<first + membersPerPlacement].contains { $0.store != store && $0.state == .inSync && $0.lostAt == nil }
        }
    }

    /// Whether every other member in sync of a chunk's placement may lack something: what is damaged here nobody else has for certain.
    func isOnlyComplete(_ store: Identifier, chunk: UInt64) -> Bool {
        guard !members.isEmpty else { return false }
        let first = Int(chunk % UInt64(members.count / membersPerPlacement)) * membersPerPlacement
        let others = members[first..<first + membersPerPlacement].filter { $0.store != store && $0.state == .inSync }
        return !others.isEmpty && others.allSatisfy { $0.lostAt != nil }
    }

    /// What only one member has left may be damaged there.
    mutating func noteDamage() { wasDegraded = true }

    var description: String {
        stride(from: 0, to: members.count, by: membersPerPlacement).map { first in
            members[first..<first + membersPerPlacement].map { "\($0.state)" + ($0.lostAt == nil ? "" : "?") }.joined(separator: "+")
        }.joined(separator: " ")
    }

    /// A flush that began then has ended well.
    mutating func flushed(began: Instant) {
        for index in members.indices where members[index].state == .inSync && !members[index].isOld {
            if let lost = members[index].lostAt, lost < began { members[index].lostAt = nil }
        }
    }
}
