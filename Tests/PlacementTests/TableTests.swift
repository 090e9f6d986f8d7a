import Base
import Placement
import Testing

@Suite struct TableTests {
    @Test(arguments: [1, 2, 3])
    func partsAreSharedByWeight(members: Int) throws {
        let cluster = try hosts([[100], [200], [300], [400], [100], [250], [300], [400], [120], [380]])
        let table = try PlacementChoice(volume: volume(1), members: members).table(of: cluster, placements: 1024)
        #expect(worstDeviation([table], from: cluster) < 0.03)
    }

    /// Chance alone would leave some of them twenty parts off.
    @Test func everyOSTIsAboutOnePartOffItsShare() throws {
        for number in [12, 24, 48] {
            let cluster = try hosts((0..<number).map { [UInt64(100 + $0 * 37 % 300)] })
            let placements = PlacementChoice.count(chunks: 1 << 20, osts: number)
            let counts = partCounts([try PlacementChoice(volume: volume(number), members: 3).table(of: cluster, placements: placements)])
            let weight = cluster.reduce(0) { $0 + Double($1.weight) }
            for candidate in cluster {
                let share = Double(3 * placements) * Double(candidate.weight) / weight
                #expect(abs(counts[candidate.store, default: 0] - share) < 1.5, "\(number) OSTs: \(candidate)")
            }
        }
    }

    /// The check of proportionality can fail: it does for a table that was chosen without regard to the weights.
    @Test func choiceWithoutWeightsIsNotTakenForOneByWeight() throws {
        let cluster = try hosts([[100], [200], [300], [400], [100], [250], [300], [400], [120], [380]])
        let unweighted = cluster.map { Candidate(store: $0.store, weight: 1, domain: $0.domain) }
        let table = try PlacementChoice(volume: volume(1), members: 3).table(of: unweighted, placements: 1024)
        #expect(worstDeviation([table], from: unweighted) < 0.03)
        #expect(worstDeviation([table], from: cluster) > 0.5)
    }

    /// Twelve disks in one host, two or one in others: each disk gets the same.
    @Test func largeAndSmallHostsShareByWeight() throws {
        let cluster = try hosts([12, 12, 6, 6, 4, 2, 2, 1].map { Array(repeating: 4000, count: $0) })
        let table = try PlacementChoice(volume: volume(2), members: 3).table(of: cluster, placements: 1024)
        #expect(worstDeviation([table], from: cluster) < 0.03)
        let uneven = try hosts([[100, 900], [500, 500], [300, 300, 400], [1000], [50, 50, 900]])
        let other = try PlacementChoice(volume: volume(2), members: 2).table(of: uneven, placements: 1024)
        #expect(worstDeviation([other], from: uneven) < 0.03)
    }

    /// A host with most of the space is in every placement once; what is left is shared by the others.
    @Test func tooLargeAHostIsInEveryPlacement() throws {
        let cluster = try hosts([[5000, 5000], [100], [200], [300]])
        let table = try PlacementChoice(volume: volume(3), members: 3).table(of: cluster, placements: 600)
        let counts = partCounts([table])
        #expect((299...301).contains(counts[store(0), default: 0]) && (299...301).contains(counts[store(1), default: 0]))
        // 1,200 parts for weights of 1 to 3, but none has more than one of each placement.
        #expect((199...201).contains(counts[store(100), default: 0]))
        #expect((399...401).contains(counts[store(200), default: 0]))
        #expect((599...600).contains(counts[store(300), default: 0]))
    }

    @Test func manySmallVolumesShareByWeight() throws {
        let cluster = try hosts([[100, 100], [200, 200], [300], [400], [100], [250], [300], [400]])
        for (placements, volumes) in [(1, 12_000), (8, 2000), (40, 400)] {
            let tables = try (0..<volumes).map {
                try PlacementChoice(volume: volume($0), members: 3).table(of: cluster, placements: placements)
            }
            let deviation = worstDeviation(tables, from: cluster)
            #expect(deviation < 0.1, "\(placements) placements: \(deviation)")
        }
    }

    @Test(arguments: FailureDomain.Level.allCases)
    func membersLieInDifferentDomains(level: FailureDomain.Level) throws {
        var cluster: [Candidate] = []
        for number in 0..<96 {
            let (room, rack, host) = (number / 24, number / 8, number / 2)
            cluster.append(try candidate(number, "room\(room)/rack\(rack)/host\(host)", UInt64(100 + number * 7)))
        }
        let domains = Dictionary(
            uniqueKeysWithValues: cluster.map { candidate -> (Identifier, String) in
                let domain = candidate.domain
                return switch level {
                case .ost: (candidate.store, candidate.store.description)
                case .host: (candidate.store, domain.description)
                case .rack: (candidate.store, domain.rack ?? "")
                case .room: (candidate.store, domain.room ?? "")
                }
            })
        let table = try PlacementChoice(volume: volume(4), members: 4, level: level).table(of: cluster, placements: 300)
        #expect(table.count == 300)
        for placement in table { #expect(Set(placement.compactMap { domains[$0] }).count == 4, "\(placement)") }
        #expect(partCounts([table]).count == cluster.count)
    }

    @Test func asManyMembersAsHosts() throws {
        let cluster = try hosts([[100, 300], [1, 7, 9], [90]])
        let table = try PlacementChoice(volume: volume(5), members: 3).table(of: cluster, placements: 100)
        #expect(table.allSatisfy { Set($0).count == 3 })
        #expect((24...26).contains(partCounts([table])[store(0), default: 0]))
    }

    @Test func sameVolumeGetsTheSameTable() throws {
        let cluster = try hosts([[100, 50], [200], [300], [400]])
        let choice = try PlacementChoice(volume: volume(6), members: 2)
        let table = try choice.table(of: cluster, placements: 64)
        #expect(try choice.table(of: cluster.reversed(), placements: 64) == table)
        // Pinned: the choice is the same on every machine and in every build.
        let digest = table.joined().reduce(0) { ($0 &* 31) &+ $1.low }
        #expect(digest == 11_300_025_273_137_445_026)
    }

    @Test func volumesAreSpreadDifferently() throws {
        let cluster = try hosts(Array(repeating: [100], count: 12))
        let tables = try (0..<2).map { try PlacementChoice(volume: volume($0), members: 3).table(of: cluster, placements: 384) }
        // One in 220 sets of three is the same by chance.
        #expect(zip(tables[0], tables[1]).count { Set($0) == Set($1) } < 12)
    }

    /// What one OST kept is rebuilt from all others.
    @Test func placementsOfOneOSTAreSharedWithAllOthers() throws {
        let cluster = try hosts(Array(repeating: [100], count: 12))
        let table = try PlacementChoice(volume: volume(7), members: 3).table(of: cluster, placements: 384)
        for candidate in cluster {
            #expect(Set(table.filter { $0.contains(candidate.store) }.joined()).count == 12)
        }
    }

    @Test func positionsMeetEveryOSTAlike() throws {
        let cluster = try hosts([[1000], [100], [100], [100]])
        let table = try PlacementChoice(volume: volume(8), members: 3).table(of: cluster, placements: 900)
        for position in 0..<3 {
            #expect((260...340).contains(table.count { $0[position] == store(0) }))
        }
    }

    @Test func anotherOSTMovesLittleMoreThanItTakes() throws {
        let cluster = try hosts([[100, 100], [200], [300], [400], [100], [250], [300], [400], [120], [380]])
        let larger = cluster + [try candidate(2000, "new", 300)]
        let choice = try PlacementChoice(volume: volume(9), members: 3)
        let (before, after) = (try choice.table(of: cluster, placements: 1024), try choice.table(of: larger, placements: 1024))
        let taken = partCounts([after])[store(2000), default: 0]
        let moved = zip(before, after).reduce(0) { $0 + Set($1.1).subtracting($1.0).count }
        #expect(Double(moved) < 1.3 * taken, "\(moved) moved, \(taken) taken")
        // All members of another volume are others, as the check would notice.
        let other = try PlacementChoice(volume: volume(10), members: 3).table(of: larger, placements: 1024)
        #expect(Double(zip(before, other).reduce(0) { $0 + Set($1.1).subtracting($1.0).count }) > 5 * taken)
    }

    @Test(arguments: [(1, 5, 1), (0, 5, 1), (1 << 20, 3, 96), (50, 3, 50), (1 << 20, 32, 1024), (1 << 28, 10_000, 1024), (100, 0, 1)])
    func placementsAreCountedByOSTsAndChunks(chunks: UInt64, osts: Int, count: Int) {
        #expect(PlacementChoice.count(chunks: chunks, osts: osts) == count)
    }
}
