/// The only source of chance: xoshiro256**, seeded through splitmix64. Equal on every machine and in every build.
public struct Random: Sendable {
    private var words: (UInt64, UInt64, UInt64, UInt64)

    public init(seed: UInt64) {
        var state = seed
        words = (splitmix(&state), splitmix(&state), splitmix(&state), splitmix(&state))
    }

    public mutating func next() -> UInt64 {
        let result = rotate(words.1 &* 5, 7) &* 9
        let shifted = words.1 << 17
        words.2 ^= words.0
        words.3 ^= words.1
        words.1 ^= words.2
        words.0 ^= words.3
        words.2 ^= shifted
        words.3 = rotate(words.3, 45)
        return result
    }

    /// From 0 up to, not including, `bound`. The bias of not rejecting is far below what a test could see.
    public mutating func below(_ bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }

    public mutating func below(_ bound: Int) -> Int { Int(below(UInt64(bound))) }

    public mutating func between(_ low: UInt64, _ high: UInt64) -> UInt64 { low + below(high - low + 1) }

    public mutating func coin() -> Bool { next() >> 63 == 0 }

    /// Draws nothing when the answer is certain, so that a fault that is off costs nothing.
    public mutating func chance(perMillion: UInt32) -> Bool {
        if perMillion == 0 { return false }
        return below(1_000_000 as UInt64) < UInt64(perMillion)
    }

    /// A generator of its own for one part of the world, so that what one part draws does not move another.
    public mutating func split() -> Random { Random(seed: next()) }
}

@inline(__always)
private func rotate(_ value: UInt64, _ count: UInt64) -> UInt64 { value << count | value >> (64 - count) }

private func splitmix(_ state: inout UInt64) -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
    return value ^ value >> 31
}
