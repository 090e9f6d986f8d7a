import Base
import Placement
import Testing

@Suite struct SpareTests {
    private let choice: PlacementChoice

    init() throws { choice = try PlacementChoice(volume: volume(1), members: 3) }

    @Test func spareIsInNoneOfTheRemainingDomains() throws {
        let cluster = try hosts(Array(repeating: [100, 200], count: 5))
        let hostByStore = Dictionary(uniqueKeysWithValues: cluster.map { ($0.store, $0.domain) })
        for (number, placement) in try choice.table(of: cluster, placements: 160).enumerated() {
            for lost in 0..<3 {
                let spare = try choice.spare(for: placement, number: number, lost: lost, of: cluster)
                var members = placement
                members[lost] = spare
                #expect(!placement.contains(spare))
                #expect(Set(members.compactMap { hostByStore[$0] }).count == 3, "member \(lost) of \(placement): \(spare)")
                #expect(try choice.spare(for: placement, number: number, lost: lost, of: cluster.reversed()) == spare)
            }
        }
    }

    /// What a lost OST kept goes to all others, by their weight.
    @Test func sparesAreSharedByWeight() throws {
        let cluster = try hosts([[100], [100], [100], [100], [200], [300], [50]])
        let placement = [store(0), store(100), store(200)]
        let spares = try (0..<4000).map { try choice.spare(for: placement, number: $0, lost: 1, of: cluster) }
        let rest = cluster.filter { !placement.contains($0.store) }
        #expect(Set(spares) == Set(rest.map(\.store)))
        #expect(worstDeviation([[spares]], from: rest) < 0.1)
    }

    @Test func hostOfTheLostMemberMayHelp() throws {
        let cluster = [try candidate(0, "a", takesParts: false), try candidate(1, "a"), try candidate(2, "b"), try candidate(3, "c")]
        #expect(try choice.spare(for: [store(0), store(2), store(3)], number: 0, lost: 0, of: cluster) == store(1))
    }

    /// Members that are away count: they are to come back.
    @Test func remainingMembersCountThoughTheyTakeNoParts() throws {
        let cluster = [
            try candidate(0, "a"), try candidate(1, "b", takesParts: false), try candidate(2, "b"), try candidate(3, "c", 0),
            try candidate(4, "c"), try candidate(5, "d", 1),
        ]
        for number in 0..<20 {
            #expect(try choice.spare(for: [store(0), store(1), store(3)], number: number, lost: 0, of: cluster) == store(5))
        }
    }

    @Test func spareThatIsMissingGetsASentence() throws {
        let cluster = [
            try candidate(0, "a"), try candidate(1, "b"), try candidate(2, "c"), try candidate(3, "c"), try candidate(4, "d", 0),
        ]
        #expect(
            throws: Failure(
                .noSpace,
                "no host with space is left for member 0 of placement 7; these keep the other members: b, c; full, draining or away: d; "
                    + "add one")
        ) { try choice.spare(for: [store(0), store(1), store(2)], number: 7, lost: 0, of: cluster) }
    }

    @Test func memberOfAnUnknownDomainGetsASentence() throws {
        let cluster = try hosts(Array(repeating: [1], count: 5))
        #expect(
            throws: Failure(
                .invalidArgument,
                "OST \(store(9999)) keeps another member, and its host is not known; tell it first, or replace that member")
        ) { try choice.spare(for: [store(0), store(9999), store(100)], number: 0, lost: 0, of: cluster) }
        let racks = try PlacementChoice(volume: volume(1), members: 2, level: .rack)
        #expect(throws: Failure.self) {
            try racks.spare(
                for: [store(0), store(1)], number: 0, lost: 0,
                of: [try candidate(0, "r1/a"), try candidate(1, "b"), try candidate(2, "r2/c")])
        }
    }
}
