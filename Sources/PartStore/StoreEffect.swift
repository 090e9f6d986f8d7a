import Base

/// What the part store wants done. Plain data: the shell performs disk effects against the world and passes the answers on.
public enum StoreEffect: Hashable {
    /// Read `bytes` at `offset` of the disk to `memory`; then `diskDone(token, result)`.
    case diskRead(token: UInt32, offset: UInt64, memory: UnsafeMutableRawPointer, bytes: Int)
    /// Write `PartStore.vectors[first..<first + count]` at `offset` of the disk; then `diskDone(token, result)`.
    case diskWrite(token: UInt32, offset: UInt64, firstVector: Int, vectorCount: Int)
    /// Make everything that was completed durable; then `diskDone(token, result)`.
    case diskFlush(token: UInt32)
    /// The request with this tag has ended. Its memory is the caller's again.
    case finished(tag: UInt32, Status)
    /// A stored block does not match its check or cannot be read; for the log.
    case damaged(object: ObjectNumber, part: PartAddress, block: UInt32)
    /// The disk failed. Nothing more is acknowledged; every request ends with `.diskFailed`. When `operationsUnderWay` is 0 the shell
    /// loads the store anew, under a new boot identity.
    case failed(String)
}

/// An object within one store: small, never used again, and only meaningful there.
public struct ObjectNumber: Hashable, Comparable, Sendable, BitwiseCopyable {
    public var raw: UInt32

    /// No object has it, nor 0.
    static let max = UInt32.max

    /// Of an object that may exist.
    var isSound: Bool { raw > 0 && raw < ObjectNumber.max }

    @inlinable
    public init(_ raw: UInt32) { self.raw = raw }

    @inlinable
    public static func < (left: ObjectNumber, right: ObjectNumber) -> Bool { left.raw < right.raw }
}

/// Where a write-like request goes, and which write it is.
public struct WriteTarget: Hashable {
    public var object: ObjectNumber
    public var part: PartAddress
    public var firstBlock: UInt32
    public var blockCount: UInt32
    public var version: Version
    /// The writer's completion mark, a sequence of the same generation.
    public var mark: UInt64
    /// Members that this write touches, a bit each.
    public var touched: UInt64
    /// Finish only when it is on stable media.
    public var isDurable: Bool
    /// The mark waits for it, so it may use the room that is kept for such.
    public var isRewrite = false
    /// Not 0: of the fill of that number, not of a writer.
    public var fill: UInt64 = 0
    /// Of a fill: the source has it in doubt.
    public var isInDoubt = false
    /// Of a fill, and without data: the source has no block there.
    public var isAbsent = false
    /// Of a writer, and without data: nobody knows the contents any more.
    public var isLost = false

    public init(
        object: ObjectNumber, part: PartAddress, firstBlock: UInt32, blockCount: UInt32, version: Version, mark: UInt64 = 0,
        touched: UInt64 = 1, isDurable: Bool = false
    ) {
        self.object = object
        self.part = part
        self.firstBlock = firstBlock
        self.blockCount = blockCount
        self.version = version
        self.mark = mark
        self.touched = touched
        self.isDurable = isDurable
    }
}
