import Base
import PartStore
import Wire

/// One client's stream: what is being received, what waits to be sent, which objects it has open.
///
/// It decides nothing; the engine does. Its memory is allocated when the slot is first used and kept for the next connection.
struct Connection: ~Copyable {
    enum State: UInt8 {
        case free
        case helloPending
        case ready
        /// Nothing is read any more; what is in the send queue goes out, then it is closed.
        case closing
        /// The shell was told to end it.
        case closed
        /// The stream is gone; requests of it are still in the store.
        case draining
    }

    /// Why frames are not taken although there may be some.
    enum Stall: UInt8 {
        case none
        /// No request slot.
        case room
        /// The read of `stalledSlot` needs a buffer.
        case readBuffer
        /// The write of `stalledSlot` needs a buffer; its meta section waits in the receiver.
        case payloadBuffer
    }

    static let noSlot = UInt32.max
    static let eventToken = UInt32.max - 1
    /// A reply for each request and one event.
    static let sendCapacity = 2 * Limits.requestsPerConnectionMax

    var state = State.free
    var receiver = FrameReceiver()
    var sender = FrameSender(capacity: Connection.sendCapacity)
    let handles: UnsafeMutablePointer<Handle>
    let payloadVector: UnsafeMutablePointer<IOVector>
    let eventFrame: UnsafeMutableRawPointer
    var eventIsQueued = false
    /// Who it is, for sentences and logs.
    var peer = ""
    /// Of the catalogue whose client it is, as its hello said; 0: of none.
    var incarnation: UInt64 = 0
    /// Request slots held, whatever their state.
    var requests = 0
    /// Of those, in the store.
    var inStore = 0
    var smallBuffers = 0
    var largeBuffers = 0
    var receivingSlot = Connection.noSlot
    var stall = Stall.none
    var stalledSlot = Connection.noSlot
    var stalledMeta = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Has a place in the engine's queue for room; it may have gone on meanwhile.
    var isQueuedForRoom = false
    var receiveUnderWay = false
    var sendUnderWay = false
    var isDirty = false
    /// The last whole head of a frame; the last byte in; the last byte out, or when the queue was empty.
    var lastFrame = Instant.zero
    var lastReceived = Instant.zero
    var lastSent = Instant.zero
    /// Since when the payload that is under way comes, and the piece that is first in the send queue goes.
    var payloadSince = Instant.zero
    var pieceSince = Instant.zero
    var closingSince = Instant.zero
    var closeReason = Failure(.closed)
    /// Makes handle numbers of this slot differ from those before.
    var handleSerial: UInt32 = 0

    init() {
        handles = .allocate(capacity: Limits.handlesPerConnectionMax)
        handles.initialize(repeating: Handle(), count: Limits.handlesPerConnectionMax)
        payloadVector = .allocate(capacity: 1)
        eventFrame = .allocate(byteCount: FrameHeader.bytes, alignment: 64)
    }

    deinit {
        handles.deallocate()
        payloadVector.deallocate()
        eventFrame.deallocate()
    }

    var takesFrames: Bool { state == .helloPending || state == .ready }
}

/// An object that a connection has open.
struct Handle {
    enum State: UInt8 {
        case free
        case open
        /// Another writer has opened the object.
        case fenced
        /// A newer session of the same writer has taken over.
        case replaced
    }

    struct Events: OptionSet {
        var rawValue: UInt8
        static let sizeChanged = Events(rawValue: 1)
        static let fenced = Events(rawValue: 2)
        static let closed = Events(rawValue: 4)
    }

    var state = State.free
    var writes = false
    /// A recovery's: what a member is asked, and what fills it.
    var recovers = false
    var isReplicated = true
    var events: Events = []
    var number: UInt32 = 0
    var object = ObjectNumber(0)
    var generation: UInt64 = 0
    var session: UInt64 = 0
    var map: UInt64 = 0
    var bytes: UInt64 = 0
    var chunkBlocks: UInt64 = 0
    var members: UInt16 = 0
}

/// Which handle of which connection.
struct HandleReference: Hashable {
    var connection: Int
    var index: Int
}
