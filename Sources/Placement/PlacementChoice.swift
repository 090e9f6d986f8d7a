import Base

/// Chooses the OSTs that keep the chunks of a volume: once, when the volume is created, as a table that is stored (chunk i uses placement i
/// mod their number); and a spare for a member that is lost.
///
/// What holds:
/// - The members of a placement lie in different domains of the wanted level, always; if that cannot be, nothing is chosen.
/// - Within that the parts are shared in proportion to weight, between domains and inside each: an OST gets its share of the table, give or
///   take about one part. A domain too large for its share is in every placement, and the others share the rest. In tables with fewer than
///   eight parts for the average OST chance decides, and over many volumes only the lightest OSTs get noticeably too little.
/// - Every position (the first replica, the parity) meets every OST alike, and the OSTs that share placements with one are many: what it
///   kept is rebuilt from all sides.
/// - The same candidates in any order give the same table on every machine. With an OST more the table would change by what the new one
///   takes and a few percent of the rest; but since it is stored, nothing moves until somebody decides to move it.
///
/// Who is alive, and when a spare is due, is for others to say.
public struct PlacementChoice: Sendable {
    /// The seed: volumes are spread differently.
    public var volume: Identifier
    public var kind: Layout.Kind
    public var members: Int
    public var level: FailureDomain.Level

    public init(volume: Identifier, kind: Layout.Kind = .replicas, members: Int, level: FailureDomain.Level = .host) throws(Failure) {
        guard (1...Limits.membersMax).contains(members) else {
            throw Failure(.invalidArgument, "a layout has 1 to \(Limits.membersMax) members, not \(members)")
        }
        self.volume = volume
        self.kind = kind
        self.members = members
        // One member differs from nobody, so an OST that does not name its rack may keep it.
        self.level = members == 1 ? .ost : level
    }

    /// How many placements a volume gets.
    ///
    /// More of them share parts more evenly, and let more OSTs take part in a rebuild. Fewer make a smaller map, and a lost OST fewer
    /// changes of state: its number of parts in the table. 32 for each OST keep that below a hundred with three replicas, and one part
    /// too many below one or two percent. From 32 OSTs on the limit of the table decides, and for a small volume the number of its chunks:
    /// a placement without a chunk is of no use.
    public static func count(chunks: UInt64, osts: Int) -> Int {
        Int(max(1, min(UInt64(Limits.placementsMax), chunks, 32 * UInt64(max(0, min(osts, Limits.placementsMax))))))
    }

    /// The table: for each placement the stores of its members, in the order of their positions.
    public func table(of candidates: [Candidate], placements: Int) throws(Failure) -> [[Identifier]] {
        guard (1...Limits.placementsMax).contains(placements) else {
            throw Failure(.invalidArgument, "a map has 1 to \(Limits.placementsMax) placements, not \(placements)")
        }
        let domains = try grouped(candidates)
        guard domains.usable.count >= members else { throw domains.shortage(of: members, kind: kind) }
        var levelling = Levelling(domains.usable, volume: volume, members: members, placements: placements)
        return levelling.table().enumerated().map { number, stores in
            let draw = Rendezvous(volume: volume, placement: number, end: .position)
            return stores.map { (draw.hash(of: $0), $0) }.sorted { $0 < $1 }.map(\.1)
        }
    }

    /// The OST that takes the place of member `lost` of placement `number`: by weight among all that are in none of the domains of the
    /// members that remain. The one that was lost is not asked, even if it is back. Members on stores in `leaving` do not remain.
    public func spare(
        for placement: [Identifier], number: Int, lost: Int, of candidates: [Candidate], leaving: Set<Identifier> = []
    ) throws(Failure) -> Identifier {
        invariant(placement.count == members && placement.indices.contains(lost), "member \(lost) of \(placement), which has \(members)")
        let domains = try grouped(candidates)
        var taken: Set<String> = []
        for (index, store) in placement.enumerated() where index != lost && !leaving.contains(store) {
            guard let name = domains.name(of: store) else {
                throw Failure(
                    .invalidArgument,
                    "OST \(store) keeps another member, and its \(level.name) is not known; tell it first, or replace that member")
            }
            taken.insert(name)
        }
        let draw = Rendezvous(volume: volume, placement: number, end: .spare)
        let choices = domains.usable.filter { !taken.contains($0.name) }.flatMap(\.usable).filter { !placement.contains($0.store) }
        let arrivals = choices.map { (time: draw.arrival(of: $0.store) / Double($0.weight), store: $0.store) }
        guard let first = arrivals.min(by: { $0.time < $1.time }) else {
            let names = domains.usable.map(\.name).filter(taken.contains)
            let keep = names.isEmpty ? "" : "; these keep the other members: \(list(names))"
            throw Failure(
                .noSpace,
                "no \(level.name) with space is left for member \(lost) of placement \(number)\(keep)\(domains.aside); add one")
        }
        return first.store
    }

    private func grouped(_ candidates: [Candidate]) throws(Failure) -> Domains {
        guard !candidates.isEmpty else { throw Failure(.noSpace, "the cluster has no OST; add one, then create the volume") }
        guard candidates.contains(where: \.isUsable) else {
            let away = candidates.count { !$0.takesParts && $0.obstacle != .full }
            throw Failure(
                .noSpace,
                "no OST takes new parts (draining or away: \(away), full: \(candidates.count - away)); add one, or free space")
        }
        return try Domains(candidates, level: level)
    }
}
