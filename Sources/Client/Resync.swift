import Base
import Environment
import Wire

/// How the writer is at bringing one OST up to date, for those who ask a metadata server: it is told with the writer's pings, and decides
/// nothing.
struct Resync {
    var state: ResyncProgress.State
    /// When the attempt began, or the last one failed.
    var since: Instant
    /// What the volume had copied before, to whomever.
    var copiedBefore: UInt64
    var totalBytes: UInt64 = 0
    var doneBytes: UInt64 = 0
    var trouble: String

    init(_ state: ResyncProgress.State, since: Instant, copiedBefore: UInt64, trouble: String = "") {
        self.state = state
        self.since = since
        self.copiedBefore = copiedBefore
        self.trouble = trouble
    }
}

extension Volume {
    /// What the metadata server is told. An OST that is in sync again is left out, and so is one that nobody has tried to reach.
    var writerReport: WriterReport {
        let progress = resyncs.sorted { $0.key < $1.key }.filter { isBehind($0.key) }.map { peer, resync in
            ResyncProgress(
                store: stores[peer], state: resync.state, totalBytes: resync.totalBytes, doneBytes: resync.doneBytes,
                copiedBytes: resyncedBytes - resync.copiedBefore, elapsed: world.now - resync.since, trouble: resync.trouble)
        }
        return WriterReport(id: object.id, generation: object.generation, stalled: engine.stalledCount, resyncs: progress)
    }

    private func isBehind(_ peer: Int) -> Bool {
        guard let map, let ost = map.index(of: stores[peer]) else { return false }
        return map.entries.contains { $0.ost == ost && $0.state != .inSync } || map.moves.contains { $0.entry.ost == ost }
    }
}
