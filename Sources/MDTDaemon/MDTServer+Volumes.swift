import Base
import ControlServer
import Environment
import MetaStore
import Metadata
import Wire

/// What is asked of volumes.
extension MDTServer {
    // Looking

    func map(of volume: VolumeRecord) async throws(Failure) -> VolumeMap {
        volume.map(try await catalogue.osts(volume.stores), incarnation: catalogue.incarnation)
    }

    func map(_ request: VolumeMapRequest) async throws(Failure) -> (VolumeMap, VolumeMapNotes) {
        let volume =
            request.id == .zero ? try await catalogue.volume(named: request.name) : try await catalogue.volume(request.id)
        try volume.checkUsable()
        let hasWriter = try await hasWriter([volume.id]).contains(volume.id)
        let osts = try await catalogue.osts(volume.stores)
        let notes = VolumeMapNotes(
            hasWriter: hasWriter, level: volume.level, unresized: volume.unresized.count, isMoveDue: isMoveDue(volume, osts),
            isUnsettled: volume.left > 0)
        return (volume.map(osts, incarnation: catalogue.incarnation), notes)
    }

    func list(_ request: NameRequest) async throws(Failure) -> VolumeListReply {
        if !request.name.isEmpty { try ObjectRecord.check(name: request.name) }
        let volumes = try await catalogue.volumes(after: request.name, limit: VolumeListReply.countMax)
        let written = try await hasWriter(volumes.map(\.id))
        return VolumeListReply(volumes: volumes.map { summary(of: $0, hasWriter: written.contains($0.id)) })
    }

    // Writing

    /// Also says whether an earlier writer may still read on members that have left.
    func open(
        _ request: VolumeOpenRequest, generation: UInt64, _ connection: MDTConnection
    ) async throws(Failure) -> (VolumeMap, isUnsettled: Bool) {
        let volume = try await catalogue.volume(named: request.name)
        try volume.checkUsable()
        guard request.flags.contains(.write) else { return (try await map(of: volume), false) }
        if generation != 0 {
            try volume.check(generation: generation)
            try await withSession(of: connection, generation, on: volume.id) { [self] _ throws(Failure) in
                if catalogue.isShared { try await catalogue.resume(volume.id, generation: generation, as: record(of: connection)) }
            }
            return (try await map(of: volume), false)
        }
        let isForced = request.flags.contains(.force)
        let replaced = isForced ? MetaRevision.none : try await waitForNoWriter(volume, but: connection, retrying: request.nonce)
        let opened = try await withSession(of: connection, .max, on: volume.id) { [self] session throws(Failure) in
            let opened =
                catalogue.isShared
                ? try await catalogue.open(
                    volume.id, nonce: request.nonce, as: record(of: connection), replacing: replaced, isForced: isForced)
                : try await catalogue.open(volume.id, nonce: request.nonce)
            session.generation = opened.object.generation
            return opened
        }
        world.log(
            .info, "volume opened for writing",
            [
                LogField("volume", opened.object.name), LogField("generation", opened.object.generation),
                LogField("map", opened.object.map), LogField("connection", connection.number),
            ])
        return (try await map(of: opened), opened.left > 0)
    }

    /// The session is here while the catalogue is told of it: who comes in between finds somebody, and it is not taken for one that is
    /// over.
    private func withSession<Value>(
        of connection: MDTConnection, _ generation: UInt64, on id: Identifier, _ body: (WriterSession) async throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        // It may have left while it waited for its turn.
        try checkIsThere(connection)
        let (before, session) = (writers[id], WriterSession(connection, generation: generation))
        writers[id] = session
        do throws(Failure) {
            let value = try await body(session)
            if connection.hasLeft {
                await tellWriter(of: id)
            } else if session.generation > writers[id]?.generation ?? 0 {
                // An older writer came back meanwhile, and will be refused.
                writers[id] = session
            }
            return value
        } catch {
            if writers[id] === session { writers[id] = before.flatMap { $0.connection.hasLeft ? nil : $0 } }
            // The catalogue may have it all the same, now or soon.
            if catalogue.isShared { tellWriterAgain(of: id, world.now + Limits.etcdCallTimeout) }
            throw error
        }
    }

    /// Until no server has the session of another writer; which one of those in the catalogue may be replaced.
    private func waitForNoWriter(
        _ volume: VolumeRecord, but connection: MDTConnection, retrying nonce: Identifier
    ) async throws(Failure) -> MetaRevision {
        try await waitForNoWriterHere(volume, but: connection, retrying: nonce)
        guard catalogue.isShared else { return .none }
        let replaced = try await waitForNoWriterElsewhere(volume, retrying: nonce)
        // It may have come here from there.
        try await waitForNoWriterHere(volume, but: connection, retrying: nonce)
        return replaced
    }

    /// Nobody waits for what it has asked.
    private func checkIsThere(_ connection: MDTConnection) throws(Failure) {
        if connection.hasLeft { throw Failure(.closed, "the client has closed its connection") }
    }

    /// Until the session of another writer has ended. One that is alive makes this `busy`: it says something every few seconds, or is in
    /// the middle of a request. One that stays silent is gone.
    private func waitForNoWriterHere(
        _ volume: VolumeRecord, but connection: MDTConnection, retrying nonce: Identifier
    ) async throws(Failure) {
        let asked = world.now
        while let session = writers[volume.id], session.connection !== connection {
            let other = session.connection
            // The same open again, by another connection since the first broke: nobody else's.
            if session.generation == volume.object.generation, nonce != .zero, nonce == volume.nonce { return }
            if other.isHandling || other.lastHeard > asked {
                throw Failure(
                    .busy, "'\(volume.object.name)' is open for writing by \(other.description); close it there first, or open it by force")
            }
            if world.now - other.lastHeard >= Limits.writerSilenceMax {
                world.log(
                    .warning, "a writer that is silent gives way",
                    [LogField("volume", volume.object.name), LogField("connection", other.number)])
                writers[volume.id] = nil
                if catalogue.isShared { tellWriterAgain(of: volume.id, world.now) }
                other.end("its volume was opened by another writer while it was silent")
                return
            }
            await operations.sleep(.milliseconds(50))
            if isStopped { throw Failure(.closed, "the daemon stops; try again in a moment") }
            try checkIsThere(connection)
        }
    }

    func exclude(_ request: VolumeMembersRequest, fill: UInt64) async throws(Failure) -> VolumeMap {
        guard (1...Limits.ostsMax).contains(request.stores.count) else {
            throw Failure(.invalidArgument, "an exclusion names 1 to \(Limits.ostsMax) OSTs, not \(request.stores.count)")
        }
        let volume = try await catalogue.exclude(
            Set(request.stores), from: request.id, generation: request.generation, base: request.base, fill: fill)
        if fill > 0 {
            log("a fill was given up", volume, request)
            return try await map(of: volume)
        }
        world.log(
            .warning, "members excluded",
            [
                LogField("volume", volume.object.name), LogField("map", volume.object.map), LogField("generation", request.generation),
                LogField("base", request.base), LogField("stores", request.stores.map(\.description).joined(separator: " ")),
            ])
        return try await map(of: volume)
    }

    func set(_ request: VolumeSetRequest) async throws(Failure) -> VolumeMap {
        let volume = try await catalogue.volume(named: request.name)
        try request.belowFloor?.check()
        let changed = try await catalogue.set(volume.id, floor: request.floor, belowFloor: request.belowFloor)
        world.log(
            .info, "volume set",
            [
                LogField("volume", changed.object.name), LogField("map", changed.object.map), LogField("floor", changed.floor),
                LogField("below", "\(changed.belowFloor)"),
            ])
        return try await map(of: changed)
    }

    func beginFill(_ request: VolumeMembersRequest) async throws(Failure) -> (VolumeMap, base: Version) {
        try check(request.stores)
        let stores = Set(request.stores)
        let volume: VolumeRecord
        do throws(Failure) {
            volume = try await catalogue.beginFill(stores, of: request.id, generation: request.generation, base: request.base)
        } catch {
            // A resize is to be made up for first, and the OST can be reached again.
            if error.status == .unavailable { wakeWork() }
            throw error
        }
        log("members are being filled", volume, request)
        let base = volume.bases.filter { stores.contains($0.store) }.map(\.version).min() ?? request.base
        return (try await map(of: volume), base)
    }

    func endFill(_ request: VolumeMembersRequest, number: UInt64) async throws(Failure) -> VolumeMap {
        try check(request.stores)
        let volume = try await catalogue.endFill(Set(request.stores), of: request.id, generation: request.generation, number: number)
        log("members are in sync", volume, request)
        return try await map(of: volume)
    }

    private func check(_ stores: [Identifier]) throws(Failure) {
        guard (1...Limits.ostsMax).contains(stores.count) else {
            throw Failure(.invalidArgument, "a change of members names 1 to \(Limits.ostsMax) OSTs, not \(stores.count)")
        }
    }

    private func log(_ what: String, _ volume: VolumeRecord, _ request: VolumeMembersRequest) {
        world.log(
            .info, what,
            [
                LogField("volume", volume.object.name), LogField("map", volume.object.map),
                LogField("stores", request.stores.map(\.description).joined(separator: " ")),
            ])
    }

    // Making and removing

    func create(_ request: VolumeCreateRequest, _ deadline: Instant) async throws(Failure) -> VolumeMap {
        try await waitForOSTs(deadline)
        let volume = try await catalogue.place(request, maker: identity, isFull: { isFull($0) }, isAlive: { isAlive($0) })
        return try await inHand(volume) { () throws(Failure) in
            do throws(Failure) {
                try await catalogue.begin(volume)
                if let failure = await makeObjects(volume, deadline) { throw failure }
                let made = try await catalogue.finish(volume.id, maker: identity)
                world.log(
                    .info, "volume created",
                    [
                        LogField("volume", made.object.name), LogField("id", made.id), LogField("bytes", made.object.bytes),
                        LogField("members", made.members), LogField("placements", made.placementCount), LogField("osts", made.stores.count),
                    ])
                return try await map(of: made)
            } catch {
                await undo(volume)
                throw error
            }
        }
    }

    /// The name is free at once. What was made on OSTs goes by and by; and where the catalogue cannot be reached now, the volume is still
    /// one that is being made, in nobody's hands.
    private func undo(_ volume: VolumeRecord) async {
        do throws(Failure) {
            _ = try await catalogue.cancelCreation(volume.id)
        } catch {
            // It was not even begun.
            if error.status != .notFound {
                world.log(
                    .warning, "a creation is undone later", [LogField("volume", volume.object.name), LogField("reason", error.detail)])
            }
        }
        wakeWork()
    }

    func remove(_ request: NameRequest, _ connection: MDTConnection, _ deadline: Instant) async throws(Failure) {
        let volume = try await catalogue.volume(named: request.name)
        try volume.checkUsable()
        _ = try await waitForNoWriter(volume, but: connection, retrying: .zero)
        try await waitForOSTs(deadline)
        try await inHand(volume) { () throws(Failure) in
            let leaving = try await catalogue.beginRemoval(volume.id)
            world.log(.info, "removing a volume", [LogField("volume", leaving.object.name), LogField("id", leaving.id)])
            do throws(Failure) {
                try await removeObjects(leaving, deadline)
            } catch {
                guard error.status == .busy else {
                    // What is left goes when its OSTs are back.
                    wakeWork()
                    return
                }
                // Somebody has it open, and nothing is gone yet.
                try await catalogue.cancelRemoval(volume.id, by: identity)
                throw error
            }
        }
    }

    func resize(_ request: NameRequest, bytes: UInt64, by generation: UInt64, _ deadline: Instant) async throws(Failure) -> VolumeMap {
        let volume = try await catalogue.volume(named: request.name)
        try volume.checkUsable()
        try await waitForOSTs(deadline)
        return try await inHand(volume) { () throws(Failure) in
            var changing = try await catalogue.beginResize(volume.id, to: bytes, by: generation)
            let failures = try await resizeObjects(&changing, on: changing.unresized.map(\.store), deadline)
            if changing.object.bytes != bytes {
                _ = try await catalogue.cancelResize(volume.id, number: changing.resizes)
                wakeWork()
                let why = failures.first ?? Failure(.unreachable, "not all OSTs have answered")
                throw Failure(
                    why.status,
                    "'\(volume.object.name)' keeps its \(volume.object.bytes) bytes, since it cannot grow everywhere: \(why.detail)")
            }
            world.log(.info, "volume resized", [LogField("volume", volume.object.name), LogField("bytes", bytes)])
            return try await map(of: changing)
        }
    }

    func inHand<Value>(_ volume: VolumeRecord, _ body: () async throws(Failure) -> Value) async throws(Failure) -> Value {
        guard let value = try await withHand(on: volume.id, body) else {
            throw Failure(.busy, "'\(volume.object.name)' is just being changed; try again in a moment")
        }
        return value
    }
}

extension MDTConnection {
    /// As a user knows it.
    var description: String {
        let name = String(String.UnicodeScalarView((peer?.software ?? "").unicodeScalars.filter { $0.value >= 32 && $0.value != 127 }))
        return name.isEmpty ? "connection \(number)" : "\(name) (connection \(number))"
    }
}
