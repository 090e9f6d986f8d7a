import Environment

/// One end of a simulated connection, with the bytes on their way to it.
///
/// Byte positions count from the start of the connection: `read <= arrived <= sent`, and the window bounds `sent - read`, so that a
/// receiver that does not read blocks its sender.
final class Socket {
    /// What the peer's kernel has sent and this one has not got yet: up to where, and whether it is the last.
    struct Segment {
        var end: UInt64
        var isLast: Bool
    }

    let number: Int32
    let peer: Int32
    unowned(unsafe) let host: SimHost
    unowned(unsafe) var world: SimWorld
    /// Handle in the process; -1 before accept or the answer to connect, and after close.
    var stream: Int32 = -1

    // Towards this end
    let window: Int
    private let ring: UnsafeMutableRawPointer
    var sent: UInt64 = 0
    var arrived: UInt64 = 0
    var read: UInt64 = 0
    var segments: [Segment] = []
    var segmentsHead = 0
    /// The end of the peer's bytes is at `arrived`.
    var isEnded = false

    // Held up by a blocked link
    var heldArrivals = 0
    var heldReset = false
    var heldWindow = false
    /// Nothing arrives here before that.
    var stalledUntil: UInt64 = 0

    // State of this end
    var isShut = false
    var isReset = false
    var isClosed = false
    var isResetPlanned = false
    /// A send has found no room: what wakes it up is news from the peer, which a blocked link holds up.
    var isWaitingForRoom = false

    var receiving: Ticket?
    var receiveVectors = VectorList()
    var sending: Ticket?
    var sendVectors = VectorList()

    init(number: Int32, peer: Int32, world: SimWorld, window: Int) {
        self.number = number
        self.peer = peer
        self.world = world
        host = world.host
        self.window = window
        ring = .allocate(byteCount: window, alignment: 16)
    }

    deinit {
        ring.deallocate()
        receiveVectors.free()
        sendVectors.free()
    }

    var room: Int { window - Int(sent - read) }
    var available: Int { Int(arrived - read) }

    /// The peer's bytes enter the window; there must be room.
    func take(_ count: Int, from vectors: VectorList) {
        vectors.forEach(limit: count) { memory, at, bytes in
            var done = 0
            while done < bytes {
                let position = Int((sent + UInt64(at + done)) % UInt64(window))
                let piece = min(bytes - done, window - position)
                (ring + position).copyMemory(from: memory + done, byteCount: piece)
                done += piece
            }
        }
        sent += UInt64(count)
    }

    /// One bit of the last `count` bytes that entered the window is not what was sent.
    func corrupt(_ count: Int, _ random: inout Random) {
        let place = ring + Int((sent - 1 - random.below(UInt64(count))) % UInt64(window))
        place.storeBytes(of: place.load(as: UInt8.self) ^ 1 << UInt8(random.below(8 as UInt64)), as: UInt8.self)
    }

    /// Bytes that have arrived leave for the receiver's memory.
    func give(_ count: Int) {
        receiveVectors.forEach(limit: count) { memory, at, bytes in
            var done = 0
            while done < bytes {
                let position = Int((read + UInt64(at + done)) % UInt64(window))
                let piece = min(bytes - done, window - position)
                (memory + done).copyMemory(from: ring + position, byteCount: piece)
                done += piece
            }
        }
        read += UInt64(count)
    }

    func popSegment() -> Segment? {
        guard segmentsHead < segments.count else { return nil }
        let segment = segments[segmentsHead]
        segmentsHead += 1
        if segmentsHead == segments.count {
            segments.removeAll(keepingCapacity: true)
            segmentsHead = 0
        } else if segmentsHead > 256 {
            segments.removeFirst(segmentsHead)
            segmentsHead = 0
        }
        return segment
    }
}

/// A place where connections are accepted.
final class Listener {
    let endpoint: Endpoint
    unowned(unsafe) let world: SimWorld
    var accepting: Ticket?
    /// Server ends that nobody has accepted yet.
    var backlog: [Int32] = []
    var isOpen = true

    init(_ endpoint: Endpoint, _ world: SimWorld) {
        self.endpoint = endpoint
        self.world = world
    }
}

/// A connect under way.
struct Attempt {
    var endpoint: Endpoint
    unowned(unsafe) var world: SimWorld
    var ticket: Ticket
    /// -1: there is no such host.
    var target: Int32
    /// The client's end, once the server has made the connection.
    var socket: Int32 = -1
    var result: Int32 = 0
    var isDone = false
}

/// One direction between two hosts.
struct Link {
    var cloggedUntil: UInt64 = 0
    var cutUntil: UInt64 = 0
    var sockets: [Int32] = []
    var attempts: [Int32] = []

    func isBlocked(_ now: UInt64) -> Bool { cloggedUntil > now || cutUntil > now }
}
