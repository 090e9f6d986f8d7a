import Base
import MetaStore
import Wire

/// The keys of a catalogue and how their values begin: docs/format/catalogue.md.
///
///     cluster          which cluster this is
///     name/NAME        the id of the volume of that name
///     volume/ID        the volume: record, states, table of placements
///     work/ID          there exactly while objects of that volume are still to be made, removed or resized
///     ost/STORE        an OST, as it registered last
///     server/ID        a metadata server, of several
///     writer/ID        at which of them that volume's writer has its session
///     hand/ID          which of them works on that volume's objects
///
/// Identifiers are their 16 bytes, most significant first: younger volumes sort behind older ones.
enum CatalogueKeys {
    static let cluster: MetaKey = "cluster"
    static let names: MetaKey = "name/"
    static let volumes: MetaKey = "volume/"
    static let work: MetaKey = "work/"
    static let osts: MetaKey = "ost/"

    static let servers: MetaKey = "server/"

    static func name(_ name: String) -> MetaKey { names + MetaKey(name) }
    static func volume(_ id: Identifier) -> MetaKey { volumes + MetaKey(id.bytes) }
    static func work(_ id: Identifier) -> MetaKey { work + MetaKey(id.bytes) }
    static func ost(_ store: Identifier) -> MetaKey { osts + MetaKey(store.bytes) }

    static func server(_ id: Identifier) -> MetaKey { servers + MetaKey(id.bytes) }
    static func writer(_ id: Identifier) -> MetaKey { "writer/" + MetaKey(id.bytes) }
    static func hand(_ id: Identifier) -> MetaKey { "hand/" + MetaKey(id.bytes) }

    /// The identifier that a key ends with.
    static func identifier(of key: MetaKey, behind prefix: MetaKey) throws(Failure) -> Identifier {
        let bytes = key.bytes.dropFirst(prefix.bytes.count)
        guard bytes.count == 16 else { throw Failure(.damaged, "the catalogue's key '\(key)' does not end with an identifier") }
        return Identifier(bytes: Array(bytes))
    }
}

extension Identifier {
    var bytes: [UInt8] {
        var writer = BodyWriter()
        writer.put(self)
        return writer.bytes
    }

    init(bytes: [UInt8]) {
        var words: (UInt64, UInt64) = (0, 0)
        for (index, byte) in bytes.prefix(16).enumerated() {
            if index < 8 { words.0 = words.0 << 8 | UInt64(byte) } else { words.1 = words.1 << 8 | UInt64(byte) }
        }
        self.init(high: words.0, low: words.1)
    }
}

/// What stands in the catalogue under a key. Each kind of value begins with a byte that tells its version; what a newer program has
/// written is refused, and what cannot be read is damage.
protocol CatalogueValue: Hashable, Sendable {
    /// For messages: "volume".
    static var noun: String { get }
    func encodeFields(to body: inout BodyWriter)
    init(fields body: inout BodyReader) throws(Failure)
}

extension CatalogueValue {
    /// Of all kinds until one of them changes.
    static var version: UInt8 { 1 }

    var value: [UInt8] {
        var writer = BodyWriter()
        writer.put(Self.version)
        encodeFields(to: &writer)
        return writer.bytes
    }

    init(_ value: MetaValue, of key: MetaKey) throws(Failure) {
        let result: Result<Self, Failure> = value.bytes.withUnsafeBytes { bytes in
            do throws(Failure) {
                var reader = BodyReader(bytes)
                let version = try reader.get(UInt8.self)
                guard version == Self.version else {
                    throw Failure(
                        .wrongVersion, "the \(Self.noun) under '\(key)' has version \(version), this program knows \(Self.version)")
                }
                let value = try Self(fields: &reader)
                guard reader.isAtEnd else { throw Failure(.malformed, "bytes are left over") }
                return .success(value)
            } catch {
                return .failure(error)
            }
        }
        do throws(Failure) {
            self = try result.get()
        } catch {
            if error.status == .wrongVersion { throw error }
            throw Failure(
                .damaged,
                "the \(Self.noun) under '\(key)' cannot be read (\(error.detail)); restore the catalogue from a backup, or rebuild it")
        }
    }
}

/// Under `cluster`.
struct ClusterRecord: CatalogueValue {
    static let noun = "cluster"
    var cluster: Identifier
    var createdMilliseconds: UInt64
    /// Raised on all OSTs when the catalogue is rebuilt: they refuse whoever comes with an older one.
    var incarnation: UInt64

    init(cluster: Identifier, createdMilliseconds: UInt64, incarnation: UInt64) {
        self.cluster = cluster
        self.createdMilliseconds = createdMilliseconds
        self.incarnation = incarnation
    }

    func encodeFields(to body: inout BodyWriter) {
        body.put(cluster)
        body.put(createdMilliseconds)
        body.put(incarnation)
    }

    init(fields body: inout BodyReader) throws(Failure) {
        cluster = try body.getIdentifier()
        createdMilliseconds = try body.get(UInt64.self)
        incarnation = try body.get(UInt64.self)
    }
}

/// Under `name/NAME` and, for its own sake, under `work/ID`.
struct VolumeReference: CatalogueValue {
    static let noun = "reference to a volume"
    var id: Identifier

    init(id: Identifier) { self.id = id }
    func encodeFields(to body: inout BodyWriter) { body.put(id) }
    init(fields body: inout BodyReader) throws(Failure) { id = try body.getIdentifier() }
}
