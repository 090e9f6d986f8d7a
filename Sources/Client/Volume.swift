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
    public internal(set) var object: ObjectRecord
    public var onCompletion: ((Operation.Tag, Status) -> Void)?
    public var onNotice: ((VolumeNotice) -> Void)?

    let world: any World
    let operations: Operations
    var engine: VolumeEngine
    /// Continuations of the asynchronous convenience calls; tags of `Volume.waiterTag` index them.
    var waiters: [UnsafeContinuation<Status, Never>?] = []
    var freeWaiters: [Int] = []

    private var sink = SinkID(0)
    let nonce: Identifier
    var cluster: Identifier
    var session: UInt64
    var stream: StreamID?
    var isSending = false
    var isReceiving = false
    /// The stream was shut down; once both directions have ended it is closed.
    var isBroken = false
    var isReconnecting = false
    private var isProgressing = false
    /// No more connections: `close` is past waiting.
    var isShutDown = false
    var attachedAt: Instant
    var reconnectDelay = Interval(nanoseconds: 0)
    private var timer: TimerID?
    private var closeTimer: TimerID?
    private var closeWaiter: UnsafeContinuation<Void, Never>?
    private var drainWaiter: UnsafeContinuation<Void, Never>?
    private var isEngineClosed = false
    var isCloseCalled = false

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
        let deadline = world.now + options.deadline
        while true {
            do throws(Failure) {
                let session = try await Session.open(world, request, deadline: deadline)
                let volume = Volume(world, address, options, nonce, session)
                volume.adopt(session)
                return volume
            } catch {
                // The open may have been granted and the answer lost. The nonce makes asking again the same open.
                guard error.status == .unreachable, request.session < openAttemptsMax, world.now < deadline else { throw error }
                request.session += 1
            }
        }
    }

    private static let openAttemptsMax: UInt64 = 3

    static func flags(_ options: OpenOptions) -> OpenRequest.Flags { options.write ? [.write, .settle] : [] }

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
        await suspend(while: { !isEngineClosed }) { closeWaiter = $0 }
        isShutDown = true
        engine.now = world.now
        if engine.activeCount > 0 { engine.fail(.closed) }
        breakConnection()
        progress()
        await suspend(while: { !isDrained }) { drainWaiter = $0 }
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
    func progress() {
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
            let why = reason == .malformed ? engine.lastFault : "\(reason)"
            world.log(.warning, "connection reset", [LogField("volume", "\(address)"), LogField("why", why)])
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

    private func resumeCloser() {
        closeWaiter?.resume()
        closeWaiter = nil
    }

    func resumeDrained() {
        guard isDrained else { return }
        drainWaiter?.resume()
        drainWaiter = nil
    }
}
