import Base
import Environment
import Metadata
import Wire

/// The server of a cluster's catalogue, in straight-line code on a World: the same in the daemon and in the simulator.
///
/// It owns its listeners and connections, knows which of its connections is whose (the session of a volume's writer, the heartbeat of an
/// OST), and makes, resizes and removes the volumes' objects on the OSTs as their client. All that must be remembered is in the catalogue;
/// what is here may be lost with the process, and is known anew when clients and OSTs have come back.
///
/// Invariants: a stream is closed only by its own task, when nothing is under way on it; a volume is in the hands of at most one task that
/// works on its objects.
///
/// It leaves to the caller: opening the store, and closing it after `stop`.
public final class MDTServer {
    public struct Options: Sendable {
        public var software = "rawstor-mdt"
        public var connectionsMax = Limits.connectionsMax
        /// How often unfinished work is looked for, beside the occasions on which it is known to have become possible.
        public var workInterval = Interval.seconds(5)
        /// For one request to one OST.
        public var ostDeadline = Limits.serverRequestDeadline
        /// For an OST that registers while it waits for the answer.
        public var adoptDeadline = Interval.seconds(3)
        /// Members that are not in sync on an OST that was away for so long move to others; 0: never by themselves.
        public var spareAfter = Limits.spareAfterDefault

        public init() {}
    }

    /// An OST that has registered here since this process began.
    struct Heard {
        var at: Instant
        /// The connection it came by, while that lives.
        var connection: MDTConnection?
        var registration: OSTRegisterRequest
    }

    static let acceptRetryDelay = Interval.milliseconds(100)

    public let world: any World
    public let catalogue: ClusterCatalogue
    let options: Options
    let operations: Operations
    /// Of this process: who makes a volume's objects.
    let identity: Identifier
    let started: Instant
    /// By store.
    var heard: [Identifier: Heard] = [:]
    /// The sessions of writers, by volume.
    var writers: [Identifier: WriterSession] = [:]
    /// Volumes whose objects a task is at, with the tenure in which it began.
    var inHand: [Identifier: UInt64] = [:]
    var sharing = Sharing()
    public internal(set) var counters = MDTCounters()
    private var listeners: [ListenerID] = []
    private var connections: [MDTConnection] = []
    public private(set) var isStopped = false
    private var drainWaiter: UnsafeContinuation<Void, Never>?
    /// The time for ending well is over.
    private var isOverdue = false
    /// Tasks that are neither connections nor end by themselves.
    private var backgroundTasks = 0
    private let clock: WorkClock

    public init(world: any World, catalogue: ClusterCatalogue, options: Options = Options()) {
        self.world = world
        self.catalogue = catalogue
        self.options = options
        operations = Operations(world)
        identity = Identifier(wallClockMilliseconds: world.wallClockMilliseconds, random: (world.random(), world.random()))
        started = world.now
        clock = WorkClock(world)
        backgroundTasks = 1
        world.spawn { await self.finishWork() }
        if catalogue.isShared {
            backgroundTasks += 1
            world.spawn { await self.keepSharing() }
        }
    }

    public var connectionCount: Int { connections.count }

    /// What is wrong with this server, for those who watch it.
    public private(set) var trouble: String?
    /// Called once, when there is trouble that does not heal while this process lives.
    public var onTrouble: () -> Void = {}

    // Connections

    /// Where it listens: the port chosen, if port 0 was asked for.
    @discardableResult
    public func listen(on endpoint: Endpoint) throws(Failure) -> Endpoint {
        let id = try world.listen(on: endpoint)
        let chosen = world.endpoint(of: id)
        listeners.append(id)
        world.log(.info, "listening", [LogField("address", chosen)])
        world.spawn { await self.acceptAll(id) }
        return chosen
    }

    private func acceptAll(_ listener: ListenerID) async {
        while !isStopped {
            switch await operations.accept(listener) {
            case .success(let stream):
                guard !isStopped, connections.count < options.connectionsMax else {
                    counters.connectionsRefused += 1
                    world.close(stream)
                    continue
                }
                counters.connectionsAccepted += 1
                let connection = MDTConnection(self, stream, number: counters.connectionsAccepted)
                connections.append(connection)
                world.spawn { await self.serve(connection) }
            case .failure(let error):
                if isStopped { return }
                world.log(.warning, "accepting a connection failed", [LogField("errno", error.code)])
                await operations.sleep(MDTServer.acceptRetryDelay)
            }
        }
    }

    private func serve(_ connection: MDTConnection) async {
        let reason = await connection.serve()
        connections.removeAll { $0 === connection }
        let record = record(of: connection)
        for (volume, session) in writers.sorted(by: { $0.key < $1.key }) where session.connection === connection {
            writers[volume] = nil
            if catalogue.isShared { world.spawn { await self.dropWriter(record, of: volume) } }
        }
        for (store, entry) in heard where entry.connection === connection { heard[store]?.connection = nil }
        world.log(.debug, "connection ended", [LogField("connection", connection.number), LogField("reason", reason)])
        resumeDrainWaiter()
    }

    // Work that goes on by itself

    /// Something may be done now that could not be done before.
    func wakeWork() { clock.ring() }

    private func finishWork() async {
        while !isStopped {
            await finishAll()
            await clock.wait(until: world.now + options.workInterval)
        }
        endTask()
    }

    func endTask() {
        backgroundTasks -= 1
        resumeDrainWaiter()
    }

    /// Something went wrong: perhaps the catalogue's disk.
    func noteFailure() {
        guard trouble == nil, let failure = catalogue.storeFailure else { return }
        trouble = failure.detail
        onTrouble()
    }

    // The end

    /// Takes no more connections and requests, and returns when those under way have ended, within `Limits.stopDeadline`. What then is
    /// still under way waits for an OST or the store; whatever becomes of it is found in the catalogue at the next start.
    public func stop() async {
        invariant(!isStopped, "a server is stopped once")
        isStopped = true
        world.log(.info, "stopping", [LogField("connections", connections.count)])
        for listener in listeners { world.closeListener(listener) }
        for connection in connections { connection.stop() }
        clock.ring()
        let deadline = Watch(world, at: world.now + Limits.stopDeadline) { [unowned self] in
            for connection in connections { connection.end("the daemon stops") }
            isOverdue = true
            resumeDrainWaiter()
        }
        await suspend(while: { !isDrained }) { drainWaiter = $0 }
        deadline.close()
        // With something under way it is rather taken for dead, after a while.
        if catalogue.isShared, !isOverdue { await leaveSharing() }
        world.log(.info, "stopped", [LogField("connections", connections.count)])
    }

    private var isDrained: Bool { isOverdue || (connections.isEmpty && backgroundTasks == 0) }

    private func resumeDrainWaiter() {
        guard isDrained, let waiter = drainWaiter else { return }
        drainWaiter = nil
        waiter.resume()
    }
}

/// Who writes a volume, as far as this server knows.
struct WriterSession {
    var connection: MDTConnection
    var generation: UInt64
    /// What it has told last of bringing OSTs up to date.
    var report: WriterReport?
}

/// What the metrics are made of.
public struct MDTCounters: Sendable {
    public internal(set) var requests = [UInt64](repeating: 0, count: 256)
    public internal(set) var replies: [Status: UInt64] = [:]
    public internal(set) var connectionsAccepted: UInt64 = 0
    public internal(set) var connectionsRefused: UInt64 = 0
    public internal(set) var malformedFrames: UInt64 = 0
    /// Volumes whose creation was undone, removal ended, or size told to an OST behind the back of who asked for it.
    public internal(set) var workFinished: UInt64 = 0
    public internal(set) var workFailed: UInt64 = 0
}

/// Sleeps until an instant, or until it rings.
private final class WorkClock: CompletionSink {
    private let world: any World
    private var sink = SinkID(0)
    private var timer: TimerID?
    private var hasRung = false
    private var waiter: UnsafeContinuation<Void, Never>?

    init(_ world: any World) {
        self.world = world
        sink = world.attach(self)
    }

    func ring() {
        hasRung = true
        resume()
    }

    /// One waiter.
    func wait(until instant: Instant) async {
        timer = world.wake(at: instant, Ticket(sink, 0))
        await suspend(while: { !hasRung }) { waiter = $0 }
        hasRung = false
        if let timer { world.cancel(timer) }
        timer = nil
    }

    func completed(_ token: UInt32, result: Int32) {
        timer = nil
        ring()
    }

    func batchEnded() {}

    private func resume() {
        let resumed = waiter
        waiter = nil
        resumed?.resume()
    }
}

/// Calls once at an instant, unless it was closed before.
private final class Watch: CompletionSink {
    private let world: any World
    private let body: () -> Void
    private var sink = SinkID(0)
    private var timer: TimerID?

    init(_ world: any World, at instant: Instant, _ body: @escaping () -> Void) {
        self.world = world
        self.body = body
        sink = world.attach(self)
        timer = world.wake(at: instant, Ticket(sink, 0))
    }

    func close() {
        if let timer { world.cancel(timer) }
        world.detach(sink)
    }

    func completed(_ token: UInt32, result: Int32) {
        timer = nil
        body()
    }

    func batchEnded() {}
}
