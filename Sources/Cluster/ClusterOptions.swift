import Base
import Client
import OSTEngine
import PartStore
import Simulation

/// What one seed is made of. Kinds of events, sizes and limits are drawn ("swarm"): runs that have everything hide what only shows when
/// something is absent.
public struct ClusterOptions: Sendable {
    public struct Events: Hashable, Sendable {
        public var kill = false
        public var powerLoss = false
        public var stop = false
        public var clientKill = false
        public var takeOver = false
        public var breakConnections = false
        public var catalogue = false
        public var strangers = false
    }

    public var diskBytes: UInt64 = 32 << 20
    public var volumeBytes: UInt64 = 4 << 20
    public var volumeBytesMax: UInt64 = 8 << 20
    public var chunkBytes: UInt64 = 4 << 20
    public var store = PartStore.Options()
    public var ost = OSTConfiguration.small
    public var client = OpenOptions()
    public var events = Events()
    public var faults = FaultPlan.none
    /// How long the workload goes on at most, and how many operations it has.
    public var workTime = Interval.seconds(20)
    public var operationsMax = 600
    public var depth = 16
    public var operationBytesMax = 64 << 10
    public var flushPerMille: UInt64 = 50
    public var durablePerMille: UInt64 = 30
    public var zeroPerMille: UInt64 = 60
    public var readPerMille: UInt64 = 400
    /// Operations are in this share of the volume, in one of so many.
    public var hotSpot: UInt64 = 4
    public var deadlineMin = Interval.seconds(1)
    public var deadlineMax = Interval.seconds(30)
    /// One in so many losses of power lasts for long.
    public var longOutage: UInt64 = 6
    /// Longest pause between two events.
    public var eventPause = Interval.seconds(3)

    public init() {}

    /// Of everything something.
    public static func drawn(_ random: inout Random) -> ClusterOptions {
        var options = ClusterOptions()
        options.drawSizes(&random)
        options.drawLoad(&random)
        options.drawEvents(&random)
        options.drawFaults(&random)
        return options
    }

    public static func drawn(seed: UInt64) -> ClusterOptions {
        // Not the numbers that the universe of this seed draws.
        var random = Random(seed: seed ^ 0x636c_7573_7465_7273)
        return drawn(&random)
    }

    private mutating func drawSizes(_ random: inout Random) {
        diskBytes = random.between(8, 64) << 20
        volumeBytesMax = 8 << 20
        volumeBytes = random.between(2, 16) << 19
        if random.coin() { volumeBytes -= random.below(1000) * UInt64(Block.sectorBytes) }
        // Hardly more than the volume, or less.
        if random.below(4 as UInt64) == 0 { diskBytes = random.between(4, 10) << 20 }
        chunkBytes = random.coin() ? 4 << 20 : 64 << (10 + random.below(6 as UInt64))
        store.requestsMax = random.below(4 as UInt64) == 0 ? 8 + random.below(24) : 256
        store.doubtsMax = Limits.zeroBlocksMax + (random.coin() ? 600 + random.below(4096) : 16384)
        store.barrierBytes = random.coin() ? 64 << (10 + random.below(8)) : Limits.barrierBytes
        ost.requestsMax = random.below(3 as UInt64) == 0 ? 8 + random.below(40) : 256
        ost.smallBuffers = 4 + random.below(252)
        ost.connectionsMax = random.below(3 as UInt64) == 0 ? 6 : 32
        ost.memoryBytes = (4 + random.below(12)) << 20
        client.slots = random.below(6 as UInt64) == 0 ? 8 + random.below(24) : 512
        client.closeDeadline = .milliseconds(random.between(100, 10_000))
    }

    private mutating func drawLoad(_ random: inout Random) {
        workTime = .milliseconds(random.between(4_000, 40_000))
        operationsMax = Int(random.between(200, 2_500))
        depth = 1 + random.below(64)
        operationBytesMax = Block.sectorBytes << (3 + random.below(10))
        switch random.below(12 as UInt64) {
        case 0:
            operationBytesMax = 2 << 20
            operationsMax = 200
        case 1:
            // More at once than the connection takes.
            depth = 320
            operationBytesMax = 4096
            operationsMax = 4000
        default: break
        }
        flushPerMille = random.coin() ? random.between(2, 40) : random.between(40, 200)
        durablePerMille = random.coin() ? 0 : random.between(5, 200)
        zeroPerMille = random.coin() ? 0 : random.between(10, 200)
        readPerMille = random.between(100, 600)
        hotSpot = 1 << random.below(7 as UInt64)
        deadlineMax = .milliseconds(random.between(1_000, 30_000))
    }

    private mutating func drawEvents(_ random: inout Random) {
        eventPause = .milliseconds(random.between(300, 3_500))
        events.kill = random.coin()
        events.powerLoss = random.coin()
        events.stop = random.below(3 as UInt64) == 0
        events.clientKill = random.coin()
        events.takeOver = random.coin()
        events.breakConnections = random.coin()
        events.catalogue = random.coin()
        events.strangers = random.below(3 as UInt64) == 0
        if random.below(32 as UInt64) == 0 { beQuiet() }
    }

    /// Nothing but reads, and an OST that is away for so long that only the keep-alive notices.
    private mutating func beQuiet() {
        events = Events()
        events.powerLoss = true
        eventPause = .seconds(4)
        longOutage = 1
        readPerMille = 1000
        flushPerMille = 0
        workTime = .seconds(50)
        operationsMax = 200
    }

    /// Damage and failures of the disk never meet: a store of one member that is loaded anew cannot tell, in what it did not know to be
    /// durable, a block that was lost from one that rotted.
    private mutating func drawFaults(_ random: inout Random) {
        faults = .swarm(&random)
        faults.createFull = 0
        let fails = random.below(3 as UInt64)
        if fails != 0 {
            faults.writeError = 0
            faults.flushError = 0
        }
        if fails != 1 {
            faults.latentError = 0
            faults.bitRot = 0
            faults.misdirectedWrite = 0
            faults.lostWrite = 0
        }
        // There are thousands of operations in a run, not millions.
        let more = UInt32(random.between(1, 20))
        for field in [
            \FaultPlan.latentError, \.bitRot, \.writeError, \.flushError, \.misdirectedWrite, \.lostWrite, \.diskSlow, \.diskStuck,
        ] {
            faults[keyPath: field] *= more
        }
        if random.coin() { faults.corruption = 0 }
        if random.below(4 as UInt64) == 0 { faults.corruption *= 20 }
        if random.below(8 as UInt64) == 0 { faults = .none }
        if depth > 64 {
            // The log moves often, and the daemon dies while the snapshot is slow.
            events.kill = true
            eventPause = .milliseconds(800)
            diskBytes = random.between(4, 6) << 20
            volumeBytes = min(volumeBytes, 2 << 20)
            faults.diskSlow = 4_000
            faults.diskSlowMax = .milliseconds(random.between(100, 2_000))
        }
    }
}
