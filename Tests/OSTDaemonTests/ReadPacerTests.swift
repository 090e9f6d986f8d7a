import Base
import Testing

@testable import OSTDaemon

/// A pacer with a disk and clients that ask again as soon as they are answered, in virtual time.
private struct Bench {
    enum Kind {
        /// One read after the other; none is reported before all that are there have been served.
        case serial
        /// Each takes the same time, however many there are.
        case parallel
    }

    static let serialMicroseconds: Int64 = 13
    static let parallelMicroseconds: Int64 = 400
    /// Until the first of those that are answered together asks again, and from one to the next.
    static let answerMicroseconds: Int64 = 150
    static let nextMicroseconds: Int64 = 5

    let kind: Kind
    /// What a serial disk takes for each wave, whatever its length.
    let fixedMicroseconds: Int64
    var pacer = ReadPacer(capacity: 64)
    var microseconds: Int64 = 0
    private(set) var order: [UInt32] = []
    private(set) var ended = 0
    /// With the time at which each ends.
    private var inDisk: [(end: Int64, token: UInt32)] = []
    private var comingBack: [Int64] = []
    private var nextToken: UInt32 = 0
    private let memory = UnsafeMutableRawPointer.allocate(byteCount: 1, alignment: 1)

    init(_ kind: Kind, depth: Int, fixed: Int64 = 60) {
        self.kind = kind
        fixedMicroseconds = fixed
        comingBack = Array(repeating: 0, count: depth)
    }

    func free() { memory.deallocate() }

    private mutating func issue(_ count: Int) {
        for _ in 0..<count {
            let read = pacer.next()
            order.append(read.token)
            switch kind {
            case .parallel: inDisk.append((microseconds + Bench.parallelMicroseconds + Int64(read.token % 64), read.token))
            case .serial:
                let last = inDisk.last?.end ?? microseconds + fixedMicroseconds
                let end = last + Bench.serialMicroseconds
                inDisk.append((end, read.token))
                for index in inDisk.indices { inDisk[index].end = end }
            }
        }
    }

    /// Nobody asks for anything.
    mutating func pause(for duration: Int64) {
        for index in inDisk.indices { inDisk[index].end += duration }
        for index in comingBack.indices { comingBack[index] += duration }
    }

    /// Until so many microseconds have passed; the number of reads that have ended.
    mutating func run(for duration: Int64) -> Int {
        let end = microseconds + duration
        let before = ended
        while microseconds < end {
            microseconds = min(inDisk.map(\.end).min() ?? .max, comingBack.min() ?? .max)
            let now = Instant(nanoseconds: UInt64(microseconds) * 1000)
            let done = inDisk.filter { $0.end <= microseconds }
            inDisk.removeAll { $0.end <= microseconds }
            for (position, _) in done.enumerated() {
                ended += 1
                issue(pacer.ended(now: now))
                comingBack.append(microseconds + Bench.answerMicroseconds + Bench.nextMicroseconds * Int64(position))
            }
            for _ in comingBack.filter({ $0 <= microseconds }) {
                pacer.add(ReadPacer.Read(token: nextToken, offset: 0, memory: memory, bytes: 4096))
                nextToken += 1
            }
            comingBack.removeAll { $0 <= microseconds }
            issue(pacer.due)
        }
        return ended - before
    }
}

@Suite struct ReadPacerTests {
    @Test func aDiskThatServesOneAfterTheOtherIsReadInWaves() {
        var bench = Bench(.serial, depth: 32)
        defer { bench.free() }
        let atOnce = bench.run(for: 20_000)
        _ = bench.run(for: 300_000)
        #expect(bench.pacer.isPacing)
        #expect(bench.run(for: 20_000) > atOnce * 105 / 100)
    }

    @Test func aDiskThatServesManySideBySideIsNotHeldUp() {
        var bench = Bench(.parallel, depth: 32)
        defer { bench.free() }
        _ = bench.run(for: 300_000)
        #expect(!bench.pacer.isPacing)
        // Each client asks again after the disk's time and its own, and waits for nobody.
        #expect(bench.run(for: 100_000) > 32 * 100_000 / 650)
    }

    /// It costs much more processor time.
    @Test func aSmallGainIsLeft() {
        var bench = Bench(.serial, depth: 32, fixed: 120)
        defer { bench.free() }
        _ = bench.run(for: 300_000)
        #expect(!bench.pacer.isPacing)
    }

    /// A trial costs what holding back gains.
    @Test func whatPaysIsSeldomTriedAgain() {
        var bench = Bench(.serial, depth: 32)
        defer { bench.free() }
        _ = bench.run(for: 300_000)
        var changes = 0
        for _ in 0..<200 {
            let before = bench.pacer.isPacing
            _ = bench.run(for: 25_000)
            if bench.pacer.isPacing != before { changes += 1 }
        }
        #expect(changes == 0 && bench.pacer.isPacing)
    }

    @Test func whatPaidIsKnownWhenThereIsMuchToDoAgain() {
        var bench = Bench(.serial, depth: 32)
        defer { bench.free() }
        _ = bench.run(for: 300_000)
        bench.pause(for: 10_000_000)
        _ = bench.run(for: 60_000)
        #expect(bench.pacer.isPacing)
    }

    @Test func littleAtOnceIsNeverHeldBack() {
        var bench = Bench(.serial, depth: 4)
        defer { bench.free() }
        for _ in 0..<100 {
            _ = bench.run(for: 10_000)
            #expect(!bench.pacer.isPacing)
        }
    }

    @Test(arguments: [1, 7, 8, 32]) func everyReadIsIssuedOnceAndInItsOrder(depth: Int) {
        for kind in [Bench.Kind.serial, .parallel] {
            var bench = Bench(kind, depth: depth)
            defer { bench.free() }
            _ = bench.run(for: 5_000_000)
            #expect(bench.order == (0..<UInt32(bench.order.count)).map { $0 })
            #expect(bench.order.count >= bench.ended && bench.order.count <= bench.ended + depth)
            #expect(bench.ended > 1000)
        }
    }
}
