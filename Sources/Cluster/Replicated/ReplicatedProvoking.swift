import Base
import Simulation

/// Plans that lead to a deliberate bug in the protocol of replication quickly.
extension ReplicatedPlan {
    public static let provokable: [Mutant] = [
        .skipsReconcile, .excludesAlone, .skipsRewrite, .listsBeforeFilling, .forgetsFillBase, .excludesWithoutBase,
        .movesFromBase, .movesBeforeFilled,
    ]

    public mutating func provoke(_ mutant: Mutant, _ options: inout ClusterOptions) {
        options.faults = .none
        options.zeroPerMille = 0
        options.eventPause = .milliseconds(900)
        options.operationsMax = 600
        meta = .init()
        rotting = nil
        failing = nil
        longOutage = 2
        outageMax = .seconds(3)
        switch mutant {
        case .skipsReconcile: happenings = [.clientKill, .blackout]
        case .excludesAlone: happenings = [.kill, .clientKill]
        case .skipsRewrite:
            // A write that only one has in time.
            happenings = [.kill, .cut]
            options.deadlineMin = .milliseconds(50)
            options.deadlineMax = .milliseconds(300)
        case .listsBeforeFilling, .forgetsFillBase: happenings = [.kill]
        case .movesFromBase, .movesBeforeFilled:
            // To OSTs that have others of the volume, again and again, and some are broken off.
            (replicas, osts) = (2, 4)
            happenings = [.drain, .drain, .drain, .kill]
            options.workTime = .seconds(25)
        case .excludesWithoutBase:
            replicas = 2
            happenings = [.kill, .stop]
        case .forgetsFlush, .acknowledgesOutOfLogOrder, .reusesBlockEarly, .acceptsOldSession, .skipsCheck, .fillNeverDies, .fillCoversLive,
            .fillForgetsDoubt, .fillEndsUnflushed, .fillKeepsWriters, .stampsOnlyTheNumber, .rebuildsWithoutRaising,
            .rebuildsWithoutFilling:
            unreachable("that bug is in one OST alone, or in what comes after a lost catalogue")
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
