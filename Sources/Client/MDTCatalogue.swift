import Base
import Environment
import Wire

/// The catalogue of a cluster: asks one of its metadata servers, over a connection that stays, one request at a time. The servers that are
/// named may be management servers, which know the others.
///
/// A connection that broke is replaced at the next call, by one to whichever of the servers answers. A call is not repeated by itself:
/// whether a create or a remove happened before the connection broke is for the caller to find out.
public final class MDTCatalogue: Catalogue {
    let world: any World
    let named: [Endpoint]
    private let servers: MetadataServers
    let deadline: Interval
    private var connection: ControlConnection?
    private var isBusy = false
    /// Zero until a server has answered, unless it was named.
    public var cluster: Identifier { servers.cluster }

    /// `deadline` is for each call.
    public init(
        _ world: any World, _ servers: [Endpoint], cluster: Identifier = .zero, deadline: Interval = Limits.requestDeadlineDefault
    ) {
        self.world = world
        named = servers
        self.servers = MetadataServers(world, servers, cluster: cluster)
        self.deadline = deadline
    }

    public func close() {
        invariant(!isBusy, "a catalogue is closed in the middle of a call")
        connection?.close()
        connection = nil
    }

    // What any catalogue can

    public func create(_ name: String, bytes: UInt64, layout: Layout) async throws(Failure) -> ObjectRecord {
        try await create(VolumeCreateRequest(name: name, bytes: bytes, layout: layout)).object
    }

    /// The number of blocks is that of one copy, as far as the OSTs answer.
    public func stat(_ name: String) async throws(Failure) -> StatReply {
        let (map, hasWriter) = try await map(named: name)
        return StatReply(object: map.object, mappedBlocks: sum(await mappedBlocks(of: map), of: map), hasWriter: hasWriter)
    }

    /// Somebody who has everything must have answered for each placement: who does not answer has not said that there is nothing.
    public func usedBlocks(of name: String) async throws(Failure) -> UInt64 {
        let map = try await map(named: name).map
        let answers = await mappedBlocks(of: map)
        for placement in 0..<map.placementCount { try check(answers, of: map, placement) }
        return sum(answers, of: map)
    }

    /// How many blocks are in use is not known here: 0.
    public func list() async throws(Failure) -> [StatReply] {
        try await volumes().map { StatReply(object: $0.object, mappedBlocks: 0, hasWriter: $0.hasWriter) }
    }

    public func remove(_ name: String) async throws(Failure) {
        try ObjectRecord.check(name: name)
        _ = try await ask(FrameHeader(.volumeRemove), NameRequest(name: name).encoded)
    }

    public func resize(_ name: String, bytes: UInt64, by generation: UInt64) async throws(Failure) {
        try ObjectRecord.check(name: name)
        try ObjectRecord.check(bytes: bytes)
        var header = FrameHeader(.volumeResize)
        header.argument = bytes
        header.generation = generation
        _ = try await ask(header, NameRequest(name: name).encoded)
    }

    /// Of all OSTs together. Counters of disks are theirs: 0.
    public func statistics() async throws(Failure) -> StatisticsReply {
        let osts = try await osts()
        let capacity = osts.reduce(UInt64(0)) { $0 &+ $1.registration.capacityBytes }
        let free = osts.reduce(UInt64(0)) { $0 &+ $1.registration.freeBytes }
        return StatisticsReply(
            capacityBytes: capacity, freeBytes: free, usedBytes: capacity &- free, objects: UInt64(try await volumes().count), diskReads: 0,
            diskWrites: 0, diskWrittenBytes: 0, diskFlushes: 0, damagedReads: 0)
    }

    // What a cluster has besides

    public func create(_ request: VolumeCreateRequest) async throws(Failure) -> VolumeMap {
        try ObjectRecord.check(name: request.name)
        try ObjectRecord.check(bytes: request.bytes)
        try request.layout.check()
        try request.belowFloor.check()
        return try await ask(FrameHeader(.volumeCreate), request.encoded, VolumeMap.self)
    }

    public func map(named name: String) async throws(Failure) -> (map: VolumeMap, hasWriter: Bool) {
        try ObjectRecord.check(name: name)
        let (header, body) = try await ask(FrameHeader(.volumeMap), VolumeMapRequest(name: name).encoded)
        return (try decode(VolumeMap.self, body), try VolumeMapNotes(argument: header.argument).hasWriter)
    }

    /// In the order of their names.
    public func volumes() async throws(Failure) -> [VolumeSummary] {
        var volumes: [VolumeSummary] = []
        while true {
            let last = volumes.last?.object.name
            let reply = try await ask(FrameHeader(.volumeList), NameRequest(name: last ?? "").encoded, VolumeListReply.self)
            guard let first = reply.volumes.first else { return volumes }
            guard first.object.name.follows(last), volumes.count < MDTCatalogue.volumesMax else {
                throw Failure(.malformed, "the metadata server lists '\(first.object.name)' out of order")
            }
            volumes += reply.volumes
        }
    }

    private static let volumesMax = 1 << 20

    /// How it is. What its writer tells of its work only the server knows that has its session: where that is another one of the
    /// servers here, it is asked too.
    public func health(of name: String) async throws(Failure) -> VolumeHealthReply {
        try ObjectRecord.check(name: name)
        let request = NameRequest(name: name).encoded
        let health = try await ask(FrameHeader(.volumeHealth), request, VolumeHealthReply.self)
        guard health.writer == .elsewhere else { return health }
        for server in servers.others {
            do throws(Failure) {
                let end = min(world.now + deadline, world.now + Limits.connectDeadline)
                let other = try await ControlConnection.open(
                    world, server, cluster: cluster, expecting: .mdt, deadline: end)
                defer { other.close() }
                let (_, body) = try await other.exchange(FrameHeader(.volumeHealth), request, deadline: end)
                let known = try other.decode(VolumeHealthReply.self, body)
                if known.writer == .here { return known }
            } catch {
                // One that does not answer knows nothing for us.
                continue
            }
        }
        return health
    }

    /// Changes the floor of a volume, or what writes do below it; what is nil stays.
    public func set(_ request: VolumeSetRequest) async throws(Failure) -> VolumeMap {
        try ObjectRecord.check(name: request.name)
        try request.belowFloor?.check()
        return try await ask(FrameHeader(.volumeSet), request.encoded, VolumeMap.self)
    }

    /// In the order of their stores.
    public func osts() async throws(Failure) -> [OSTStatus] {
        var osts: [OSTStatus] = []
        while true {
            let last = osts.last?.registration.store ?? .zero
            let reply = try await ask(FrameHeader(.ostList), OSTListRequest(after: last).encoded, OSTListReply.self)
            guard let first = reply.osts.first else { return osts }
            guard first.registration.store > last, osts.count < Limits.ostsMax else {
                throw Failure(.malformed, "the metadata server lists OST \(first.registration.store) out of order")
            }
            osts += reply.osts
        }
    }

    /// Forgets an OST that keeps nothing; or whatever it keeps.
    public func remove(ost store: Identifier, losesData: Bool = false) async throws(Failure) {
        var header = FrameHeader(.ostRemove)
        header.argument = losesData ? 1 : 0
        _ = try await ask(header, OSTRemoveRequest(store: store).encoded)
    }

    /// Whether an OST is to be emptied: it gets no new members, and those that it has move to others.
    public func drain(ost store: Identifier, _ isDrained: Bool) async throws(Failure) {
        var header = FrameHeader(.ostDrain)
        header.argument = isDrained ? 1 : 0
        _ = try await ask(header, OSTRemoveRequest(store: store).encoded)
    }

    /// What each of its OSTs has of it, in their order.
    private func mappedBlocks(of map: VolumeMap) async -> [Result<UInt64, Failure>] {
        var answers = [Result<UInt64, Failure>](repeating: .failure(Failure(.unreachable)), count: map.osts.count)
        await world.together(map.osts.count) { [self] index in answers[index] = await mappedBlocks(of: map, on: map.osts[index]) }
        return answers
    }

    /// By the first of its addresses under which the right disk is served.
    private func mappedBlocks(of map: VolumeMap, on ost: OSTEntry) async -> Result<UInt64, Failure> {
        var first: Failure?
        for text in ost.endpoints {
            do throws(Failure) {
                let expected = OSTCatalogue.ExpectedStore(ost.store, mountCounter: ost.mountCounter)
                let catalogue = OSTCatalogue(
                    world, try Address("ost://" + text).endpoint, cluster: cluster, expecting: expected,
                    deadline: min(deadline, Limits.connectDeadline))
                defer { catalogue.close() }
                return .success(try await catalogue.stat("\(map.object.id)").mappedBlocks)
            } catch { if first == nil { first = error } }
        }
        return .failure(first ?? Failure(.unreachable, "nobody knows where it is served"))
    }

    private func check(_ answers: [Result<UInt64, Failure>], of map: VolumeMap, _ placement: Int) throws(Failure) {
        var problem = Failure(.unavailable, "of a part of it no copy is up to date")
        for member in 0..<map.membersPerPlacement where map[placement, member].state == .inSync {
            let ost = map.ost(placement, member)
            switch answers[map[placement, member].ost] {
            case .success: return
            case .failure(let failure):
                problem = Failure(failure.status, "OST \(ost.endpoints.first ?? ""), store \(ost.store), does not tell: \(failure.detail)")
            }
        }
        throw Failure(problem.status, "how much of '\(map.object.name)' is in use is not known: \(problem.detail)")
    }

    /// Of one copy, as far as is known.
    private func sum(_ answers: [Result<UInt64, Failure>], of map: VolumeMap) -> UInt64 {
        let members = UInt64(map.membersPerPlacement)
        return (answers.reduce(0) { if case .success(let blocks) = $1 { $0 + blocks } else { $0 } } + members - 1) / members
    }

    // Asking

    private func ask<Body: Message>(_ header: FrameHeader, _ body: [UInt8], _ type: Body.Type) async throws(Failure) -> Body {
        try decode(type, try await ask(header, body).1)
    }

    private func decode<Body: Message>(_ type: Body.Type, _ body: [UInt8]) throws(Failure) -> Body {
        guard let connection else { unreachable("a reply without a connection") }
        return try connection.decode(type, body)
    }

    private func ask(_ header: FrameHeader, _ body: [UInt8]) async throws(Failure) -> (FrameHeader, [UInt8]) {
        invariant(!isBusy, "a catalogue takes one call at a time")
        isBusy = true
        defer { isBusy = false }
        let end = world.now + deadline
        if let broken = connection, broken.isBroken {
            broken.close()
            connection = nil
        }
        let connection: ControlConnection
        if let open = self.connection {
            connection = open
        } else {
            connection = try await servers.connect(end)
            self.connection = connection
        }
        return try await connection.exchange(header, body, deadline: end)
    }
}

extension Address {
    /// Who knows the volumes there.
    public func catalogue(in world: any World, deadline: Interval = Limits.requestDeadlineDefault) -> any Catalogue {
        switch kind {
        case .ost: OSTCatalogue(world, endpoint, deadline: deadline)
        case .cluster: MDTCatalogue(world, endpoints, deadline: deadline)
        }
    }
}
