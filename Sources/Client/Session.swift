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
    /// The store that keeps the parts; zero takes any.
    var store = Identifier.zero
}

/// An open session: its stream, with nothing under way on it, and what the other side said.
struct Session {
    var stream: StreamID
    var attachment: Attachment
    var object: ObjectRecord
    var cluster: Identifier

    /// Connects, says hello, opens.
    static func open(_ world: any World, _ request: SessionRequest, deadline: Instant) async throws(Failure) -> Session {
        let connection = try await ControlConnection.open(
            world, request.endpoint, cluster: request.cluster, deadline: deadline)
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
        var header = FrameHeader(.open)
        header.session = request.session
        header.generation = request.generation
        header.map = request.map
        let body = OpenRequest(name: request.name, flags: request.flags, nonce: request.nonce)
        let (replyHeader, replyBody) = try await connection.exchange(header, body.encoded, deadline: deadline)
        let reply = try connection.decode(OpenReply.self, replyBody)
        try check(reply.object)
        guard request.generation == 0 || replyHeader.generation == request.generation else {
            throw Failure(.malformed, "'\(request.name)' came back with generation \(replyHeader.generation), not \(request.generation)")
        }
        let peer = connection.peer
        let attachment = Attachment(
            session: request.session, generation: replyHeader.generation, handle: replyHeader.handle, objectBytes: reply.object.bytes,
            chunkBytes: reply.object.layout.chunkBytes, requestsMax: Int(peer.requestsMax), frameBytesMax: Int(peer.frameBytesMax),
            boot: peer.boot, highest: reply.highest, map: replyHeader.map)
        return Session(stream: connection.release(), attachment: attachment, object: reply.object, cluster: peer.cluster)
    }

    /// What this side can work with.
    private static func check(_ object: ObjectRecord) throws(Failure) {
        try ObjectRecord.check(bytes: object.bytes)
        try object.layout.check()
        guard object.layout.kind == .replicas, object.layout.dataMembers == 1, object.layout.parityMembers == 0 else {
            throw Failure(.unsupported, "'\(object.name)' has several members; open it through its MDT with rawstor://")
        }
        guard object.chunkCount <= UInt64(UInt32.max) else {
            throw Failure(.unsupported, "'\(object.name)' has \(object.chunkCount) chunks; at most \(UInt32.max) are supported")
        }
    }
}
