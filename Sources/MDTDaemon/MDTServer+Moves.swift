import Base
import Client
import Environment
import Metadata
import Wire

/// Members that move to other OSTs: which OSTs are to be left and which can be moved to, and what these must have first. Who moves where is
/// decided by `VolumeRecord.plan`; data is moved by the volume's writer.
///
/// An object is made before a map names its OST, and removed after all OSTs in use have learned of a map that does not name it any more.
/// From before the one until after the other the store is among the record's strays, so nothing is forgotten when this server dies.
extension MDTServer {
    // What is known

    /// Not heard of for this long; at a start nobody has been away yet.
    private func silence(of store: Identifier) -> Interval { world.now - (heard[store]?.at ?? started) }

    /// One that is about to be given something: three heartbeats were not missed.
    private func isHere(_ store: Identifier) -> Bool { heard[store] != nil && silence(of: store) < MDTServer.identityHeld }

    private func isLost(_ store: Identifier) -> Bool {
        options.spareAfter.nanoseconds > 0 && silence(of: store) >= options.spareAfter
    }

    private func isUnfit(_ store: Identifier, _ record: OSTRecord?) -> Bool {
        record?.isDrained == true || silence(of: store) >= Limits.heartbeatTimeout
    }

    /// One that is not known was forgotten; or the catalogue was rebuilt while it was away, and it gets its time to come back.
    private func isLeft(_ store: Identifier, _ record: OSTRecord?) -> Bool {
        if let record { return record.isDrained }
        return silence(of: store) >= (options.spareAfter.nanoseconds > 0 ? options.spareAfter : Limits.spareAfterDefault)
    }

    /// Whether the writer of a volume should ask for places on other OSTs.
    func isMoveDue(_ volume: VolumeRecord, _ osts: [Identifier: OSTRecord]) -> Bool {
        volume.isMoveDue(
            leaving: Set(volume.stores.filter { isLeft($0, osts[$0]) }), lost: Set(volume.stores.filter(isLost)),
            unfit: Set(volume.stores.filter { isUnfit($0, osts[$0]) }))
    }

    /// `refused`: the writer could not fill anything there.
    private func surroundings(
        of volume: VolumeRecord, _ refused: Set<Identifier>, prepared: Set<Identifier>
    ) async throws(Failure) -> VolumeRecord.Surroundings {
        let records = try await catalogue.osts()
        let known = Dictionary(uniqueKeysWithValues: records.map { ($0.store, $0) })
        let candidates = try records.map { record throws(Failure) in
            // The catalogue's free space is that of the last change.
            let free = heard[record.store]?.registration.freeBytes ?? record.registration.freeBytes
            return try record.candidate(weight: free, isFull: isFull(record.store), isAlive: isHere(record.store))
        }
        return VolumeRecord.Surroundings(
            candidates: candidates, leaving: Set(volume.stores.filter { isLeft($0, known[$0]) }),
            lost: Set(volume.stores.filter(isLost)),
            unfit: refused.union(records.filter { isUnfit($0.store, $0) }.map(\.store)), prepared: prepared)
    }

    // Moving

    func replace(_ request: VolumeMembersRequest, _ deadline: Instant) async throws(Failure) -> VolumeMap {
        guard request.stores.count <= Limits.ostsMax else {
            throw Failure(.invalidArgument, "\(request.stores.count) OSTs are refused; there are \(Limits.ostsMax) at most")
        }
        let asked = try await catalogue.volume(request.id)
        try asked.check(generation: request.generation)
        try await waitForOSTs(deadline)
        return try await inHand(asked) { () throws(Failure) in
            var volume = try await catalogue.volume(request.id)
            var refused = Set(request.stores)
            var plan = VolumeRecord.MovePlan()
            var ready = Set<Identifier>()
            for _ in 0..<MDTServer.plansMax {
                plan = try volume.plan(try await surroundings(of: volume, refused, prepared: ready))
                ready.formUnion(volume.stores)
                let new = plan.targets.filter { !ready.contains($0) }
                if new.isEmpty { break }
                volume = try await catalogue.expect(new, for: volume.id, by: identity)
                let (done, failures) = await prepare(new, for: volume, deadline)
                ready.formUnion(done)
                if failures.isEmpty { break }
                // Elsewhere, then.
                if plan.obstacle == nil { plan.obstacle = failures.first }
                refused.formUnion(Set(new).subtracting(done))
            }
            if plan.dropped.isEmpty, ready.isDisjoint(with: plan.targets) {
                if let obstacle = plan.obstacle { throw obstacle }
                return try await map(of: volume)
            }
            let moved = try await catalogue.move(plan, of: volume.id, ready: ready, generation: request.generation, by: identity)
            if !moved.strays.isEmpty { wakeWork() }
            world.log(
                .info, "members move to other OSTs",
                [
                    LogField("volume", moved.object.name), LogField("map", moved.object.map), LogField("moving", moved.moves.count),
                    LogField("stores", plan.targets.map(\.description).joined(separator: " ")),
                ])
            return try await map(of: moved)
        }
    }

    /// So often other OSTs are chosen for those that turn out not to be there.
    private static let plansMax = 3

    /// Makes the object where members are about to move to; returns where it is.
    private func prepare(
        _ stores: [Identifier], for volume: VolumeRecord, _ deadline: Instant
    ) async -> (done: Set<Identifier>, failures: [Failure]) {
        let wanted = volume.newObject
        let map: VolumeMap
        do throws(Failure) { map = try await self.map(of: volume) } catch { return ([], [error]) }
        return await callAll(stores, for: volume.id, deadline) { _, ost throws(Failure) in
            try await ost.create(wanted, of: map)
            // Of an OST that was forgotten and is back: it may have been there all the time, with another size.
            try await ost.resize(wanted.name, bytes: wanted.bytes, of: map)
        }
    }

    // Tidying up

    /// Removes the object where the volume has no member, if that is known wherever it has some.
    func tidy(_ volume: VolumeRecord, _ deadline: Instant) async throws(Failure) {
        guard !volume.strays.isEmpty else { return }
        let known = try await catalogue.osts(volume.strays.map(\.store))
        // What a forgotten OST has is nobody's.
        var gone = Set(volume.strays.map(\.store).filter { known[$0] == nil })
        var reachable = volume.strays.filter { known[$0.store] != nil && isAlive($0.store) }
        if reachable.contains(where: { $0.since > 0 }) {
            // One that is away is excluded, or comes back.
            guard volume.storesInUse.allSatisfy(isAlive) else { return }
            let oldest = try await oldestMap(of: volume, deadline)
            reachable.removeAll { $0.since > oldest }
        }
        let name = "\(volume.id)"
        let (done, failures) = await callAll(reachable.map(\.store), for: volume.id, deadline) { _, ost throws(Failure) in
            do throws(Failure) {
                try await ost.remove(name)
            } catch {
                // It was removed before, or never made.
                if error.status != .notFound { throw error }
            }
        }
        gone.formUnion(done)
        if !gone.isEmpty {
            try await catalogue.tidied(volume.id, gone, by: identity)
            counters.workFinished += 1
            world.log(
                .info, "objects without members removed",
                [LogField("volume", volume.object.name), LogField("stores", gone.sorted().map(\.description).joined(separator: " "))])
        }
        if let first = failures.first { throw first }
    }

    /// The lowest map number that any OST in use knows of.
    private func oldestMap(of volume: VolumeRecord, _ deadline: Instant) async throws(Failure) -> UInt64 {
        let name = "\(volume.id)"
        let found = Oldest()
        let (_, failures) = await callAll(volume.storesInUse.sorted(), for: volume.id, deadline) { _, ost throws(Failure) in
            found.number = min(found.number, try await ost.stat(name).object.map)
        }
        if let first = failures.first { throw first }
        return found.number
    }
}

private final class Oldest { var number = UInt64.max }
