import Base
import Placement
import Testing

/// What cannot be placed, each with the sentence that says what is missing.
@Suite struct RefusalTests {
    private func expect(
        _ status: Status, _ sentence: String, _ cluster: [Candidate], members: Int = 3, level: FailureDomain.Level = .host,
        kind: Layout.Kind = .replicas, placements: Int = 8
    ) throws {
        let choice = try PlacementChoice(volume: volume(1), kind: kind, members: members, level: level)
        #expect(throws: Failure(status, sentence)) { try choice.table(of: cluster, placements: placements) }
    }

    @Test(arguments: [-1, 0, 65])
    func membersAreLimited(members: Int) {
        #expect(throws: Failure(.invalidArgument, "a layout has 1 to 64 members, not \(members)")) {
            try PlacementChoice(volume: volume(1), members: members)
        }
    }

    @Test(arguments: [0, 1025])
    func placementsAreLimited(placements: Int) throws {
        try expect(
            .invalidArgument, "a map has 1 to 1024 placements, not \(placements)", try hosts([[1], [1], [1]]), placements: placements)
    }

    @Test func tooFewHosts() throws {
        try expect(
            .invalidArgument, "3 replicas on different hosts need 3 hosts with space; there are 2: h0, h1", try hosts([[1, 1], [1, 1]]))
        try expect(
            .invalidArgument, "6 members on different hosts need 6 hosts with space; there is 1: h0", try hosts([[1, 1]]), members: 6,
            kind: .erasure)
    }

    @Test func tooFewHostsWithSpace() throws {
        let cluster = [
            try candidate(0, "a"), try candidate(1, "a"), try candidate(2, "b"), try candidate(3, "c", 0),
            try candidate(4, "d", takesParts: false),
        ]
        try expect(
            .noSpace, "3 replicas on different hosts need 3 hosts with space; there are 2: a, b; full, draining or away: c, d", cluster)
    }

    /// Where it is known, each that does not count says why.
    @Test func whatKeepsHostsFromHelpingIsNamed() throws {
        func candidate(_ number: Int, _ domain: String, _ obstacle: Candidate.Obstacle?) throws -> Candidate {
            Candidate(store: store(number), weight: 1, domain: try FailureDomain(domain), obstacle: obstacle)
        }
        let cluster = [
            try candidate(0, "a", nil), try candidate(1, "b", .away), try candidate(2, "c", .drained), try candidate(3, "d", .full),
            try candidate(4, "b", .full), try candidate(5, "a", .away),
        ]
        try expect(
            .noSpace,
            "3 replicas on different hosts need 3 hosts with space; there is 1: a; full, draining or away: b (away and full), c (drained), "
                + "d (full)", cluster)
        try expect(
            .noSpace, "no OST takes new parts (draining or away: 2, full: 1); add one, or free space", Array(cluster[1...3]))
    }

    @Test func tooFewOSTs() throws {
        try expect(
            .invalidArgument, "3 replicas on different OSTs need 3 OSTs with space; there are 2: \(store(0)), \(store(1))",
            try hosts([[1, 1]]), level: .ost)
    }

    @Test func unnamedRacksDoNotCount() throws {
        let cluster = [try candidate(0, "r1/a"), try candidate(1, "r2/b"), try candidate(2, "c"), try candidate(3, "d")]
        try expect(
            .invalidArgument,
            "3 replicas on different racks need 3 racks with space; there are 2: r1, r2; OSTs that do not name their rack: 2", cluster,
            level: .rack)
        try expect(
            .invalidArgument,
            "3 replicas on different rooms need 3 rooms with space; there are none; OSTs that do not name their room: 4", cluster,
            level: .room)
        // One member differs from nobody.
        _ = try PlacementChoice(volume: volume(1), members: 1, level: .room).table(of: cluster, placements: 8)
    }

    /// `a` may be the host that another OST calls `r1/a`; `r1/b` and `r2/b` are two.
    @Test func hostsThatMayBeTheSameCountOnce() throws {
        let cluster = [
            try candidate(0, "r1/a"), try candidate(1, "a"), try candidate(2, "x/r1/a"), try candidate(3, "r1/b"), try candidate(4, "r2/b"),
        ]
        try expect(
            .invalidArgument, "4 replicas on different hosts need 4 hosts with space; there are 3: a, r1/b, r2/b", cluster, members: 4)
    }

    @Test func longListsAreCut() throws {
        try expect(
            .invalidArgument,
            "20 replicas on different hosts need 20 hosts with space; there are 10: h0, h1, h2, h3, h4, h5, h6, h7 and 2 more",
            try hosts(Array(repeating: [1], count: 10)), members: 20)
    }

    @Test func noCandidateAtAll() throws {
        try expect(.noSpace, "the cluster has no OST; add one, then create the volume", [])
        try expect(
            .noSpace, "no OST takes new parts (draining or away: 1, full: 2); add one, or free space",
            [try candidate(0, "a", 0), try candidate(1, "b", 0), try candidate(2, "c", takesParts: false)])
    }

    @Test func storesAreListedOnce() throws {
        try expect(
            .invalidArgument, "OST \(store(1)) is listed twice; give each store an identifier of its own",
            [try candidate(1, "a"), try candidate(2, "b"), try candidate(1, "c"), try candidate(3, "d")])
    }
}
