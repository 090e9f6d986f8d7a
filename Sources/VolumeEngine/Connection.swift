import Base
import Wire

/// What a new session begins with: everything that hello and open said.
public struct Attachment: Hashable, Sendable {
    public var session: UInt64
    public var generation: UInt64
    public var handle: UInt32
    public var objectBytes: UInt64
    public var chunkBytes: UInt64
    public var requestsMax: Int
    public var frameBytesMax: Int
    /// The identity under which the OST takes writes: the same as long as nothing that was completed can have been lost.
    public var boot: Identifier
    /// The highest version that the OST has of the object.
    public var highest: Version

    public init(
        session: UInt64, generation: UInt64, handle: UInt32, objectBytes: UInt64, chunkBytes: UInt64 = Limits.chunkBytesDefault,
        requestsMax: Int = Limits.requestsPerConnectionMax, frameBytesMax: Int = Limits.frameBytesMax, boot: Identifier = .zero,
        highest: Version = .zero
    ) {
        self.session = session
        self.generation = generation
        self.handle = handle
        self.objectBytes = objectBytes
        self.chunkBytes = chunkBytes
        self.requestsMax = requestsMax
        self.frameBytesMax = frameBytesMax
        self.boot = boot
        self.highest = highest
    }
}

/// The connection to one OST: the two ends of its stream, what its session is, and how much is outstanding. A volume with replicas will
/// have one of these for each member.
struct Connection: ~Copyable {
    enum Phase: UInt8 {
        case detached
        case attached
        /// A reset was asked for: nothing is sent, and what comes is not read.
        case resetting
    }

    /// Enough for a request of the most vectors on top of a full window of usual ones.
    static let piecesMax = 4096
    /// Header, both edges, and a vector that is cut at both ends.
    static let piecesPerRequestMax = Operation.vectorsMax + 4

    var phase = Phase.detached
    var sender = FrameSender(capacity: piecesMax)
    var receiver = FrameReceiver()
    var session: UInt64 = 0
    var handle: UInt32 = 0
    var boot = Identifier.zero
    /// Data requests that may be outstanding.
    var requestsMax = 0
    /// Blocks of one request.
    var blocksMax: UInt64 = UInt64(Limits.frameBlocksMax)
    /// Requests without a reply.
    var outstanding = 0
    /// Of those, the ones that nobody waits for.
    var abandoned = 0
    /// The request whose payload is being received.
    var receiving = SlotList.none
    var isMarkInFlight = false
    var isCloseSent = false
    var lastReceived = Instant.zero
    /// When the keep-alive went out that is not answered; `never` if there is none.
    var pingSent = Instant.never

    mutating func attach(_ attachment: Attachment, now: Instant) {
        phase = .attached
        session = attachment.session
        handle = attachment.handle
        boot = attachment.boot
        requestsMax = max(1, min(attachment.requestsMax, Limits.requestsPerConnectionMax))
        blocksMax = UInt64(max(1, min(attachment.frameBytesMax, Limits.frameBytesMax) / Block.bytes))
        invariant(outstanding == 0 && sender.isEmpty, "\(outstanding) requests outstanding on a new connection")
        lastReceived = now
        pingSent = .never
        isMarkInFlight = false
        isCloseSent = false
    }

    mutating func detach() {
        phase = .detached
        while sender.popAny() != nil {}
        receiver.reset()
        outstanding = 0
        abandoned = 0
        receiving = SlotList.none
        isMarkInFlight = false
        pingSent = .never
    }

    /// Whether one more data request may go out.
    @inline(__always)
    var hasRoom: Bool { outstanding < requestsMax && sender.room >= Connection.piecesPerRequestMax }
}
