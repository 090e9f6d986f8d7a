import Base
import Environment
import VolumeEngine
import Wire

// Bringing members up to date that were away (P6), by the volume's own writer and while it goes on:
//
// 1. The OST is asked, by a session of its own kind that fences nothing, up to which version it has everything (its mark), and which pages
//    it has written above that.
// 2. The metadata server makes its members filling. From then on every write goes there too, and counts for acknowledgements.
// 3. Then, and not before, the members in sync are asked which pages they have written above that version. What changed meanwhile is
//    there already, or among these pages.
// 4. Each such page is compared block by block by its checks. What differs is read from a member in sync and written to the one that is
//    filled, as a new version and under the overlap rule, so that no write of the user can come between. Of a page that is equal one
//    block is written all the same: its version must rise, or a third member that is filled from here would miss it.
// 5. A flush, and the metadata server makes it in sync, if it is still the same fill.
//
// A member that moves to another OST is filled in the same way, from nothing: whatever is written on the members in sync is compared, and
// with the end of the fill its old place is given up (VolumeRecord+Moves.swift). The metadata server says that one should move with its
// answers to where the map is looked at, and puts it somewhere when it is asked to.
//
// If anything fails on the way the members are stale again, and what the OST has in sync elsewhere is not touched. The next attempt begins
// at the version of the first: the server keeps it, since the marks that come with writes during a fill say nothing of what the fill had
// still to bring.

extension Volume {
    private static let healInterval = Interval.milliseconds(500)
    private static let lookInterval = Interval.seconds(5)
    private static let healBackoff = Interval.seconds(2)
    private static let askDeadline = Interval.seconds(5)
    /// Of members that are filled; their flush, and what else is mended meanwhile, has the rest.
    private static let copiesAtOnce = VolumeEngine.repairsMax / 2
    private static let moveBackoff = Interval.seconds(30)
    private static let refusalTime = Interval.seconds(600)
    /// A server that makes objects for members that move waits for OSTs.
    private static let moveDeadline = Interval.seconds(15)

    /// Until the volume is closed.
    func keepHealthy() async {
        var nextLook = world.now + Volume.lookInterval
        while !isShutDown, !engine.isDead, !isEnding {
            await operations.sleep(Volume.healInterval)
            if world.now >= nextLook {
                // Somebody may have resized it.
                nextLook = world.now + Volume.lookInterval
                if await lookAtMap() { await moveMembersLater() }
                engine.now = world.now
                engine.missAbsent(for: Limits.heartbeatTimeout)
                progress()
            }
            guard let peer = nextStale() else { continue }
            let before = resyncedBytes
            let isMove = map?.moves.contains { map?.osts[$0.entry.ost].store == stores[peer] } == true
            do throws(Failure) {
                let pages = try await resync(peer)
                notHealedBefore[peer] = nil
                resyncs[peer] = nil
                // There may be more to move.
                if isMove { nextLook = world.now }
                world.log(
                    .info, "brought up to date",
                    [
                        LogField("volume", "\(address)"), LogField("store", "\(stores[peer])"), LogField("pages", pages),
                        LogField("bytes", resyncedBytes - before),
                    ])
            } catch {
                world.log(
                    .info, "an OST cannot be brought up to date yet",
                    [
                        LogField("volume", "\(address)"), LogField("store", "\(stores[peer])"), LogField("why", error.detail),
                        LogField("bytes", resyncedBytes - before),
                    ])
                // Writes of the user wait a moment for every attempt that ends so.
                notHealedBefore[peer] = world.now + (engine.isFull(peer) ? Volume.moveBackoff : Volume.healBackoff)
                resyncs[peer] = Resync(.waiting, since: world.now, copiedBefore: resyncedBytes, trouble: error.detail)
                // No space there, or no object: whoever was to make it knows that no more.
                if error.status == .noSpace || error.status == .notFound || engine.isFull(peer), isMove {
                    refusedUntil[peer] = world.now + Volume.refusalTime
                    await moveMembersLater()
                }
            }
        }
    }

    /// Asks for a place for each member that should be on another OST; says so in the log where there is none.
    private func moveMembersLater() async {
        guard world.now >= notMovedBefore else { return }
        do throws(Failure) {
            try await moveMembers()
        } catch {
            if error.status == .noSpace || error.status == .invalidArgument { notMovedBefore = world.now + Volume.moveBackoff }
            world.log(.info, "members cannot move yet", [LogField("volume", "\(address)"), LogField("why", error.detail)])
        }
    }

    /// The same, by somebody who wants to know: nothing happens where no member should move.
    public func moveMembers() async throws(Failure) {
        guard let mdt, !isShutDown else { return }
        let refused = stores.indices.filter { (refusedUntil[$0] ?? .zero) > world.now }.map { stores[$0] }
        apply(try await mdt.replace(refused: refused, deadline: world.now + Volume.moveDeadline))
    }

    /// Places that an OST has in the volume, as far as this writer knows: those that members are to leave, or are moving to, included.
    public func places(on store: Identifier) -> Int {
        guard let map, let index = map.index(of: store) else { return 0 }
        return (map.entries + map.moves.map(\.entry)).count { $0.ost == index }
    }

    /// Of a reader, which no OST tells that a member is excluded: it would go on reading there what is ever older.
    func keepMapFresh() async {
        var nextLook = world.now + Volume.lookInterval
        while !isShutDown, !engine.isDead, !isEnding {
            await operations.sleep(Volume.healInterval)
            guard world.now >= nextLook else { continue }
            nextLook = world.now + Volume.lookInterval
            _ = await lookAtMap()
        }
    }

    /// Whether some member should move.
    private func lookAtMap() async -> Bool {
        guard let mdt, !isShutDown else { return false }
        do throws(Failure) {
            let (map, notes) = try await mdt.mapAndNotes(of: object.id, deadline: world.now + Volume.askDeadline)
            apply(map)
            // Whoever comes next need not wait for this writer to hear of it.
            if notes.isUnsettled, options.write, !engine.isMapPending {
                await mdt.settle(number: engine.mapNumber, deadline: world.now + Volume.askDeadline)
            }
            return notes.isMoveDue
        } catch {
            world.log(.debug, "no news of the map", [LogField("volume", "\(address)"), LogField("why", error.detail)])
            return false
        }
    }

    /// Whether some OST is still to be told of the newest map.
    public var isMapPending: Bool { engine.isMapPending }

    /// Members that are not in sync, or on their way to another OST, as far as this writer knows; 0 for a volume with one OST.
    public var membersBehind: Int {
        guard let map else { return 0 }
        return (0..<map.placementCount).reduce(map.moves.count) { count, placement in
            let moving = map.move(in: placement)?.member
            return count + (0..<map.membersPerPlacement).count { map[placement, $0].state != .inSync && $0 != moving }
        }
    }

    /// An OST of which some member is stale, or filling since an attempt that failed, and that was not tried a moment ago. What moves
    /// elsewhere is not brought up to date where it was.
    private func nextStale() -> Int? {
        guard let map, !isShutDown, !isEnding else { return nil }
        return stores.indices.first { peer in
            guard (notHealedBefore[peer] ?? .zero) <= world.now, let ost = map.index(of: stores[peer]) else { return false }
            if map.moves.contains(where: { $0.entry.ost == ost }) { return true }
            return map.entries.indices.contains { index in
                guard map.entries[index].ost == ost, map.entries[index].state != .inSync else { return false }
                return map.move(in: index / map.membersPerPlacement)?.member != index % map.membersPerPlacement
            }
        }
    }

    /// The number of pages that were looked at.
    private func resync(_ peer: Int) async throws(Failure) -> Int {
        guard let mdt else { return 0 }
        let store = stores[peer]
        resyncs[peer] = Resync(.listing, since: world.now, copiedBefore: resyncedBytes)
        let target = try await Inquiry.open(self, peer)
        defer { target.close() }
        let mark = try await target.mark()
        let early = mutated(.listsBeforeFilling) ? try await changedPages(peer, target, above: mark) : nil
        if early != nil { await operations.sleep(.milliseconds(100)) }
        engine.fillBegins(peer)
        let (map, kept) = try await mdt.fill(store, base: mark, deadline: world.now + Volume.askDeadline)
        let base = mutated(.forgetsFillBase) ? mark : kept
        let losses = engine.losses
        apply(map)
        let number = map.object.map
        let isBegun = (map.entries + map.moves.map(\.entry)).contains {
            $0.state == .filling && $0.changed == number && map.osts[$0.ost].store == store
        }
        guard isBegun else {
            throw Failure(.closed, "another change of the map came first")
        }
        do throws(Failure) {
            try await waitUntilReady(peer)
            var pages = try await changedPages(peer, target, above: base)
            if let early { pages = early }
            resyncs[peer]?.state = .copying
            resyncs[peer]?.totalBytes = pages.reduce(0) { $0 + UInt64(blocks(of: $1).count * Block.bytes) }
            try await copy(pages, to: peer, target, map)
            if !mutated(.fillSkipsFlush) { try await flushUnheard() }
            // What was copied, or written to both, is not what the source has any more.
            if engine.losses > losses, !mutated(.fillSurvivesLossOfSource) {
                throw Failure(.powerLost, "an OST that it is filled from has lost power meanwhile")
            }
            engine.fillEnds(peer)
            apply(try await mdt.inSync(store, number: number, deadline: world.now + Volume.askDeadline))
            // Until all know it, nobody may be told that this is done: whoever closes the volume then leaves that to the next open.
            while engine.isMapPending, !isShutDown, !engine.isDead, !isEnding { await operations.sleep(.milliseconds(5)) }
            return pages.count
        } catch {
            // A member that stays filling gets every write and is of no use.
            if !engine.isDead, !isShutDown { exclude(peer, fill: number) }
            throw error
        }
    }

    private func waitUntilReady(_ peer: Int) async throws(Failure) {
        let deadline = world.now + Volume.askDeadline
        while !engine.isReady(peer) {
            guard world.now < deadline, !isShutDown, !engine.isDead else {
                throw Failure(.deadlineExceeded, "no session with it could be opened")
            }
            await operations.sleep(.milliseconds(5))
        }
    }

    /// Pages of the member that is filled in which it may lack something.
    private func changedPages(_ peer: Int, _ target: Inquiry, above base: Version) async throws(Failure) -> Set<PageKey> {
        guard let map, let own = map.index(of: stores[peer]) else { return [] }
        var pages = Set<PageKey>()
        // Of a member that moves there it has nothing, whatever its base says of the others. Nor is a base kept for it.
        let moves = map.moves.contains { $0.entry.ost == own }
        let seats = (0..<map.placementCount).map { map.unsynced(on: own, in: $0) }
        func add(_ found: [ChangedPage], ofMoves: Bool) {
            for page in found {
                let placement = map.placement(ofChunk: UInt64(page.part.chunk))
                guard let seat = seats[placement], seat.isMove == ofMoves else { continue }
                pages.insert(PageKey(chunk: page.part.chunk, page: page.page, member: UInt16(seat.member), incarnation: seat.incarnation))
            }
        }
        func add(of inquiry: Inquiry) async throws(Failure) {
            if map.entries.contains(where: { $0.ost == own && $0.state != .inSync }) {
                add(try await inquiry.changed(above: base), ofMoves: false)
            }
            guard moves else { return }
            add(try await inquiry.changed(above: mutated(.movesFromBase) ? base : .zero), ofMoves: true)
        }
        try await add(of: target)
        var asked = Set<Identifier>()
        for other in stores.indices where other != peer && engine.isAttached(other) {
            let source = try await Inquiry.open(self, other)
            defer { source.close() }
            try await add(of: source)
            asked.insert(stores[other])
        }
        for placement in 0..<map.placementCount {
            let members = 0..<map.membersPerPlacement
            guard seats[placement] != nil else { continue }
            guard members.contains(where: { map[placement, $0].state == .inSync && asked.contains(map.ost(placement, $0).store) }) else {
                throw Failure(.unavailable, "no member in sync of placement \(placement) could be asked what changed")
            }
        }
        return pages
    }

    /// Copies what differs in these pages.
    private func copy(_ pages: Set<PageKey>, to peer: Int, _ target: Inquiry, _ map: VolumeMap) async throws(Failure) {
        // In the order of peers: what is done in that of a dictionary cannot be repeated.
        var sources = [Inquiry?](repeating: nil, count: stores.count)
        defer { for source in sources { source?.close() } }
        for other in stores.indices where other != peer && engine.isReady(other) && map.hasMemberInSync(on: stores[other]) {
            sources[other] = try await Inquiry.open(self, other)
        }
        for key in pages.sorted() {
            if isShutDown || engine.isDead { throw Failure(.closed) }
            let blocks = blocks(of: key)
            if blocks.isEmpty { continue }
            let start = blocks.lowerBound
            let runs = try await differences(key, blocks.count, map, target, sources)
            try await copy(runs.map { start + UInt64($0.lowerBound)..<start + UInt64($0.upperBound) })
            resyncs[peer]?.doneBytes += UInt64(blocks.count * Block.bytes)
        }
    }

    /// Of the whole volume; none if it was cut meanwhile.
    private func blocks(of page: PageKey) -> Range<UInt64> {
        let chunkBlocks = object.layout.chunkBytes / UInt64(Block.bytes)
        let start = UInt64(page.chunk) * chunkBlocks + UInt64(page.page) * UInt64(Block.perPage)
        let end = min(start + UInt64(Block.perPage), (UInt64(page.chunk) + 1) * chunkBlocks, Block.count(covering: engine.objectBytes))
        return start..<max(start, end)
    }

    /// Several runs at once: alone each would wait for a round trip.
    private func copy(_ runs: [Range<UInt64>]) async throws(Failure) {
        var failure: Failure?
        await world.together(runs.count, atOnce: Volume.copiesAtOnce) { [self] index in
            guard failure == nil else { return }
            do throws(Failure) {
                try await fillOrLose(runs[index])
                resyncedBytes += UInt64(runs[index].count * Block.bytes)
            } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// A block that is damaged wherever it should be must not keep everything else from being copied. The member gets to know that it is
    /// lost, since what it has itself is older.
    private func fillOrLose(_ blocks: Range<UInt64>) async throws(Failure) {
        do throws(Failure) {
            return try await fill(blocks)
        } catch {
            guard error.status == .damaged else { throw error }
        }
        if let (first, second) = blocks.halves {
            try await fillOrLose(first)
            try await fillOrLose(second)
        } else {
            logLost(blocks.lowerBound)
            try await fill(blocks, isLost: true)
        }
    }

    func logLost(_ block: UInt64) {
        world.log(
            .error, "a block is damaged on every member in sync; reads of it fail until it is overwritten",
            [LogField("volume", "\(address)"), LogField("offset", block * UInt64(Block.bytes))])
    }

    /// Runs of blocks of a page in which the member that is filled differs from one in sync; the first block where none does.
    private func differences(
        _ key: PageKey, _ count: Int, _ map: VolumeMap, _ target: Inquiry, _ sources: [Inquiry?]
    ) async throws(Failure) -> [Range<Int>] {
        let placement = map.placement(ofChunk: UInt64(key.chunk))
        var source: [BlockCheck]?
        for member in 0..<map.membersPerPlacement where map[placement, member].state == .inSync && source == nil {
            guard let other = stores.firstIndex(of: map.ost(placement, member).store), let inquiry = sources[other] else { continue }
            source = try await inquiry.checks(key, member: member, map[placement, member].incarnation, count)
        }
        guard let source else { throw Failure(.unavailable, "no member in sync of placement \(placement) can be asked") }
        let have = try await target.checks(key, member: Int(key.member), key.incarnation, count)
        var runs: [Range<Int>] = []
        for block in 0..<min(count, source.count, have.count) {
            let isEqual = source[block].check == have[block].check && (source[block].state == .lost) == (have[block].state == .lost)
            if isEqual { continue }
            if let last = runs.last, last.upperBound == block {
                runs[runs.count - 1] = last.lowerBound..<block + 1
            } else {
                runs.append(block..<block + 1)
            }
        }
        return runs.isEmpty && !mutated(.equalPageKeepsVersion) ? [0..<1] : runs
    }
}

extension VolumeMap {
    fileprivate func hasMemberInSync(on store: Identifier) -> Bool {
        guard let index = index(of: store) else { return false }
        return entries.contains { $0.ost == index && $0.state == .inSync }
    }

    /// What an OST has of a placement that is not in sync there: which member, and under which incarnation. Where it is the last one in
    /// sync nothing is to be brought to it.
    fileprivate func unsynced(on ost: Int, in placement: Int) -> (member: Int, incarnation: UInt64, isMove: Bool)? {
        if let move = move(in: placement), move.entry.ost == ost { return (move.member, move.entry.incarnation, true) }
        let member = (0..<membersPerPlacement).first { self[placement, $0].ost == ost && self[placement, $0].state != .inSync }
        return member.map { ($0, self[placement, $0].incarnation, false) }
    }
}

/// A page of a part that is to be looked at, on the member that is filled.
struct PageKey: Hashable, Comparable {
    var chunk: UInt32
    var page: UInt32
    var member: UInt16
    var incarnation: UInt64

    static func < (left: PageKey, right: PageKey) -> Bool { (left.chunk, left.page) < (right.chunk, right.page) }
}

/// A session with one OST that only asks what it holds.
private final class Inquiry {
    private let world: any World
    private let connection: ControlConnection
    private let opened: FrameHeader

    static func open(_ volume: Volume, _ peer: Int) async throws(Failure) -> Inquiry {
        let (link, store) = (volume.links[peer], volume.stores[peer])
        var last = Failure(.unreachable, "nobody knows where store \(store) is served")
        for endpoint in link.endpoints {
            do throws(Failure) {
                return try await open(volume, endpoint, store, link.minimumMounts)
            } catch {
                last = error
            }
        }
        throw last
    }

    private static func open(
        _ volume: Volume, _ endpoint: Endpoint, _ store: Identifier, _ minimumMounts: UInt64
    ) async throws(Failure) -> Inquiry {
        let world = volume.world
        let deadline = world.now + .seconds(5)
        let connection = try await ControlConnection.open(
            world, endpoint, cluster: volume.mdt?.cluster ?? .zero, incarnation: volume.map?.incarnation ?? 0, deadline: deadline)
        do throws(Failure) {
            try connection.peer.check(store, minimumMounts: minimumMounts, at: endpoint)
            var header = FrameHeader(.open)
            header.session = 1
            header.generation = volume.engine.generation
            header.map = volume.engine.mapNumber
            let body = OpenRequest(name: volume.object.id.description, flags: .recover)
            return Inquiry(world, connection, try await connection.exchange(header, body.encoded, deadline: deadline).0)
        } catch {
            connection.close()
            throw error
        }
    }

    private init(_ world: any World, _ connection: ControlConnection, _ opened: FrameHeader) {
        self.world = world
        self.connection = connection
        self.opened = opened
    }

    func close() { connection.close() }

    private func ask<Body: Message>(
        _ opcode: Opcode, _ body: [UInt8] = [], _ type: Body.Type, _ fill: (inout FrameHeader) -> Void
    ) async throws(Failure) -> (FrameHeader, Body) {
        var header = FrameHeader(opcode)
        header.session = 1
        header.handle = opened.handle
        header.generation = opened.generation
        header.map = .max
        fill(&header)
        let (reply, bytes) = try await connection.exchange(header, body, deadline: world.now + .seconds(5))
        return (reply, try connection.decode(type, bytes))
    }

    /// Up to where the OST has what the others have: its mark, unless something older is in doubt there. A fence of a newer generation has
    /// raised the mark above that, and the open it belonged to may never have got to reconciling it.
    func mark() async throws(Failure) -> Version {
        var base = try await ask(.checks, [], ChecksReply.self) { header in header.blockCount = 1 }.1.mark
        var cursor: UInt64 = 0
        repeat {
            let (reply, body) = try await ask(.doubts, [], DoubtsReply.self) { header in header.argument = cursor }
            for range in body.ranges { base = min(base, range.version.predecessor) }
            cursor = reply.argument
        } while cursor != 0
        return base
    }

    func changed(above version: Version) async throws(Failure) -> [ChangedPage] {
        var found: [ChangedPage] = []
        var cursor: UInt64 = 0
        repeat {
            let (reply, body) = try await ask(.changed, ChangedRequest(above: version).encoded, ChangedReply.self) { header in
                header.argument = cursor
            }
            found += body.pages
            cursor = reply.argument
        } while cursor != 0
        return found
    }

    func checks(_ key: PageKey, member: Int, _ incarnation: UInt64, _ count: Int) async throws(Failure) -> [BlockCheck] {
        try await ask(.checks, [], ChecksReply.self) { header in
            header.part = PartAddress(chunk: key.chunk, member: UInt16(member), incarnation: incarnation)
            header.firstBlock = key.page * UInt32(Block.perPage)
            header.blockCount = UInt32(count)
        }.1.blocks
    }
}
