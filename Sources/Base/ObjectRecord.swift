/// What is known about an object besides its blocks. OSTs keep it whether or not there is an MDT (P7); wire and disk each have their own
/// encoding of it.
public struct ObjectRecord: Hashable, Sendable {
    public var id: Identifier
    public var name: String
    /// A multiple of `Block.sectorBytes`.
    public var bytes: UInt64
    public var layout: Layout
    /// Raised at every open for writing.
    public var generation: UInt64
    /// Raised at every change of members or their states; 0 while the OST itself is the catalogue.
    public var map: UInt64
    public var createdMilliseconds: UInt64

    public init(
        id: Identifier, name: String, bytes: UInt64, layout: Layout = Layout(), generation: UInt64 = 0, map: UInt64 = 0,
        createdMilliseconds: UInt64 = 0
    ) {
        self.id = id
        self.name = name
        self.bytes = bytes
        self.layout = layout
        self.generation = generation
        self.map = map
        self.createdMilliseconds = createdMilliseconds
    }

    public var chunkCount: UInt64 { (bytes + layout.chunkBytes - 1) / layout.chunkBytes }

    /// `[A-Za-z0-9][A-Za-z0-9._/-]{0,127}`, or the sentence that says what is wrong with it.
    public static func check(name: String) throws(Failure) {
        let bytes = Array(name.utf8)
        guard (1...Limits.nameBytesMax).contains(bytes.count) else {
            throw Failure(.invalidArgument, "a name has 1 to \(Limits.nameBytesMax) characters, this one has \(bytes.count)")
        }
        for (index, byte) in bytes.enumerated() {
            let isAlphanumeric =
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            let isOther = [UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "/"), UInt8(ascii: "-")].contains(byte)
            guard isAlphanumeric || (isOther && index > 0) else {
                throw Failure(
                    .invalidArgument,
                    "'\(name)' is no name: it begins with a letter or digit and goes on with letters, digits, '.', '_', '/' or '-'")
            }
        }
    }

    /// Whether an object may have this size.
    public static func isSound(bytes: UInt64) -> Bool {
        bytes > 0 && bytes % UInt64(Block.sectorBytes) == 0 && bytes <= Limits.volumeBytesMax
    }

    /// The same, with the sentence that says why not.
    public static func check(bytes: UInt64) throws(Failure) {
        guard isSound(bytes: bytes) else {
            throw Failure(
                .invalidArgument,
                "a size is a multiple of \(Block.sectorBytes) from \(Block.sectorBytes) to \(Limits.volumeBytesMax), not \(bytes)")
        }
    }

    /// A block is kept or cut off as a whole: what a cut left of one would show again when the volume grows.
    public static func check(cutTo bytes: UInt64, from size: UInt64) throws(Failure) {
        guard bytes >= size || bytes % UInt64(Block.bytes) == 0 else {
            throw Failure(.invalidArgument, "a volume is made smaller to a multiple of \(Block.bytes) bytes, and \(bytes) is none")
        }
    }
}

/// How an object is cut into chunks and what its members hold. Fixed at creation.
public struct Layout: Hashable, Sendable {
    public enum Kind: UInt8, Sendable, Hashable {
        case replicas = 1
        case erasure = 2
    }

    public var kind: Kind
    /// A power of two.
    public var chunkBytes: UInt64
    public var dataMembers: UInt16
    public var parityMembers: UInt16

    public init(
        kind: Kind = .replicas, chunkBytes: UInt64 = Limits.chunkBytesDefault, dataMembers: UInt16 = 1, parityMembers: UInt16 = 0
    ) {
        self.kind = kind
        self.chunkBytes = chunkBytes
        self.dataMembers = dataMembers
        self.parityMembers = parityMembers
    }

    public func check() throws(Failure) {
        guard chunkBytes.nonzeroBitCount == 1, (64 << 10...1 << 30).contains(chunkBytes) else {
            throw Failure(.invalidArgument, "a chunk is a power of two from 64 KiB to 1 GiB, not \(chunkBytes) bytes")
        }
        let members = Int(dataMembers) + Int(parityMembers)
        guard dataMembers >= 1, members <= Limits.membersMax else {
            throw Failure(.invalidArgument, "a layout has 1 to \(Limits.membersMax) members, not \(members)")
        }
    }
}
