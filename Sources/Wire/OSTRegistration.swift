import Base

/// What an OST tells a metadata or management server of itself, and what that tells of its OSTs.

/// Of an OST at its start, and again as a heartbeat within the interval that the answer names. The cluster is in the hello.
public struct OSTRegisterRequest: Message {
    public var store: Identifier
    public var mountCounter: UInt64
    /// The identity under which it takes writes.
    public var boot: Identifier
    /// `HOST:PORT` each: where clients reach it.
    public var endpoints: [String]
    /// The machine, as that calls itself.
    public var host: String
    /// `room/rack/host`, `rack/host` or `host`.
    public var domain: String
    public var capacityBytes: UInt64
    public var freeBytes: UInt64
    /// Of the catalogue that it belongs to; 0: of none yet.
    public var incarnation: UInt64

    public init(
        store: Identifier, mountCounter: UInt64, boot: Identifier, endpoints: [String], host: String, domain: String,
        capacityBytes: UInt64, freeBytes: UInt64, incarnation: UInt64 = 0
    ) {
        self.store = store
        self.mountCounter = mountCounter
        self.boot = boot
        self.endpoints = endpoints
        self.host = host
        self.domain = domain
        self.capacityBytes = capacityBytes
        self.freeBytes = freeBytes
        self.incarnation = incarnation
    }

    public func encode(to body: inout BodyWriter) {
        body.put(store)
        body.put(mountCounter)
        body.put(boot)
        body.put(endpoints: endpoints)
        body.put(host)
        body.put(domain)
        body.put(capacityBytes)
        body.put(freeBytes)
        body.put(incarnation)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        store = try body.getIdentifier()
        mountCounter = try body.get(UInt64.self)
        boot = try body.getIdentifier()
        endpoints = try body.getEndpoints()
        host = try body.getString()
        domain = try body.getString(max: 256)
        capacityBytes = try body.get(UInt64.self)
        freeBytes = try body.get(UInt64.self)
        incarnation = try body.get(UInt64.self)
    }
}

/// To whoever registers.
public struct RegisterReply: Message {
    /// Zero where a management server does not know it yet.
    public var cluster: Identifier
    /// Heartbeats come at least this often.
    public var interval: Interval

    public init(cluster: Identifier, interval: Interval) {
        self.cluster = cluster
        self.interval = interval
    }

    public func encode(to body: inout BodyWriter) {
        body.put(cluster)
        body.put(UInt32(truncatingIfNeeded: interval.milliseconds))
    }

    public init(from body: inout BodyReader) throws(Failure) {
        cluster = try body.getIdentifier()
        interval = .milliseconds(UInt64(try body.get(UInt32.self)))
    }
}

/// An OST of the cluster, as the server knows it.
public struct OSTStatus: Message {
    public var registration: OSTRegisterRequest
    /// Gets no new parts.
    public var isDrained: Bool
    /// It has been heard of lately enough to be given parts.
    public var isAlive: Bool
    /// Since it was heard of last; the largest number: never.
    public var silence: Interval
    /// The connection by which it registered is there, and heartbeats come. Nobody waits for it while that is so; an OST that has just died
    /// is alive for a while, and not connected.
    public var isConnected: Bool

    public init(registration: OSTRegisterRequest, isDrained: Bool, isAlive: Bool, silence: Interval, isConnected: Bool) {
        self.registration = registration
        self.isDrained = isDrained
        self.isAlive = isAlive
        self.silence = silence
        self.isConnected = isConnected
    }

    public func encode(to body: inout BodyWriter) {
        registration.encode(to: &body)
        body.put(UInt8(isDrained ? 1 : 0))
        body.put(UInt8(isAlive ? 1 : 0))
        body.put(silence.nanoseconds)
        body.put(UInt8(isConnected ? 1 : 0))
    }

    public init(from body: inout BodyReader) throws(Failure) {
        registration = try OSTRegisterRequest(from: &body)
        isDrained = try body.get(UInt8.self) != 0
        isAlive = try body.get(UInt8.self) != 0
        silence = Interval(nanoseconds: try body.get(UInt64.self))
        isConnected = try body.get(UInt8.self) != 0
    }
}

/// Those behind a store, zero at first.
public struct OSTListRequest: Message {
    public var after: Identifier

    public init(after: Identifier = .zero) { self.after = after }
    public func encode(to body: inout BodyWriter) { body.put(after) }
    public init(from body: inout BodyReader) throws(Failure) { after = try body.getIdentifier() }
}

/// The one that is forgotten.
public struct OSTRemoveRequest: Message {
    public var store: Identifier

    public init(store: Identifier) { self.store = store }
    public func encode(to body: inout BodyWriter) { body.put(store) }
    public init(from body: inout BodyReader) throws(Failure) { store = try body.getIdentifier() }
}

/// In the order of their stores; an empty list is the end.
public struct OSTListReply: Message {
    /// What a server puts into one answer; it fits whatever the OSTs say of themselves.
    public static let countMax = 64

    public var osts: [OSTStatus]

    public init(osts: [OSTStatus]) { self.osts = osts }

    public func encode(to body: inout BodyWriter) {
        body.put(UInt16(osts.count))
        for ost in osts { ost.encode(to: &body) }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        osts = []
        for _ in 0..<Int(try body.get(UInt16.self)) { osts.append(try OSTStatus(from: &body)) }
    }
}
