import Base
import Environment
import Wire

/// A server of a cluster: one that an address names, as it answers, or a metadata server that a management server lists.
public struct KnownServer: Hashable, Sendable {
    /// Nil of one that does not answer, so that it has not said what it is.
    public var role: Hello.Role?
    public var endpoints: [String]
    /// The machine, as that calls itself; empty where it is not known.
    public var host: String
    public var isAlive: Bool
    /// Since a management server heard of it last; nil where none lists it.
    public var silence: Interval?

    /// All of a cluster whose address has these, management servers first. Asks all at once.
    static func all(
        _ world: any World, _ named: [Endpoint], cluster: Identifier, deadline: Instant
    ) async -> [KnownServer] {
        var answers = [[KnownServer]](repeating: [], count: named.count)
        await world.together(named.count) { index in
            do throws(Failure) { answers[index] = try await ask(world, named[index], cluster, deadline) } catch {
                answers[index] = [KnownServer(role: nil, endpoints: ["\(named[index])"], host: "", isAlive: false, silence: nil)]
            }
        }
        var servers: [KnownServer] = []
        for server in answers.joined() { merge(server, into: &servers) }
        return servers.filter { $0.role == .mgs } + servers.filter { $0.role != .mgs }
    }

    /// What several say of one: who has heard of it last knows best.
    private static func merge(_ server: KnownServer, into servers: inout [KnownServer]) {
        guard let place = servers.firstIndex(where: { !Set($0.endpoints).isDisjoint(with: server.endpoints) }) else {
            servers.append(server)
            return
        }
        let known = servers[place]
        let isNewer = server.role != nil && (known.role == nil || (server.isAlive && !known.isAlive))
        if isNewer { servers[place] = server }
        servers[place].host = known.host.isEmpty ? server.host : known.host
        servers[place].silence = [known.silence, server.silence].compactMap { $0 }.min()
    }

    private static func ask(
        _ world: any World, _ endpoint: Endpoint, _ cluster: Identifier, _ deadline: Instant
    ) async throws(Failure) -> [KnownServer] {
        let hello = Hello(role: .client, cluster: cluster, software: "librawstor")
        let connection = try await ControlConnection.open(
            world, endpoint, saying: hello, expecting: [.mdt, .mgs], deadline: deadline)
        defer { connection.close() }
        let own = KnownServer(role: connection.peer.role, endpoints: ["\(endpoint)"], host: "", isAlive: true, silence: nil)
        guard connection.peer.role == .mgs else { return [own] }
        let (_, body) = try await connection.exchange(FrameHeader(.mdtList), [], deadline: deadline)
        let listed = try connection.decode(MDTListReply.self, body).servers.map {
            KnownServer(
                role: .mdt, endpoints: $0.registration.endpoints, host: $0.registration.host, isAlive: $0.isAlive, silence: $0.silence)
        }
        return [own] + listed
    }
}

extension MDTCatalogue {
    /// The metadata and management servers of the cluster, as far as those that are named tell.
    public func knownServers() async -> [KnownServer] {
        await KnownServer.all(world, named, cluster: cluster, deadline: world.now + min(deadline, Limits.connectDeadline))
    }
}
