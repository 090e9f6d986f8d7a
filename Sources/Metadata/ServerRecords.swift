import Base
import Wire

/// What metadata servers tell each other through the catalogue, where several serve it. None of it decides what is right, which generations
/// and conditions do: it tells who is at what.

/// Under `server/ID`: that this server is there. It puts it anew all the time; the revision that it has then is all that others look at, so
/// no clock is compared with another.
public struct ServerRecord: CatalogueValue {
    static let noun = "metadata server"
    public var startedMilliseconds: UInt64

    public init(startedMilliseconds: UInt64) { self.startedMilliseconds = startedMilliseconds }
    func encodeFields(to body: inout BodyWriter) { body.put(startedMilliseconds) }
    init(fields body: inout BodyReader) throws(Failure) { startedMilliseconds = try body.get(UInt64.self) }
}

/// Under `writer/ID`: at which server a volume's writer has its session, and on which of its connections.
public struct WriterRecord: CatalogueValue {
    static let noun = "writer's session"
    public var server: Identifier
    public var connection: UInt64
    /// What the writer calls itself, for messages.
    public var client: String

    public init(server: Identifier, connection: UInt64, client: String) {
        self.server = server
        self.connection = connection
        self.client = String(client.prefix(64))
    }

    func encodeFields(to body: inout BodyWriter) {
        body.put(server)
        body.put(connection)
        body.put(client)
    }

    init(fields body: inout BodyReader) throws(Failure) {
        server = try body.getIdentifier()
        connection = try body.get(UInt64.self)
        client = try body.getString(max: 256)
    }
}

/// Under `hand/ID`: which server works on a volume's objects.
struct HandRecord: CatalogueValue {
    static let noun = "claim of a volume"
    var server: Identifier

    init(server: Identifier) { self.server = server }
    func encodeFields(to body: inout BodyWriter) { body.put(server) }
    init(fields body: inout BodyReader) throws(Failure) { server = try body.getIdentifier() }
}
