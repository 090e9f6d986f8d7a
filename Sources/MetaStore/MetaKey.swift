import Base

/// Keys of a store, ranges of them, and revisions. Order and printing only; what a key means is its user's.

/// Compared byte by byte. The empty one is no key, but the beginning of all.
public struct MetaKey: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    public var bytes: [UInt8]

    public init(_ bytes: [UInt8]) { self.bytes = bytes }
    public init(_ text: String) { bytes = Array(text.utf8) }
    public init(stringLiteral text: String) { self.init(text) }

    public static func < (left: MetaKey, right: MetaKey) -> Bool { left.bytes.lexicographicallyPrecedes(right.bytes) }

    public static func + (left: MetaKey, right: MetaKey) -> MetaKey { MetaKey(left.bytes + right.bytes) }

    /// For messages: printable characters as they are, other bytes as in C.
    public var description: String {
        var text = ""
        for byte in bytes {
            if (0x20...0x7e).contains(byte), byte != UInt8(ascii: "\\") {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += "\\x" + hexadecimal(UInt64(byte), digits: 2)
            }
        }
        return text
    }

    func check() throws(Failure) {
        if bytes.isEmpty { throw Failure(.invalidArgument, "the empty key is no key of a store; give it at least one byte") }
        if bytes.count > Limits.metaKeyBytesMax {
            throw Failure(
                .invalidArgument,
                "a key has at most \(Limits.metaKeyBytesMax) bytes, this one has \(bytes.count): \(MetaKey(Array(bytes.prefix(32))))…")
        }
    }
}

/// Names a state of the store, and of a key: which transaction put it.
public struct MetaRevision: Hashable, Comparable, Sendable, BitwiseCopyable, CustomStringConvertible {
    public var number: UInt64

    /// Of a key that is absent.
    public static let none = MetaRevision(0)

    public init(_ number: UInt64) { self.number = number }

    public static func < (left: MetaRevision, right: MetaRevision) -> Bool { left.number < right.number }

    public var description: String { "\(number)" }
}

/// The keys that a listing goes through: from `first` on, before `end`.
public struct MetaKeyRange: Hashable, Sendable {
    public var first: MetaKey
    public var end: MetaKey

    public init(prefix: MetaKey, after: MetaKey?) {
        // The first key behind another is that key and a zero.
        let behind = MetaKey((after?.bytes ?? []) + [0])
        first = max(prefix, behind)
        end = MetaKeyRange.successor(of: prefix)
    }

    /// Behind all keys that begin with `prefix`, and before all others behind them.
    private static func successor(of prefix: MetaKey) -> MetaKey {
        var bytes = prefix.bytes
        while let last = bytes.popLast() {
            if last < .max {
                bytes.append(last + 1)
                return MetaKey(bytes)
            }
        }
        return MetaKey([UInt8](repeating: .max, count: Limits.metaKeyBytesMax + 1))
    }
}
