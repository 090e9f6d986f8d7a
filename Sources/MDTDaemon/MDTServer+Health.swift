import Base
import ControlServer
import Environment
import Metadata
import Wire

/// How a volume is: what the catalogue knows of its members, which of its OSTs are there, and what its writer tells of bringing them up to
/// date. The last two are known to this process only, and are lost with it: the writer tells again within seconds.
extension MDTServer {
    /// Of a writer whose session is here; of anybody else it counts for nothing.
    func note(_ report: WriterReport, _ connection: MDTConnection) {
        guard let session = writers[report.id], session.connection === connection, session.generation == report.generation else { return }
        writers[report.id]?.report = report
    }

    func health(_ request: NameRequest) async throws(Failure) -> VolumeHealthReply {
        let volume = try await catalogue.volume(named: request.name)
        let (writer, client) = try await writer(of: volume.id)
        // No waiting from here on: what is said is of one moment.
        let session = writers[volume.id]
        var members = volume.health
        for resync in session?.report?.resyncs ?? [] {
            guard let index = members.firstIndex(where: { $0.store == resync.store }) else { continue }
            // What it tells of one that is in sync by now is over.
            if members[index].stale + members[index].filling > 0 { members[index].resync = resync }
        }
        return VolumeHealthReply(
            summary: summary(of: volume, hasWriter: writer != .nobody), writer: writer, client: client,
            silence: session.map { world.now - $0.connection.lastHeard } ?? Interval(nanoseconds: 0),
            nowMilliseconds: world.wallClockMilliseconds, members: members)
    }

    func summary(of volume: VolumeRecord, hasWriter: Bool) -> VolumeSummary {
        volume.summary(hasWriter: hasWriter, stalled: writers[volume.id]?.report?.stalled ?? 0) { isHeard($0) }
    }

    private func writer(of id: Identifier) async throws(Failure) -> (VolumeHealthReply.Writer, client: String) {
        if let session = writers[id] { return (.here, session.connection.description.shortened) }
        guard try await hasWriter([id]).contains(id) else { return (.nobody, "") }
        // It may have come here meanwhile.
        if let session = writers[id] { return (.here, session.connection.description.shortened) }
        return (.elsewhere, try await catalogue.writer(of: id)?.record.client.shortened ?? "")
    }
}

extension String {
    fileprivate var shortened: String {
        if utf8.count <= VolumeHealthReply.clientBytesMax { return self }
        return String(unicodeScalars.prefix(VolumeHealthReply.clientBytesMax / 4).map(Character.init))
    }
}
