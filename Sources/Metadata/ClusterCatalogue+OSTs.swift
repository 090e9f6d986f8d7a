import Base
import MetaStore
import Wire

/// The registry of OSTs.
extension ClusterCatalogue {
    /// Takes in what an OST says of itself. Asked again, it changes nothing.
    @discardableResult
    public func register(_ registration: OSTRegisterRequest) async throws(Failure) -> OSTRecord {
        try OSTRecord.check(registration)
        let key = CatalogueKeys.ost(registration.store)
        return try await transact { () throws(Failure) in
            let value = try await store.read(key)
            var record: OSTRecord
            if let value {
                record = try OSTRecord(value, of: key)
                guard try record.renew(registration) else { return .done(record) }
            } else {
                let count = try await allOSTs().count
                guard count < Limits.ostsMax else {
                    throw Failure(.overloaded, "this cluster has \(count) OSTs, the most it can have")
                }
                record = OSTRecord(registration, firstMilliseconds: world.wallClockMilliseconds)
            }
            return .commit(MetaTransaction(if: [.unchanged(key, since: value)], [.put(key, record.value)]), record)
        }
    }

    /// Whether an OST gets no parts, and those that it has move to others.
    public func setDrained(_ store: Identifier, _ isDrained: Bool) async throws(Failure) {
        let key = CatalogueKeys.ost(store)
        try await transact { () throws(Failure) in
            guard let value = try await self.store.read(key) else { throw Failure(.notFound, "there is no OST \(store) in this cluster") }
            var record = try OSTRecord(value, of: key)
            if record.isDrained == isDrained { return .done(()) }
            record.isDrained = isDrained
            return .commit(MetaTransaction(if: [.unchanged(key, since: value)], [.put(key, record.value)]), ())
        }
    }

    /// Forgets an OST that keeps nothing, or whatever it keeps: what only it has then cannot be reached until it registers again, and the
    /// rest moves to others. The caller knows that no volume is just being placed on it.
    public func remove(ost store: Identifier, losesData: Bool = false) async throws(Failure) {
        let key = CatalogueKeys.ost(store)
        try await transact { () throws(Failure) in
            guard let value = try await self.store.read(key) else { return .done(()) }
            let held = losesData ? [] : try await held(by: store)
            guard held.isEmpty else {
                let shown = held.prefix(8).joined(separator: ", ") + (held.count > 8 ? " and \(held.count - 8) more" : "")
                throw Failure(
                    .busy,
                    "OST \(store) keeps members of \(held.count) volumes: \(shown); move them to other OSTs first: 'rawstor ost drain'. "
                        + "What it has the last copy of moves only while it is there; to give that up, say --lose-data"
                )
            }
            return .commit(MetaTransaction(if: [.unchanged(key, since: value)], [.delete(key)]), ())
        }
    }

    /// What an OST keeps, as a user knows it: also of volumes that are being made. Not of those that are being removed: nobody wants that,
    /// their records remember it, and it goes should the OST come back.
    private func held(by store: Identifier) async throws(Failure) -> [String] {
        var found: [String] = []
        var last: MetaKey?
        while true {
            let page = try await self.store.list(CatalogueKeys.volumes, after: last, limit: Limits.metaPageEntriesMax)
            for entry in page.entries {
                let volume = try VolumeRecord(entry.value, of: entry.key)
                guard volume.state != .removing, volume.stores.contains(store) else { continue }
                let last = volume.lastPlacements(on: store)
                found.append("'\(volume.object.name)'" + (last > 0 ? " (the last copy in sync of \(last) placements)" : ""))
            }
            last = page.entries.last?.key
            if !page.hasMore { return found }
        }
    }

    /// All of them, in the order of their stores.
    public func osts() async throws(Failure) -> [OSTRecord] {
        try await reading { () throws(Failure) in try await allOSTs() }
    }

    func allOSTs() async throws(Failure) -> [OSTRecord] {
        var records: [OSTRecord] = []
        var last: MetaKey?
        while true {
            let page = try await store.list(CatalogueKeys.osts, after: last, limit: Limits.metaPageEntriesMax)
            for entry in page.entries { records.append(try OSTRecord(entry.value, of: entry.key)) }
            last = page.entries.last?.key
            if !page.hasMore { return records }
        }
    }

    /// Of these stores; those that are not known are left out.
    public func osts(_ stores: [Identifier]) async throws(Failure) -> [Identifier: OSTRecord] {
        let keys = stores.map(CatalogueKeys.ost)
        return try await reading { () throws(Failure) in
            var records: [Identifier: OSTRecord] = [:]
            for (key, value) in zip(keys, try await values(keys)) {
                guard let value else { continue }
                let record = try OSTRecord(value, of: key)
                records[record.store] = record
            }
            return records
        }
    }
}
