import Base

/// What is known of an OST when parts are placed. All OSTs of the cluster are told, also those that take no new parts: what they stand next
/// to, and what keeps them from helping, belongs into the choice of a spare and into the sentences.
public struct Candidate: Hashable, Sendable {
    public var store: Identifier
    /// Bytes, free ones or all of them: the OST gets parts in proportion. With 0 it gets none.
    public var weight: UInt64
    public var domain: FailureDomain
    /// Alive, and not draining.
    public var takesParts: Bool
    /// What keeps it from taking parts, as far as whoever asks knows: for sentences.
    public var obstacle: Obstacle?

    public enum Obstacle: Hashable, Sendable {
        case away
        case drained
        case full
    }

    public init(store: Identifier, weight: UInt64, domain: FailureDomain, takesParts: Bool = true, obstacle: Obstacle? = nil) {
        self.store = store
        self.weight = weight
        self.domain = domain
        self.takesParts = takesParts && obstacle == nil
        self.obstacle = obstacle
    }

    var isUsable: Bool { takesParts && weight > 0 }
}

/// The candidates, in groups of which each placement takes at most one OST.
///
/// An OST that says `a` may be on the same host as one that says `r1/a`: where one path begins as another does, read from the level
/// upwards, both are one domain. An OST that does not say its rack may be in any, so it keeps no part of a volume that wants different
/// racks. Both err on the side of fewer domains: members believed to be apart that are not would be lost together.
struct Domains {
    struct Domain {
        var name: String
        /// What keeps those from taking parts that do not, each once.
        var obstacles: [Candidate.Obstacle] = []
        /// In the order of their identifiers; may be empty.
        var usable: [Candidate] = []
    }

    let level: FailureDomain.Level
    /// In the order of their names, so that the order in which candidates are listed decides nothing.
    let usable: [Domain]
    /// The names of those without an OST that takes new parts and has space, with what is known of the reason.
    let closed: [String]
    /// OSTs that could take parts, but do not name the level.
    let unnamed: Int
    private let nameByStore: [Identifier: String]

    init(_ candidates: [Candidate], level: FailureDomain.Level) throws(Failure) {
        let paths = candidates.map { level == .ost ? [$0.store.description] : $0.domain.path(at: level) }
        let known = Set(paths)
        var domains: [String: Domain] = [:]
        var names: [Identifier: String] = [:]
        var unnamed = 0
        for (candidate, path) in zip(candidates, paths).sorted(by: { $0.0.store < $1.0.store }) {
            let widest = (0..<path.count).lazy.map { Array(path[...$0]) }.first(where: known.contains)
            let name = (widest ?? []).reversed().joined(separator: "/")
            guard names.updateValue(name, forKey: candidate.store) == nil else {
                throw Failure(.invalidArgument, "OST \(candidate.store) is listed twice; give each store an identifier of its own")
            }
            guard widest != nil else {
                if candidate.isUsable { unnamed += 1 }
                continue
            }
            var domain = domains[name] ?? Domain(name: name)
            if candidate.isUsable { domain.usable.append(candidate) }
            if let obstacle = candidate.obstacle, !domain.obstacles.contains(obstacle) { domain.obstacles.append(obstacle) }
            domains[name] = domain
        }
        let all = domains.values.sorted { $0.name < $1.name }
        self.level = level
        usable = all.filter { !$0.usable.isEmpty }
        closed = all.filter(\.usable.isEmpty).map { domain in
            domain.name + (domain.obstacles.isEmpty ? "" : " (\(domain.obstacles.map { "\($0)" }.joined(separator: " and ")))")
        }
        self.unnamed = unnamed
        nameByStore = names
    }

    /// The domain of an OST; nil where it is not known.
    func name(of store: Identifier) -> String? {
        if level == .ost { return store.description }
        let name = nameByStore[store]
        return name?.isEmpty == true ? nil : name
    }

    /// Why `members` cannot be placed: what is needed, what is there, and what is there but does not count.
    func shortage(of members: Int, kind: Layout.Kind) -> Failure {
        let noun = kind == .replicas ? "replicas" : "members"
        let there =
            usable.isEmpty ? "there are none" : "there \(usable.count == 1 ? "is" : "are") \(usable.count): \(list(usable.map(\.name)))"
        return Failure(
            usable.count + closed.count >= members ? .noSpace : .invalidArgument,
            "\(members) \(noun) on different \(level.name)s need \(members) \(level.name)s with space; \(there)\(aside)")
    }

    /// What a sentence about missing domains adds.
    var aside: String {
        (closed.isEmpty ? "" : "; full, draining or away: \(list(closed))")
            + (unnamed == 0 ? "" : "; OSTs that do not name their \(level.name): \(unnamed)")
    }
}

/// A list for a sentence: a cluster may have hundreds.
func list(_ names: [String]) -> String {
    let shown = 8
    return names.prefix(shown).joined(separator: ", ") + (names.count > shown ? " and \(names.count - shown) more" : "")
}
