import Base
import MetaStore
import Simulation
import Wire

/// What a seed of a replicated volume has besides what `ClusterOptions` say: who may fail, and how.
public struct ReplicatedPlan: Sendable {
    public enum Happening: Int, CaseIterable, Sendable {
        case kill, powerLoss, blackout, stop, mdtKill, clientKill, takeOver, breakConnections, cut, split
        /// A machine comes back with an empty disk in place of its own.
        case loseDisk
        /// Somebody wants an OST emptied, or not any more.
        case drain
        /// A machine comes back with an earlier copy of its disk.
        case oldDisk
        /// Somebody makes the volume smaller, or larger again.
        case resize
    }

    public var osts = 3
    public var replicas = 2
    public var happenings: [Happening] = []
    /// The only one whose disk rots; it is not restarted once it does, since a lost block and a rotted one look alike in the tail of a log.
    public var rotting: Int?
    /// The only one whose disk fails operations.
    public var failing: Int?
    /// One in so many of those who die stay away long enough to be excluded.
    public var longOutage: UInt64 = 3
    public var outageMax = Interval.seconds(15)
    /// After how long members of an OST that is away move to others.
    public var spareAfter = Limits.spareAfterDefault
    public var disksLostMax = 2
    /// One in so many clients that are cut off is so from the metadata server.
    public var serverCuts: UInt64 = 6
    /// One in so many cuts waits for no write; 0: all wait.
    public var abruptCuts: UInt64 = 4
    /// Somebody reads beside the writer.
    public var hasReader = false
    public var meta = MemoryMetaContents.Faults()
    /// The fewest members in sync with which writes go on, and what they do otherwise.
    public var floor = 1
    public var belowFloor = BelowFloor.wait

    public init() {}

    public static func drawn(_ random: inout Random, _ options: inout ClusterOptions) -> ReplicatedPlan {
        var plan = ReplicatedPlan()
        plan.replicas = random.below(3 as UInt64) == 0 ? 3 : 2
        plan.osts = random.below(4 as UInt64) == 0 ? 4 : 3
        for happening in Happening.allCases where random.below(5 as UInt64) < 2 { plan.happenings.append(happening) }
        // Much must come together for these, so mostly the machine is only killed when they are due.
        for rare in [.loseDisk, .oldDisk] as [Happening] where plan.happenings.contains(rare) { plan.happenings.append(rare) }
        // Somebody must be there to move to.
        if plan.happenings.contains(.drain), plan.osts == plan.replicas { plan.osts += 1 }
        if plan.happenings.contains(.loseDisk) || random.coin() { plan.spareAfter = .milliseconds(random.between(6_000, 20_000)) }
        plan.longOutage = 1 + random.below(6 as UInt64)
        plan.outageMax = .milliseconds(random.between(1_000, 25_000))
        // A reader knows an old copy by nothing but its number of mounts.
        plan.hasReader = random.coin() && !plan.happenings.contains(.oldDisk)
        plan.rotting = random.below(plan.osts)
        plan.failing = random.below(plan.osts)
        if random.below(3 as UInt64) == 0 {
            plan.meta.before = UInt32(random.below(60_000 as UInt64))
            plan.meta.after = UInt32(random.below(60_000 as UInt64))
            plan.meta.late = UInt32(random.below(60_000 as UInt64))
        }
        plan.suit(&options, &random)
        if random.below(4 as UInt64) == 0 {
            plan.floor = 2 + random.below(plan.replicas - 1)
            if random.coin() { plan.belowFloor = .fail(after: .milliseconds(random.between(500, 10_000))) }
        }
        if plan.happenings.contains(.loseDisk) {
            // Nobody must decide for long on what was true before: two faults at once are more than two copies stand.
            options.faults.partition = 0
            options.faults.clog = 0
            options.faults.stall = 0
        }
        if plan.happenings.contains(.oldDisk), random.coin() { plan.goBackOften(&options) }
        if random.below(16 as UInt64) == 0 { plan.damageOnlyCopies(&options) }
        return plan
    }

    public static func drawn(seed: UInt64) -> (ClusterOptions, ReplicatedPlan) {
        var random = Random(seed: seed ^ 0x7265_706c_6963_6173)
        var options = ClusterOptions.drawn(seed: seed)
        let plan = drawn(&random, &options)
        return (options, plan)
    }

    /// An old copy is put back only where all is well otherwise, and says something only where much was written since.
    private mutating func goBackOften(_ options: inout ClusterOptions) {
        happenings = [.oldDisk, .oldDisk, .kill, .clientKill] + (happenings.contains(.loseDisk) ? [.loseDisk] : [])
        longOutage = max(longOutage, 3)
        options.faults.partition = 0
        options.faults.clog = 0
        options.faults.stall = 0
        options.eventPause = .milliseconds(2_000)
        options.workTime = .seconds(30)
        options.operationsMax = 1_500
    }

    /// A write that not all members had in time is made equal by reading it from one; that this is damaged wherever it is left takes much.
    private mutating func damageOnlyCopies(_ options: inout ClusterOptions) {
        happenings = [.kill, .cut]
        (replicas, floor, longOutage) = (2, 1, 1)
        options.faults.latentError = 50_000
        options.eventPause = .milliseconds(400)
        options.operationsMax = 2_000
        options.deadlineMin = .milliseconds(25)
        options.deadlineMax = .milliseconds(100)
    }

    /// Sizes that suit several members, and times that leave room for exclusions and fills.
    private func suit(_ options: inout ClusterOptions, _ random: inout Random) {
        options.volumeBytes = random.between(1, 8) << 19
        if random.coin() { options.volumeBytes -= random.below(1000) * UInt64(Block.sectorBytes) }
        options.volumeBytesMax = options.volumeBytes
        options.chunkBytes = 64 << (10 + random.below(7 as UInt64))
        options.diskBytes = random.between(32, 64) << 20
        options.eventPause = .milliseconds(random.between(150, 1_600))
        options.operationsMax = Int(random.between(200, 1_500))
        options.depth = 1 + random.below(32)
        options.operationBytesMax = min(options.operationBytesMax, 256 << 10)
        options.workTime = .milliseconds(random.between(6_000, 40_000))
        options.client.deadline = .seconds(30)
        // Each of many connections carries little.
        let more = UInt32(random.between(1, 5))
        for field in [\FaultPlan.reset, \.clog, \.streamStall, \.corruption, \.stall, \.diskSlow] { options.faults[keyPath: field] *= more }
        options.ost.connectionsMax = 32
    }
}
