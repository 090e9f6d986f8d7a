import Base
import Wire

/// What the metrics are made of. It only grows; what goes up and down is asked of the engine itself.
///
/// Fixed memory, counted in place: a request costs a few additions.
public struct OSTCounters: Sendable {
    /// By raw opcode; those above are refused by the codec.
    public private(set) var requests = InlineArray<128, UInt64>(repeating: 0)
    /// Replies by raw status; `ok` included.
    public private(set) var replies = InlineArray<27, UInt64>(repeating: 0)
    public private(set) var reads = LatencyHistogram()
    public private(set) var writes = LatencyHistogram()
    public private(set) var flushes = LatencyHistogram()
    public internal(set) var readBytes: UInt64 = 0
    public internal(set) var writtenBytes: UInt64 = 0
    public internal(set) var connectionsAccepted: UInt64 = 0
    public internal(set) var connectionsRefused: UInt64 = 0
    public internal(set) var malformedFrames: UInt64 = 0
    public internal(set) var storeFailures: UInt64 = 0

    public init() {}

    mutating func count(request opcode: Opcode) { requests[Int(opcode.rawValue)] += 1 }

    mutating func count(reply opcode: Opcode, _ status: Status, after latency: Interval) {
        replies[Int(status.rawValue)] += 1
        switch opcode {
        case .read: reads.add(latency)
        case .write, .writeZeroes, .discard: writes.add(latency)
        case .flush: flushes.add(latency)
        case .hello, .create, .open, .close, .stat, .list, .remove, .resize, .statistics, .ping, .volumeRecord, .adopt, .mark, .event:
            break
        case .doubts, .stamp, .changed, .checks, .fillBegin, .fillEnd, .fillPage: break
        case .volumeCreate, .volumeOpen, .volumeExclude, .volumeMap, .volumeList, .volumeRemove, .volumeResize, .volumeClose, .volumeFill,
            .volumeInSync, .volumeSet, .volumeHealth, .volumeReplace, .volumeSettle,
            .ostRegister,
            .ostList, .ostRemove, .ostDrain, .mdtRegister, .mdtList:
            break
        }
    }
}

/// How long requests took, from receipt to the reply being queued: buckets that double from 16 µs to 8 s.
public struct LatencyHistogram: Sendable {
    public static let bucketCount = 20
    public private(set) var buckets = InlineArray<21, UInt64>(repeating: 0)
    public private(set) var sumNanoseconds: UInt64 = 0
    public private(set) var count: UInt64 = 0

    public init() {}

    /// The upper bound of a bucket; the last has none.
    public static func boundMicroseconds(_ index: Int) -> UInt64 { 16 << UInt64(index) }

    public mutating func add(_ latency: Interval) {
        let units = (latency.nanoseconds + 15_999) / 16_000
        let index = units <= 1 ? 0 : UInt64.bitWidth - (units - 1).leadingZeroBitCount
        buckets[min(index, LatencyHistogram.bucketCount)] += 1
        sumNanoseconds += latency.nanoseconds
        count += 1
    }
}
