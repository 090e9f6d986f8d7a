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
    /// The map number that the OST has on stable media.
    public var map: UInt64

    public init(
        session: UInt64, generation: UInt64, handle: UInt32, objectBytes: UInt64, chunkBytes: UInt64 = Limits.chunkBytesDefault,
        requestsMax: Int = Limits.requestsPerConnectionMax, frameBytesMax: Int = Limits.frameBytesMax, boot: Identifier = .zero,
        highest: Version = .zero, map: UInt64 = 0
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
        self.map = map
    }
}

/// One OST of the volume: both ends of its stream, what its session is, its requests, and how far it is durable.
struct Peer: ~Copyable {
    enum Phase: UInt8 {
        case detached
        case attached
        /// A reset was asked for: nothing is sent, and what comes is not read.
        case resetting
    }

    /// Enough for a request of the most vectors on top of a full window of usual ones.
    static let piecesMax = 4096
    /// Header, checks, both edges, and a vector that is cut at both ends.
    static let piecesPerRequestMax = Operation.vectorsMax + 5
    /// Beside the data requests: a mark, a keep-alive, a stamp and a close.
    static let controlRequests = 5

    var phase = Phase.detached
    var requests = RequestTable(capacity: Limits.requestsPerConnectionMax + Peer.controlRequests)
    /// Requests to be sent again, before anything new.
    var resends = SlotList(capacity: Limits.requestsPerConnectionMax + Peer.controlRequests)
    /// Requests that the OST had no room for.
    var delayed = SlotList(capacity: Limits.requestsPerConnectionMax + Peer.controlRequests)
    var sender = FrameSender(capacity: piecesMax)
    var receiver = FrameReceiver()
    /// Where the payload goes that is being received, until it is complete.
    let receivePieces = UnsafeMutablePointer<IOVector>.allocate(capacity: Peer.piecesPerRequestMax)
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
    /// It has answered the close.
    var isGone = false
    var lastReceived = Instant.zero
    /// Since when an answer is outstanding and no byte has come.
    var waitsSince = Instant.zero
    /// When the keep-alive went out that is not answered; `never` if there is none.
    var pingSent = Instant.never
    var durability = Durability()

    /// Some member of it takes writes.
    var isUsed = false

    // Exclusion
    /// Since when nobody is there.
    var detachedAt = Instant.zero
    /// Something waits for it that cannot be done without it.
    var isWanted = false
    /// What it acknowledged it may have lost: it must not be used again before it was excluded.
    var isTainted = false
    /// It has lost something and goes on until the map that comes holds: as the last one wherever that has it in sync, or nowhere. The map
    /// that holds has it in sync elsewhere, too.
    var isLacking = false
    /// It was away when the volume was opened, and the map that excludes it does not hold yet.
    var isMissed = false
    /// It lacks what a loss of power cannot have taken: nobody who has that is given up for it.
    var isRolledBack = false
    /// It had no room for a write of the user while it was being filled; until the next fill.
    var isFull = false
    /// The owner was asked to exclude it.
    var isExclusionAsked = false
    /// A map number that must be on its stable media before anything goes on; 0 for none.
    var stampWanted: UInt64 = 0
    var isStampInFlight = false
    var stampSent: UInt64 = 0
    /// The body of the stamp in flight.
    var stampBody = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    deinit {
        receivePieces.deallocate()
        stampBody.deallocate()
    }

    /// Only while none is in flight: the kernel reads it.
    mutating func setStamp(_ body: [UInt8]) {
        invariant(!isStampInFlight, "two stamps at once")
        stampBody.deallocate()
        stampBody = .allocate(byteCount: body.count, alignment: 16)
        stampBody.copyBytes(from: body)
    }

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
        isWanted = false
        isStampInFlight = false
        if attachment.map >= stampWanted { stampWanted = 0 }
    }

    mutating func detach(now: Instant) {
        phase = .detached
        while sender.popAny() != nil {}
        receiver.reset()
        outstanding = 0
        abandoned = 0
        receiving = SlotList.none
        isMarkInFlight = false
        isStampInFlight = false
        pingSent = .never
        detachedAt = now
    }

    /// Whether one more data request may go out.
    @inline(__always)
    var hasRoomAttached: Bool {
        phase == .attached && outstanding < requestsMax && sender.room >= Peer.piecesPerRequestMax
            && requests.freeCount > Peer.controlRequests
    }
}

/// The OSTs of a volume, in memory that does not move. Members may move to more of them; none is ever taken out.
struct PeerTable: ~Copyable {
    private let peers: UnsafeMutablePointer<Peer>
    private let capacity: Int
    private(set) var count: Int

    /// Memory beyond `count` is asked for and not touched.
    init(count: Int, capacity: Int) {
        peers = .allocate(capacity: capacity)
        for index in 0..<count { (peers + index).initialize(to: Peer()) }
        self.count = count
        self.capacity = capacity
    }

    mutating func append(now: Instant) {
        invariant(count < capacity, "a volume of \(count) OSTs gets one more")
        (peers + count).initialize(to: Peer())
        peers[count].detachedAt = now
        count += 1
    }

    deinit {
        peers.deinitialize(count: count)
        peers.deallocate()
    }

    @inline(__always)
    func at(_ index: Int) -> UnsafeMutablePointer<Peer> { peers + index }
}
