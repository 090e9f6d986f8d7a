import Base
import Client
import Environment
import Wire

/// An OST's place in its cluster: it registers at the metadata servers, which is what placement relies on, and at the management servers.
/// These tell it of metadata servers that nobody has named to it; it registers there as well, and follows when they change.
public final class OSTMembership {
    /// At the metadata servers.
    public let metadata: Registrar
    /// At the management servers.
    public let management: Registrar

    /// `describe` says what the OST is at the moment; nil while there is nothing to tell.
    public init(
        _ world: any World, mdts: [Endpoint], mgss: [Endpoint] = [], cluster: Identifier,
        describe: @escaping () -> OSTRegisterRequest?
    ) {
        let metadata = Registrar(world, .ost(of: cluster, at: .mdt), servers: mdts) { describe()?.encoded }
        let management = Registrar(world, .ost(of: cluster, at: .mgs), servers: mgss) { describe()?.encoded }
        management.onRegistered = { (connection, deadline) async throws(Failure) in
            let (_, body) = try await connection.exchange(FrameHeader(.mdtList), [], deadline: deadline)
            let reply = try connection.decode(MDTListReply.self, body)
            var listed: [[Endpoint]] = []
            for server in reply.servers {
                var endpoints: [Endpoint] = []
                for text in server.registration.endpoints { endpoints.append(try Endpoint(advertised: text)) }
                listed.append(endpoints)
            }
            metadata.follow(listed)
            return !listed.isEmpty
        }
        self.metadata = metadata
        self.management = management
    }

    public func start() {
        metadata.start()
        management.start()
    }

    public func stop() {
        metadata.stop()
        management.stop()
    }

    /// For Prometheus.
    public var metricsText: String { metadata.metricsText + (management.servers.isEmpty ? "" : management.metricsText) }
}
