import Base

/// What a user of a volume asks for.
public struct Operation: Hashable, Sendable {
    public enum Kind: UInt8, Hashable, Sendable {
        case read
        case write
        /// Covers everything acknowledged before it was submitted. Offset and bytes are ignored.
        case flush
        case discard
        case writeZeroes
        /// Makes the blocks equal on all members, with what one of them has. For reconciling; whole blocks.
        case rewrite

        /// Whether it changes blocks, and so takes part in versions and in the overlap rule as a write.
        @inlinable
        public var changesBlocks: Bool {
            switch self {
            case .read, .flush: false
            case .write, .discard, .writeZeroes, .rewrite: true
            }
        }

        /// Whether it comes with memory.
        @inlinable
        public var movesData: Bool {
            switch self {
            case .read, .write: true
            case .flush, .discard, .writeZeroes, .rewrite: false
            }
        }
    }

    /// Comes back with the completion; the engine never looks into it.
    public struct Tag: Hashable, Sendable {
        public var first: UInt
        public var second: UInt

        @inlinable
        public init(_ first: UInt, _ second: UInt) {
            self.first = first
            self.second = second
        }
    }

    public var kind: Kind
    /// Offset and bytes are multiples of `Block.sectorBytes`.
    public var offset: UInt64
    public var bytes: UInt64
    /// On stable media when acknowledged.
    public var isDurable: Bool
    /// From the submission; zero stands for `Limits.requestDeadlineDefault`.
    public var deadline: Interval
    /// Of a rewrite: the peer that has what shall be everywhere; nil for any member in sync.
    public var source: Int?
    /// Of a rewrite: only to members that are being filled.
    public var onlyFills = false
    /// Of a rewrite of members that are being filled: nobody has the contents any more, and they shall say so.
    public var isLost = false
    /// Of a flush: the user does not hear of it, so that what was lost is still to be told by one of his own.
    public var isUnheard = false
    public var tag: Tag

    /// Of those that keep the volume whole, not of the user.
    var isRepair: Bool { kind == .rewrite || isUnheard }

    @inlinable
    public init(
        _ kind: Kind, offset: UInt64 = 0, bytes: UInt64 = 0, isDurable: Bool = false, deadline: Interval = Interval(nanoseconds: 0),
        source: Int? = nil, tag: Tag
    ) {
        self.kind = kind
        self.offset = offset
        self.bytes = bytes
        self.isDurable = isDurable
        self.deadline = deadline
        self.source = source
        self.tag = tag
    }

    /// Vectors of one operation, at most.
    public static let vectorsMax = 1024
}
