/// 16 bytes that name an object, a store, a cluster or a boot. Kept as two words, big-endian, so that the text form reads in order.
public struct Identifier: Hashable, Comparable, Sendable, BitwiseCopyable, CustomStringConvertible {
    public var high: UInt64
    public var low: UInt64

    public static let zero = Identifier(high: 0, low: 0)

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A UUIDv7: 48 bits of wall clock in milliseconds, then randomness, so that newer objects sort after older ones.
    public init(wallClockMilliseconds: UInt64, random: (UInt64, UInt64)) {
        high = wallClockMilliseconds << 16 | 0x7000 | random.0 & 0x0fff
        low = random.1 & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
    }

    /// The canonical form with four dashes; `nil` for anything else.
    public init?(text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count == 36 else { return nil }
        var words: (UInt64, UInt64) = (0, 0)
        var digits = 0
        for (index, byte) in bytes.enumerated() {
            if [8, 13, 18, 23].contains(index) {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            guard let digit = hexDigit(byte) else { return nil }
            if digits < 16 { words.0 = words.0 << 4 | digit } else { words.1 = words.1 << 4 | digit }
            digits += 1
        }
        self.init(high: words.0, low: words.1)
    }

    public var description: String {
        let text = hexadecimal(high, digits: 16) + hexadecimal(low, digits: 16)
        var result = ""
        for (index, character) in text.enumerated() {
            if index == 8 || index == 12 || index == 16 || index == 20 { result.append("-") }
            result.append(character)
        }
        return result
    }

    public static func < (left: Identifier, right: Identifier) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }
}

/// `value` in lower-case hexadecimal, padded with zeros to `digits`.
public func hexadecimal(_ value: UInt64, digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
}

private func hexDigit(_ byte: UInt8) -> UInt64? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a") + 10)
    case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt64(byte - UInt8(ascii: "A") + 10)
    default: nil
    }
}

/// Who wrote, and in which order: versions of one object are totally ordered, generation first.
public struct Version: Hashable, Comparable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// Fencing number of the writer; raised at every open for writing.
    public var generation: UInt64
    /// The writer raises it with every write.
    public var sequence: UInt64

    public static let zero = Version(generation: 0, sequence: 0)

    @inlinable
    public init(generation: UInt64, sequence: UInt64) {
        self.generation = generation
        self.sequence = sequence
    }

    @inlinable
    public static func < (left: Version, right: Version) -> Bool {
        left.generation != right.generation ? left.generation < right.generation : left.sequence < right.sequence
    }

    /// Of the same writer; sequences begin with 1.
    public var predecessor: Version { Version(generation: generation, sequence: sequence == 0 ? 0 : sequence - 1) }

    public var description: String { "\(generation).\(sequence)" }
}

/// What one OST keeps for one member of one chunk of an object. The incarnation is the map number at which it was placed there: a part
/// that comes back to an OST it once left is a different part.
public struct PartAddress: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    public var chunk: UInt32
    public var member: UInt16
    public var incarnation: UInt64

    @inlinable
    public init(chunk: UInt32, member: UInt16 = 0, incarnation: UInt64 = 0) {
        self.chunk = chunk
        self.member = member
        self.incarnation = incarnation
    }

    public var description: String { "chunk \(chunk) member \(member) incarnation \(incarnation)" }
}
