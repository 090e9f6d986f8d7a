import Base
import Environment
import VolumeEngine
import Wire

// A volume of a cluster: opening it at its metadata server and at its OSTs, and what the server is asked on behalf of the engine.
//
// The order of an open for writing, each step of which the next one stands on:
//
// 1. The server raises the generation, and says who keeps what (P2).
// 2. Every OST with a member in sync is fenced: its older writes are drained, and it lists what they left in doubt. One that cannot be
//    reached within `openPatience` is excluded, if the others can do without it.
// 3. Blocks in doubt on any member are made equal on all, with the highest version of them (P5), before anybody reads or writes.

extension Volume {
    /// How long an OST may be away when a volume is opened for writing.
    private static let openPatience = Interval.seconds(3)
    /// After the fences, before the first write, if some member that an earlier writer may believe in sync could not be fenced.
    private static let successorWait = Interval.seconds(5)
    private static let rewritesAtOnce = VolumeEngine.repairsMax

    private static let staleMapsMax = 3

    static func openInCluster(_ world: any World, _ address: Address, _ options: OpenOptions) async throws(Failure) -> Volume {
        guard let name = address.name else {
            throw Failure(.invalidArgument, "'\(address)' names no volume; write its name behind the last slash")
        }
        let deadline = world.now + options.deadline
        var staleMaps = 0
        while true {
            do throws(Failure) {
                return try await open(world, address, name, options, deadline)
            } catch {
                // Somebody else has changed the volume meanwhile, such as its size. An old copy of the catalogue stays one, however.
                if error.status == .staleMap { staleMaps += 1 }
                let hasChanged = error.status == .outOfRange || error.status == .staleMap && staleMaps < staleMapsMax
                guard hasChanged, !mutated(.opensOnce) else { throw error }
                guard world.now < deadline else {
                    throw Failure(
                        .deadlineExceeded,
                        "'\(name)' was changed while it was opened, and no time is left to begin again: \(error.detail)")
                }
            }
        }
    }

    private static func open(
        _ world: any World, _ address: Address, _ name: String, _ options: OpenOptions, _ deadline: Instant
    ) async throws(Failure) -> Volume {
        let mdt = MDTSession(world, address.endpoints, cluster: options.cluster, client: options.client)
        let map: VolumeMap
        let isUnsettled: Bool
        do throws(Failure) {
            var flags: VolumeOpenRequest.Flags = options.write ? .write : []
            if options.force { flags.insert(.force) }
            let nonce = Identifier(high: world.random(), low: world.random())
            (map, isUnsettled) = try await mdt.open(name, flags, nonce: nonce, deadline: deadline)
            try check(map)
        } catch {
            await mdt.close(deadline: world.now + .seconds(1))
            throw error
        }
        let volume = Volume(world, address, options, map.object, table(of: map, peers: map.osts.count) { map.index(of: $0) })
        do throws(Failure) {
            try await volume.open(map, mdt, isUnsettled: isUnsettled, deadline)
            return volume
        } catch {
            volume.engine.now = world.now
            volume.engine.fail(.closed)
            await volume.close()
            throw error
        }
    }

    /// What this side can work with.
    private static func check(_ map: VolumeMap) throws(Failure) {
        let object = map.object
        try ObjectRecord.check(bytes: object.bytes)
        try object.layout.check()
        guard object.layout.kind == .replicas else {
            throw Failure(.unsupported, "'\(object.name)' is erasure-coded, which is not supported yet")
        }
        guard object.chunkCount <= UInt64(UInt32.max), map.osts.count <= Limits.peersPerVolumeMax else {
            throw Failure(
                .unsupported,
                "'\(object.name)' has \(object.chunkCount) chunks on \(map.osts.count) OSTs; at most \(UInt32.max) on "
                    + "\(Limits.peersPerVolumeMax) are supported")
        }
    }

    /// The map as the engine needs it; `peer` says which peer a store is.
    private static func table(of map: VolumeMap, peers: Int, _ peer: (Identifier) -> Int?) -> MemberTable {
        var members: ContiguousArray<MemberTable.Member> = []
        func add(_ entry: MemberEntry, _ number: Int) {
            let state: MemberTable.State
            switch entry.state {
            case .inSync: state = .inSync
            case .stale: state = .stale
            case .filling: state = .filling
            }
            // One for which there is no peer any more cannot be used before the volume is opened anew.
            guard let known = peer(map.osts[entry.ost].store) else {
                return members.append(MemberTable.Member(peer: 0, state: .stale, number: UInt16(number)))
            }
            members.append(MemberTable.Member(peer: known, state: state, incarnation: entry.incarnation, number: UInt16(number)))
        }
        for placement in 0..<map.placementCount {
            for member in 0..<map.membersPerPlacement { add(map[placement, member], member) }
            guard !map.moves.isEmpty else { continue }
            if let move = map.move(in: placement) { add(move.entry, move.member) } else { members.append(.nobody) }
        }
        return MemberTable(
            number: map.object.map, peerCount: peers, membersPerPlacement: map.membersPerPlacement + (map.moves.isEmpty ? 0 : 1),
            floor: map.floor, floorPatience: map.belowFloor.patience, members: members, record: map.encoded)
    }

    private func open(_ map: VolumeMap, _ mdt: MDTSession, isUnsettled: Bool, _ deadline: Instant) async throws(Failure) {
        self.mdt = mdt
        self.map = map
        mdt.onFenced = { [unowned self] in
            engine.now = world.now
            engine.fail(.fenced)
            progress()
        }
        mdt.report = { [unowned self] in writerReport.encoded }
        meet(map)
        var doubts = DoubtMerge(chunkBlocks: map.object.layout.chunkBytes / UInt64(Block.bytes))
        let (sessions, failures, fenced) = await connectAll(map, min(deadline, world.now + Volume.openPatience))
        do throws(Failure) {
            // Whoever was opened for somebody else since, or knows a newer catalogue, must not be excluded for it.
            for failure in failures { if let failure, failure.status == .fenced || failure.status == .staleMap { throw failure } }
            try await refuseOldCatalogue(map, mdt, sessions, deadline)
        } catch {
            for session in sessions { if let session { world.close(session.stream) } }
            throw error
        }
        var base = Version(generation: object.generation, sequence: 0)
        for session in sessions.compactMap({ $0 }) { for range in session.doubts { base = min(base, range.version.predecessor) } }
        openBase = base
        for (peer, session) in sessions.enumerated() {
            guard let session else { continue }
            for range in session.doubts where isInSync(map, range, peer) { doubts.add(range, peer: peer) }
            links[peer].adopt(session)
        }
        let missing = failures.indices.filter { failures[$0] != nil }
        if options.write, !missing.isEmpty {
            for peer in missing { engine.missed(peer) }
            do throws(Failure) {
                try checkUsable(map, sessions)
                apply(try await mdt.exclude(missing.map { stores[$0] }, base: exclusionBase, deadline: deadline))
            } catch {
                let first = failures[missing[0]]?.detail ?? ""
                throw Failure(error.status, "\(missing.count) OSTs of '\(map.object.name)' cannot be used (\(first)), and: \(error.detail)")
            }
            // They will be back as members that are filled, not as these.
            for peer in missing { doubts.remove(peer: peer) }
        } else if sessions.allSatisfy({ $0 == nil }), let failure = failures.compactMap({ $0 }).first {
            throw failure
        }
        if options.write, !missing.isEmpty || isUnsettled, !mutated(.opensWithoutWaiting) {
            // A writer before this one may still reach one that nobody has fenced: one of the missing, or one that has left since without
            // its having heard of that. It reads there until it misses the word of the others for `trustWithoutWord`, and nothing that it
            // would not see is written before.
            await operations.sleep(until: fenced + Volume.successorWait)
        }
        isOpen = true
        progress()
        guard options.write else { return inBackground { [self] in await keepMapFresh() } }
        if mutated(.fillsBeforeReconciling) { inBackground { [self] in await keepHealthy() } }
        try await reconcile(doubts.runs(below: Block.count(covering: object.bytes)), deadline)
        openBase = nil
        if !mutated(.fillsBeforeReconciling) { inBackground { [self] in await keepHealthy() } }
    }

    /// Nobody is left out where nothing would remain.
    private func checkUsable(_ map: VolumeMap, _ sessions: [Session?]) throws(Failure) {
        for placement in 0..<map.placementCount {
            let inSync = (0..<map.membersPerPlacement).filter { map[placement, $0].state == .inSync }
            if inSync.contains(where: { sessions[map[placement, $0].ost] != nil }) { continue }
            let names = inSync.map { map.ost(placement, $0).store.description }.joined(separator: ", ")
            throw Failure(.unavailable, "without \(names) there is no up-to-date copy of placement \(placement); bring one of them back")
        }
    }

    /// An OST may know of a newer map: of a resize, between the server's answer and its own. If the server does not, its catalogue is an
    /// old copy.
    private func refuseOldCatalogue(
        _ map: VolumeMap, _ mdt: MDTSession, _ sessions: [Session?], _ deadline: Instant
    ) async throws(Failure) {
        let newest = sessions.compactMap { $0?.attachment.map }.max() ?? 0
        guard newest > map.object.map else { return }
        let now = try await mdt.map(of: map.object.id, deadline: deadline)
        guard now.object.map < newest else { return apply(now) }
        throw Failure(
            .staleMap,
            "an OST knows map \(newest) of '\(map.object.name)', the metadata server only \(now.object.map): its catalogue is an old copy; "
                + "serve the newest one, or rebuild it: rawstor-mdt rebuild")
    }

    /// Opens a session with every OST that has a member in use, all at once; also says when the last of those that can be reached was
    /// fenced.
    private func connectAll(
        _ map: VolumeMap, _ deadline: Instant
    ) async -> (sessions: [Session?], failures: [Failure?], fenced: Instant) {
        var fenced = world.now
        let table = Volume.table(of: map, peers: links.count) { map.index(of: $0) }
        let wanted = links.filter { table.isUsed($0.peer) }
        var sessions = [Session?](repeating: nil, count: links.count)
        var failures = [Failure?](repeating: nil, count: links.count)
        await world.together(wanted.count) { [self] index in
            let link = wanted[index]
            do throws(Failure) {
                sessions[link.peer] = try await connect(link, deadline)
                fenced = world.now
            } catch {
                failures[link.peer] = error
            }
        }
        return (sessions, failures, fenced)
    }

    /// A daemon that is just starting gets its time; one that says no for good does not.
    private func connect(_ link: Link, _ deadline: Instant) async throws(Failure) -> Session {
        while true {
            do throws(Failure) {
                return try await link.open(generation: engineGeneration, map: engine.mapNumber, deadline: deadline)
            } catch {
                let mayHelp = error.status == .unreachable || error.status == .overloaded || error.status == .diskFailed
                guard mayHelp, world.now + .milliseconds(100) < deadline else { throw error }
            }
            await operations.sleep(.milliseconds(100))
        }
    }

    private var engineGeneration: UInt64 { options.write ? object.generation : 0 }

    private func isInSync(_ map: VolumeMap, _ range: DoubtRange, _ peer: Int) -> Bool {
        let placement = map.placement(ofChunk: UInt64(range.part.chunk))
        guard Int(range.part.member) < map.membersPerPlacement else { return false }
        let entry = map[placement, Int(range.part.member)]
        return entry.ost == peer && entry.state == .inSync && entry.incarnation == range.part.incarnation
    }

    /// Makes the members equal where they may differ.
    private func reconcile(_ runs: [DoubtMerge.Run], _ deadline: Instant) async throws(Failure) {
        guard !runs.isEmpty, !mutated(.skipsReconcile) else { return }
        world.log(.info, "reconciling", [LogField("volume", "\(address)"), LogField("runs", runs.count)])
        var failure: Failure?
        await world.together(runs.count, atOnce: Volume.rewritesAtOnce) { [self] index in
            guard failure == nil else { return }
            do throws(Failure) { try await reconcile(runs[index].blocks, from: runs[index].peers, deadline) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// From the first of these peers whose copy is not damaged, or else from any member in sync: if what the first has was acknowledged,
    /// all have it. A block that is damaged everywhere is equal everywhere.
    private func reconcile(_ blocks: Range<UInt64>, from peers: ArraySlice<Int>, _ deadline: Instant) async throws(Failure) {
        do throws(Failure) {
            return try await rewrite(blocks, from: peers.first, deadline)
        } catch {
            if error.status == .noSpace { return try await undo(blocks, error, deadline) }
            guard error.status == .damaged else { throw error }
        }
        if let (first, second) = blocks.halves {
            try await reconcile(first, from: peers, deadline)
            try await reconcile(second, from: peers, deadline)
        } else if !peers.isEmpty {
            try await reconcile(blocks, from: peers.dropFirst(), deadline)
        } else {
            logLost(blocks.lowerBound)
        }
    }

    /// A member has no room for the newest content, which was never acknowledged then. What it has instead needs no room there.
    private func undo(_ blocks: Range<UInt64>, _ refusal: Failure, _ deadline: Instant) async throws(Failure) {
        guard let map else { throw refusal }
        let placement = map.placement(ofChunk: blocks.lowerBound / (object.layout.chunkBytes / UInt64(Block.bytes)))
        for member in 0..<map.membersPerPlacement where map[placement, member].state == .inSync {
            guard let peer = stores.firstIndex(of: map.ost(placement, member).store) else { continue }
            do throws(Failure) {
                return try await rewrite(blocks, from: peer, deadline)
            } catch {
                guard error.status == .noSpace || error.status == .damaged else { throw error }
            }
        }
        throw refusal
    }

    // On behalf of the engine

    /// Up to where every member that counts has everything. An OST cannot tell that of itself: where it is excluded from some placements
    /// only, marks that come with writes to the others say nothing of what it misses.
    private var exclusionBase: Version {
        mutated(.excludesWithoutBase) ? Version(generation: .max, sequence: .max) : openBase ?? engine.completed
    }

    /// `fill`: only its members that are being filled since that map number; 0: all.
    func exclude(_ peer: Int, fill: UInt64 = 0) {
        inBackground { [self] in
            // The next server may be as slow, and a slow one gets there only with patience.
            var hasPatience = fill != 0
            while let mdt, !isShutDown, !engine.isDead {
                do throws(Failure) {
                    let (base, deadline) = (exclusionBase, world.now + .seconds(3))
                    apply(try await mdt.exclude([stores[peer]], base: base, fill: fill, hasPatience: hasPatience, deadline: deadline))
                    return
                } catch {
                    hasPatience = true
                    world.log(
                        .warning, fill == 0 ? "an OST cannot be excluded" : "a fill cannot be given up",
                        [LogField("volume", "\(address)"), LogField("store", "\(stores[peer])"), LogField("why", error.detail)])
                    engine.now = world.now
                    switch error.status {
                    case .fenced: engine.fail(.fenced)
                    case .unavailable:
                        engine.exclusionRefused(peer)
                        refreshMap()
                    case _:
                        await operations.sleep(.milliseconds(200))
                        continue
                    }
                    progress()
                    return
                }
            }
        }
    }

    func refreshMap() {
        inBackground { [self] in
            while let mdt, !isShutDown, !engine.isDead {
                do throws(Failure) {
                    apply(try await mdt.map(of: object.id, deadline: world.now + .seconds(3)))
                    return
                } catch {
                    await operations.sleep(.milliseconds(200))
                }
            }
        }
    }

    func apply(_ map: VolumeMap) {
        if isShutDown { return }
        guard map.object.id == object.id, let known = self.map, map.entries.count == known.entries.count,
            map.membersPerPlacement == known.membersPerPlacement
        else { return world.log(.error, "the metadata server sent a map of another form", [LogField("volume", "\(address)")]) }
        if map.object.map >= known.object.map {
            self.map = map
            meet(map)
        }
        let table = Volume.table(of: map, peers: stores.count) { stores.firstIndex(of: $0) }
        engine.now = world.now
        engine.mapChanged(table, bytes: map.object.bytes)
        progress()
    }

    /// Gets to know the OSTs of a map: where those are now that it knows, and those that have joined.
    private func meet(_ map: VolumeMap) {
        for ost in map.osts {
            let endpoints = ost.endpoints.compactMap { text -> Endpoint? in
                do throws(Failure) {
                    return try Address("ost://\(text)/").endpoint
                } catch {
                    world.log(
                        .warning, "an OST has an address that is none", [LogField("store", ost.store), LogField("why", error.detail)])
                    return nil
                }
            }
            if let peer = stores.firstIndex(of: ost.store) {
                links[peer].learn(endpoints, minimumMounts: ost.mountCounter)
                continue
            }
            guard stores.count < Limits.peersPerVolumeMax else {
                world.log(
                    .error, "too many OSTs have kept the volume since it was opened; members on one more wait until it is opened anew",
                    [LogField("volume", "\(address)"), LogField("store", ost.store)])
                continue
            }
            let request = SessionRequest(
                endpoint: endpoints.first ?? .tcp(host: "", port: 0), name: map.object.id.description,
                flags: options.write ? [.write, .fence] : [], nonce: .zero, cluster: mdt?.cluster ?? .zero, session: 0,
                generation: map.object.generation, map: map.object.map, store: ost.store, minimumMounts: ost.mountCounter,
                client: options.client)
            links.append(Link(self, stores.count, request, endpoints))
            stores.append(ost.store)
        }
    }
}

/// What several members have in doubt, put together: of each block who has it, the highest version first.
struct DoubtMerge {
    struct Run: Hashable {
        var blocks: Range<UInt64>
        var peers: ArraySlice<Int>
    }

    private struct Holder {
        var version: Version
        var peer: Int
    }

    let chunkBlocks: UInt64
    private var blocks: [UInt64: [Holder]] = [:]

    init(chunkBlocks: UInt64) { self.chunkBlocks = chunkBlocks }

    mutating func add(_ range: DoubtRange, peer: Int) {
        guard UInt64(range.firstBlock) + UInt64(range.blockCount) <= chunkBlocks else { return }
        let first = UInt64(range.part.chunk) * chunkBlocks + UInt64(range.firstBlock)
        for block in first..<first + UInt64(range.blockCount) {
            let place = blocks[block]?.firstIndex { $0.version < range.version } ?? blocks[block]?.count ?? 0
            blocks[block, default: []].insert(Holder(version: range.version, peer: peer), at: place)
        }
    }

    /// Its blocks do not count: it is no member any more, and what only it has was never acknowledged.
    mutating func remove(peer: Int) {
        for block in blocks.keys { blocks[block]?.removeAll { $0.peer == peer } }
    }

    /// Neighbours of one chunk with the same holders, in the order of blocks.
    func runs(below end: UInt64) -> [Run] {
        var runs: [Run] = []
        for block in blocks.keys.sorted() where block < end {
            guard let holders = blocks[block], !holders.isEmpty else { continue }
            let peers = holders.map(\.peer)[...]
            if let last = runs.last, last.blocks.upperBound == block, last.peers == peers, block % chunkBlocks != 0 {
                runs[runs.count - 1].blocks = last.blocks.lowerBound..<block + 1
            } else {
                runs.append(Run(blocks: block..<block + 1, peers: peers))
            }
        }
        return runs
    }
}

extension Range<UInt64> {
    /// Nil of a single one.
    var halves: (Range, Range)? {
        guard count > 1 else { return nil }
        let middle = lowerBound + UInt64(count / 2)
        return (lowerBound..<middle, middle..<upperBound)
    }
}
