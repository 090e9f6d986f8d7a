import Base
import Environment

/// Other servers, as an operator names them, and where a daemon tells them that it is found: what it was told to say, or else where it
/// listens.
public struct Advertisement: Sendable {
    private let named: [String]

    /// `noun` is the daemon's, for the sentences.
    public init(_ values: [String], listening endpoints: [Endpoint], noun: String) throws(Failure) {
        named = try Advertisement.servers(values, option: "--advertise").map(\.description)
        guard named.isEmpty else { return }
        for endpoint in endpoints {
            guard case .tcp(let host, _) = endpoint else { continue }
            if ["0.0.0.0", "::"].contains(host) {
                throw Failure(
                    .invalidArgument, "clients cannot connect to \(endpoint); say where they find this \(noun): --advertise HOST:PORT")
            }
        }
        guard endpoints.contains(where: { $0.port != nil }) else {
            throw Failure(.invalidArgument, "a cluster reaches its \(noun)s over TCP; listen on an address with --listen HOST:PORT")
        }
    }

    /// `endpoints` is where it listens, now that ports are chosen.
    public func addresses(listening endpoints: [Endpoint]) -> [String] {
        named.isEmpty ? endpoints.filter { $0.port != nil }.map(\.description) : named
    }

    /// `HOST:PORT[,HOST:PORT]` in each of the values.
    public static func servers(_ values: [String], option: String) throws(Failure) -> [Endpoint] {
        var servers: [Endpoint] = []
        for text in values {
            for part in text.split(separator: ",", omittingEmptySubsequences: false) {
                servers.append(try server(String(part), option))
            }
        }
        return servers
    }

    private static func server(_ text: String, _ option: String) throws(Failure) -> Endpoint {
        let problem = Failure(.invalidArgument, "\(option): '\(text)' is no address; write HOST:PORT, for example mds1:7700")
        do throws(Failure) {
            let endpoint = try ListenAddress.parse(text)
            if endpoint.port != 0 { return endpoint }
        } catch {
            throw problem
        }
        throw problem
    }
}

extension Endpoint {
    /// Nil of a Unix socket.
    fileprivate var port: UInt16? {
        guard case .tcp(_, let port) = self else { return nil }
        return port
    }
}
