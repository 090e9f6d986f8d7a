import Base
import Wire

/// One request to one peer, from its first sending until its outcome there is definite.
struct RequestSlot {
    enum State: UInt8 {
        case free
        /// Sent, or in the send queue; a reply will come.
        case inFlight
        /// Must be sent (again): the connection was lost, or the answer asked for it.
        case unanswered
        /// The OST has no room; sent again a little later.
        case delayed
        /// Nobody waits for the reply any more. Keeps the request number until it comes.
        case abandoned
        /// A write whose user has been told of an error and whose outcome is open. The next session settles it.
        case ghost
    }

    enum Purpose: UInt8 {
        case part
        case mark
        case ping
        case stamp
        case close
    }

    var state = State.free
    var purpose = Purpose.part
    var opcode = Opcode.ping
    var isDurable = false
    /// It was sent in a session before: the peer may have it although it refuses it now.
    var isRepeated = false
    /// Pieces of it are in the send queue, so the kernel may read its memory.
    var isSending = false
    /// Its payload is being received into the user's memory.
    var isReceiving = false
    /// The reply came while pieces were still in the send queue.
    var isReplied = false
    var reply = Status.ok
    /// Raised with every use of the slot, so that a request number names one request.
    var serial: UInt32 = 0
    var part = SlotList.none
    /// Seat in the row of its placement.
    var member: UInt16 = 0
    /// Of the parts that it is about: a map may give the seat to another member while the request is under way.
    var number: UInt16 = 0
    var incarnation: UInt64 = 0

    /// Whether memory of the user or a bounce block is in the hands of the kernel.
    var isPinned: Bool { isReceiving || (isSending && opcode == .write) }

    var changesBlocks: Bool { opcode.changesBlocks }
}

/// The requests of one connection, each with memory for its header.
struct RequestTable: ~Copyable {
    let capacity: Int
    private let slots: UnsafeMutablePointer<RequestSlot>
    private let heads: UnsafeMutableRawPointer
    private var free: SlotStack

    init(capacity: Int) {
        self.capacity = capacity
        slots = .allocate(capacity: capacity)
        slots.initialize(repeating: RequestSlot(), count: capacity)
        heads = .allocate(byteCount: capacity * FrameHeader.bytes, alignment: 64)
        free = SlotStack(capacity: capacity)
    }

    deinit {
        slots.deallocate()
        heads.deallocate()
    }

    @inline(__always)
    func at(_ index: Int) -> UnsafeMutablePointer<RequestSlot> { slots + index }

    @inline(__always)
    func head(_ index: Int) -> UnsafeMutableRawPointer { heads + index * FrameHeader.bytes }

    @inline(__always)
    var freeCount: Int { free.count }

    mutating func take(_ opcode: Opcode, _ purpose: RequestSlot.Purpose, part: Int) -> Int? {
        guard let index = free.pop() else { return nil }
        let slot = at(index)
        slot.pointee.state = .unanswered
        slot.pointee.purpose = purpose
        slot.pointee.opcode = opcode
        slot.pointee.isDurable = false
        slot.pointee.isRepeated = false
        slot.pointee.serial &+= 1
        slot.pointee.part = part
        slot.pointee.member = 0
        return index
    }

    mutating func release(_ index: Int) {
        let slot = at(index)
        invariant(!slot.pointee.isSending && !slot.pointee.isReceiving, "request \(index) is freed while its memory is in use")
        slot.pointee.state = .free
        slot.pointee.isReplied = false
        free.push(index)
    }

    @inline(__always)
    func requestID(_ index: Int) -> UInt64 { UInt64(at(index).pointee.serial) << 16 | UInt64(index) }

    /// The request that this reply belongs to.
    func find(_ header: FrameHeader) throws(Failure) -> Int {
        let index = Int(header.requestID & 0xffff)
        guard header.flags.contains(.reply), index < capacity, requestID(index) == header.requestID else {
            throw Failure(.malformed, "a reply to request \(header.requestID), which was not asked")
        }
        let slot = at(index)
        guard slot.pointee.state == .inFlight || slot.pointee.state == .abandoned, !slot.pointee.isReplied,
            slot.pointee.opcode == header.opcode
        else { throw Failure(.malformed, "a reply to request \(header.requestID) that does not fit it") }
        return index
    }
}
