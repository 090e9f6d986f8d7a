import Base

/// Which faults happen by themselves, and how often. Probabilities are per million operations.
///
/// Faults that a store cannot survive alone (rot, misdirected and lost writes, latent errors) touch only what the test allows
/// (`SimDisk.mayDamage`). What a test does on purpose (kills, loss of power, partitions) is not planned here.
public struct FaultPlan: Hashable, Sendable {
    // Disks, per operation
    /// A sector that is read turns unreadable until it is rewritten.
    public var latentError: UInt32 = 0
    /// A durable bit that is read flips.
    public var bitRot: UInt32 = 0
    /// -EIO, and any part of the write may have landed.
    public var writeError: UInt32 = 0
    /// -EIO, and what was not flushed is kept or lost.
    public var flushError: UInt32 = 0
    /// Completes well and lands elsewhere.
    public var misdirectedWrite: UInt32 = 0
    /// Completes well and lands nowhere.
    public var lostWrite: UInt32 = 0
    /// Making a disk fails for want of space; per attempt.
    public var createFull: UInt32 = 0
    /// The disk gets a thousand times slower for a while.
    public var diskSlow: UInt32 = 0
    public var diskSlowMax = Interval.seconds(2)
    /// The disk completes nothing until healed.
    public var diskStuck: UInt32 = 0

    // Network, per arrival
    public var reset: UInt32 = 0
    /// One direction between two hosts delivers nothing for a while.
    public var clog: UInt32 = 0
    public var clogMax = Interval.milliseconds(500)
    /// Two hosts are cut off from each other, one way or both.
    public var partition: UInt32 = 0
    public var partitionMax = Interval.seconds(8)
    /// After a partition ends, a connection that was held up is reset.
    public var resetAfterPartition: UInt32 = 0
    /// One connection delivers nothing for a while, as TCP does when a packet is lost again and again; new ones get through meanwhile.
    public var streamStall: UInt32 = 0
    public var streamStallMax = Interval.seconds(10)
    /// A bit of what is sent flips, and the checksums below us do not notice; per send.
    public var corruption: UInt32 = 0
    /// The first packet of a connect is lost, and sent again a second later; per attempt.
    public var connectLost: UInt32 = 0

    // Processes, per turn
    /// The process does not run for a while, as when its machine swaps or migrates.
    public var stall: UInt32 = 0
    public var stallMax = Interval.seconds(6)

    public init() {}

    public static let none = FaultPlan()

    /// Each kind on or off by the seed ("swarm"): all kinds at once hide what only shows when some are absent.
    public static func swarm(_ random: inout Random) -> FaultPlan {
        var plan = FaultPlan()
        func draw(_ low: UInt64, _ high: UInt64) -> UInt32 { random.coin() ? UInt32(random.between(low, high)) : 0 }
        plan.latentError = draw(100, 5_000)
        plan.bitRot = draw(100, 5_000)
        plan.writeError = draw(50, 1_000)
        plan.flushError = draw(100, 5_000)
        plan.misdirectedWrite = draw(50, 1_000)
        plan.lostWrite = draw(50, 1_000)
        plan.createFull = draw(1_000, 50_000)
        plan.diskSlow = draw(10, 500)
        plan.diskSlowMax = .milliseconds(random.between(10, 3_000))
        plan.diskStuck = draw(1, 50)
        plan.reset = draw(50, 2_000)
        plan.clog = draw(100, 5_000)
        plan.clogMax = .milliseconds(random.between(1, 2_000))
        plan.partition = draw(10, 500)
        plan.partitionMax = .milliseconds(random.between(10, 20_000))
        plan.resetAfterPartition = draw(100_000, 900_000)
        plan.connectLost = draw(10_000, 400_000)
        plan.streamStall = draw(50, 2_000)
        plan.streamStallMax = .milliseconds(random.between(10, 15_000))
        plan.corruption = draw(10, 2_000)
        plan.stall = draw(10, 300)
        plan.stallMax = .milliseconds(random.between(10, 8_000))
        return plan
    }
}

/// Every fault the simulator can inject, for counting.
public enum Fault: Int, CaseIterable, Sendable {
    case latentError, bitRot, writeError, flushError, misdirectedWrite, lostWrite, createFull, diskSlow, diskStuck, tornWrite, droppedWrite
    case reset, clog, partition, resetAfterPartition, connectLost, streamStall, corruption, stall
    case kill, powerLoss
}

/// How often each fault has happened.
public struct FaultCounts: Hashable, Sendable {
    private var counts = [Int](repeating: 0, count: Fault.allCases.count)

    public subscript(_ fault: Fault) -> Int { counts[fault.rawValue] }
    public var total: Int { counts.reduce(0, +) }

    public init() {}

    /// For taking them from one process to another.
    public init(all: [Int]) { counts = all }
    public var all: [Int] { counts }

    public mutating func add(_ other: FaultCounts) { for index in counts.indices { counts[index] += other.counts[index] } }

    mutating func add(_ fault: Fault, _ count: Int = 1) { counts[fault.rawValue] += count }
}

/// How long things take.
public enum Timing: Hashable, Sendable {
    /// Latencies, batches and splits are drawn.
    case drawn
    /// Constant latencies, whole batches, nothing split: the same instructions for every seed, for counting them.
    case constant
}
