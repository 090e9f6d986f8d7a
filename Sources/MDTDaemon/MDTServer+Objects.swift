import Base
import Client
import Environment
import Metadata
import Wire

/// The objects of volumes on the OSTs: made, resized and removed by this server as their client; and what was left undone.
extension MDTServer {
    // One OST

    /// Calls one OST, at the first of its addresses that answers with its store.
    private func call(
        _ store: Identifier, for volume: Identifier, _ deadline: Instant, _ body: (OSTCatalogue) async throws(Failure) -> Void
    ) async throws(Failure) {
        guard let record = try await catalogue.osts([store])[store] else {
            throw Failure(.unreachable, "OST \(store) has never registered; start it with --mdt")
        }
        guard isAlive(store) else {
            let name = "\(record.registration.endpoints.joined(separator: " ")) (\(record.registration.domain))"
            throw Failure(
                .unreachable,
                "OST \(name) is away: it has not been heard of "
                    + (heard[store].map { "for \((world.now - $0.at).milliseconds / 1000) s" } ?? "since this server was started"))
        }
        try await call(record.registration, for: volume, deadline, body)
    }

    /// As which catalogue: usually this one. For a volume only while this server has it in hand.
    private func call(
        _ registration: OSTRegisterRequest, for volume: Identifier?, _ deadline: Instant, incarnation: UInt64? = nil,
        _ body: (OSTCatalogue) async throws(Failure) -> Void
    ) async throws(Failure) {
        let expected = OSTCatalogue.ExpectedStore(registration.store, mountCounter: registration.mountCounter)
        var last = Failure(.unreachable, "OST \(registration.store) has no address")
        for text in registration.endpoints {
            guard world.now < deadline else { break }
            let endpoint: Endpoint
            do throws(Failure) { endpoint = try Address("ost://" + text).endpoint } catch {
                last = error
                continue
            }
            let ost = OSTCatalogue(
                world, endpoint, cluster: catalogue.cluster, expecting: expected, incarnation: incarnation ?? catalogue.incarnation,
                deadline: min(deadline - world.now, options.ostDeadline))
            defer { ost.close() }
            if let volume { ost.mayAsk = { [unowned self] () throws(Failure) in try checkInHand(volume) } }
            do throws(Failure) {
                return try await body(ost)
            } catch {
                last = Failure(error.status, "OST \(text): \(error.detail)")
                switch error.status {
                case .unreachable, .deadlineExceeded, .wrongStore, .wrongCluster: continue
                case _: throw last
                }
            }
        }
        throw last
    }

    /// An OST that has not heard of this catalogue belongs to it from now on, before it counts as there.
    func adopt(_ registration: OSTRegisterRequest) async throws(Failure) {
        let wanted = catalogue.incarnation
        guard registration.incarnation <= wanted else {
            throw Failure(
                .wrongStore,
                "this catalogue is an old copy: OST \(registration.store) belongs to its incarnation \(registration.incarnation), this is "
                    + "\(wanted); serve the newest one, or rebuild it: rawstor-mdt rebuild")
        }
        guard registration.incarnation < wanted else { return }
        try await call(registration, for: nil, world.now + options.adoptDeadline, incarnation: 0) { ost throws(Failure) in
            try await ost.adopt(from: registration.incarnation, to: wanted)
        }
    }

    /// Calls all of them at once; those that failed, in the order of their stores.
    func callAll(
        _ stores: [Identifier], for volume: Identifier, _ deadline: Instant,
        _ body: @escaping (Identifier, OSTCatalogue) async throws(Failure) -> Void
    ) async -> (done: Set<Identifier>, failures: [Failure]) {
        var done: Set<Identifier> = []
        var failures: [Identifier: Failure] = [:]
        await world.together(stores.count) { [self] index in
            let store = stores[index]
            do throws(Failure) {
                try await call(store, for: volume, deadline) { ost throws(Failure) in try await body(store, ost) }
                done.insert(store)
            } catch {
                failures[store] = error
            }
        }
        return (done, stores.compactMap { failures[$0] })
    }

    // A volume

    /// On all OSTs; what went wrong first, if anything did. What was made stays for whoever undoes it.
    func makeObjects(_ volume: VolumeRecord, _ deadline: Instant) async -> Failure? {
        let wanted = volume.newObject
        let map: VolumeMap
        do throws(Failure) { map = try await self.map(of: volume) } catch { return error }
        let (_, failures) = await callAll(volume.stores, for: volume.id, deadline) { _, ost throws(Failure) in
            try await ost.create(wanted, of: map)
        }
        return failures.first.map { Failure($0.status, "'\(volume.object.name)' was not created: \($0.detail)") }
    }

    /// On all OSTs that may still have it. The first one is asked alone: if somebody has the volume open, it says so before anything is
    /// gone, and that is thrown. Other failures leave the rest for later, and the last of them is thrown.
    func removeObjects(_ volume: VolumeRecord, _ deadline: Instant) async throws(Failure) {
        let name = "\(volume.id)"
        // How many were told to and have not refused: any of them may have removed it, or will.
        var mayBeGone = 0
        let remove: (Identifier, OSTCatalogue) async throws(Failure) -> Void = { _, ost throws(Failure) in
            _ = try await ost.hello()
            mayBeGone += 1
            do throws(Failure) {
                try await ost.remove(name)
            } catch {
                if error.status == .busy { mayBeGone -= 1 }
                // It was removed before, and the answer was lost; or it was never made.
                if error.status != .notFound { throw error }
            }
        }
        var gone: Set<Identifier> = []
        var left = volume.unremoved.filter(isAlive)
        var failure: Failure?
        while gone.isEmpty, let store = left.first {
            left.removeFirst()
            let (done, failures) = await callAll([store], for: volume.id, deadline, remove)
            gone = done
            failure = failures.first ?? failure
            if failures.first?.status == .busy, volume.unremoved == volume.everywhere { break }
        }
        let isOpen = gone.isEmpty && mayBeGone == 0 && failure?.status == .busy
        if !isOpen {
            let (done, failures) = await callAll(left, for: volume.id, deadline, remove)
            gone.formUnion(done)
            // Later it is never `busy`, for the caller: a part is gone.
            if let first = failures.first { failure = Failure(.unreachable, first.detail) }
            if failure?.status == .busy { failure?.status = .unreachable }
        }
        if !gone.isEmpty { try await catalogue.removed(volume.id, from: gone) }
        if failure == nil, gone.count < volume.unremoved.count { failure = Failure(.unreachable, "some of its OSTs are away") }
        if let failure { throw failure }
    }

    /// On those of the OSTs that have not the right size; `volume` is then as the catalogue has it. Returns what went wrong.
    func resizeObjects(
        _ volume: inout VolumeRecord, on stores: [Identifier], _ deadline: Instant
    ) async throws(Failure) -> [Failure] {
        let name = "\(volume.id)"
        let bytes = volume.objectBytes
        let cuts = Dictionary(uniqueKeysWithValues: volume.unresized.map { ($0.store, $0.cut) })
        let map = try await map(of: volume)
        let (done, failures) = await callAll(stores, for: volume.id, deadline) { store, ost throws(Failure) in
            if let cut = cuts[store], cut < bytes, !mutated(.forgetsMissedCuts), try await ost.stat(name).object.bytes > cut {
                try await ost.resize(name, bytes: cut)
            }
            try await ost.resize(name, bytes: bytes, of: map)
        }
        if !done.isEmpty { volume = try await catalogue.resized(volume.id, done, number: volume.resizes) }
        return failures
    }

    // What was left undone

    /// Goes through all volumes with something left to do, and does what can be done now.
    func finishAll() async {
        let ids: [Identifier]
        do throws(Failure) {
            ids = try await catalogue.unfinished()
        } catch {
            noteFailure()
            counters.workFailed += 1
            return world.log(.error, "the catalogue cannot be read", [LogField("reason", error.detail)])
        }
        for id in ids where !isStopped {
            do throws(Failure) {
                // What others have in hand is theirs.
                _ = try await withHand(on: id) { () throws(Failure) in try await finish(try await catalogue.volume(id)) }
            } catch {
                // Removed meanwhile: that is what was to be done.
                if error.status != .notFound {
                    noteFailure()
                    counters.workFailed += 1
                    world.log(.debug, "a volume stays unfinished", [LogField("id", id), LogField("reason", error.detail)])
                }
            }
        }
    }

    private func finish(_ volume: VolumeRecord) async throws(Failure) {
        let deadline = world.now + options.ostDeadline
        switch volume.state {
        case .creating:
            // Nobody waits for it any more: it is in no hands here, and a server that was here before is gone.
            let undone = try await catalogue.cancelCreation(volume.id)
            world.log(.warning, "undoing a creation", [LogField("volume", volume.object.name), LogField("id", volume.id)])
            try await finish(undone)
        case .removing:
            // Those that are not there are waited for, not asked.
            var reachable = volume
            reachable.unremoved = volume.unremoved.filter(isAlive)
            if reachable.unremoved.isEmpty { return }
            try await removeObjects(reachable, deadline)
            counters.workFinished += 1
        case .ready:
            var changing = volume
            if changing.objectBytes > changing.object.bytes {
                // Nobody waits for it to grow any more.
                changing = try await catalogue.cancelResize(volume.id, number: volume.resizes)
            }
            let reachable = changing.unresized.map(\.store).filter(isAlive)
            if !reachable.isEmpty {
                let failures = try await resizeObjects(&changing, on: reachable, deadline)
                if let first = failures.first { throw first }
                counters.workFinished += 1
            }
            try await tidy(changing, deadline)
        }
    }
}

extension VolumeRecord {
    /// As an OST gets it that has nothing of the volume yet.
    var newObject: ObjectRecord {
        var object = object
        object.name = "\(id)"
        object.bytes = objectBytes
        object.generation = 0
        object.map = 0
        return object
    }
}
