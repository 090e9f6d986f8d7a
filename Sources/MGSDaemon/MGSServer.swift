import Base
import ControlServer
import Daemon
import Environment
import Wire

/// The management server of a cluster: one address that lists it. Metadata servers and OSTs tell it that they are there; clients, and OSTs
/// that look for the metadata servers, ask it. The same in the daemon and in the simulator.
///
/// It keeps nothing on a disk: started anew it knows the cluster again when those that are there have told of themselves, within a
/// heartbeat (docs/decisions/0018). Nobody who has found the metadata servers needs it any more.
public final class MGSServer {
    public struct Options: Sendable {
        public var software = "rawstor-mgs"
        public var connectionsMax = Limits.serverConnectionsMax
        /// Whose it is; zero: that of the first metadata server that registers.
        public var cluster = Identifier.zero

        public init() {}
    }

    private let world: any World
    private let options: Options
    private let front: ControlServer
    private let started: Instant
    public private(set) var directory: Directory

    public init(world: any World, options: Options = Options()) {
        self.world = world
        self.options = options
        directory = Directory(cluster: options.cluster)
        started = world.now
        front = ControlServer(world, noun: "a management server", connectionsMax: options.connectionsMax)
        front.serve(self)
    }

    public var connectionCount: Int { front.connectionCount }
    public var traffic: ControlCounters { front.counters }

    /// Where it listens: the port chosen, if port 0 was asked for.
    @discardableResult
    public func listen(on endpoint: Endpoint) throws(Failure) -> Endpoint { try front.listen(on: endpoint) }

    /// As `ControlServer.stop`.
    public func stop() async {
        _ = await front.stop()
        world.log(.info, "stopped", [LogField("connections", connectionCount)])
    }

    private func register(_ request: MDTRegisterRequest, _ connection: ServedConnection) throws(Failure) -> RegisterReply {
        guard let peer = connection.peer, peer.role == .mdt else {
            throw Failure(.permissionDenied, "only a metadata server registers itself as one")
        }
        let before = directory.cluster
        let isNews = try directory.register(request, of: peer.cluster, by: connection.number, at: world.now)
        if before == .zero { world.log(.info, "learned the cluster", [LogField("cluster", directory.cluster)]) }
        if isNews {
            world.log(
                .info, "metadata server registered",
                [LogField("address", request.endpoints.joined(separator: " ")), LogField("host", request.host)])
        }
        return RegisterReply(cluster: directory.cluster, interval: Limits.heartbeatInterval)
    }

    private func register(_ request: OSTRegisterRequest, _ connection: ServedConnection) throws(Failure) -> RegisterReply {
        guard let peer = connection.peer, peer.role == .ost else { throw Failure(.permissionDenied, "only an OST registers itself") }
        if try directory.register(request, of: peer.cluster, by: connection.number, at: world.now) {
            world.log(
                .info, "OST registered",
                [LogField("store", request.store), LogField("address", request.endpoints.joined(separator: " "))])
        }
        return RegisterReply(cluster: directory.cluster, interval: Limits.heartbeatInterval)
    }
}

extension MGSServer: ControlService {
    public func welcome(_ peer: Hello) throws(Failure) -> Hello {
        switch peer.role {
        case .client: if peer.cluster != .zero { try directory.check(peer.cluster, "what the client asks for") }
        case .ost: try directory.check(peer.cluster, "the OST's store")
        case .mdt: try directory.check(peer.cluster, "the metadata server")
        case .mgs: throw Failure(.unsupported, "this is a management server; it takes no other one")
        }
        return Hello(
            role: .mgs, cluster: directory.cluster, frameBytesMax: UInt32(Limits.frameBytesMax), requestsMax: 16,
            software: options.software)
    }

    public func perform(
        _ header: FrameHeader, _ body: [UInt8], _ connection: ServedConnection
    ) async throws(Failure) -> ControlAnswer {
        switch header.opcode {
        case .ping, .close: return ControlAnswer(header)
        case .mdtRegister:
            return ControlAnswer(header, body: try register(try MDTRegisterRequest(decoding: body), connection).encoded)
        case .mdtList:
            let reply = MDTListReply(
                cluster: directory.cluster, uptime: world.now - started, servers: directory.mdts(at: world.now))
            return ControlAnswer(header, body: reply.encoded)
        case .ostRegister:
            return ControlAnswer(header, body: try register(try OSTRegisterRequest(decoding: body), connection).encoded)
        case .ostList:
            let request = try OSTListRequest(decoding: body)
            return ControlAnswer(header, body: OSTListReply(osts: directory.osts(after: request.after, at: world.now)).encoded)
        case .volumeCreate, .volumeOpen, .volumeExclude, .volumeMap, .volumeList, .volumeRemove, .volumeResize, .volumeClose, .volumeFill,
            .volumeInSync, .volumeSet, .volumeHealth, .volumeReplace, .volumeSettle, .ostRemove, .ostDrain:
            throw Failure(.unsupported, "this is a management server; '\(header.opcode)' is asked of a metadata server (MDT)")
        case .hello, .create, .open, .stat, .list, .remove, .resize, .statistics, .volumeRecord, .adopt, .read, .write, .flush,
            .writeZeroes, .discard, .mark, .event, .doubts, .stamp, .changed, .checks, .fillBegin, .fillEnd, .fillPage:
            throw Failure(.unsupported, "this is a management server; '\(header.opcode)' is asked of an OST")
        }
    }

    public func requestFailed() {}

    public func connectionEnded(_ connection: ServedConnection) { directory.ended(connection.number) }
}

// What it says to those who watch it.

extension MGSServer {
    /// It must outlive them.
    public var metricsAnswers: MetricsServer.Answers {
        MetricsServer.Answers(metrics: { [unowned self] in metricsText }, trouble: { nil })
    }

    private var metricsText: String {
        var text = PrometheusText(prefix: "rawstor_mgs")
        text.put(traffic, connections: connectionCount) {
            $0.isOfManagement || $0 == .ostRegister || $0 == .ostList
        }
        text.single("cluster_known", "gauge", "1 when it is known which cluster this is.", directory.cluster == .zero ? 0 : 1)
        text.single("mdts_alive", "gauge", "Metadata servers heard of lately.", UInt64(directory.mdtsAlive(at: world.now)))
        text.single("osts_alive", "gauge", "OSTs heard of lately.", UInt64(directory.ostsAlive(at: world.now)))
        return text.text
    }
}
