import Base

/// Chooses the members of all placements at once, such that each OST gets its share of them.
///
/// Two things pull hashing away from the shares. Taking the first n that arrive leaves a large host too little: it cannot be taken twice.
/// And chance: with 96 parts an OST may expect ten more or less, and a volume that fills the cluster is full when its fullest OST is. So
/// the race is repeated with rates corrected by what came out, until every OST is less than one part off its share or the rounds are used
/// up. Such rates exist: they are the prices of a transport problem, placements on one side and OSTs on the other.
///
/// The arrivals stay as they are drawn, so that a table made with one OST more is much the same.
///
/// A table with few parts for each OST is left to the first race: were each OST kept within one part of 0.85, it would never have two, and
/// over many volumes too little. The first race is nearly right over many volumes; the lightest OSTs get too little, 12 percent in the
/// worst cluster measured, of four OSTs with weights of 3, 2, 2 and 1.
struct Levelling {
    private static let roundsMax = 48
    /// In the first rounds all rates are corrected, which leaves no bias; then only those of OSTs that are off, which comes to an end.
    private static let roundsForAll = 16
    /// Parts for the average OST from which on they are levelled.
    private static let partsMin = 8
    /// Arrivals looked at in all rounds together: a cluster of many thousand OSTs gets fewer rounds, and stays below a second or so.
    private static let workMax = 1 << 27

    /// Those of one domain side by side.
    private let stores: [Identifier]
    private let domains: [Range<Int>]
    private let members: Int
    private let placements: Int
    /// Of each placement one for each OST.
    private let arrivals: [Double]
    /// Parts that each OST should get.
    private let targets: [Double]
    private var rates: [Double]

    init(_ domains: [Domains.Domain], volume: Identifier, members: Int, placements: Int) {
        invariant(members <= domains.count, "\(members) members, \(domains.count) domains")
        var stores: [Identifier] = []
        var ranges: [Range<Int>] = []
        var targets: [Double] = []
        var rates: [Double] = []
        let weights = domains.map { $0.usable.reduce(0) { $0 + Double($1.weight) } }
        for (index, share) in shares(of: weights, members: members).enumerated() {
            let usable = domains[index].usable
            ranges.append(stores.count..<stores.count + usable.count)
            stores += usable.map(\.store)
            // The first member alone is chosen right by the weights themselves. Among n, who arrives by the time 1 is chosen.
            let rate = members == 1 ? share : share < 1 ? -logarithm(1 - share) : Self.certain
            for candidate in usable {
                let part = Double(candidate.weight) / weights[index]
                targets.append(share * part * Double(placements))
                rates.append(rate * part)
            }
        }
        arrivals = (0..<placements).flatMap { placement in
            let draw = Rendezvous(volume: volume, placement: placement, end: .member)
            return stores.map(draw.arrival)
        }
        self.stores = stores
        self.domains = ranges
        self.members = members
        self.placements = placements
        self.targets = targets
        self.rates = rates
    }

    /// The rate of a domain that is in every placement: far above all others.
    private static let certain = 1e9

    /// The stores of each placement.
    mutating func table() -> [[Identifier]] {
        var best: (picks: [Int], error: Double)?
        let isLevelled = placements * members >= Self.partsMin * stores.count
        for round in 0..<(isLevelled ? max(1, min(Self.roundsMax, Self.workMax / arrivals.count)) : 1) {
            let picks = firstToArrive()
            var counts = [Double](repeating: 0, count: stores.count)
            for pick in picks { counts[pick] += 1 }
            let errors = zip(counts, targets).map { abs($0 - $1) }
            let error = errors.reduce(0) { $0 + $1 * $1 }
            if error < best?.error ?? .infinity { best = (picks, error) }
            if errors.allSatisfy({ $0 < 1 }) { break }
            correct(counts, step: 4 / Double(4 + round), all: round < Self.roundsForAll)
        }
        let picks = best?.picks ?? []
        return (0..<placements).map { placement in picks[placement * members..<(placement + 1) * members].map { stores[$0] } }
    }

    /// For each placement the OSTs that arrive first, one of each domain.
    private func firstToArrive() -> [Int] {
        var picks: [Int] = []
        picks.reserveCapacity(placements * members)
        let factors = rates.map { 1 / $0 }
        var chosen: [(time: Double, ost: Int)] = []
        for placement in 0..<placements {
            chosen.removeAll(keepingCapacity: true)
            let base = placement * stores.count
            for domain in domains {
                var first = (time: Double.infinity, ost: domain.lowerBound)
                for ost in domain {
                    let time = arrivals[base + ost] * factors[ost]
                    if time < first.time { first = (time, ost) }
                }
                if chosen.count == members {
                    if first.time >= chosen[members - 1].time { continue }
                    chosen.removeLast()
                }
                let place = chosen.firstIndex { first.time < $0.time } ?? chosen.count
                chosen.insert(first, at: place)
            }
            for choice in chosen { picks.append(choice.ost) }
        }
        return picks
    }

    /// Moves the rates towards what would have given the targets: those of a domain together, then each among its siblings.
    private mutating func correct(_ counts: [Double], step: Double, all: Bool) {
        for domain in domains {
            let target = targets[domain].reduce(0, +)
            let count = counts[domain].reduce(0, +)
            let common = odds(target, of: Double(placements)) / odds(count, of: Double(placements))
            for ost in domain where all || abs(counts[ost] - targets[ost]) >= 1 {
                let own = odds(targets[ost] / target * count, of: count) / odds(counts[ost], of: count)
                rates[ost] *= (1 + (common - 1) * step) * (1 + (own - 1) * step)
            }
        }
    }

    /// Half a part is added on both sides, lest one that got none is thrown to the other extreme.
    private func odds(_ count: Double, of all: Double) -> Double { (count + 0.5) / (max(0, all - count) + 0.5) }
}

/// The share of placements that each domain is in: in proportion to its weight, but none is in a placement twice. What that denies to the
/// large ones is shared by the others.
func shares(of weights: [Double], members: Int) -> [Double] {
    var shares = [Double](repeating: 0, count: weights.count)
    while true {
        let open = shares.indices.filter { shares[$0] < 1 }
        let rest = Double(members - (shares.count - open.count))
        let total = open.reduce(0) { $0 + weights[$1] }
        let large = open.filter { rest * weights[$0] >= total }
        for index in large { shares[index] = 1 }
        if large.isEmpty {
            for index in open { shares[index] = rest * weights[index] / total }
            return shares
        }
    }
}
