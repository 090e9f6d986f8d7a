import Base
import Simulation

/// Options that lead to a deliberate bug quickly. A bug that is caught with these is caught with drawn ones too, only later.
extension ClusterOptions {
    /// Those that one OST and its clients can show. No member of a cluster is filled here: those rules have tests of their own.
    public static let provokable: [Mutant] = [
        .forgetsFlush, .acknowledgesOutOfLogOrder, .reusesBlockEarly, .acceptsOldSession, .skipsCheck, .keepsBootAfterFailure,
    ]

    /// For debug builds, in which a whole run takes seconds.
    public mutating func shorten() {
        operationsMax = min(operationsMax, 150)
        operationBytesMax = min(operationBytesMax, 32 << 10)
        volumeBytes = min(volumeBytes, 512 << 10)
        volumeBytesMax = 1 << 20
        depth = min(depth, 16)
        workTime = min(workTime, .seconds(8))
        eventPause = min(eventPause, .seconds(1))
    }

    public mutating func provoke(_ mutant: Mutant) {
        shorten()
        faults = .none
        events = Events()
        eventPause = .milliseconds(800)
        switch mutant {
        case .forgetsFlush:
            events.powerLoss = true
            durablePerMille = 200
            flushPerMille = 100
        case .acknowledgesOutOfLogOrder:
            events.kill = true
        case .reusesBlockEarly:
            // What is given out too early must be asked for again soon.
            events.powerLoss = true
            longOutage = 1_000
            diskBytes = 4 << 20
            operationsMax = 500
            operationBytesMax = 64 << 10
            readPerMille = 150
            flushPerMille = 10
            zeroPerMille = 0
        case .acceptsOldSession:
            faults.streamStall = 3_000
            faults.streamStallMax = .seconds(6)
            deadlineMin = .milliseconds(200)
            deadlineMax = .milliseconds(1_000)
            hotSpot = 64
            readPerMille = 500
            operationsMax = 300
        case .skipsCheck:
            faults.bitRot = 20_000
            faults.misdirectedWrite = 5_000
            faults.lostWrite = 5_000
        case .keepsBootAfterFailure: faults.flushError = 30_000
        case _: unreachable("a volume in this world has one member")
        }
    }
}
