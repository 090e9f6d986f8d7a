import Base
import PartStore
import Wire

/// One request from its header's arrival until the last byte of its reply was sent.
struct Request {
    enum State: UInt8 {
        case free
        /// Its payload is being received, into a buffer that the world may be writing to.
        case receiving
        /// It needs a buffer and there is none; its connection is not read.
        case stalled
        /// Another change of the same object comes first.
        case waiting
        /// The part store has it.
        case store
        /// Its reply is in the connection's send queue.
        case replied
    }

    var state = State.free
    var opcode: Opcode { header.opcode }
    var header = FrameHeader(.ping)
    var connection = 0
    var handleIndex = 0
    var object = ObjectNumber(0)
    var buffer = BufferPool.ID.none
    /// Why a request whose payload is still coming will not be given to the store.
    var refusal = Status.ok
    var arrived = Instant.zero
    var deadline = Instant.never
}

/// All request slots, and the memory in which each builds its reply.
///
/// Invariant: a slot is on the free list exactly when its state is `free`.
struct RequestTable: ~Copyable {
    /// Room for a header and any control body or error sentence; lists take a buffer.
    static let replyBytes = 1024
    static let replyMetaMax = replyBytes - FrameHeader.bytes

    let capacity: Int
    private let slots: UnsafeMutablePointer<Request>
    private let free: UnsafeMutablePointer<UInt32>
    private let replies: UnsafeMutableRawPointer
    private(set) var freeCount: Int

    init(capacity: Int, replies: UnsafeMutableRawPointer) {
        self.capacity = capacity
        self.replies = replies
        slots = .allocate(capacity: capacity)
        slots.initialize(repeating: Request(), count: capacity)
        free = .allocate(capacity: capacity)
        for index in 0..<capacity { free[index] = UInt32(capacity - 1 - index) }
        freeCount = capacity
    }

    deinit {
        slots.deallocate()
        free.deallocate()
    }

    @inline(__always)
    subscript(_ slot: UInt32) -> UnsafeMutablePointer<Request> {
        invariant(slot < UInt32(capacity), "request slot \(slot) does not exist")
        return slots + Int(slot)
    }

    mutating func take() -> UInt32 {
        invariant(freeCount > 0, "no request slot is free")
        freeCount -= 1
        return free[freeCount]
    }

    mutating func release(_ slot: UInt32) {
        invariant(self[slot].pointee.state != .free, "request slot \(slot) is released twice")
        self[slot].pointee.state = .free
        free[freeCount] = slot
        freeCount += 1
    }

    func reply(of slot: UInt32) -> UnsafeMutableRawPointer { replies + Int(slot) * RequestTable.replyBytes }
}
