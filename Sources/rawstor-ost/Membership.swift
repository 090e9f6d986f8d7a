import Arguments
import Base
import Daemon
import Environment
import OSTDaemon
import Placement
import Reactor
import Registrar
import Wire

/// What the command line says of the cluster that the OST is to be part of; and the registration that comes of it.
struct Membership {
    /// The metadata servers that are named, and the management servers that know them; none of either: it stands for itself.
    var mdts: [Endpoint]
    var mgss: [Endpoint]
    var advertisement: Advertisement
    var domain: FailureDomain
    var host: String

    /// Nil where no server is named.
    init?(_ command: ParsedCommand, listening endpoints: [Endpoint]) throws(Failure) {
        mdts = try Advertisement.servers(command.values("mdt"), option: "--mdt")
        mgss = try Advertisement.servers(command.values("mgs"), option: "--mgs")
        host = Reactor.hostName
        if mdts.isEmpty, mgss.isEmpty {
            for option in ["advertise", "domain"] where command.has(option) {
                throw Failure(
                    .invalidArgument,
                    "--\(option) is for a cluster; name its metadata server with --mdt HOST:PORT, or its management server with --mgs "
                        + "HOST:PORT")
            }
            return nil
        }
        guard mdts.count == Set(mdts).count else { throw Failure(.invalidArgument, "a metadata server is named twice with --mdt") }
        guard mgss.count == Set(mgss).count else { throw Failure(.invalidArgument, "a management server is named twice with --mgs") }
        if let text = command.value("domain") {
            domain = try FailureDomain(text)
        } else {
            do throws(Failure) { domain = try FailureDomain(host) } catch {
                throw Failure(
                    .invalidArgument, "this machine calls itself '\(host)', which is no failure domain; say --domain ROOM/RACK/HOST")
            }
        }
        advertisement = try Advertisement(command.values("advertise"), listening: endpoints, noun: "OST")
    }

    /// Tells the servers of the OST, that listens on `endpoints`, from now on.
    func register(_ server: OSTServer, in world: any World, cluster: Identifier, listening endpoints: [Endpoint]) -> OSTMembership {
        let addresses = advertisement.addresses(listening: endpoints)
        let membership = OSTMembership(world, mdts: mdts, mgss: mgss, cluster: cluster) { [unowned server] in
            guard let identity = server.engine.identity else { return nil }
            let statistics = server.engine.storeStatistics
            return OSTRegisterRequest(
                store: identity.store, mountCounter: identity.mountCounter, boot: identity.boot, endpoints: addresses, host: host,
                domain: domain.description, capacityBytes: statistics.capacityBytes, freeBytes: statistics.freeBytes,
                incarnation: identity.incarnation)
        }
        membership.start()
        return membership
    }
}
