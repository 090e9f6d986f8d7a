import Base
import Environment
import VolumeEngine
import Wire

/// The connection of an open volume to one of its OSTs: moves the bytes, and connects again when it breaks, for as long as the engine wants
/// it. The engine hears of both and keeps what is unanswered.
///
/// Owns: the stream, with at most one send and one receive under way, and the task that reconnects.
final class Link: CompletionSink {
    private enum Token {
        static let send: UInt32 = 0
        static let receive: UInt32 = 1
    }

    private static let vectorsPerCall = 256

    let peer: Int
    private unowned let volume: Volume
    private let world: any World
    /// What every open of this volume at this OST has in common; session and map number are new each time.
    private var request: SessionRequest
    /// Where it listens; tried in turn.
    private(set) var endpoints: [Endpoint]
    private var nextEndpoint = 0
    private var sink = SinkID(0)
    private var stream: StreamID?
    private var isSending = false
    private var isReceiving = false
    /// The stream was shut down; once both directions have ended it is closed.
    private var isBroken = false
    private var isReconnecting = false
    private var attachedAt: Instant
    /// When the last connection that had lived long was lost.
    private var missedSince = Instant.zero
    private var reconnectDelay = Interval(nanoseconds: 0)
    private let vectors = UnsafeMutablePointer<IOVector>.allocate(capacity: Link.vectorsPerCall)

    init(_ volume: Volume, _ peer: Int, _ request: SessionRequest, _ endpoints: [Endpoint]) {
        self.volume = volume
        self.peer = peer
        self.request = request
        self.endpoints = endpoints
        world = volume.world
        attachedAt = volume.world.now
        sink = world.attach(self)
    }

    deinit { vectors.deallocate() }

    /// What a newer map says of the OST, for the next connection. One that has not registered since a rebuild is where it was.
    func learn(_ endpoints: [Endpoint], minimumMounts: UInt64) {
        if !endpoints.isEmpty { self.endpoints = endpoints }
        request.minimumMounts = max(request.minimumMounts, minimumMounts)
    }

    /// A store that was mounted fewer times is an old copy.
    var minimumMounts: UInt64 { request.minimumMounts }

    /// Nothing under way, and nothing that would change that.
    var isDrained: Bool { stream == nil && !isReconnecting }

    func close() { world.detach(sink) }

    // The world's side

    func completed(_ token: UInt32, result: Int32) {
        volume.engine.now = world.now
        switch token {
        case Token.send:
            isSending = false
            if result > 0 { volume.engine.sent(Int(result), peer: peer) } else { breakConnection() }
        case Token.receive:
            isReceiving = false
            if result > 0 { volume.engine.received(Int(result), peer: peer) } else { breakConnection() }
        default: unreachable("token \(token) is not ours")
        }
    }

    func batchEnded() { volume.progress() }

    func startTransfers() {
        guard let stream, !isBroken else { return }
        if !isSending {
            let count = volume.engine.nextSend(into: vectors, capacity: Link.vectorsPerCall, peer: peer)
            if count > 0 {
                isSending = true
                world.send(stream, from: UnsafeBufferPointer(start: vectors, count: count), Ticket(sink, Token.send))
            }
        }
        if !isReceiving {
            let count = volume.engine.nextReceive(into: vectors, capacity: Link.vectorsPerCall, peer: peer)
            if count > 0 {
                isReceiving = true
                world.receive(stream, into: UnsafeBufferPointer(start: vectors, count: count), Ticket(sink, Token.receive))
            }
        }
    }

    // Connections

    func breakConnection() {
        guard let stream, !isBroken else { return }
        isBroken = true
        world.shutdown(stream)
    }

    func closeBrokenStream() {
        guard let stream, isBroken, !isSending, !isReceiving else { return }
        world.close(stream)
        self.stream = nil
        isBroken = false
        volume.engine.now = world.now
        volume.engine.detached(peer: peer)
        connectIfWanted()
    }

    /// Also when the engine has changed its mind about a peer.
    func connectIfWanted() {
        guard stream == nil, !isReconnecting else { return }
        if isWanted {
            isReconnecting = true
            world.spawn { await self.reconnect() }
        } else {
            volume.resumeDrained()
        }
    }

    private var isWanted: Bool { !volume.isShutDown && !volume.isEnding && volume.engine.wantsConnection(peer) }

    func adopt(_ session: Session) {
        stream = session.stream
        request.cluster = session.cluster
        request.session = max(request.session, session.attachment.session)
        attachedAt = world.now
        volume.engine.now = world.now
        volume.engine.attached(session.attachment, peer: peer)
        volume.progress()
    }

    /// Until a session is open again, or it is clear that there never will be one.
    private func reconnect() async {
        // A store that takes us in only to send us away again must not be asked without pause.
        if world.now - attachedAt > Limits.reconnectDelayMax {
            missedSince = world.now
            reconnectDelay = Interval(nanoseconds: 0)
        } else {
            reconnectDelay = longer(reconnectDelay)
        }
        while isWanted {
            if reconnectDelay.nanoseconds > 0 {
                let half = reconnectDelay.nanoseconds / 2
                await volume.operations.sleep(Interval(nanoseconds: half + world.random() % max(half, 1)))
            }
            guard isWanted else { break }
            do throws(Failure) {
                let opened = try await open(deadline: world.now + Limits.helloDeadline)
                guard isWanted else {
                    world.close(opened.stream)
                    break
                }
                if opened.object.id != volume.object.id {
                    world.close(opened.stream)
                    volume.engine.now = world.now
                    volume.engine.fail(.notFound)
                    break
                }
                isReconnecting = false
                adopt(opened)
                return
            } catch {
                world.log(
                    .info, "reconnect failed", [LogField("volume", "\(volume.address)"), LogField("why", error.detail)])
                if let verdict = volume.finalVerdict(error.status) {
                    volume.engine.now = world.now
                    volume.engine.fail(verdict)
                }
                if error.status == .staleMap { volume.refreshMap() }
                reconnectDelay = longer(reconnectDelay)
            }
        }
        isReconnecting = false
        volume.progress()
        volume.resumeDrained()
    }

    /// The next session with this OST, at whichever of its addresses answers.
    func open(deadline: Instant) async throws(Failure) -> Session {
        request.session += 1
        request.generation = volume.options.write ? volume.engine.generation : 0
        return try await open(request, deadline: deadline)
    }

    func open(generation: UInt64, map: UInt64, deadline: Instant) async throws(Failure) -> Session {
        request.session += 1
        request.generation = generation
        return try await open(request, deadline: deadline)
    }

    private func open(_ wanted: SessionRequest, deadline: Instant) async throws(Failure) -> Session {
        guard !endpoints.isEmpty else { throw Failure(.unreachable, "nobody knows where store \(request.store) is served") }
        var wanted = wanted
        wanted.map = max(wanted.map, volume.engine.mapNumber)
        if let map = volume.map, map.object.map == wanted.map {
            wanted.incarnation = map.incarnation
            if wanted.flags.contains(.fence) { wanted.record = map.encoded }
        }
        if wanted.flags.contains(.fence), volume.engine.hasMet(peer) { wanted.flags.insert(.known) }
        wanted.endpoint = endpoints[nextEndpoint % endpoints.count]
        nextEndpoint += 1
        return try await Session.open(world, wanted, deadline: deadline)
    }

    /// Soon again at first: a daemon that is only restarted shall be found before it is excluded.
    private func longer(_ delay: Interval) -> Interval {
        let most = world.now - missedSince < VolumeEngine.graceWithout ? Limits.reconnectDelaySoon : Limits.reconnectDelayMax
        return min(max(Interval(nanoseconds: delay.nanoseconds * 2), Limits.reconnectDelayMin), most)
    }
}
