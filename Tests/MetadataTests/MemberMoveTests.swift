import Base
import MetaStore
import Placement
import Testing
import Wire

@testable import Metadata

private let stores = (1...5).map { Identifier(high: 7, low: UInt64($0)) }
private let maker = Identifier(high: 9, low: 9)

/// Ready, opened once, of two replicas: placements 0-1, 1-2, 2-0.
private func volume() throws -> VolumeRecord {
    var volume = VolumeRecord(
        object: ObjectRecord(id: Identifier(high: 1, low: 1), name: "vm1", bytes: 1 << 20, layout: Layout(dataMembers: 2)),
        level: .host, floor: 1, maker: maker, placements: [[stores[0], stores[1]], [stores[1], stores[2]], [stores[2], stores[0]]])
    _ = try volume.becomeReady(by: maker)
    _ = try volume.raise(nonce: maker)
    return volume
}

private func around(
    _ osts: Int, leaving: Set<Identifier> = [], lost: Set<Identifier> = [], unfit: Set<Identifier> = []
) throws -> VolumeRecord.Surroundings {
    VolumeRecord.Surroundings(
        candidates: try (0..<osts).map { Candidate(store: stores[$0], weight: 1 << 30, domain: try FailureDomain("h\($0)")) },
        leaving: leaving, lost: lost, unfit: unfit.union(leaving))
}

private func expect(_ holds: Bool, _ comment: Comment? = nil, at location: SourceLocation = #_sourceLocation) {
    #expect(holds, comment, sourceLocation: location)
}

/// Where members move, and what becomes of their old places.
@Suite struct MemberMoveTests {
    /// Asks for what is to be done, and does it.
    @discardableResult
    private func move(_ volume: inout VolumeRecord, _ around: VolumeRecord.Surroundings) throws -> VolumeRecord.MovePlan {
        let plan = try volume.plan(around)
        _ = try volume.expect(plan.targets)
        _ = try volume.move(plan, ready: Set(stores), generation: volume.object.generation)
        try volume.checkInvariants()
        return plan
    }

    @discardableResult
    private func fill(_ volume: inout VolumeRecord, _ store: Identifier) throws -> Bool {
        _ = try volume.beginFill([store], generation: volume.object.generation, base: Version(generation: 1, sequence: 5))
        let done = try volume.endFill([store], generation: volume.object.generation, number: volume.object.map)
        try volume.checkInvariants()
        return done
    }

    @Test func aMemberThatMovesCountsWhereItIsUntilItHasEverything() throws {
        var volume = try volume()
        let plan = try move(&volume, try around(4, leaving: [stores[0]]))
        expect(
            plan.wishes.map(\.to) == [stores[3], stores[1]] || plan.wishes.map(\.to) == [stores[2], stores[1]] || plan.wishes.count == 2)
        expect(
            volume.moves.map(\.placement) == [0, 2] && volume.moves.allSatisfy { $0.entry.state == .stale && $0.entry.incarnation == 2 })
        expect(volume.entries.allSatisfy { $0.state == .inSync } && volume.object.map == 2)
        for store in Set(plan.wishes.map(\.to)).sorted() {
            _ = try volume.beginFill([store], generation: 1, base: .zero)
            expect(volume.entries.allSatisfy { $0.state == .inSync } && volume.bases.isEmpty)
            expect(try volume.endFill([store], generation: 1, number: volume.object.map))
            expect(volume.entries.allSatisfy { $0.state == .inSync })
            expect(volume.left == volume.object.map, "a writer that does not hear of it reads at the old place")
        }
        try volume.checkInvariants()
        expect(volume.moves.isEmpty && !volume.stores.contains(stores[0]))
        expect(volume.strays == [VolumeRecord.Stray(store: stores[0], since: volume.object.map)] && volume.hasWork)
        for wish in plan.wishes {
            let entry = volume.entries[wish.placement * 2 + wish.member]
            expect(volume.stores[entry.ost] == wish.to && entry.incarnation == 2, "parts keep their address")
        }
        expect(volume.tidied([stores[0]]) && !volume.hasWork)
        expect(try volume.plan(try around(4, leaving: [stores[0]])).isEmpty)
    }

    @Test func whatIsStaleMovesWhenItsOSTIsLostAndNotBefore() throws {
        var volume = try volume()
        expect(try volume.plan(try around(4, lost: [stores[0]])).isEmpty, "one in sync stays")
        expect(!volume.isMoveDue(leaving: [], lost: [stores[0]], unfit: []))
        expect(try volume.exclude([stores[0]], generation: 1, base: .zero))
        expect(try volume.plan(try around(4)).isEmpty)
        expect(volume.isMoveDue(leaving: [], lost: [stores[0]], unfit: [stores[0]]))
        let lost = try around(4, lost: [stores[0]], unfit: [stores[0]])
        let plan = try move(&volume, lost)
        expect(plan.wishes.count == 2 && plan.wishes.allSatisfy { $0.from == stores[0] && $0.to != stores[0] })
        expect(!volume.isMoveDue(leaving: [], lost: [stores[0]], unfit: [stores[0]]))
        for store in plan.targets { try fill(&volume, store) }
        expect(volume.count(.inSync) == 6 && !volume.stores.contains(stores[0]) && volume.bases.isEmpty)
    }

    /// Everything that ends a fill ends that of a member that moves.
    @Test func aMoveIsEndedLikeAnyFill() throws {
        var volume = try volume()
        try move(&volume, try around(4, leaving: [stores[0]]))
        let target = volume.stores[volume.moves[0].entry.ost]
        expect(try volume.beginFill([target], generation: 1, base: .zero))
        let number = volume.object.map
        expect(try volume.exclude([target], generation: 1, base: .zero))
        expect(volume.moves.allSatisfy { $0.entry.state == .stale })
        expect(try !volume.endFill([target], generation: 1, number: number))
        expect(try volume.beginFill([target], generation: 1, base: .zero))
        expect(try volume.raise(nonce: stores[3]) && volume.moves.allSatisfy { $0.entry.state == .stale })
        try volume.checkInvariants()
        // Asked again, the same move changes nothing.
        let before = volume
        let plan = try volume.plan(try around(4, leaving: [stores[0]]))
        expect(plan.isEmpty)
        expect(try !volume.move(plan, ready: Set(stores), generation: 2) && volume == before)
    }

    @Test func aMoveThatIsOfNoUseIsGivenUp() throws {
        var volume = try volume()
        try move(&volume, try around(4, leaving: [stores[0]]))
        // Its OST is not to be left any more.
        var other = volume
        let undone = try move(&other, try around(4))
        expect(undone.dropped.count == 2 && other.moves.isEmpty && other.entries.allSatisfy { $0.state == .inSync })
        expect(other.stores == Array(stores[0..<3]) && other.strays.allSatisfy { $0.store == stores[3] })
        // Where it was going cannot be reached, or has no space. One that still has an object is not taken before that is gone.
        let targets = Set(volume.moves.map { volume.stores[$0.entry.ost] })
        let again = try move(&volume, try around(5, leaving: [stores[0]], unfit: targets))
        expect(again.dropped.count == 2)
        expect(again.wishes.count == 2 && again.wishes.allSatisfy { !targets.contains($0.to) })
        // One that is being filled goes on when its OST is only silent.
        let target = volume.stores[volume.moves[0].entry.ost]
        expect(try volume.beginFill([target], generation: 1, base: .zero))
        let rest = try volume.plan(try around(5, leaving: [stores[0]], unfit: [target]))
        expect(!rest.dropped.contains { volume.stores[$0.entry.ost] == target })
    }

    @Test func whereThereIsNoOSTTheSentenceSaysSo() throws {
        let volume = try volume()
        let plan = try volume.plan(try around(3, leaving: [stores[0], stores[1]]))
        let obstacle = plan.obstacle?.detail ?? ""
        expect(obstacle.contains("no OST to put a member of 'vm1' on") && obstacle.contains("h2"), "\(obstacle)")
        // Where both are to be left one can go, and the other follows when there is another OST.
        expect(plan.wishes.map(\.placement) == [0] && plan.wishes[0].to == stores[2])
    }

    /// One member of a placement at a time, and first what is missing.
    @Test func whatIsMissingComesFirst() throws {
        var volume = try volume()
        expect(try volume.exclude([stores[1]], generation: 1, base: .zero))
        let plan = try volume.plan(try around(5, leaving: [stores[0]], lost: [stores[1]], unfit: [stores[1]]))
        expect(plan.wishes.count == 3 && plan.wishes[0].from == stores[1] && plan.wishes[0].placement == 0)
    }

    @Test func aVolumeIsRemovedFromWhereverItMayBe() throws {
        var volume = try volume()
        let plan = try volume.plan(try around(4, leaving: [stores[0]]))
        expect(try volume.expect(plan.targets + [stores[4]]))
        let places = Set(volume.everywhere)
        expect(places.contains(stores[4]) && volume.beginRemoval() && Set(volume.unremoved) == places)
        expect(volume.cancelRemoval() && volume.hasWork)
        expect(volume.beginRemoval() && volume.removed(from: places) && volume.unremoved.isEmpty)
    }

    @Test func noMoreMoveThanAMapHasRoomFor() throws {
        var volume = VolumeRecord(
            object: ObjectRecord(id: Identifier(high: 1, low: 1), name: "vm1", bytes: 1 << 40, layout: Layout(dataMembers: 2)),
            level: .host, floor: 1, maker: maker, placements: (0..<200).map { _ in [stores[0], stores[1]] })
        _ = try volume.becomeReady(by: maker)
        _ = try volume.raise(nonce: maker)
        try move(&volume, try around(4, leaving: [stores[0]]))
        expect(volume.moves.count == Limits.movesMax && !volume.isMoveDue(leaving: [stores[0]], lost: [], unfit: []))
        for store in [stores[2], stores[3]] { try fill(&volume, store) }
        expect(volume.isMoveDue(leaving: [stores[0]], lost: [], unfit: []))
        try move(&volume, try around(4, leaving: [stores[0]]))
        for store in [stores[2], stores[3]] { try fill(&volume, store) }
        expect(!volume.stores.contains(stores[0]) && volume.moves.isEmpty)
    }
}
