import Base

/// Bodies of control frames. Each is encoded field by field in the order of its declaration; golden bytes pin them in the tests.
/// A newer version may append fields, a reader ignores what it does not know.
public protocol Message: Hashable, Sendable {
    func encode(to body: inout BodyWriter)
    init(from body: inout BodyReader) throws(Failure)
}

extension Message {
    public var encoded: [UInt8] {
        var writer = BodyWriter()
        encode(to: &writer)
        return writer.bytes
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(Failure) {
        var reader = BodyReader(bytes)
        try self.init(from: &reader)
    }

    public init(decoding bytes: [UInt8]) throws(Failure) {
        // `withUnsafeBytes` does not carry typed errors through on all our compilers, hence the detour.
        let result: Result<Self, Failure> = bytes.withUnsafeBytes { raw in
            do throws(Failure) { return .success(try Self(decoding: raw)) } catch { return .failure(error) }
        }
        self = try result.get()
    }
}

/// The first frame in each direction.
public struct Hello: Message {
    public enum Role: UInt8, Sendable, Hashable {
        case client = 1
        case ost = 2
        case mdt = 3
        case mgs = 4
    }

    public var role: Role
    /// Zero where the side does not know or care.
    public var cluster: Identifier
    public var features: UInt64
    public var frameBytesMax: UInt32
    public var requestsMax: UInt32
    /// Of an OST: its store, how often that was mounted, and the identity under which it takes writes: the same as long as nothing that was
    /// completed can have been lost.
    public var store: Identifier
    public var mountCounter: UInt64
    public var boot: Identifier
    public var software: String
    /// Room for authentication; empty until keys exist.
    public var authentication: String
    /// Of the catalogue: of a client that whose map it has, of an OST the one that it belongs to; 0: none. It rises when a catalogue is
    /// rebuilt from the disks, and whoever comes with an older one is refused.
    public var incarnation: UInt64
    /// Of an OST: its Unix socket for clients on its machine (docs/decisions/0023); no part of the body where it has none.
    public var nearby: Nearby?

    public init(
        role: Role, cluster: Identifier = .zero, features: UInt64 = 0, frameBytesMax: UInt32 = UInt32(Limits.frameBytesMax),
        requestsMax: UInt32 = UInt32(Limits.requestsPerConnectionMax), store: Identifier = .zero, mountCounter: UInt64 = 0,
        boot: Identifier = .zero, software: String = "", authentication: String = "", incarnation: UInt64 = 0,
        nearby: Nearby? = nil
    ) {
        self.role = role
        self.cluster = cluster
        self.features = features
        self.frameBytesMax = frameBytesMax
        self.requestsMax = requestsMax
        self.store = store
        self.mountCounter = mountCounter
        self.boot = boot
        self.software = software
        self.authentication = authentication
        self.incarnation = incarnation
        self.nearby = nearby
    }

    public func encode(to body: inout BodyWriter) {
        body.put(role.rawValue)
        body.put(cluster)
        body.put(features)
        body.put(frameBytesMax)
        body.put(requestsMax)
        body.put(store)
        body.put(mountCounter)
        body.put(boot)
        body.put(software)
        body.put(authentication)
        body.put(incarnation)
        guard let nearby else { return }
        body.put(nearby.place)
        body.put(nearby.name)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        let raw = try body.get(UInt8.self)
        guard let role = Role(rawValue: raw) else { throw Failure(.malformed, "role \(raw) is unknown") }
        self.role = role
        cluster = try body.getIdentifier()
        features = try body.get(UInt64.self)
        frameBytesMax = try body.get(UInt32.self)
        requestsMax = try body.get(UInt32.self)
        store = try body.getIdentifier()
        mountCounter = try body.get(UInt64.self)
        boot = try body.getIdentifier()
        software = try body.getString()
        authentication = try body.getString(max: 4096)
        incarnation = try body.get(UInt64.self)
        if !body.isAtEnd { nearby = Nearby(place: try body.getIdentifier(), name: try body.getIdentifier()) }
    }
}

/// A Unix socket in a network of a machine.
public struct Nearby: Hashable, Sendable {
    /// Who is in the same one can reach it.
    public var place: Identifier
    /// Drawn at each start of the daemon.
    public var name: Identifier

    public init(place: Identifier, name: Identifier) {
        self.place = place
        self.name = name
    }
}

/// Opens an object. The header carries the session, for a return of the same writer its generation, and with `fence` the generation and
/// map number that the MDT gave.
public struct OpenRequest: Message {
    public struct Flags: OptionSet, Hashable, Sendable {
        public var rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// For writing: raises the generation and fences, unless the header names the generation of a writer that comes back.
        public static let write = Flags(rawValue: 1)
        /// Although another writer is connected.
        public static let force = Flags(rawValue: 2)
        /// The only member opens: nothing needs reconciling, what is in doubt has happened.
        public static let settle = Flags(rawValue: 4)
        /// For writing, as a member of a cluster's volume: the MDT has raised the generation, and header names it and the map.
        public static let fence = Flags(rawValue: 8)
        /// Alone: for the recovery of a member of a cluster's volume.
        public static let recover = Flags(rawValue: 16)
        /// With a fence: the writer has had a session there with this generation. A store that knows an older one is an old copy.
        public static let known = Flags(rawValue: 32)
    }

    public var name: String
    public var flags: Flags
    /// Makes raising the generation idempotent: the same nonce asks again for the same open.
    public var nonce: Identifier
    /// Of a fence: the volume record of the map that the header names; may be empty where the OST has that map already.
    public var record: [UInt8]

    public init(name: String, flags: Flags, nonce: Identifier = .zero, record: [UInt8] = []) {
        self.name = name
        self.flags = flags
        self.nonce = nonce
        self.record = record
    }

    public func encode(to body: inout BodyWriter) {
        body.put(name)
        body.put(flags.rawValue)
        body.put(nonce)
        body.put(record: record)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        name = try body.getString()
        flags = Flags(rawValue: try body.get(UInt8.self))
        nonce = try body.getIdentifier()
        record = try body.getRecord()
    }
}

/// The handle is in the reply's header.
public struct OpenReply: Message {
    public var object: ObjectRecord
    /// The highest version the store has of this object: a writer that comes back goes on above it.
    public var highest: Version
    /// Blocks in doubt that were not settled.
    public var doubts: UInt32

    public init(object: ObjectRecord, highest: Version, doubts: UInt32) {
        self.object = object
        self.highest = highest
        self.doubts = doubts
    }

    public func encode(to body: inout BodyWriter) {
        object.encode(to: &body)
        body.put(highest.generation)
        body.put(highest.sequence)
        body.put(doubts)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        object = try ObjectRecord(from: &body)
        highest = Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self))
        doubts = try body.get(UInt32.self)
    }
}

extension ObjectRecord: Message {
    public func encode(to body: inout BodyWriter) {
        body.put(id)
        body.put(name)
        body.put(bytes)
        body.put(layout.kind.rawValue)
        body.put(layout.chunkBytes)
        body.put(layout.dataMembers)
        body.put(layout.parityMembers)
        body.put(generation)
        body.put(map)
        body.put(createdMilliseconds)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        let id = try body.getIdentifier()
        let name = try body.getString()
        let bytes = try body.get(UInt64.self)
        let kind = try body.get(UInt8.self)
        guard let kind = Layout.Kind(rawValue: kind) else { throw Failure(.malformed, "layout \(kind) is unknown") }
        let layout = Layout(
            kind: kind, chunkBytes: try body.get(UInt64.self), dataMembers: try body.get(UInt16.self),
            parityMembers: try body.get(UInt16.self))
        self.init(
            id: id, name: name, bytes: bytes, layout: layout, generation: try body.get(UInt64.self), map: try body.get(UInt64.self),
            createdMilliseconds: try body.get(UInt64.self))
    }
}

/// Makes an object. Of a volume of a cluster the record comes with it, and the header names the map number of that.
public struct CreateRequest: Message {
    public var object: ObjectRecord
    public var record: [UInt8]

    public init(_ object: ObjectRecord, record: [UInt8] = []) {
        self.object = object
        self.record = record
    }

    public func encode(to body: inout BodyWriter) {
        object.encode(to: &body)
        body.put(record: record)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        object = try ObjectRecord(from: &body)
        record = try body.getRecord()
    }
}

/// The new size is the header's argument; its sequence the number of the resize, 0 of one that is only a step. Of a volume of a cluster the
/// record comes with it, and the header names the map number of that.
public struct ResizeRequest: Message {
    public var name: String
    public var record: [UInt8]

    public init(name: String, record: [UInt8] = []) {
        self.name = name
        self.record = record
    }

    public func encode(to body: inout BodyWriter) {
        body.put(name)
        body.put(record: record)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        name = try body.getString()
        record = try body.getRecord()
    }
}

/// A new map number with the record of that map.
public struct StampRequest: Message {
    public var record: [UInt8]

    public init(record: [UInt8]) { self.record = record }
    public func encode(to body: inout BodyWriter) { body.put(record: record) }
    public init(from body: inout BodyReader) throws(Failure) { record = try body.getRecord() }
}

/// What an object knows of its volume. The map number of the record is in the reply's header, 0 where there is none.
public struct VolumeRecordReply: Message {
    /// The last resize that it has gone along with.
    public var resizes: UInt64
    public var record: [UInt8]

    public init(resizes: UInt64, record: [UInt8]) {
        self.resizes = resizes
        self.record = record
    }

    public func encode(to body: inout BodyWriter) {
        body.put(resizes)
        body.put(record: record)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        resizes = try body.get(UInt64.self)
        record = try body.getRecord()
    }
}

/// Stat, remove, and the volume record: by name.
public struct NameRequest: Message {
    public var name: String

    public init(name: String) { self.name = name }
    public func encode(to body: inout BodyWriter) { body.put(name) }
    public init(from body: inout BodyReader) throws(Failure) { name = try body.getString() }
}

/// Answer to stat.
public struct StatReply: Message {
    public var object: ObjectRecord
    /// Blocks that take space.
    public var mappedBlocks: UInt64
    public var hasWriter: Bool

    public init(object: ObjectRecord, mappedBlocks: UInt64, hasWriter: Bool) {
        self.object = object
        self.mappedBlocks = mappedBlocks
        self.hasWriter = hasWriter
    }

    public func encode(to body: inout BodyWriter) {
        object.encode(to: &body)
        body.put(mappedBlocks)
        body.put(UInt8(hasWriter ? 1 : 0))
    }

    public init(from body: inout BodyReader) throws(Failure) {
        object = try ObjectRecord(from: &body)
        mappedBlocks = try body.get(UInt64.self)
        hasWriter = try body.get(UInt8.self) != 0
    }
}

/// The objects after `name` in the order of names; an empty list is the end.
public struct ListReply: Message {
    public var objects: [StatReply]

    public init(objects: [StatReply]) { self.objects = objects }

    public func encode(to body: inout BodyWriter) {
        body.put(UInt16(objects.count))
        for object in objects { object.encode(to: &body) }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        let count = Int(try body.get(UInt16.self))
        objects = []
        for _ in 0..<count { objects.append(try StatReply(from: &body)) }
    }
}

/// Space and counters of a store since it was loaded.
public struct StatisticsReply: Message {
    public var capacityBytes: UInt64
    public var freeBytes: UInt64
    public var usedBytes: UInt64
    public var objects: UInt64
    public var diskReads: UInt64
    public var diskWrites: UInt64
    public var diskWrittenBytes: UInt64
    public var diskFlushes: UInt64
    public var damagedReads: UInt64
    /// Blocks that reads could not give, and that have not been overwritten since.
    public var damagedBlocks: UInt64

    public init(
        capacityBytes: UInt64, freeBytes: UInt64, usedBytes: UInt64, objects: UInt64, diskReads: UInt64, diskWrites: UInt64,
        diskWrittenBytes: UInt64, diskFlushes: UInt64, damagedReads: UInt64, damagedBlocks: UInt64 = 0
    ) {
        self.capacityBytes = capacityBytes
        self.freeBytes = freeBytes
        self.usedBytes = usedBytes
        self.objects = objects
        self.diskReads = diskReads
        self.diskWrites = diskWrites
        self.diskWrittenBytes = diskWrittenBytes
        self.diskFlushes = diskFlushes
        self.damagedReads = damagedReads
        self.damagedBlocks = damagedBlocks
    }

    public func encode(to body: inout BodyWriter) {
        for value in [
            capacityBytes, freeBytes, usedBytes, objects, diskReads, diskWrites, diskWrittenBytes, diskFlushes, damagedReads,
            damagedBlocks,
        ] { body.put(value) }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        capacityBytes = try body.get(UInt64.self)
        freeBytes = try body.get(UInt64.self)
        usedBytes = try body.get(UInt64.self)
        objects = try body.get(UInt64.self)
        diskReads = try body.get(UInt64.self)
        diskWrites = try body.get(UInt64.self)
        diskWrittenBytes = try body.get(UInt64.self)
        diskFlushes = try body.get(UInt64.self)
        damagedReads = try body.get(UInt64.self)
        damagedBlocks = try body.get(UInt64.self)
    }
}

/// What the header's argument of an event frame says; the handle names the volume.
public enum VolumeEvent: UInt64, Sendable, Hashable {
    /// The new size is in the sequence field.
    case sizeChanged = 1
    /// Another writer has opened the object.
    case fenced = 2
    /// The object is gone, or the daemon stops.
    case closed = 3
}
