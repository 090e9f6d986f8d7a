import Base
import MetaStore
import Wire

/// Several servers of one catalogue: who is there, who has a volume's writer, and who works on a volume's objects.
extension ClusterCatalogue {
    // Servers

    /// That this server is there; changes the revision of its key each time.
    public func beat(_ server: Identifier, _ record: ServerRecord) async throws(Failure) {
        let change = MetaChange.put(CatalogueKeys.server(server), record.value)
        try await transact { () throws(Failure) in .commit(MetaTransaction([change]), ()) }
    }

    /// Those that have said so and have not left, with the revision of the last time.
    public func servers() async throws(Failure) -> [Identifier: MetaRevision] {
        try await reading { () throws(Failure) in
            var found: [Identifier: MetaRevision] = [:]
            var last: MetaKey?
            while true {
                let page = try await store.list(CatalogueKeys.servers, after: last, limit: Limits.metaPageEntriesMax)
                for entry in page.entries {
                    found[try CatalogueKeys.identifier(of: entry.key, behind: CatalogueKeys.servers)] = entry.value.revision
                }
                last = page.entries.last?.key
                if !page.hasMore { return found }
            }
        }
    }

    /// It is not there any more; nothing if it has said something since that revision.
    public func forget(_ server: Identifier, since revision: MetaRevision? = nil) async throws(Failure) {
        let key = CatalogueKeys.server(server)
        try await transact { () throws(Failure) in
            guard let value = try await store.read(key), revision == nil || value.revision == revision else { return .done(()) }
            return .commit(MetaTransaction(if: [.unchanged(key, since: value)], [.delete(key)]), ())
        }
    }

    // Writers

    /// A writer's session as it stands in the catalogue.
    public struct KnownWriter: Hashable, Sendable {
        public var record: WriterRecord
        public var revision: MetaRevision
        /// That of its server's last sign of life; `.none` if that has left.
        public var serverRevision: MetaRevision
    }

    public func writer(of id: Identifier) async throws(Failure) -> KnownWriter? {
        let key = CatalogueKeys.writer(id)
        return try await reading { () throws(Failure) in
            guard let value = try await store.read(key) else { return nil }
            let record = try WriterRecord(value, of: key)
            let server = try await store.read(CatalogueKeys.server(record.server))
            return KnownWriter(record: record, revision: value.revision, serverRevision: server?.revision ?? .none)
        }
    }

    /// Of these volumes, those that have one.
    public func writers(of ids: [Identifier]) async throws(Failure) -> [Identifier: WriterRecord] {
        let keys = ids.map(CatalogueKeys.writer)
        return try await reading { () throws(Failure) in
            var records: [Identifier: WriterRecord] = [:]
            for (id, (key, value)) in zip(ids, zip(keys, try await values(keys))) {
                if let value { records[id] = try WriterRecord(value, of: key) }
            }
            return records
        }
    }

    /// Raises the generation for a writer and notes its session, both or nothing. `replacing`: the session that was looked at and may go;
    /// with any other the volume is busy, unless `isForced`.
    public func open(
        _ id: Identifier, nonce: Identifier, as writer: WriterRecord, replacing seen: MetaRevision, isForced: Bool
    ) async throws(Failure) -> VolumeRecord {
        try await transact { () throws(Failure) in
            let (before, value) = try await find(id)
            var volume = before
            let isRaised = try volume.raise(nonce: nonce)
            let (current, key) = (try await store.read(CatalogueKeys.writer(id)), CatalogueKeys.writer(id))
            if let current, !isForced, current.revision != seen {
                let other = try WriterRecord(current, of: key)
                // A repeated open finds its own, by whichever server.
                guard other == writer || !isRaised else { throw volume.isOpen(by: other) }
            }
            return .commit(note(writer, current, volume, isRaised ? volume : nil, value), volume)
        }
    }

    /// A writer that was granted this generation has come back, to this server.
    public func resume(_ id: Identifier, generation: UInt64, as writer: WriterRecord) async throws(Failure) {
        try await transact { () throws(Failure) in
            let (volume, value) = try await find(id)
            try volume.check(generation: generation)
            let current = try await store.read(CatalogueKeys.writer(id))
            if let current, try WriterRecord(current, of: CatalogueKeys.writer(id)) == writer { return .done(()) }
            return .commit(note(writer, current, volume, nil, value), ())
        }
    }

    private func note(
        _ writer: WriterRecord, _ current: MetaValue?, _ volume: VolumeRecord, _ raised: VolumeRecord?, _ value: MetaValue
    ) -> MetaTransaction {
        let (key, volumeKey) = (CatalogueKeys.writer(volume.id), CatalogueKeys.volume(volume.id))
        var changes = [MetaChange.put(key, writer.value)]
        if let raised { changes.append(.put(volumeKey, raised.value)) }
        return MetaTransaction(if: [.unchanged(volumeKey, since: value), .unchanged(key, since: current)], changes)
    }

    /// A session that is noted becomes what `amend` makes of it; nil: none.
    public func amendWriter(of id: Identifier, _ amend: (WriterRecord) -> WriterRecord?) async throws(Failure) {
        let key = CatalogueKeys.writer(id)
        try await transact { () throws(Failure) in
            guard let current = try await store.read(key) else { return .done(()) }
            let known = try WriterRecord(current, of: key)
            let wanted = amend(known)
            if wanted == known { return .done(()) }
            let change = wanted.map { MetaChange.put(key, $0.value) } ?? .delete(key)
            return .commit(MetaTransaction(if: [.unchanged(key, since: current)], [change]), ())
        }
    }

    // Hands

    /// For a server that is about to work on a volume's objects; false if another one does, which has not left and is not `isGone` since
    /// the revision of its last sign of life.
    public func takeInHand(
        _ id: Identifier, _ server: Identifier, isGone: (Identifier, MetaRevision) -> Bool
    ) async throws(Failure) -> Bool {
        let key = CatalogueKeys.hand(id)
        return try await transact { () throws(Failure) in
            let current = try await store.read(key)
            if let current {
                let holder = try HandRecord(current, of: key).server
                if holder == server { return .done(true) }
                if let sign = try await store.read(CatalogueKeys.server(holder)), !isGone(holder, sign.revision) { return .done(false) }
            }
            let change = MetaChange.put(key, HandRecord(server: server).value)
            return .commit(MetaTransaction(if: [.unchanged(key, since: current)], [change]), true)
        }
    }

    /// That it stays in this server's hand.
    func hand(on id: Identifier, of server: Identifier) async throws(Failure) -> MetaCondition {
        let key = CatalogueKeys.hand(id)
        guard let current = try await store.read(key), try HandRecord(current, of: key).server == server else {
            throw Failure(.closed, "another metadata server has taken this over; try again in a moment")
        }
        return .unchanged(key, since: current)
    }

    public func letGo(_ id: Identifier, _ server: Identifier) async throws(Failure) {
        let key = CatalogueKeys.hand(id)
        try await transact { () throws(Failure) in
            guard let current = try await store.read(key), try HandRecord(current, of: key).server == server else { return .done(()) }
            return .commit(MetaTransaction(if: [.unchanged(key, since: current)], [.delete(key)]), ())
        }
    }
}

extension VolumeRecord {
    public func isOpen(by writer: WriterRecord) -> Failure {
        Failure(
            .busy,
            "'\(object.name)' is open for writing by \(writer.client), at another metadata server; close it there, or open it by force")
    }
}
