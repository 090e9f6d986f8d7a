import Base
import PartStore
import Wire

/// The server side of one OST, without any I/O: frames of many connections in, requests to the part store, replies out.
///
/// It owns the part store, the connections, the request slots and the payload buffers. The shell passes events in, calls `endBatch`
/// once for all events that came together, performs `effects` in order and calls `clearEffects`.
///
/// Invariants (`checkInvariants` holds them after every event in the simulator):
/// - A request slot, a buffer and a connection slot each have one owner, or are free.
/// - At most one receive and one send are under way per connection.
/// - An object has at most one handle that writes, and its generation is the object's.
/// - What a connection sends is bounded by its request slots, so a send queue never overflows.
///
/// Methods of the data path are mutating even where they change nothing: to one that is not, the compiler hands a copy of the whole struct.
///
/// It leaves to the shell: sockets, disk, time, and loading a store. It leaves to the part store: which versions are kept, what is
/// durable, the order of acknowledgements.
public struct OSTEngine: ~Copyable {
    var store: PartStore
    public let configuration: OSTConfiguration
    /// Of the events being passed in; the shell sets it once per batch.
    public var now: Instant
    public private(set) var effects: ContiguousArray<OSTEffect> = []
    /// Store effects already looked at.
    var storeCursor = 0
    public internal(set) var marks = OSTMarks()
    public internal(set) var counters = OSTCounters()

    let connections: UnsafeMutablePointer<Connection>
    /// Slots whose memory exists; those above have never been used.
    var connectionsMade = 0
    var freeConnections: ContiguousArray<Int> = []
    /// Free once the effects that may still name them were performed.
    var freedConnections: ContiguousArray<Int> = []
    public internal(set) var connectionCount = 0
    var requests: RequestTable
    var buffers: BufferPool

    /// Connections with something to send, each once.
    var dirty: ContiguousArray<Int> = []
    /// Connections that are not read for want of room, each once, in the order in which they stalled.
    var stalled: ContiguousArray<Int> = []
    /// A slot or buffer became free since the stalled ones were looked at.
    var roomFreed = false

    /// Opened objects and those whose last raise is remembered. Asked at open and close only, never iterated.
    var objects: [ObjectNumber: OpenObject] = [:]
    /// Control requests in the store, by slot: what to do when they end. Never iterated.
    var controls: [UInt32: Control] = [:]
    /// Control requests that wait for another change of their object, oldest first.
    var waitingControls: ContiguousArray<WaitingControl> = []

    /// Set from the store's failure until it is replaced.
    var storeFailure: String?
    public internal(set) var isStopping = false
    var pastStoreMarks = StoreMarks()
    var nextTick = Instant.never

    /// `arena`: page-aligned, `configuration.memoryBytes` large, alive as long as the engine.
    public init(store: consuming PartStore, arena: UnsafeMutableRawBufferPointer, configuration: OSTConfiguration, now: Instant) {
        guard let base = arena.baseAddress else { unreachable("the arena has no memory") }
        invariant(arena.count >= configuration.memoryBytes, "the arena has \(arena.count) of \(configuration.memoryBytes) bytes")
        invariant(configuration.connectionsMax > 0 && configuration.requestsMax > 0, "an OST serves at least one connection and request")
        self.store = store
        self.configuration = configuration
        self.now = now
        let replyBytes = roundUp(configuration.requestsMax * RequestTable.replyBytes, to: Block.bytes)
        requests = RequestTable(capacity: configuration.requestsMax, replies: base)
        buffers = BufferPool(
            memory: UnsafeMutableRawBufferPointer(start: base + replyBytes, count: configuration.memoryBytes - replyBytes),
            smallCount: configuration.smallBuffers)
        connections = .allocate(capacity: configuration.connectionsMax)
        effects.reserveCapacity(1024)
    }

    deinit {
        connections.deinitialize(count: connectionsMade)
        connections.deallocate()
    }

    // Driving

    /// After a batch of events: stalled connections go on, the store commits, replies are handed to be sent.
    public mutating func endBatch() {
        if now >= nextTick { tick() }
        repeat {
            takeStoreEffects()
            resumeStalled()
            store.endBatch(now: now)
            takeStoreEffects()
        } while roomFreed && !stalled.isEmpty
        while let index = dirty.popLast() {
            let connection = connections + index
            connection.pointee.isDirty = false
            guard !connection.pointee.sendUnderWay, !connection.pointee.sender.isEmpty, connection.pointee.state != .closed else {
                continue
            }
            connection.pointee.sendUnderWay = true
            connection.pointee.lastSent = now
            if !connection.pointee.sender.isWithinPiece { connection.pointee.pieceSince = now }
            effects.append(.send(ConnectionID(UInt32(index))))
        }
        armTick()
    }

    /// All effects were performed.
    public mutating func clearEffects() {
        effects.removeAll(keepingCapacity: true)
        freeConnections.append(contentsOf: freedConnections)
        freedConnections.removeAll(keepingCapacity: true)
        invariant(storeCursor == store.effects.count, "effects of the store are cleared before they were looked at")
        store.clearEffects()
        storeCursor = 0
    }

    /// When `endBatch` must be called at the latest although nothing happened.
    public var wakeAt: Instant { storeFailure == nil ? min(store.wakeAt, nextTick) : nextTick }

    /// Vectors that `.store(.diskWrite)` effects refer to; valid until `clearEffects`.
    public var storeVectors: UnsafePointer<IOVector> { store.vectors }

    public mutating func diskDone(_ token: UInt32, result: Int32) { store.diskDone(token, result: result) }

    // What the shell and the metrics ask

    public var storeStatistics: StoreStatistics { store.statistics }
    /// Of this store and of those it has replaced.
    public var storeMarks: StoreMarks { pastStoreMarks.union(store.marks) }
    public var isMovingLog: Bool { store.isMovingLog }
    public var objectCount: Int { store.objectCount }
    public var requestsInFlight: Int { requests.capacity - requests.freeCount }
    public var freeBuffers: (small: Int, large: Int) { (buffers.smallFree, buffers.largeFree) }
    /// Nothing of the store is under way: it may be replaced or its disk closed.
    public var isStoreQuiet: Bool { store.operationsUnderWay == 0 }
    /// Nothing at all is under way or waiting, in the store or for it.
    public var isAtRest: Bool { requestsInFlight == 0 && connectionCount == 0 && store.isQuiet }
    public var hasFailed: Bool { storeFailure != nil }

    // Shared by the parts of the engine

    mutating func emit(_ effect: OSTEffect) { effects.append(effect) }

    mutating func hit(_ mark: OSTMark) { marks.hit(mark) }

    mutating func log(_ severity: OSTLogEntry.Severity, _ message: String, _ fields: KeyValuePairs<String, String> = [:]) {
        effects.append(.log(OSTLogEntry(severity, message, fields)))
    }
}
