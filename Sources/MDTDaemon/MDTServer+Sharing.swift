import Base
import Environment
import MetaStore
import Metadata
import Wire

/// Several servers of one catalogue (`ClusterCatalogue.isShared`): the sign of life of this one, what it knows of the others, and the
/// volumes whose writer or work is theirs. With a catalogue of its own a server does nothing of this.
///
/// What is decided here is who waits for whom. Generations and conditions of transactions keep the volumes right without it, with one
/// exception: the objects on the OSTs are the work of one server at a time. That rests on the rate of clocks: a server whose sign of life
/// did not reach the catalogue for `Limits.serverTenure` asks no OST anything for the volumes that it has in hand, and others take them
/// over only after `Limits.serverSilenceMax` in which they saw none.
extension MDTServer {
    // Its own life

    func keepSharing() async {
        let record = ServerRecord(startedMilliseconds: world.wallClockMilliseconds)
        while !isStopped {
            let begun = world.now
            do throws(Failure) {
                try await catalogue.beat(identity, record)
                if !sharing.isContinuous(at: world.now) { sharing.tenure += 1 }
                sharing.lastBeat = begun
                try await lookAround()
            } catch {
                noteFailure()
                world.log(.debug, "no sign of life reaches the catalogue", [LogField("reason", error.detail)])
            }
            for (_, session) in writers.sorted(by: { $0.key < $1.key }) where isSilent(session.connection) {
                session.connection.end("its writer is silent")
            }
            await payDebts()
            while !isStopped, world.now < begun + Limits.serverBeatInterval { await operations.sleep(.milliseconds(100)) }
        }
    }

    /// When all is done: others need not wait to take over.
    func leaveSharing() async {
        do throws(Failure) { try await catalogue.forget(identity) } catch {
            world.log(.warning, "the other metadata servers are not told of the end", [LogField("reason", error.detail)])
        }
    }

    private func lookAround() async throws(Failure) {
        let servers = try await catalogue.servers()
        sharing.seen = sharing.seen.filter { servers[$0.key] != nil }
        for (server, revision) in servers.sorted(by: { $0.key < $1.key }) where server != identity {
            guard let known = sharing.seen[server], known.revision == revision else {
                sharing.seen[server] = Sharing.Seen(revision: revision, since: world.now)
                continue
            }
            if world.now - known.since >= Limits.serverMemory { try await catalogue.forget(server, since: revision) }
        }
    }

    private func isSilent(_ connection: MDTConnection) -> Bool {
        !connection.isHandling && world.now - connection.lastHeard >= Limits.writerSilenceMax
    }

    /// Whether another server has shown nothing since this sign of life for so long that it does nothing any more.
    private func isGone(_ server: Identifier, since revision: MetaRevision) -> Bool {
        guard let seen = sharing.seen[server], seen.revision == revision else { return false }
        return world.now - seen.since >= Limits.serverSilenceMax
    }

    // Writers

    /// Whether there is one, of this server or another that is alive.
    func hasWriter(_ ids: [Identifier]) async throws(Failure) -> Set<Identifier> {
        let own = Set(ids.filter { writers[$0] != nil })
        guard catalogue.isShared else { return own }
        let records = try await catalogue.writers(of: ids)
        return own.union(records.filter { $0.value.server != identity && sharing.seen[$0.value.server] != nil }.keys)
    }

    /// Until no other server has the volume's writer; the session that may be replaced. One whose server shows that it is alive makes this
    /// `busy`: that server ends sessions that are silent. A server that shows nothing is gone, and its writers with it, unless they have
    /// come to another one meanwhile.
    func waitForNoWriterElsewhere(_ volume: VolumeRecord, retrying nonce: Identifier) async throws(Failure) -> MetaRevision {
        var seen: ClusterCatalogue.KnownWriter?
        var since = world.now
        while true {
            let asked = world.now
            guard let known = try await catalogue.writer(of: volume.id) else { return .none }
            if known.record.server == identity || (nonce != .zero && nonce == volume.nonce) { return known.revision }
            if let seen, seen.revision == known.revision {
                if seen.serverRevision != known.serverRevision, known.serverRevision != .none { throw volume.isOpen(by: known.record) }
                if asked - since >= Limits.writerSilenceMax {
                    world.log(
                        .warning, "a writer gives way, whose metadata server is silent",
                        [LogField("volume", volume.object.name), LogField("server", known.record.server)])
                    return known.revision
                }
            }
            // Where the catalogue did not answer, that server may have been as mute for the same reason.
            if seen?.revision != known.revision || world.now - asked > .seconds(1) { (seen, since) = (known, world.now) }
            await operations.sleep(.milliseconds(200))
            if isStopped { throw Failure(.closed, "the daemon stops; try again in a moment") }
        }
    }

    func record(of connection: MDTConnection) -> WriterRecord {
        WriterRecord(server: identity, connection: connection.number, client: connection.description)
    }

    /// What the catalogue has of a session of this server becomes what is here.
    @discardableResult func tellWriter(of volume: Identifier) async -> Bool {
        // What ends with this process is for the writer to take up elsewhere; until then it is not nobody's.
        guard catalogue.isShared, !isStopped else { return false }
        let (until, asked) = (sharing.untold.removeValue(forKey: volume), world.now)
        do throws(Failure) {
            try await catalogue.amendWriter(of: volume) { [self] in
                $0.server == identity ? writers[volume].map { record(of: $0.connection) } : $0
            }
            if let until, until > asked { tellWriterAgain(of: volume, until) }
            return true
        } catch {
            tellWriterAgain(of: volume, until ?? asked)
            return false
        }
    }

    /// With the next sign of life, and with those until then: a commit without an answer may take effect so long.
    func tellWriterAgain(of volume: Identifier, _ until: Instant) {
        sharing.untold[volume] = max(until, sharing.untold[volume] ?? until)
    }

    // Hands

    /// Runs the body with a volume in the hands of one task of one server; `nil` if it is in another's.
    func withHand<Value>(
        on id: Identifier, _ body: () async throws(Failure) -> Value
    ) async throws(Failure) -> Value? {
        guard inHand[id] == nil else { return nil }
        guard !catalogue.isShared || sharing.isContinuous(at: world.now) else {
            throw Failure(.unavailable, "this metadata server has not reached the catalogue lately; try again in a moment, or ask another")
        }
        inHand[id] = sharing.tenure
        do throws(Failure) {
            var isMine = true
            if catalogue.isShared { isMine = try await catalogue.takeInHand(id, identity, isGone: isGone) }
            let value = isMine ? try await body() : nil
            await letGo(id)
            return value
        } catch {
            await letGo(id)
            throw error
        }
    }

    private func letGo(_ id: Identifier) async {
        if catalogue.isShared {
            do throws(Failure) { try await catalogue.letGo(id, identity) } catch { sharing.unreleased.insert(id) }
        }
        inHand[id] = nil
    }

    /// When anything is asked of an OST for a volume in hand.
    func checkInHand(_ id: Identifier) throws(Failure) {
        guard let tenure = inHand[id] else { unreachable("volume \(id) is in nobody's hands") }
        guard !catalogue.isShared || (tenure == sharing.tenure && sharing.isContinuous(at: world.now)) else {
            throw Failure(
                .closed,
                "this metadata server was cut off from the catalogue, and another one goes on with the volume; try again in a moment")
        }
    }

    /// What could not be told the catalogue when it was due.
    private func payDebts() async {
        for volume in sharing.untold.keys.sorted() where await !tellWriter(of: volume) { return }
        for id in sharing.unreleased.sorted() {
            guard !isStopped else { return }
            do throws(Failure) {
                if inHand[id] == nil { try await catalogue.letGo(id, identity) }
                sharing.unreleased.remove(id)
            } catch { return }
        }
    }
}

/// What a server knows of itself among others.
struct Sharing {
    struct Seen {
        var revision: MetaRevision
        /// When this server saw it first.
        var since: Instant
    }

    /// When the last sign of life that reached the catalogue was begun.
    var lastBeat: Instant?
    /// Raised when there was a gap between two: what was in hand before may be in others' hands.
    var tenure: UInt64 = 0
    /// The other servers, by their last sign of life.
    var seen: [Identifier: Seen] = [:]
    /// Volumes of which the catalogue may have a session here that has ended, or never began; and until when that is looked at.
    var untold: [Identifier: Instant] = [:]
    /// Volumes that are not in hand any more and stand so in the catalogue.
    var unreleased: Set<Identifier> = []

    func isContinuous(at now: Instant) -> Bool { lastBeat.map { now - $0 < Limits.serverTenure } ?? false }
}
