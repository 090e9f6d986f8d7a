import Base

/// What a part store must hold, in a few lines: the operations in the order in which they were given to it.
///
/// A store keeps a prefix of its log. After a restart each block tells by its content which operation wrote it last, and so which
/// prefixes are possible; one of them must explain all blocks, contain what was acknowledged (what was flushed, after a loss of power)
/// and nothing that was never asked for.
struct StoreModel {
    struct Place: Hashable, Comparable {
        var chunk: UInt32
        var block: UInt32
        static func < (left: Place, right: Place) -> Bool { (left.chunk, left.block) < (right.chunk, right.block) }
    }

    struct Change {
        var operation: Int
        /// What the block says afterwards: 0 for zeros, else the operation's number.
        var content: UInt64
    }

    private(set) var changes: [Place: [Change]] = [:]
    private(set) var count = 0
    /// Operations up to it are acknowledged, and up to it are on stable media.
    private(set) var acknowledged = 0
    private(set) var flushed = 0

    var places: [Place] { changes.keys.sorted() }

    /// An operation is given to the store; returns its number.
    mutating func begin(_ places: [Place], isZero: Bool) -> Int {
        count += 1
        for place in places { changes[place, default: []].append(Change(operation: count, content: isZero ? 0 : UInt64(count))) }
        return count
    }

    /// The last operation was refused: it has never been.
    mutating func takeBack(_ places: [Place]) {
        for place in places { changes[place]?.removeLast() }
        count -= 1
    }

    /// An operation that was accepted and has ended with an error before it began.
    mutating func forget(_ operation: Int, _ places: [Place]) {
        for place in places { changes[place]?.removeAll { $0.operation == operation } }
    }

    mutating func acknowledge(_ operation: Int) { acknowledged = max(acknowledged, operation) }
    mutating func flush(upTo operation: Int) { flushed = max(flushed, operation) }

    /// What a read may return now.
    func contents(_ place: Place) -> Set<UInt64> {
        let list = changes[place] ?? []
        var possible: Set<UInt64> = list.contains { $0.operation <= acknowledged } ? [] : [0]
        for (index, change) in list.enumerated() where index + 1 == list.count || list[index + 1].operation > acknowledged {
            possible.insert(change.content)
        }
        return possible
    }

    /// The prefix that a restarted store holds; nil and a sentence when there is none.
    func prefix(_ found: [Place: UInt64], lostPower: Bool) -> (Int?, String) {
        var low = lostPower ? flushed : acknowledged
        var high = count
        for place in places {
            let content = found[place] ?? 0
            let list = changes[place] ?? []
            // Zeros can come from before the first change and from every zero; the latest explanation that fits is searched.
            var spans: [(Int, Int)] = []
            if content == 0 { spans.append((0, (list.first?.operation ?? count + 1) - 1)) }
            for (index, change) in list.enumerated() where change.content == content {
                spans.append((change.operation, index + 1 < list.count ? list[index + 1].operation - 1 : count))
            }
            let fitting = spans.filter { $0.1 >= low && $0.0 <= high }
            guard let last = fitting.last, let first = fitting.first else {
                return (
                    nil,
                    "chunk \(place.chunk) block \(place.block) holds \(content); "
                        + "operations \(low)…\(high) are possible, its own are \(spans)"
                )
            }
            low = max(low, first.0)
            high = min(high, last.1)
        }
        return low <= high ? (high, "") : (nil, "no prefix explains all blocks: \(low) > \(high)")
    }

    /// The store has been restarted with this prefix, all of it on stable media.
    mutating func restart(_ prefix: Int) {
        for place in places { changes[place]?.removeAll { $0.operation > prefix } }
        acknowledged = count
        flushed = count
    }
}
