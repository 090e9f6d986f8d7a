import Arguments
import Base
import CSystem
import Daemon
import Environment
import OSTDaemon
import Placement
import Reactor
import Registrar
import Wire

/// What the command line says of the cluster that the OST is to be part of; and the registration that comes of it.
struct Membership {
    /// The metadata servers; none: it stands for itself.
    var servers: [Endpoint] = []
    /// Where clients find it, if that is not where it listens.
    var advertised: [String] = []
    var domain: FailureDomain
    var host: String

    /// Nil where no metadata server is named.
    init?(_ command: ParsedCommand, listening endpoints: [Endpoint]) throws(Failure) {
        for text in command.values("mdt") {
            for part in text.split(separator: ",", omittingEmptySubsequences: false) {
                servers.append(try Membership.endpoint(String(part), "--mdt"))
            }
        }
        for text in command.values("advertise") {
            for part in text.split(separator: ",", omittingEmptySubsequences: false) {
                advertised.append("\(try Membership.endpoint(String(part), "--advertise"))")
            }
        }
        host = Membership.hostName
        if servers.isEmpty {
            for option in ["advertise", "domain"] where command.has(option) {
                throw Failure(.invalidArgument, "--\(option) is for a cluster; name its metadata server with --mdt HOST:PORT")
            }
            return nil
        }
        guard servers.count == Set(servers).count else { throw Failure(.invalidArgument, "a metadata server is named twice with --mdt") }
        if let text = command.value("domain") {
            domain = try FailureDomain(text)
        } else {
            do throws(Failure) { domain = try FailureDomain(host) } catch {
                throw Failure(
                    .invalidArgument, "this machine calls itself '\(host)', which is no failure domain; say --domain ROOM/RACK/HOST")
            }
        }
        guard advertised.isEmpty else { return }
        for endpoint in endpoints {
            guard case .tcp(let name, _) = endpoint else { continue }
            if ["0.0.0.0", "::"].contains(name) {
                throw Failure(
                    .invalidArgument, "clients cannot connect to \(endpoint); say where they find this OST: --advertise HOST:PORT")
            }
        }
        guard endpoints.contains(where: \.isTCP) else {
            throw Failure(.invalidArgument, "a cluster reaches its OSTs over TCP; listen on an address with --listen HOST:PORT")
        }
    }

    private static func endpoint(_ text: String, _ option: String) throws(Failure) -> Endpoint {
        let problem = Failure(.invalidArgument, "\(option): '\(text)' is no address; write HOST:PORT, for example mds1:7700")
        do throws(Failure) {
            let endpoint = try ListenAddress.parse(text)
            if endpoint.port != 0 { return endpoint }
        } catch {
            throw problem
        }
        throw problem
    }

    /// As the kernel has it; empty where it has none.
    private static var hostName: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Limits.hostNameBytesMax + 1) { buffer in
            guard let base = buffer.baseAddress, rs_host_name(base, buffer.count) == 0 else { return "" }
            return String(cString: base)
        }
    }

    /// Tells the servers of the OST, that listens on `endpoints`, from now on.
    func register(_ server: OSTServer, in world: any World, cluster: Identifier, listening endpoints: [Endpoint]) -> Registrar {
        let addresses = advertised.isEmpty ? endpoints.filter(\.isTCP).map(\.description) : advertised
        let registrar = Registrar(world, servers: servers, cluster: cluster) { [unowned server] in
            guard let identity = server.engine.identity else { return nil }
            let statistics = server.engine.storeStatistics
            return OSTRegisterRequest(
                store: identity.store, mountCounter: identity.mountCounter, boot: identity.boot, endpoints: addresses, host: host,
                domain: domain.description, capacityBytes: statistics.capacityBytes, freeBytes: statistics.freeBytes,
                incarnation: identity.incarnation)
        }
        registrar.start()
        return registrar
    }
}

extension Endpoint {
    fileprivate var isTCP: Bool { port != nil }

    fileprivate var port: UInt16? {
        guard case .tcp(_, let port) = self else { return nil }
        return port
    }
}
