import Base
import ControlServer
import Environment
import Metadata
import Wire

/// The server of a cluster's catalogue, in straight-line code on a World: the same in the daemon and in the simulator.
///
/// It knows which of its connections is whose (the session of a volume's writer, the heartbeat of an OST), and makes, resizes and removes
/// the volumes' objects on the OSTs as their client. All that must be remembered is in the catalogue; what is here may be lost with the
/// process, and is known anew when clients and OSTs have come back.
///
/// Invariant: a volume is in the hands of at most one task that works on its objects.
///
/// It leaves to the caller: opening the store, and closing it after `stop`; to `ControlServer`: listeners and connections.
public final class MDTServer {
    public struct Options: Sendable {
        public var software = "rawstor-mdt"
        public var connectionsMax = Limits.serverConnectionsMax
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

    public let world: any World
    public let catalogue: ClusterCatalogue
    let options: Options
    let operations: Operations
    /// Of this process: who makes a volume's objects, and who registers at a management server.
    public let identity: Identifier
    private let front: ControlServer
    let started: Instant
    /// By store.
    var heard: [Identifier: Heard] = [:]
    /// The sessions of writers, by volume.
    var writers: [Identifier: WriterSession] = [:]
    /// Volumes whose objects a task is at, with the tenure in which it began.
    var inHand: [Identifier: UInt64] = [:]
    var sharing = Sharing()
    public internal(set) var counters = MDTCounters()
    private let clock: WorkClock

    public init(world: any World, catalogue: ClusterCatalogue, options: Options = Options()) {
        self.world = world
        self.catalogue = catalogue
        self.options = options
        operations = Operations(world)
        identity = Identifier(wallClockMilliseconds: world.wallClockMilliseconds, random: (world.random(), world.random()))
        started = world.now
        clock = WorkClock(world)
        front = ControlServer(world, noun: "a metadata server", connectionsMax: options.connectionsMax)
        front.serve(self)
        front.spawn { await self.finishWork() }
        if catalogue.isShared { front.spawn { await self.keepSharing() } }
    }

    public var connectionCount: Int { front.connectionCount }
    public var traffic: ControlCounters { front.counters }
    public var isStopped: Bool { front.isStopped }

    /// What is wrong with this server, for those who watch it.
    public private(set) var trouble: String?
    /// Called once, when there is trouble that does not heal while this process lives.
    public var onTrouble: () -> Void = {}

    // Connections

    /// Where it listens: the port chosen, if port 0 was asked for.
    @discardableResult
    public func listen(on endpoint: Endpoint) throws(Failure) -> Endpoint { try front.listen(on: endpoint) }

    // Work that goes on by itself

    /// Something may be done now that could not be done before.
    func wakeWork() { clock.ring() }

    private func finishWork() async {
        while !isStopped {
            await finishAll()
            await clock.wait(until: world.now + options.workInterval)
        }
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
        let isClean = await front.stop { clock.ring() }
        // With something under way it is rather taken for dead, after a while.
        if catalogue.isShared, isClean { await leaveSharing() }
        world.log(.info, "stopped", [LogField("connections", connectionCount)])
    }
}

// What comes in

typealias MDTConnection = ServedConnection
typealias MDTAnswer = ControlAnswer

extension MDTServer: ControlService {
    public func welcome(_ peer: Hello) throws(Failure) -> Hello {
        let cluster = catalogue.cluster
        switch peer.role {
        case .client: break
        case .ost:
            guard peer.cluster == cluster else {
                throw Failure(
                    .wrongCluster,
                    "this is cluster \(cluster), the OST's store belongs to cluster \(peer.cluster); name the metadata server of that "
                        + "one, or make the store anew: rawstor-ost init PATH --cluster \(cluster)")
            }
        case .mdt, .mgs: throw Failure(.unsupported, "this is a metadata server; it serves clients and OSTs")
        }
        guard peer.cluster == .zero || peer.cluster == cluster else {
            throw Failure(.wrongCluster, "this is cluster \(cluster), the client asks for cluster \(peer.cluster)")
        }
        return Hello(
            role: .mdt, cluster: cluster, frameBytesMax: UInt32(Limits.frameBytesMax), requestsMax: 16, software: options.software)
    }

    public func requestFailed() { noteFailure() }

    public func connectionEnded(_ connection: ServedConnection) {
        for (volume, session) in writers.sorted(by: { $0.key < $1.key }) where session.connection === connection {
            writers[volume] = nil
            if catalogue.isShared { world.spawn { await self.tellWriter(of: volume) } }
        }
        for (store, entry) in heard where entry.connection === connection { heard[store]?.connection = nil }
    }
}

extension ControlAnswer {
    /// A map; its generation and number stand in the header too.
    init(_ request: FrameHeader, _ map: VolumeMap) {
        self.init(request, body: map.encoded)
        header.generation = map.object.generation
        header.map = map.object.map
    }
}

/// Who writes a volume, as far as this server knows.
final class WriterSession {
    let connection: MDTConnection
    /// As high as can be while it is not granted.
    var generation: UInt64
    /// What it has told last of bringing OSTs up to date.
    var report: WriterReport?

    init(_ connection: MDTConnection, generation: UInt64) {
        self.connection = connection
        self.generation = generation
    }
}

/// What the metrics are made of, beside what came in.
public struct MDTCounters: Sendable {
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
