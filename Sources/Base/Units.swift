/// A point of a world's monotonic clock, in nanoseconds since that world began.
public struct Instant: Hashable, Comparable, Sendable, BitwiseCopyable, CustomStringConvertible {
    public var nanoseconds: UInt64

    public static let zero = Instant(nanoseconds: 0)
    public static let never = Instant(nanoseconds: .max)

    @inlinable
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    @inlinable
    public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }

    /// Saturates: `.never` plus anything is `.never`.
    @inlinable
    public static func + (left: Instant, right: Interval) -> Instant {
        let (sum, overflow) = left.nanoseconds.addingReportingOverflow(right.nanoseconds)
        return Instant(nanoseconds: overflow ? .max : sum)
    }

    /// Zero when `right` is later.
    @inlinable
    public static func - (left: Instant, right: Instant) -> Interval {
        Interval(nanoseconds: left.nanoseconds > right.nanoseconds ? left.nanoseconds - right.nanoseconds : 0)
    }

    public var description: String {
        let microseconds = nanoseconds / 1000
        let fraction = String(microseconds % 1_000_000)
        return "\(microseconds / 1_000_000)." + String(repeating: "0", count: 6 - fraction.count) + fraction
    }
}

/// A length of time, never negative.
public struct Interval: Hashable, Comparable, Sendable, BitwiseCopyable {
    public var nanoseconds: UInt64

    @inlinable
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
    @inlinable
    public static func microseconds(_ count: UInt64) -> Interval { Interval(nanoseconds: count * 1000) }
    @inlinable
    public static func milliseconds(_ count: UInt64) -> Interval { Interval(nanoseconds: count * 1_000_000) }
    @inlinable
    public static func seconds(_ count: UInt64) -> Interval { Interval(nanoseconds: count * 1_000_000_000) }

    @inlinable
    public static func < (left: Interval, right: Interval) -> Bool { left.nanoseconds < right.nanoseconds }

    @inlinable
    public var milliseconds: UInt64 { nanoseconds / 1_000_000 }
}

/// The sizes that everything else is built from.
public enum Block {
    /// The smallest checksummed and atomic unit of a part.
    public static let bytes = 4096
    /// Sizes and offsets of a volume are multiples of this.
    public static let sectorBytes = 512
    /// Maps, versions, change tracking and copy-on-write work in pages of this many blocks of a part.
    public static let perPage = 1024

    /// Whole blocks that `bytes` need.
    @inlinable
    public static func count(covering bytes: UInt64) -> UInt64 { (bytes + UInt64(Block.bytes) - 1) / UInt64(Block.bytes) }
}
