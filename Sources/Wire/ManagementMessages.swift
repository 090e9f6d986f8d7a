import Base

/// What a metadata server tells a management server of itself, and what that tells of the metadata servers.

/// Of an MDT at its start, and again as a heartbeat within the interval that the answer names. The cluster is in the hello.
public struct MDTRegisterRequest: Message {
    /// Of this process: a metadata server keeps no identity of its own.
    public var server: Identifier
    /// `HOST:PORT` each: where clients and OSTs reach it.
    public var endpoints: [String]
    /// The machine, as that calls itself.
    public var host: String
    /// Of the catalogue that it serves.
    public var incarnation: UInt64

    public init(server: Identifier, endpoints: [String], host: String, incarnation: UInt64) {
        self.server = server
        self.endpoints = endpoints
        self.host = host
        self.incarnation = incarnation
    }

    public func encode(to body: inout BodyWriter) {
        body.put(server)
        body.put(endpoints: endpoints)
        body.put(host)
        body.put(incarnation)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        server = try body.getIdentifier()
        endpoints = try body.getEndpoints()
        host = try body.getString()
        incarnation = try body.get(UInt64.self)
    }
}

/// A metadata server, as a management server knows it.
public struct MDTStatus: Message {
    public var registration: MDTRegisterRequest
    /// It has been heard of lately.
    public var isAlive: Bool
    /// Since it was heard of last.
    public var silence: Interval

    public init(registration: MDTRegisterRequest, isAlive: Bool, silence: Interval) {
        self.registration = registration
        self.isAlive = isAlive
        self.silence = silence
    }

    public func encode(to body: inout BodyWriter) {
        registration.encode(to: &body)
        body.put(UInt8(isAlive ? 1 : 0))
        body.put(silence.nanoseconds)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        registration = try MDTRegisterRequest(from: &body)
        isAlive = try body.get(UInt8.self) != 0
        silence = Interval(nanoseconds: try body.get(UInt64.self))
    }
}

/// All of them, those first that were heard of last: a client asks them in this order.
public struct MDTListReply: Message {
    /// Zero where no metadata server has registered yet.
    public var cluster: Identifier
    /// Since the management server was started: what it lists is complete after a heartbeat.
    public var uptime: Interval
    public var servers: [MDTStatus]

    public init(cluster: Identifier, uptime: Interval, servers: [MDTStatus]) {
        self.cluster = cluster
        self.uptime = uptime
        self.servers = servers
    }

    public func encode(to body: inout BodyWriter) {
        body.put(cluster)
        body.put(uptime.nanoseconds)
        body.put(UInt16(servers.count))
        for server in servers { server.encode(to: &body) }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        cluster = try body.getIdentifier()
        uptime = Interval(nanoseconds: try body.get(UInt64.self))
        servers = []
        for _ in 0..<Int(try body.get(UInt16.self)) { servers.append(try MDTStatus(from: &body)) }
    }
}
