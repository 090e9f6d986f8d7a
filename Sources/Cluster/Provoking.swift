import Base
import Simulation

/// Options that lead to a deliberate bug quickly. A bug that is caught with these is caught with drawn ones too, only later.
extension ClusterOptions {
    public mutating func provoke(_ mutant: Mutant) {
        faults = .none
        events = Events()
        operationsMax = 300
        operationBytesMax = 16 << 10
        depth = min(depth, 32)
        workTime = .seconds(8)
        eventPause = .milliseconds(800)
        switch mutant {
        case .forgetsFlush:
            events.powerLoss = true
            durablePerMille = 200
            flushPerMille = 100
        case .acknowledgesOutOfLogOrder:
            events.kill = true
        case .reusesBlockEarly:
            events.powerLoss = true
            events.kill = true
            diskBytes = 4 << 20
            volumeBytes = 1 << 20
            volumeBytesMax = 1 << 20
        case .acceptsOldSession:
            faults.streamStall = 3_000
            faults.streamStallMax = .seconds(6)
            deadlineMin = .milliseconds(200)
            deadlineMax = .milliseconds(1_000)
            hotSpot = 64
            readPerMille = 500
            workTime = .seconds(16)
            operationsMax = 800
        case .skipsCheck:
            faults.bitRot = 20_000
            faults.misdirectedWrite = 5_000
            faults.lostWrite = 5_000
        }
    }
}
