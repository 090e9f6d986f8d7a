import Base
import Environment
import VolumeEngine
import Wire

/// What it takes to open a volume at an OST: afresh, or again by the same writer.
struct SessionRequest {
    var endpoint: Endpoint
    var name: String
    var flags: OpenRequest.Flags
    var nonce: Identifier
    var cluster = Identifier.zero
    /// Chosen by the client, larger with every attempt: only the newest counts.
    var session: UInt64
    /// 0 for a fresh open, else the generation that was granted.
    var generation: UInt64 = 0
    /// Of a volume with an MDT; 0 where the OST keeps all of it.
    var map: UInt64 = 0
    /// The volume record of that map, and the incarnation of its catalogue.
    var record: [UInt8] = []
    var incarnation: UInt64 = 0
    /// The store that keeps the parts; zero takes any.
    var store = Identifier.zero
    /// A store that was mounted fewer times is an old copy.
    var minimumMounts: UInt64 = 0
    /// What this client calls itself.
    var client = OpenOptions.clientDefault
}

/// An open session: its stream, with nothing under way on it, and what the other side said.
struct Session {
    var stream: StreamID
    var attachment: Attachment
    var object: ObjectRecord
    var cluster: Identifier
    /// What earlier generations left in doubt there, where the open was a fence.
    var doubts: [DoubtRange] = []

    /// Connects, says hello, opens.
    static func open(_ world: any World, _ request: SessionRequest, deadline: Instant) async throws(Failure) -> Session {
        let connection = try await ControlConnection.open(
            world, request.endpoint, cluster: request.cluster, software: request.client, incarnation: request.incarnation,
            deadline: deadline
        ).nearer(deadline: deadline)
        do throws(Failure) {
            return try await open(connection, request, deadline)
        } catch {
            connection.close()
            throw error
        }
    }

    private static func open(
        _ connection: ControlConnection, _ request: SessionRequest, _ deadline: Instant
    ) async throws(Failure) -> Session {
        let peer = connection.peer
        try peer.check(request.store, minimumMounts: request.minimumMounts, at: request.endpoint)
        var header = FrameHeader(.open)
        header.session = request.session
        header.generation = request.generation
        header.map = request.map
        let body = OpenRequest(name: request.name, flags: request.flags, nonce: request.nonce, record: request.record)
        let (replyHeader, replyBody) = try await connection.exchange(header, body.encoded, deadline: deadline)
        let reply = try connection.decode(OpenReply.self, replyBody)
        try check(reply.object, isAlone: request.store == .zero)
        guard request.generation == 0 || replyHeader.generation == request.generation else {
            throw Failure(.malformed, "'\(request.name)' came back with generation \(replyHeader.generation), not \(request.generation)")
        }
        var doubts: [DoubtRange] = []
        if request.flags.contains(.fence), reply.doubts > 0 {
            doubts = try await self.doubts(connection, request, replyHeader, deadline)
        }
        let attachment = Attachment(
            session: request.session, generation: replyHeader.generation, handle: replyHeader.handle, objectBytes: reply.object.bytes,
            chunkBytes: reply.object.layout.chunkBytes, requestsMax: Int(peer.requestsMax), frameBytesMax: Int(peer.frameBytesMax),
            boot: peer.boot, highest: reply.highest, map: replyHeader.map)
        return Session(
            stream: connection.release(), attachment: attachment, object: reply.object, cluster: peer.cluster, doubts: doubts)
    }

    private static func doubts(
        _ connection: ControlConnection, _ request: SessionRequest, _ open: FrameHeader, _ deadline: Instant
    ) async throws(Failure) -> [DoubtRange] {
        var found: [DoubtRange] = []
        var cursor: UInt64 = 0
        repeat {
            var header = FrameHeader(.doubts)
            header.handle = open.handle
            header.session = request.session
            header.generation = request.generation
            header.map = request.map
            header.argument = cursor
            let (reply, body) = try await connection.exchange(header, [], deadline: deadline)
            found += try connection.decode(DoubtsReply.self, body).ranges
            guard found.count <= Limits.doubtsMax else { throw Failure(.malformed, "more in doubt than an OST can have") }
            cursor = reply.argument
        } while cursor != 0
        return found
    }

    /// What this side can work with.
    private static func check(_ object: ObjectRecord, isAlone: Bool) throws(Failure) {
        try ObjectRecord.check(bytes: object.bytes)
        try object.layout.check()
        guard !isAlone || object.layout.kind == .replicas, !isAlone || object.layout.dataMembers == 1, object.layout.parityMembers == 0
        else {
            throw Failure(.unsupported, "'\(object.name)' has several members; open it through its MDT with rawstor://")
        }
        guard object.chunkCount <= UInt64(UInt32.max) else {
            throw Failure(.unsupported, "'\(object.name)' has \(object.chunkCount) chunks; at most \(UInt32.max) are supported")
        }
    }
}

extension Hello {
    /// That an OST serves this store (zero: any), from its newest disk as far as is known.
    func check(_ wanted: Identifier, minimumMounts: UInt64, at endpoint: Endpoint) throws(Failure) {
        guard wanted == .zero || wanted == store else {
            throw Failure(.wrongStore, "\(endpoint) serves store \(store), not \(wanted)")
        }
        guard mountCounter >= minimumMounts else {
            throw Failure(
                .wrongStore,
                "store \(store) at \(endpoint) says that it was mounted \(mountCounter) times, and has been at \(minimumMounts): it is an "
                    + "old copy of the disk")
        }
    }
}
