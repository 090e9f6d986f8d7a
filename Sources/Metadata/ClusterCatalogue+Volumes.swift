import Base
import MetaStore
import Wire

/// Volumes: what is asked of them, and what becomes of their objects.
extension MemoryMetaContents {
    /// A volume of the catalogue kept here, as it stands.
    public func volume(_ id: Identifier) throws(Failure) -> VolumeRecord? {
        let key = CatalogueKeys.volume(id)
        return try value(key).map { value throws(Failure) in try VolumeRecord(value, of: key) }
    }

    /// An OST of it.
    public func ost(_ store: Identifier) throws(Failure) -> OSTRecord? {
        let key = CatalogueKeys.ost(store)
        return try value(key).map { value throws(Failure) in try OSTRecord(value, of: key) }
    }
}

extension ClusterCatalogue {
    /// Puts a volume whose objects are still to be made. The name is taken from now on.
    public func begin(_ volume: VolumeRecord) async throws(Failure) {
        let (name, key) = (CatalogueKeys.name(volume.object.name), CatalogueKeys.volume(volume.id))
        let changes = [
            MetaChange.put(name, VolumeReference(id: volume.id).value), .put(key, volume.value), ClusterCatalogue.work(volume),
        ]
        try await transact { () throws(Failure) in
            if let value = try await store.read(name) {
                if try VolumeReference(value, of: name).id == volume.id { return .done(()) }
                throw Failure(
                    .alreadyExists, "a volume '\(volume.object.name)' exists already; remove it first or choose another name")
            }
            return .commit(MetaTransaction(if: [.absent(name), .absent(key)], changes), ())
        }
    }

    /// All objects were made by this server.
    public func finish(_ id: Identifier, maker: Identifier) async throws(Failure) -> VolumeRecord {
        try await change(id) { volume throws(Failure) in try volume.becomeReady(by: maker) }
    }

    public func volume(_ id: Identifier) async throws(Failure) -> VolumeRecord {
        try await reading { () throws(Failure) in try await find(id).volume }
    }

    public func volume(named name: String) async throws(Failure) -> VolumeRecord {
        try ObjectRecord.check(name: name)
        return try await reading { () throws(Failure) in
            guard let value = try await store.read(CatalogueKeys.name(name)) else { throw VolumeRecord.missing(name) }
            do throws(Failure) {
                return try await find(try VolumeReference(value, of: CatalogueKeys.name(name)).id).volume
            } catch {
                // Removed between the two reads.
                throw error.status == .notFound ? VolumeRecord.missing(name) : error
            }
        }
    }

    /// Raises the generation for a writer, once for each nonce.
    public func open(_ id: Identifier, nonce: Identifier) async throws(Failure) -> VolumeRecord {
        try await change(id) { volume throws(Failure) in try volume.raise(nonce: nonce) }
    }

    public func exclude(
        _ stores: Set<Identifier>, from id: Identifier, generation: UInt64, base: Version, fill: UInt64 = 0
    ) async throws(Failure) -> VolumeRecord {
        let now = world.wallClockMilliseconds
        return try await change(id) { volume throws(Failure) in
            try volume.exclude(stores, generation: generation, base: base, fill: fill, at: now)
        }
    }

    public func beginFill(
        _ stores: Set<Identifier>, of id: Identifier, generation: UInt64, base: Version
    ) async throws(Failure) -> VolumeRecord {
        let now = world.wallClockMilliseconds
        return try await change(id) { volume throws(Failure) in try volume.beginFill(stores, generation: generation, base: base, at: now) }
    }

    public func endFill(
        _ stores: Set<Identifier>, of id: Identifier, generation: UInt64, number: UInt64
    ) async throws(Failure) -> VolumeRecord {
        try await change(id) { volume throws(Failure) in try volume.endFill(stores, generation: generation, number: number) }
    }

    public func settle(_ id: Identifier, generation: UInt64, number: UInt64) async throws(Failure) {
        _ = try await change(id) { volume throws(Failure) in try volume.settle(generation: generation, number: number) }
    }

    /// What is not said stays.
    public func set(_ id: Identifier, floor: Int?, belowFloor: BelowFloor?) async throws(Failure) -> VolumeRecord {
        try await change(id) { volume throws(Failure) in try volume.set(floor: floor, belowFloor: belowFloor) }
    }

    // Objects that come and go with members that move: only while `holder` has the volume in hand. Another server may have taken over
    // since, and have removed an object that this one has made, or made one that it has removed.

    /// These stores are about to get the object.
    public func expect(_ targets: [Identifier], for id: Identifier, by holder: Identifier) async throws(Failure) -> VolumeRecord {
        try await change(id, holder: holder) { volume throws(Failure) in try volume.expect(targets) }
    }

    public func move(
        _ plan: VolumeRecord.MovePlan, of id: Identifier, ready: Set<Identifier>, generation: UInt64, by holder: Identifier
    ) async throws(Failure) -> VolumeRecord {
        try await change(id, holder: holder) { volume throws(Failure) in try volume.move(plan, ready: ready, generation: generation) }
    }

    /// These stores have no object of it any more.
    public func tidied(_ id: Identifier, _ gone: Set<Identifier>, by holder: Identifier) async throws(Failure) {
        _ = try await change(id, holder: holder) { volume throws(Failure) in volume.tidied(gone) }
    }

    /// The volumes behind a name, in the order of names; one that is being removed has none any more.
    public func volumes(after name: String, limit: Int) async throws(Failure) -> [VolumeRecord] {
        try await reading { () throws(Failure) in
            var last = name.isEmpty ? nil : CatalogueKeys.name(name)
            while true {
                let page = try await store.list(CatalogueKeys.names, after: last, limit: limit)
                var ids: [Identifier] = []
                for entry in page.entries { ids.append(try VolumeReference(entry.value, of: entry.key).id) }
                let keys = ids.map(CatalogueKeys.volume)
                var volumes: [VolumeRecord] = []
                for (key, value) in zip(keys, try await values(keys)) {
                    // Removed since the names were read, unless it is missing.
                    if let value { volumes.append(try VolumeRecord(value, of: key)) }
                }
                // None at all would read as the end.
                if !volumes.isEmpty || !page.hasMore { return volumes }
                last = page.entries.last?.key
            }
        }
    }

    // Removing

    /// From now on the volume cannot be opened and its name is free. Its record stays until no OST has its object.
    public func beginRemoval(_ id: Identifier) async throws(Failure) -> VolumeRecord {
        try await change(id) { volume throws(Failure) in volume.beginRemoval() }
    }

    /// The same for a volume whose objects are still being made; one that is ready stays so.
    public func cancelCreation(_ id: Identifier) async throws(Failure) -> VolumeRecord {
        try await change(id) { volume throws(Failure) in volume.cancelCreation() }
    }

    /// It is as it was before, if its name is still free, and if `holder` still has it in hand: another server may be removing objects.
    public func cancelRemoval(_ id: Identifier, by holder: Identifier) async throws(Failure) {
        _ = try await change(id, holder: holder) { volume throws(Failure) in volume.cancelRemoval() }
    }

    /// These OSTs do not have the object any more. With the last of them the record goes.
    public func removed(_ id: Identifier, from stores: Set<Identifier>) async throws(Failure) {
        do throws(Failure) {
            _ = try await change(id) { volume throws(Failure) in volume.removed(from: stores) }
        } catch {
            // An attempt before may have removed the record.
            guard error.status == .notFound else { throw error }
        }
    }

    // Resizing

    public func beginResize(_ id: Identifier, to bytes: UInt64, by generation: UInt64 = 0) async throws(Failure) -> VolumeRecord {
        try await change(id) { volume throws(Failure) in try volume.beginResize(to: bytes, by: generation) }
    }

    /// Objects of these stores have the size that resize `number` gives them.
    public func resized(_ id: Identifier, _ stores: Set<Identifier>, number: UInt64) async throws(Failure) -> VolumeRecord {
        try await change(id) { volume throws(Failure) in volume.resized(stores, number: number) }
    }

    public func cancelResize(_ id: Identifier, number: UInt64) async throws(Failure) -> VolumeRecord {
        try await change(id) { volume throws(Failure) in volume.cancelResize(number: number) }
    }

    /// The volumes of which objects are still to be made, removed or resized.
    public func unfinished() async throws(Failure) -> [Identifier] {
        try await reading { () throws(Failure) in
            var ids: [Identifier] = []
            var last: MetaKey?
            while true {
                let page = try await store.list(CatalogueKeys.work, after: last, limit: Limits.metaPageEntriesMax)
                for entry in page.entries { ids.append(try CatalogueKeys.identifier(of: entry.key, behind: CatalogueKeys.work)) }
                last = page.entries.last?.key
                if !page.hasMore { return ids }
            }
        }
    }

    // One change of one volume

    func find(_ id: Identifier) async throws(Failure) -> (volume: VolumeRecord, value: MetaValue) {
        let key = CatalogueKeys.volume(id)
        guard let value = try await store.read(key) else { throw Failure(.notFound, "there is no volume of the id \(id)") }
        return (try VolumeRecord(value, of: key), value)
    }

    /// Reads the volume, lets `body` change it, and puts it with all that goes with its state: its name and its entry of work.
    /// With a `holder`, only while that server has it in hand, where there are several.
    private func change(
        _ id: Identifier, holder: Identifier? = nil, _ body: (inout VolumeRecord) throws(Failure) -> Bool
    ) async throws(Failure) -> VolumeRecord {
        let key = CatalogueKeys.volume(id)
        return try await transact { () throws(Failure) in
            let (before, value) = try await find(id)
            var after = before
            guard try body(&after) else { return .done(after) }
            invariant(
                after.object.generation >= before.object.generation && after.object.map >= before.object.map,
                "'\(after.object.name)' goes back from \(before.object.generation), \(before.object.map)")
            do throws(Failure) { try after.checkInvariants() } catch { unreachable("a change breaks the volume: \(error.detail)") }
            var conditions = [MetaCondition.unchanged(key, since: value)]
            if isShared, let holder { conditions.append(try await hand(on: id, of: holder)) }
            var changes = [MetaChange]()
            if before.state == .removing, after.state != .removing || after.unremoved.isEmpty {
                changes += try await endOfRemoval(after, &conditions)
            } else if before.state != .removing, after.state == .removing {
                changes.append(.delete(CatalogueKeys.name(after.object.name)))
            }
            let isGone = after.state == .removing && after.unremoved.isEmpty
            changes.append(isGone ? .delete(key) : .put(key, after.value))
            changes.append(isGone ? .delete(CatalogueKeys.work(id)) : ClusterCatalogue.work(after))
            if isGone { changes.append(.delete(CatalogueKeys.writer(id))) }
            return .commit(MetaTransaction(if: conditions, changes), after)
        }
    }

    /// A removal that is cancelled takes its name again.
    private func endOfRemoval(
        _ volume: VolumeRecord, _ conditions: inout [MetaCondition]
    ) async throws(Failure) -> [MetaChange] {
        if volume.state == .removing { return [] }
        let name = CatalogueKeys.name(volume.object.name)
        guard try await store.read(name) == nil else {
            throw Failure(.alreadyExists, "the name '\(volume.object.name)' was given to another volume meanwhile")
        }
        conditions.append(.absent(name))
        return [.put(name, VolumeReference(id: volume.id).value)]
    }

    static func work(_ volume: VolumeRecord) -> MetaChange {
        let key = CatalogueKeys.work(volume.id)
        return volume.hasWork ? .put(key, VolumeReference(id: volume.id).value) : .delete(key)
    }
}

extension VolumeRecord {
    static func missing(_ name: String) -> Failure { Failure(.notFound, "there is no volume '\(name)' in this cluster") }
}
