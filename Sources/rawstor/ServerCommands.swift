import Arguments
import Base
import Client
import Wire

/// The servers of a cluster beside its OSTs: the metadata servers, and the management servers where there are any.

func listServers(_ invocation: Invocation) throws(Failure) {
    let address = try invocation.address()
    let servers = try inCluster(invocation, address) { catalogue throws(Failure) in
        let servers = await catalogue.knownServers()
        // Where nobody answers, this says why.
        if !servers.contains(where: \.isAlive) { _ = try await catalogue.osts() }
        return servers
    }
    let reports = servers.map(ServerReport.init)
    invocation.answer(
        .object([("servers", .array(reports.map(\.json)))]), table([ServerReport.columns] + reports.map(\.row)))
}

/// One of them.
struct ServerReport {
    var server: KnownServer

    init(_ server: KnownServer) { self.server = server }

    private var role: String {
        switch server.role {
        case .mdt: "MDT"
        case .mgs: "MGS"
        case nil, .client, .ost: "-"
        }
    }

    private var lastHeard: String {
        guard let silence = server.silence else { return server.isAlive ? "now" : "-" }
        return agoText(silence)
    }

    var json: JSON {
        .object([
            ("role", server.role == nil ? .null : .string(role.lowercased())),
            ("addresses", .array(server.endpoints.map { .string($0) })), ("host", .string(server.host)),
            ("state", .string(server.isAlive ? "up" : "away")),
            ("silence_seconds", server.silence.map { .decimal(Double($0.milliseconds) / 1000, 1) } ?? .null),
        ])
    }

    static let columns = ["SERVER", "ROLE", "HOST", "STATE", "LAST HEARD"]

    var row: [String] {
        [
            server.endpoints.joined(separator: " "), role, server.host.isEmpty ? "-" : server.host, server.isAlive ? "up" : "away",
            lastHeard,
        ]
    }
}

extension [KnownServer] {
    /// As one line of the status: "3, 1 away"; nil where there is none of the role.
    func summary(of role: Hello.Role) -> String? {
        let these = filter { $0.role == role }
        let away = these.count { !$0.isAlive }
        if these.isEmpty { return nil }
        return "\(these.count), \(away == 0 ? "all up" : "\(away) away")"
    }
}
