/// How often each marked rare branch was taken (`World.mark`).
public struct Marks {
    /// By the address of the literal, which is fast; one name written in two places has two entries, so reports go by text.
    private var counts: [UInt: (name: StaticString, count: Int)] = [:]

    mutating func hit(_ name: StaticString) {
        counts[UInt(bitPattern: name.utf8Start), default: (name, 0)].count += 1
    }

    public subscript(_ name: String) -> Int { counts.values.reduce(0) { $0 + ($1.name.description == name ? $1.count : 0) } }

    /// Sorted by name.
    public var all: [(name: String, count: Int)] {
        var sums: [String: Int] = [:]
        for (name, count) in counts.values { sums[name.description, default: 0] += count }
        return sums.sorted { $0.key < $1.key }.map { (name: $0.key, count: $0.value) }
    }
}
