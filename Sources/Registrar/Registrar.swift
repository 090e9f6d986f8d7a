import Base
import Client
import Environment
import Wire

/// An OST's end of the registry: tells each metadata server of the cluster at once, and then with every heartbeat, that the OST is there.
///
/// A server that is away, or refuses, is tried again for as long as the OST runs; the log says why, once for each reason. What clients do
/// with the OST meanwhile has nothing to do with it.
public final class Registrar {
    /// How it stands with one server.
    public enum Standing: Hashable, Sendable {
        case notYet
        case registered
        /// With the reason.
        case failed(Failure)
    }

    static let retryDelay = Interval.seconds(1)
    static let deadline = Interval.seconds(5)

    private let world: any World
    private let operations: Operations
    private let servers: [Endpoint]
    private let cluster: Identifier
    private let describe: () -> OSTRegisterRequest?
    public private(set) var standings: [Standing]
    /// Answers that came, of all servers.
    public private(set) var registrations = 0
    private var isStopped = false

    /// `describe` says what the OST is at the moment; nil while there is nothing to tell.
    public init(_ world: any World, servers: [Endpoint], cluster: Identifier, describe: @escaping () -> OSTRegisterRequest?) {
        self.world = world
        self.servers = servers
        self.cluster = cluster
        self.describe = describe
        operations = Operations(world)
        standings = Array(repeating: .notYet, count: servers.count)
    }

    public func start() {
        for index in servers.indices { world.spawn { await self.keepRegistered(index) } }
    }

    /// Nothing more is said; what is under way ends by itself.
    public func stop() { isStopped = true }

    /// For Prometheus.
    public var metricsText: String {
        var text = "# HELP rawstor_ost_registered 1 while this metadata server knows the OST.\n# TYPE rawstor_ost_registered gauge\n"
        for (server, standing) in zip(servers, standings) {
            text += "rawstor_ost_registered{mdt=\"\(server)\"} \(standing == .registered ? 1 : 0)\n"
        }
        return text
    }

    private func keepRegistered(_ index: Int) async {
        while !isStopped {
            do throws(Failure) {
                try await sendHeartbeats(index)
            } catch {
                if !isStopped { note(index, .failed(error)) }
            }
            if !isStopped { await operations.sleep(Registrar.retryDelay) }
        }
    }

    /// Until something goes wrong.
    private func sendHeartbeats(_ index: Int) async throws(Failure) {
        let hello = Hello(role: .ost, cluster: cluster, software: "rawstor-ost \(softwareVersion)")
        let connection = try await ControlConnection.open(
            world, servers[index], saying: hello, expecting: .mdt, deadline: world.now + Registrar.deadline)
        defer { connection.close() }
        while !isStopped {
            guard let registration = describe() else {
                await operations.sleep(Registrar.retryDelay)
                continue
            }
            let (_, body) = try await connection.exchange(
                FrameHeader(.ostRegister), registration.encoded, deadline: world.now + Registrar.deadline)
            let reply = try connection.decode(OSTRegisterReply.self, body)
            registrations += 1
            note(index, .registered)
            await operations.sleep(min(max(reply.interval, Registrar.retryDelay), Limits.heartbeatInterval))
        }
    }

    private func note(_ index: Int, _ standing: Standing) {
        guard standings[index] != standing else { return }
        let before = standings[index]
        standings[index] = standing
        switch standing {
        case .notYet: break
        case .registered:
            world.log(.info, "registered", [LogField("mdt", servers[index]), LogField("cluster", cluster)])
        case .failed(let failure):
            let wasWell = before == .registered && failure.status == .unreachable
            world.log(
                wasWell ? .info : .warning, failure.isSilence ? "the metadata server is away" : "the metadata server refuses this OST",
                [LogField("mdt", servers[index]), LogField("reason", failure.detail)])
        }
    }
}

extension Failure {
    fileprivate var isSilence: Bool { status == .unreachable || status == .deadlineExceeded || status == .closed }
}
