import Base
import Environment
import Wire

/// The catalogue of one OST, over a connection of its own: one request at a time.
///
/// A connection that broke is replaced at the next call. A call is not repeated by itself: whether a create or a remove happened before
/// the connection broke is for the caller to find out.
public final class OSTCatalogue: Catalogue {
    private let world: any World
    private let endpoint: Endpoint
    private let cluster: Identifier
    private let deadline: Interval
    private let expected: ExpectedStore?
    /// Of the catalogue in whose name this is asked; 0: in nobody's.
    private let incarnation: UInt64
    private var connection: ControlConnection?
    private var isBusy = false
    /// Asked in the moment in which a request would be sent, after whatever waiting; a request that it refuses is not.
    public var mayAsk: () throws(Failure) -> Void = {}

    /// The disk that must be served there: an identity, and how often it was mounted at least.
    public struct ExpectedStore: Hashable, Sendable {
        public var store: Identifier
        public var mountCounter: UInt64

        public init(_ store: Identifier, mountCounter: UInt64 = 0) {
            self.store = store
            self.mountCounter = mountCounter
        }

        /// What a daemon says of itself fits.
        public func check(_ hello: Hello, at endpoint: Endpoint) throws(Failure) {
            guard hello.store == store else {
                throw Failure(.wrongStore, "\(endpoint) serves store \(hello.store); store \(store) is expected there")
            }
            guard hello.mountCounter >= mountCounter else {
                throw Failure(
                    .wrongStore,
                    "\(endpoint) serves store \(store) as it was when it had been mounted \(hello.mountCounter) times, and \(mountCounter) "
                        + "are known: it is an old copy of the disk")
            }
        }
    }

    /// `deadline` is for each call.
    public init(
        _ world: any World, _ endpoint: Endpoint, cluster: Identifier = .zero, expecting: ExpectedStore? = nil,
        incarnation: UInt64 = 0, deadline: Interval = Limits.requestDeadlineDefault
    ) {
        self.incarnation = incarnation
        expected = expecting
        self.world = world
        self.endpoint = endpoint
        self.cluster = cluster
        self.deadline = deadline
    }

    public func close() {
        invariant(!isBusy, "a catalogue is closed in the middle of a call")
        connection?.close()
        connection = nil
    }

    public func create(_ name: String, bytes: UInt64, layout: Layout = Layout()) async throws(Failure) -> ObjectRecord {
        try ObjectRecord.check(name: name)
        try ObjectRecord.check(bytes: bytes)
        try layout.check()
        let now = world.wallClockMilliseconds
        let object = ObjectRecord(
            id: Identifier(wallClockMilliseconds: now, random: (world.random(), world.random())), name: name, bytes: bytes,
            layout: layout, createdMilliseconds: now)
        try await create(object)
        return object
    }

    /// An object whose id is chosen already; well too where that object is there. Of a volume of a cluster with its map.
    public func create(_ object: ObjectRecord, of map: VolumeMap? = nil) async throws(Failure) {
        var header = FrameHeader(.create)
        header.map = map?.object.map ?? 0
        _ = try await ask(header, CreateRequest(object, record: map?.encoded ?? []).encoded)
    }

    /// What the daemon says of itself.
    public func hello() async throws(Failure) -> Hello {
        _ = try await ask(FrameHeader(.ping), [])
        guard let connection else { unreachable("a reply without a connection") }
        return connection.peer
    }

    /// What an object knows of its volume; the map is nil where it has none.
    public func volumeRecord(of name: String) async throws(Failure) -> (map: VolumeMap?, resizes: UInt64) {
        let reply = try await ask(FrameHeader(.volumeRecord), NameRequest(name: name).encoded, VolumeRecordReply.self)
        guard !reply.record.isEmpty else { return (nil, reply.resizes) }
        guard let connection else { unreachable("a reply without a connection") }
        return (try connection.decode(VolumeMap.self, reply.record), reply.resizes)
    }

    /// Raises the incarnation of the catalogue that the store belongs to, if it is still the one that was seen.
    public func adopt(from old: UInt64, to new: UInt64) async throws(Failure) {
        var header = FrameHeader(.adopt)
        header.sequence = old
        header.argument = new
        _ = try await ask(header, [])
    }

    public func list() async throws(Failure) -> [StatReply] {
        var objects: [StatReply] = []
        while true {
            let last = objects.last?.object.name ?? ""
            let reply = try await ask(FrameHeader(.list), NameRequest(name: last).encoded, ListReply.self)
            if reply.objects.isEmpty { return objects }
            for object in reply.objects {
                guard object.object.name.follows(objects.last?.object.name), objects.count < Limits.objectsMax else {
                    throw Failure(.malformed, "\(endpoint) lists '\(object.object.name)' out of order")
                }
                objects.append(object)
            }
        }
    }

    public func stat(_ name: String) async throws(Failure) -> StatReply {
        try ObjectRecord.check(name: name)
        return try await ask(FrameHeader(.stat), NameRequest(name: name).encoded, StatReply.self)
    }

    public func remove(_ name: String) async throws(Failure) {
        try ObjectRecord.check(name: name)
        _ = try await ask(FrameHeader(.remove), NameRequest(name: name).encoded)
    }

    public func resize(_ name: String, bytes: UInt64, by generation: UInt64) async throws(Failure) {
        try await resize(name, bytes: bytes, of: nil, by: generation)
    }

    /// Of a volume of a cluster with its map, unless this is only a step on the way to the size that the map has.
    public func resize(_ name: String, bytes: UInt64, of map: VolumeMap?, by generation: UInt64 = 0) async throws(Failure) {
        try ObjectRecord.check(name: name)
        try ObjectRecord.check(bytes: bytes)
        var header = FrameHeader(.resize)
        header.argument = bytes
        header.generation = generation
        header.map = map?.object.map ?? 0
        header.sequence = map?.resizes ?? 0
        _ = try await ask(header, ResizeRequest(name: name, record: map?.encoded ?? []).encoded)
    }

    public func statistics() async throws(Failure) -> StatisticsReply {
        try await ask(FrameHeader(.statistics), [], StatisticsReply.self)
    }

    private func ask<Body: Message>(_ header: FrameHeader, _ body: [UInt8], _ type: Body.Type) async throws(Failure) -> Body {
        let reply = try await ask(header, body)
        guard let connection else { unreachable("a reply without a connection") }
        return try connection.decode(type, reply)
    }

    private func ask(_ header: FrameHeader, _ body: [UInt8]) async throws(Failure) -> [UInt8] {
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
            connection = try await ControlConnection.open(
                world, endpoint, cluster: cluster, incarnation: incarnation, deadline: end)
            self.connection = connection
            do throws(Failure) {
                try expected?.check(connection.peer, at: endpoint)
            } catch {
                self.connection = nil
                connection.close()
                throw error
            }
        }
        try mayAsk()
        return try await connection.exchange(header, body, deadline: end).1
    }
}

extension String {
    /// Whether it comes behind `last` in the order of bytes, which is that of a list.
    func follows(_ last: String?) -> Bool {
        guard let last else { return true }
        return last.utf8.lexicographicallyPrecedes(utf8)
    }
}
