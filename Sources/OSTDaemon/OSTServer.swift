import Base
import Environment
import OSTEngine
import PartStore

/// Drives an OST engine in a world: the same shell in the daemon and in the simulator.
///
/// Owns listeners, streams and the timer, and passes events and effects between engine and world. Completions that come together are
/// one batch: the engine sees them all, then its effects are performed, so that there is one log write and one send per connection.
///
/// Invariants: a stream is closed, and its connection given back, only when neither a receive nor a send is under way; the store is
/// replaced only when its last disk operation has ended.
///
/// It leaves to the caller: opening the disk, the first load of the store, and closing the disk after `stop`.
public final class OSTServer: CompletionSink {
    /// Loads the store from the disk anew.
    public typealias Loader = () async throws(Failure) -> PartStore

    /// One kind of event per value of the upper bits of a token; the rest is an index.
    enum Token: UInt32 {
        case accept = 0x1000_0000
        case receive = 0x2000_0000
        case send = 0x3000_0000
        case timer = 0x4000_0000
        case acceptAgain = 0x5000_0000
        case stopDeadline = 0x6000_0000

        static let indexMask: UInt32 = 0x0fff_ffff
    }

    struct Peer {
        var stream: StreamID?
        var isReceiving = false
        var isSending = false
        var isEnding = false
    }

    struct Listener {
        var id: ListenerID
        var isOpen = true
    }

    static let vectorsMax = 64
    static let acceptRetryDelay = Interval.milliseconds(100)

    public let world: any World
    let disk: DiskID
    let load: Loader
    let operations: Operations
    public internal(set) var engine: OSTEngine
    var sink = SinkID(0)
    private var diskAnswers: DiskAnswers?
    private var readAnswers: ReadAnswers?
    var diskSink = SinkID(0)
    private var readSink = SinkID(0)
    private var pacer: ReadPacer
    var peers: [Peer]
    var listeners: [Listener] = []
    private let vectors: UnsafeMutablePointer<IOVector>
    private var isInBatch = false
    private var needsBatch = false
    private var mostInFlight = 0
    private var timer: TimerID?
    private var timerAt = Instant.never
    /// The reason, from the engine's effect until the store is back.
    var reloadReason: String?
    var isReloading = false
    var isStopped = false
    var drainWaiter: UnsafeContinuation<Void, Never>?

    /// `store` was loaded from `disk`; `load` does it again after a failure.
    public init(
        world: any World, disk: DiskID, store: consuming PartStore, configuration: OSTConfiguration = OSTConfiguration(),
        load: @escaping Loader
    ) throws(Failure) {
        self.world = world
        self.disk = disk
        self.load = load
        operations = Operations(world)
        let arena = try world.allocate(bytes: configuration.memoryBytes)
        engine = OSTEngine(store: store, arena: arena, configuration: configuration, now: world.now)
        peers = Array(repeating: Peer(), count: configuration.connectionsMax)
        pacer = ReadPacer(capacity: configuration.requestsMax)
        vectors = .allocate(capacity: OSTServer.vectorsMax)
        sink = world.attach(self)
        let answers = DiskAnswers(self)
        diskAnswers = answers
        diskSink = world.attach(answers)
        let reads = ReadAnswers(self)
        readAnswers = reads
        readSink = world.attach(reads)
        // What a store that was just loaded has to note in its log does not wait for a client.
        armTimer()
    }

    deinit { vectors.deallocate() }

    // Completions

    public func completed(_ token: UInt32, result: Int32) {
        beginBatch()
        let index = Int(token & Token.indexMask)
        guard let kind = Token(rawValue: token & ~Token.indexMask) else { unreachable("token \(token) was never given") }
        switch kind {
        case .accept: accepted(index, result)
        case .receive: received(index, result)
        case .send: sent(index, result)
        case .timer:
            timer = nil
            timerAt = .never
        case .acceptAgain: if listeners[index].isOpen { accept(index) }
        case .stopDeadline: resumeDrainWaiter()
        }
    }

    func diskCompleted(_ token: UInt32, result: Int32) {
        beginBatch()
        engine.diskDone(token, result: result)
    }

    /// The disk goes on before the answer is worked on.
    func readCompleted(_ token: UInt32, result: Int32) {
        beginBatch()
        issueReads(pacer.ended(now: engine.now))
        engine.diskDone(token, result: result)
    }

    private func issueReads(_ count: Int) {
        for _ in 0..<count {
            let read = pacer.next()
            vectors.pointee = IOVector(read.memory, read.bytes)
            world.read(disk, at: read.offset, into: UnsafeBufferPointer(start: vectors, count: 1), Ticket(readSink, read.token))
        }
    }

    public func batchEnded() {
        guard isInBatch else { return }
        isInBatch = false
        repeat {
            needsBatch = false
            engine.endBatch()
            perform()
        } while needsBatch
        if reloadReason != nil, !isReloading, engine.isStoreQuiet { startReload() }
        if isDrained { resumeDrainWaiter() }
        armTimer()
    }

    /// Nobody is connected and nothing is under way in the disk.
    var isDrained: Bool { engine.connectionCount == 0 && engine.isStoreQuiet && !isReloading }

    /// The first event of a batch sets the engine's clock for all of them.
    func beginBatch() {
        guard !isInBatch else { return }
        isInBatch = true
        mostInFlight = max(mostInFlight, engine.requestsInFlight)
        engine.now = world.now
    }

    /// The most requests at once since the last call: between two waves of a deep queue there are none for a moment.
    public func takeMostInFlight() -> Int {
        defer { mostInFlight = 0 }
        return max(mostInFlight, engine.requestsInFlight)
    }

    // Effects

    private func perform() {
        var position = 0
        // Ending a connection may append to the effects.
        while position < engine.effects.count {
            switch engine.effects[position] {
            case .receive(let id): receive(id)
            case .send(let id):
                issueReads(pacer.due)
                send(id)
            case .close(let id, let reason): close(id, reason)
            case .store(let effect): performOnDisk(effect)
            case .log(let entry): log(entry)
            case .reload(let reason): reloadReason = reason
            }
            position += 1
        }
        engine.clearEffects()
        issueReads(pacer.due)
    }

    private func performOnDisk(_ effect: StoreEffect) {
        switch effect {
        case .diskRead(let token, let offset, let memory, let bytes):
            pacer.add(ReadPacer.Read(token: token, offset: offset, memory: memory, bytes: bytes))
        case .diskWrite(let token, let offset, let first, let count):
            world.write(
                disk, at: offset, from: UnsafeBufferPointer(start: engine.storeVectors + first, count: count), Ticket(diskSink, token))
        case .diskFlush(let token): world.flush(disk, Ticket(diskSink, token))
        case .finished, .damaged, .failed: unreachable("\(effect) is the engine's to handle")
        }
    }

    func log(_ entry: OSTLogEntry) {
        let level: LogLevel
        switch entry.severity {
        case .debug: level = .debug
        case .info: level = .info
        case .warning: level = .warning
        case .error: level = .error
        }
        world.log(level, entry.message, entry.fields.map { LogField($0.name, $0.value) })
    }

    private func armTimer() {
        let wanted = engine.wakeAt
        // One that comes too early costs a look; moving it at every batch would cost more.
        guard wanted < timerAt else { return }
        if let timer { world.cancel(timer) }
        timerAt = wanted
        timer = world.wake(at: wanted, ticket(.timer, 0))
    }

    func ticket(_ kind: Token, _ index: Int) -> Ticket { Ticket(sink, kind.rawValue | UInt32(index)) }

    // Streams

    private func receive(_ id: ConnectionID) {
        let index = Int(id.index)
        guard let stream = peers[index].stream, !peers[index].isEnding else { return }
        let count = engine.nextReceive(id, into: vectors, capacity: OSTServer.vectorsMax)
        peers[index].isReceiving = true
        world.receive(stream, into: UnsafeBufferPointer(start: vectors, count: count), ticket(.receive, index))
    }

    private func received(_ index: Int, _ result: Int32) {
        peers[index].isReceiving = false
        if result > 0, !peers[index].isEnding { return engine.received(ConnectionID(UInt32(index)), Int(result)) }
        end(index)
    }

    private func send(_ id: ConnectionID) {
        let index = Int(id.index)
        guard let stream = peers[index].stream, !peers[index].isEnding else { return }
        let count = engine.nextSend(id, into: vectors, capacity: OSTServer.vectorsMax)
        peers[index].isSending = true
        world.send(stream, from: UnsafeBufferPointer(start: vectors, count: count), ticket(.send, index))
    }

    private func sent(_ index: Int, _ result: Int32) {
        peers[index].isSending = false
        if result > 0, !peers[index].isEnding { return engine.sent(ConnectionID(UInt32(index)), Int(result)) }
        end(index)
    }

    private func close(_ id: ConnectionID, _ reason: Failure) {
        let index = Int(id.index)
        guard peers[index].stream != nil else { return }
        world.log(.debug, "closing a connection", [LogField("connection", index), LogField("reason", reason.detail)])
        end(index)
    }

    /// The stream is of no more use. Memory handed to the world comes back first.
    private func end(_ index: Int) {
        guard let stream = peers[index].stream else { return }
        if peers[index].isReceiving || peers[index].isSending {
            if !peers[index].isEnding { world.shutdown(stream) }
            peers[index].isEnding = true
            return
        }
        world.close(stream)
        peers[index] = Peer()
        engine.disconnected(ConnectionID(UInt32(index)))
        needsBatch = true
    }

    /// All waits of this server on its sinks are over; after `stop`.
    func detach() {
        if let timer { world.cancel(timer) }
        world.detach(sink)
        world.detach(diskSink)
        world.detach(readSink)
        diskAnswers = nil
        readAnswers = nil
    }
}

/// Takes the disk's completions of reads, the others are `DiskAnswers`': the part store chooses their tokens freely.
private final class ReadAnswers: CompletionSink {
    private unowned let server: OSTServer

    init(_ server: OSTServer) { self.server = server }
    func completed(_ token: UInt32, result: Int32) { server.readCompleted(token, result: result) }
    func batchEnded() { server.batchEnded() }
}

/// Takes the disk's other completions.
private final class DiskAnswers: CompletionSink {
    private unowned let server: OSTServer

    init(_ server: OSTServer) { self.server = server }
    func completed(_ token: UInt32, result: Int32) { server.diskCompleted(token, result: result) }
    func batchEnded() { server.batchEnded() }
}
