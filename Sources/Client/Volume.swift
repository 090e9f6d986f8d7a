import Base
import Environment
import VolumeEngine
import Wire

/// An open volume: the shell around a `VolumeEngine`. It keeps a link to each of the volume's OSTs and the timer, has members excluded, and
/// hands on completions. All decisions are the engine's.
///
/// Belongs to the world's thread.
///
/// Completions are handed on from within the world's completions, `kick`, or an operation's refusal-free `submit` followed by either; a
/// callback may submit. Whoever submits outside of a callback calls `kick` when he has submitted all he has.
public final class Volume: CompletionSink {
    private enum Token {
        static let timer: UInt32 = 0
        static let closeTimer: UInt32 = 1
    }

    public let address: Address
    public let options: OpenOptions
    public internal(set) var object: ObjectRecord
    public var onCompletion: ((Operation.Tag, Status) -> Void)?
    public var onNotice: ((VolumeNotice) -> Void)?

    let world: any World
    let operations: Operations
    var engine: VolumeEngine
    var links: [Link] = []
    /// Of a volume of a cluster: its metadata servers, and which store each link is to.
    var mdt: MDTSession?
    var stores: [Identifier] = []
    /// Until what was in doubt at the open is equal everywhere: below this nothing was.
    var openBase: Version?
    /// What the metadata server said last.
    var map: VolumeMap?
    /// The open has ended: from now on links connect by themselves, and no earlier writer reads any more.
    var isOpen = false
    /// Tasks that go on by themselves, and end soon after the volume is shut down.
    private var backgroundTasks = 0
    private var backgroundWaiter: UnsafeContinuation<Void, Never>?
    /// Copied to members that were away, also by attempts that failed.
    public internal(set) var resyncedBytes: UInt64 = 0
    /// How it is at that, by peer: of those that are not in sync, and were tried.
    var resyncs: [Int: Resync] = [:]
    /// When to try again with an OST that could not be brought up to date.
    var notHealedBefore: [Int: Instant] = [:]
    /// Until when members move to other OSTs than these, which had no space for them.
    var refusedUntil: [Int: Instant] = [:]
    /// When to ask again where members could move to.
    var notMovedBefore = Instant.zero
    /// Continuations of the asynchronous convenience calls; tags of `Volume.waiterTag` index them.
    var waiters: [UnsafeContinuation<Status, Never>?] = []
    var freeWaiters: [Int] = []

    private var sink = SinkID(0)
    private var isProgressing = false
    /// No more connections: `close` is past waiting.
    private(set) var isShutDown = false
    private var timer: TimerID?
    private var closeTimer: TimerID?
    private var closeWaiter: UnsafeContinuation<Void, Never>?
    private var drainWaiter: UnsafeContinuation<Void, Never>?
    private var isEngineClosed = false
    private var isCloseCalled = false

    public static func open(_ world: any World, _ address: Address, _ options: OpenOptions) async throws(Failure) -> Volume {
        switch address.kind {
        case .ost: try await openAlone(world, address, options)
        case .cluster: try await openInCluster(world, address, options)
        }
    }

    /// A volume that one OST keeps whole.
    private static func openAlone(_ world: any World, _ address: Address, _ options: OpenOptions) async throws(Failure) -> Volume {
        guard let name = address.name else {
            throw Failure(.invalidArgument, "'\(address)' names no volume; write its name behind the last slash")
        }
        var request = SessionRequest(
            endpoint: address.endpoint, name: name, flags: options.write ? [.write, .settle] : [],
            nonce: Identifier(high: world.random(), low: world.random()), cluster: options.cluster, session: 1)
        request.client = options.client
        let settled = request.flags
        if options.force { request.flags.insert(.force) }
        let deadline = world.now + options.deadline
        while true {
            do throws(Failure) {
                let session = try await Session.open(world, request, deadline: deadline)
                let volume = Volume(world, address, options, session.object, .single)
                request.flags = settled
                volume.links = [Link(volume, 0, request, [address.endpoint])]
                volume.links[0].adopt(session)
                return volume
            } catch {
                // The open may have been granted and the answer lost. The nonce makes asking again the same open.
                guard error.status == .unreachable, request.session < openAttemptsMax, world.now < deadline else { throw error }
                request.session += 1
            }
        }
    }

    private static let openAttemptsMax: UInt64 = 3

    init(_ world: any World, _ address: Address, _ options: OpenOptions, _ object: ObjectRecord, _ table: MemberTable) {
        self.world = world
        self.address = address
        self.options = options
        self.object = object
        // An OST of several may have another size than the volume, while that grows.
        engine = VolumeEngine(
            isWritable: options.write, slots: options.slots, table: table, bytes: table.number == 0 ? 0 : object.bytes)
        operations = Operations(world)
        sink = world.attach(self)
    }

    // The user's side

    /// Takes an operation, or says at once why not. Its memory belongs to the volume until the completion. Nothing is sent before the
    /// next `kick` or completion of the world.
    public func submit(_ operation: Operation, _ vectors: UnsafeBufferPointer<IOVector>) -> Status? {
        engine.now = world.now
        return engine.submit(operation, vectors: vectors)
    }

    /// Sends what was submitted, and hands on what has ended.
    public func kick() { progress() }

    public var operationsUnderWay: Int { engine.activeCount }
    public var isDead: Bool { engine.isDead }
    /// That it was opened with for writing; 0 for reading.
    public var generation: UInt64 { options.write ? engine.generation : 0 }
    /// Why nothing of the volume may be changed through this, if so.
    public var refusalOfChanges: Status? { engine.refusalOfChanges }
    /// A copy is not up to date, or an OST that is needed is out of reach.
    public var isDegraded: Bool { engine.isDegraded }
    public var marks: VolumeMarks { engine.marks }
    public func checkInvariants() { engine.checkInvariants() }

    /// How large the volume is by the word of its catalogue; of a cluster it is that large here, too, from then on.
    public func askSize(deadline: Instant) async throws(Failure) -> UInt64 {
        if let mdt {
            let map = try await mdt.map(of: object.id, deadline: deadline)
            apply(map)
            return map.object.bytes
        }
        let catalogue = address.catalogue(in: world, deadline: deadline - world.now)
        defer { catalogue.close() }
        return try await catalogue.stat(object.name).object.bytes
    }

    /// Waits for what is under way, a limited time, tells the OSTs, and ends. Operations that have not ended by then fail with `closed`.
    public func close() async {
        invariant(!isCloseCalled, "a volume is closed twice")
        isCloseCalled = true
        engine.now = world.now
        engine.close()
        closeTimer = world.wake(at: world.now + options.closeDeadline, Ticket(sink, Token.closeTimer))
        progress()
        await suspend(while: { !isEngineClosed }) { closeWaiter = $0 }
        isShutDown = true
        engine.now = world.now
        if engine.activeCount > 0 { engine.fail(.closed) }
        for link in links { link.breakConnection() }
        progress()
        await suspend(while: { !isDrained }) { drainWaiter = $0 }
        await suspend(while: { backgroundTasks > 0 }) { backgroundWaiter = $0 }
        if let timer { world.cancel(timer) }
        if let closeTimer { world.cancel(closeTimer) }
        world.detach(sink)
        for link in links { link.close() }
        if let mdt { await mdt.close(isSettled: isOpen, deadline: world.now + .seconds(1)) }
        mdt = nil
        operations.close()
    }

    /// Requests in it have deadlines of seconds: the volume's end waits for it.
    func inBackground(_ body: @escaping () async -> Void) {
        backgroundTasks += 1
        world.spawn { [self] in
            await body()
            backgroundTasks -= 1
            guard backgroundTasks == 0, let waiter = backgroundWaiter else { return }
            backgroundWaiter = nil
            waiter.resume()
        }
    }

    private var isDrained: Bool { links.allSatisfy(\.isDrained) }
    /// Nothing is left that would need a connection.
    var isEnding: Bool { isCloseCalled && engine.activeCount == 0 }

    // The world's side

    public func completed(_ token: UInt32, result: Int32) {
        engine.now = world.now
        switch token {
        case Token.timer:
            timer = nil
            engine.tick()
        case Token.closeTimer:
            closeTimer = nil
            resumeCloser()
        default: unreachable("token \(token) is not ours")
        }
    }

    public func batchEnded() { progress() }

    /// Performs effects and starts transfers until there is nothing left to do now.
    func progress() {
        guard !isProgressing else { return }
        isProgressing = true
        defer { isProgressing = false }
        repeat {
            while let effect = engine.popEffect() { perform(effect) }
            for link in links {
                link.startTransfers()
                link.closeBrokenStream()
                if isOpen { link.connectIfWanted() }
            }
        } while engine.hasEffects
    }

    private func perform(_ effect: Effect) {
        switch effect {
        case .completed(let tag, let status):
            if tag.first == Volume.waiterTag { resume(waiter: Int(tag.second), status) } else { onCompletion?(tag, status) }
        case .resetConnection(let peer, let reason):
            let why =
                switch reason {
                case .malformed: engine.lastFault
                case .rolledBack:
                    "the OST lacks writes that it had acknowledged: its disk is an old copy or damaged; serve the newest one, or make an "
                        + "empty store in its place"
                case .deadline, .silence, .backlog, .refused, .dead, .excluded: "\(reason)"
                }
            world.log(.warning, "connection reset", [LogField("volume", "\(address)"), LogField("why", why)])
            links[peer].breakConnection()
        case .exclude(let peer): exclude(peer)
        case .mapWanted: refreshMap()
        case .notice(let notice):
            if case .sizeChanged(let bytes) = notice { object.bytes = bytes }
            if notice == .belowFloor {
                world.log(
                    .warning, "writes fail, since fewer copies are up to date than the volume's floor; bring an OST back",
                    [LogField("volume", "\(address)"), LogField("floor", map?.floor ?? 0)])
            }
            onNotice?(notice)
        case .wakeAt(let instant):
            if let timer { world.cancel(timer) }
            timer = world.wake(at: instant, Ticket(sink, Token.timer))
        case .closed:
            isEngineClosed = true
            resumeCloser()
        }
    }

    private func resumeCloser() {
        closeWaiter?.resume()
        closeWaiter = nil
    }

    func resumeDrained() {
        guard isDrained else { return }
        drainWaiter?.resume()
        drainWaiter = nil
    }

    /// The status with which the volume has failed for good, if an open that is refused with `status` will never be granted.
    func finalVerdict(_ status: Status) -> Status? {
        // Of several OSTs one that is not what it should be is one that is not there.
        if links.count > 1, status != .fenced, status != .staleSession { return nil }
        return switch status {
        case .fenced, .staleSession: .fenced
        case .invalidArgument, .wrongVersion, .notFound, .unsupported, .wrongCluster, .readOnly, .permissionDenied: status
        case .ok, .malformed, .alreadyExists, .busy, .outOfRange, .noSpace, .staleMap, .checksumMismatch, .damaged, .diskFailed,
            .overloaded, .deadlineExceeded, .unreachable, .closed, .powerLost, .outOfMemory, .wrongStore, .unavailable:
            nil
        }
    }
}
