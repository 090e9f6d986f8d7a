import Base

/// Latencies with an error of at most 1.6 %: 64 buckets for each power of two of nanoseconds.
struct LatencyHistogram {
    private static let bits = 6
    private var buckets = [UInt64](repeating: 0, count: 64 << LatencyHistogram.bits)
    private(set) var count: UInt64 = 0
    private var sum: UInt64 = 0
    private(set) var maximum: UInt64 = 0

    mutating func add(_ time: Interval) {
        buckets[LatencyHistogram.bucket(time.nanoseconds)] += 1
        count += 1
        sum &+= time.nanoseconds
        maximum = max(maximum, time.nanoseconds)
    }

    var meanMicroseconds: Double { count == 0 ? 0 : Double(sum) / Double(count) / 1000 }
    var maximumMicroseconds: Double { Double(maximum) / 1000 }

    /// What this share of the operations did not exceed.
    func percentileMicroseconds(_ percent: Double) -> Double {
        let rank = UInt64((Double(count) * percent / 100).rounded(.up))
        var seen: UInt64 = 0
        for (index, here) in buckets.enumerated() {
            seen += here
            if here > 0, seen >= rank { return Double(min(LatencyHistogram.upper(index), maximum)) / 1000 }
        }
        return 0
    }

    /// Values below 64 have a bucket each; above, the highest bit chooses the group and the next six the bucket.
    private static func bucket(_ value: UInt64) -> Int {
        guard value >= 1 << UInt64(bits) else { return Int(value) }
        let shift = 63 - value.leadingZeroBitCount - bits
        return (shift << bits) + Int(value >> UInt64(shift))
    }

    private static func upper(_ bucket: Int) -> UInt64 {
        guard bucket >= 2 << bits else { return UInt64(bucket) }
        let shift = (bucket >> bits) - 1
        return (UInt64((bucket & ((1 << bits) - 1)) + (1 << bits)) + 1) << UInt64(shift) - 1
    }
}
