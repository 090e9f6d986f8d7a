import Base
import Environment
import VolumeEngine
import Wire

/// An open volume: the shell around a `VolumeEngine`. It moves the bytes, keeps the timer, connects again when a connection breaks, and
/// hands on completions. All decisions are the engine's.
///
/// Owns: the stream, with at most one send and one receive under way, and the task that reconnects. Belongs to the world's thread.
///
/// Completions are handed on from within the world's completions, `kick`, or an operation's refusal-free `submit` followed by either; a
/// callback may submit. Whoever submits outside of a callback calls `kick` when he has submitted all he has.
public final class Volume: CompletionSink {
    private enum Token {
        static let send: UInt32 = 0
        static let receive: UInt32 = 1
        static let timer: UInt32 = 2
        static let closeTimer: UInt32 = 3
    }

    public let address: Address
    public let options: OpenOptions
    public private(set) var object: ObjectRecord
    public var onCompletion: ((Operation.Tag, Status) -> Void)?
    public var onNotice: ((VolumeNotice) -> Void)?

    let world: any World
    let operations: Operations
    var engine: VolumeEngine
    /// Continuations of the asynchronous convenience calls; tags of `Volume.waiterTag` index them.
    var waiters: [UnsafeContinuation<Status, Never>?] = []
    var freeWaiters: [Int] = []

    private var sink = SinkID(0)
    private let nonce: Identifier
    private var cluster: Identifier
    private var session: UInt64
    private var stream: StreamID?
    private var isSending = false
    private var isReceiving = false
    /// The stream was shut down; once both directions have ended it is closed.
    private var isBroken = false
    private var isReconnecting = false
    private var isProgressing = false
    /// No more connections: `close` is past waiting.
    private var isShutDown = false
    private var attachedAt: Instant
    private var reconnectDelay = Interval(nanoseconds: 0)
    private var timer: TimerID?
    private var closeTimer: TimerID?
    private var closeWaiter: UnsafeContinuation<Void, Never>?
    private var drainWaiter: UnsafeContinuation<Void, Never>?
    private var isEngineClosed = false
    private var isCloseCalled = false

    private static let vectorsPerCall = 256
    private let vectors = UnsafeMutablePointer<IOVector>.allocate(capacity: Volume.vectorsPerCall)

    public static func open(_ world: any World, _ address: Address, _ options: OpenOptions) async throws(Failure) -> Volume {
        guard let name = address.name else {
            throw Failure(.invalidArgument, "'\(address)' names no volume; write its name behind the last slash")
        }
        let nonce = Identifier(high: world.random(), low: world.random())
        var request = SessionRequest(
            endpoint: address.endpoint, name: name, flags: flags(options), nonce: nonce, cluster: options.cluster, session: 1)
        if options.force { request.flags.insert(.force) }
        let session = try await Session.open(world, request, deadline: world.now + options.deadline)
        let volume = Volume(world, address, options, nonce, session)
        volume.adopt(session)
        return volume
    }

    private static func flags(_ options: OpenOptions) -> OpenRequest.Flags { options.write ? [.write, .settle] : [] }

    private init(_ world: any World, _ address: Address, _ options: OpenOptions, _ nonce: Identifier, _ session: Session) {
        self.world = world
        self.address = address
        self.options = options
        self.nonce = nonce
        object = session.object
        cluster = session.cluster
        self.session = session.attachment.session
        engine = VolumeEngine(isWritable: options.write, slots: options.slots)
        operations = Operations(world)
        attachedAt = world.now
        sink = world.attach(self)
    }

    deinit { vectors.deallocate() }

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
    public var marks: VolumeMarks { engine.marks }
    public func checkInvariants() { engine.checkInvariants() }

    /// Waits for what is under way, a limited time, tells the OST, and ends. Operations that have not ended by then fail with `closed`.
    public func close() async {
        invariant(!isCloseCalled, "a volume is closed twice")
        isCloseCalled = true
        engine.now = world.now
        engine.close()
        closeTimer = world.wake(at: world.now + options.closeDeadline, Ticket(sink, Token.closeTimer))
        progress()
        if !isEngineClosed { await withUnsafeContinuation { closeWaiter = $0 } }
        isShutDown = true
        engine.now = world.now
        if engine.activeCount > 0 { engine.fail(.closed) }
        breakConnection()
        progress()
        if !isDrained { await withUnsafeContinuation { drainWaiter = $0 } }
        if let timer { world.cancel(timer) }
        if let closeTimer { world.cancel(closeTimer) }
        world.detach(sink)
        operations.close()
    }

    private var isDrained: Bool { stream == nil && !isReconnecting }

    // The world's side

    public func completed(_ token: UInt32, result: Int32) {
        engine.now = world.now
        switch token {
        case Token.send:
            isSending = false
            if result > 0 { engine.sent(Int(result)) } else { breakConnection() }
        case Token.receive:
            isReceiving = false
            if result > 0 { engine.received(Int(result)) } else { breakConnection() }
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
    private func progress() {
        guard !isProgressing else { return }
        isProgressing = true
        defer { isProgressing = false }
        repeat {
            while let effect = engine.popEffect() { perform(effect) }
            startSend()
            startReceive()
            closeBrokenStream()
        } while engine.hasEffects
    }

    private func perform(_ effect: Effect) {
        switch effect {
        case .completed(let tag, let status):
            if tag.first == Volume.waiterTag { resume(waiter: Int(tag.second), status) } else { onCompletion?(tag, status) }
        case .resetConnection(let reason):
            world.log(.warning, "connection reset", [LogField("volume", "\(address)"), LogField("reason", "\(reason)")])
            breakConnection()
        case .notice(let notice):
            if case .sizeChanged(let bytes) = notice { object.bytes = bytes }
            onNotice?(notice)
        case .wakeAt(let instant):
            if let timer { world.cancel(timer) }
            timer = world.wake(at: instant, Ticket(sink, Token.timer))
        case .closed:
            isEngineClosed = true
            resumeCloser()
        }
    }

    private func startSend() {
        guard let stream, !isSending, !isBroken else { return }
        let count = engine.nextSend(into: vectors, capacity: Volume.vectorsPerCall)
        guard count > 0 else { return }
        isSending = true
        world.send(stream, from: UnsafeBufferPointer(start: vectors, count: count), Ticket(sink, Token.send))
    }

    private func startReceive() {
        guard let stream, !isReceiving, !isBroken else { return }
        let count = engine.nextReceive(into: vectors, capacity: Volume.vectorsPerCall)
        guard count > 0 else { return }
        isReceiving = true
        world.receive(stream, into: UnsafeBufferPointer(start: vectors, count: count), Ticket(sink, Token.receive))
    }

    // Connections

    private func breakConnection() {
        guard let stream, !isBroken else { return }
        isBroken = true
        world.shutdown(stream)
    }

    private func closeBrokenStream() {
        guard let stream, isBroken, !isSending, !isReceiving else { return }
        world.close(stream)
        self.stream = nil
        isBroken = false
        engine.now = world.now
        engine.detached()
        if isShutDown || engine.isDead {
            resumeDrained()
        } else {
            isReconnecting = true
            world.spawn { await self.reconnect() }
        }
    }

    private func adopt(_ session: Session) {
        stream = session.stream
        cluster = session.cluster
        object = session.object
        attachedAt = world.now
        engine.now = world.now
        engine.attached(session.attachment)
        progress()
    }

    /// Until a session is open again, or it is clear that there never will be one.
    private func reconnect() async {
        // A store that takes us in only to send us away again must not be asked without pause.
        let livedLong = world.now - attachedAt > Limits.reconnectDelayMax
        reconnectDelay = livedLong ? Interval(nanoseconds: 0) : longer(reconnectDelay)
        while !isShutDown, !engine.isDead {
            if reconnectDelay.nanoseconds > 0 {
                let half = reconnectDelay.nanoseconds / 2
                await operations.sleep(Interval(nanoseconds: half + world.random() % max(half, 1)))
            }
            if isShutDown || engine.isDead { break }
            session += 1
            let request = SessionRequest(
                endpoint: address.endpoint, name: object.name, flags: Volume.flags(options), nonce: nonce, cluster: cluster,
                session: session, generation: options.write ? engine.generation : 0)
            do throws(Failure) {
                let opened = try await Session.open(world, request, deadline: world.now + Limits.helloDeadline)
                if isShutDown || engine.isDead {
                    world.close(opened.stream)
                    break
                }
                isReconnecting = false
                adopt(opened)
                return
            } catch {
                world.log(.info, "reconnect failed", [LogField("volume", "\(address)"), LogField("why", error.detail)])
                if let verdict = finalVerdict(error.status) {
                    engine.now = world.now
                    engine.fail(verdict)
                }
                reconnectDelay = longer(reconnectDelay)
            }
        }
        isReconnecting = false
        progress()
        resumeDrained()
    }

    private func longer(_ delay: Interval) -> Interval {
        min(max(Interval(nanoseconds: delay.nanoseconds * 2), Limits.reconnectDelayMin), Limits.reconnectDelayMax)
    }

    /// The status with which the volume has failed for good, if an open that is refused with `status` will never be granted.
    private func finalVerdict(_ status: Status) -> Status? {
        switch status {
        case .fenced, .staleSession: .fenced
        case .invalidArgument, .wrongVersion, .notFound, .unsupported, .wrongCluster, .readOnly, .permissionDenied: status
        case .ok, .malformed, .alreadyExists, .busy, .outOfRange, .noSpace, .staleMap, .checksumMismatch, .damaged, .diskFailed,
            .overloaded, .deadlineExceeded, .unreachable, .closed, .powerLost, .outOfMemory:
            nil
        }
    }

    private func resumeCloser() {
        closeWaiter?.resume()
        closeWaiter = nil
    }

    private func resumeDrained() {
        guard isDrained else { return }
        drainWaiter?.resume()
        drainWaiter = nil
    }
}
