import Base
import Simulation

/// Plans that lead to a deliberate bug in the protocol of replication quickly.
extension ReplicatedPlan {
    public static let provokable: [Mutant] = [
        .skipsReconcile, .excludesAlone, .skipsRewrite, .listsBeforeFilling, .forgetsFillBase, .excludesWithoutBase, .ignoresFences,
        .marksWhatSomeHave, .marksUnflushed, .marksUnflushedRewrites, .readsOverlapWrites, .readsUnheard, .readerReadsFilling,
        .trustsMemberThatLostPower, .countsAllThatLostPower, .hidesPowerLoss, .forgetsDoubtAfterPowerLoss, .movesFromBase,
        .movesBeforeFilled, .forgetsMissedCuts, .opensOnce,
    ]

    public mutating func provoke(_ mutant: Mutant, _ options: inout ClusterOptions) {
        options.faults = .none
        options.zeroPerMille = 0
        options.eventPause = .milliseconds(900)
        options.operationsMax = 600
        meta = .init()
        floor = 1
        rotting = nil
        failing = nil
        longOutage = 2
        outageMax = .seconds(3)
        switch mutant {
        // Writers
        case .skipsReconcile: happenings = [.clientKill, .blackout]
        case .excludesAlone: happenings = [.kill, .clientKill]
        case .skipsRewrite:
            // A write that only one has in time.
            happenings = [.kill, .cut, .breakConnections]
            options.eventPause = .milliseconds(400)
            options.operationsMax = 2_000
            options.deadlineMin = .milliseconds(25)
            options.deadlineMax = .milliseconds(100)
        case .ignoresFences:
            happenings = [.cut, .takeOver]
            serverCuts = 1
            outageMax = .seconds(6)
        case .marksWhatSomeHave:
            // What one cannot be sent the other has, durably.
            happenings = [.clientKill, .cut]
            options.durablePerMille = 500
            options.operationsMax = 1_500
            options.eventPause = .milliseconds(300)
        case .readsOverlapWrites:
            happenings = [.breakConnections, .cut]
            options.operationsMax = 2_500
            options.hotSpot = 64
            options.depth = 32
            options.eventPause = .milliseconds(300)
        case .readsUnheard:
            happenings = [.split]
            replicas = 2
            // One after the other: a member that was excluded by one must not keep the next from opening at once.
            options.eventPause = .seconds(8)
            options.workTime = .seconds(40)
            options.operationsMax = 2_000
            options.depth = 32
            // What waits for writes is not read.
            options.readPerMille = 980
            options.hotSpot = 16
            options.deadlineMax = .milliseconds(1500)
        case .readerReadsFilling:
            happenings = [.kill]
            hasReader = true
            longOutage = 1
            options.flushPerMille = 100
        // Loss of power
        case .trustsMemberThatLostPower: happenings = [.powerLoss]
        case .countsAllThatLostPower:
            happenings = [.blackout]
            options.eventPause = .milliseconds(400)
            options.operationsMax = 1_500
            options.flushPerMille = 10
        case .hidesPowerLoss:
            happenings = [.blackout]
            options.flushPerMille = 100
        case .marksUnflushed, .forgetsDoubtAfterPowerLoss: happenings = [.clientKill, .powerLoss, .blackout]
        case .marksUnflushedRewrites:
            happenings = [.clientKill, .powerLoss]
            options.eventPause = .milliseconds(400)
        // Filling
        case .listsBeforeFilling, .forgetsFillBase: happenings = [.kill]
        case .movesFromBase, .movesBeforeFilled:
            // To OSTs that have others of the volume, again and again, and some are broken off.
            (replicas, osts) = (2, 4)
            happenings = [.drain, .drain, .drain, .kill]
            options.workTime = .seconds(25)
        case .excludesWithoutBase:
            replicas = 2
            happenings = [.kill, .stop]
        // Resizing
        case .forgetsMissedCuts:
            happenings = [.kill, .resize, .resize, .resize]
            abruptCuts = 0
            longOutage = 1
            outageMax = .seconds(8)
            options.eventPause = .milliseconds(400)
        case .opensOnce:
            happenings = [.clientKill, .takeOver, .resize, .resize, .resize]
            options.eventPause = .milliseconds(100)
        case _: unreachable("\(mutant) is in one OST alone, in what comes after a lost catalogue, or has a scene of its own")
        }
    }
}

extension ClusterOptions {
    /// For debug builds.
    public mutating func shortenReplicated() {
        operationsMax = min(operationsMax, 300)
        volumeBytes = min(volumeBytes, 1 << 20)
        volumeBytesMax = volumeBytes
        chunkBytes = min(chunkBytes, 256 << 10)
        operationBytesMax = min(operationBytesMax, 32 << 10)
        workTime = min(workTime, .seconds(12))
        eventPause = min(eventPause, .seconds(1))
    }
}
