import Base
import Placement

/// Clusters to place parts in, and what is measured on a table.

func store(_ number: Int) -> Identifier {
    Identifier(wallClockMilliseconds: 1_700_000_000_000 + UInt64(number), random: (UInt64(number), UInt64(number)))
}

func volume(_ number: Int) -> Identifier { Identifier(high: 0x0190_0000_0000_7000, low: UInt64(number)) }

func candidate(_ number: Int, _ domain: String, _ weight: UInt64 = 100, takesParts: Bool = true) throws -> Candidate {
    Candidate(store: store(number), weight: weight, domain: try FailureDomain(domain), takesParts: takesParts)
}

/// A host for each list, an OST for each weight in it.
func hosts(_ weights: [[UInt64]]) throws -> [Candidate] {
    try weights.enumerated().flatMap { host, weights in
        try weights.enumerated().map { try candidate(host * 100 + $0, "h\(host)", $1) }
    }
}

func partCounts(_ tables: [[[Identifier]]]) -> [Identifier: Double] {
    var counts: [Identifier: Double] = [:]
    for table in tables { for store in table.joined() { counts[store, default: 0] += 1 } }
    return counts
}

/// How far the OST that is farthest off has more or fewer parts than its share, as a part of that share. Each gets its weight's part of all
/// parts: for clusters in which no domain is too large for its share.
func worstDeviation(_ tables: [[[Identifier]]], from candidates: [Candidate]) -> Double {
    let counts = partCounts(tables)
    let parts = counts.values.reduce(0, +)
    let weight = candidates.reduce(0) { $0 + Double($1.weight) }
    return candidates.map { abs(counts[$0.store, default: 0] / (parts * Double($0.weight) / weight) - 1) }.max() ?? 0
}
