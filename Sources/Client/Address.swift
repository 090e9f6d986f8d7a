import Base
import Environment

/// Where a volume is: `rawstor://host[:port][,host[:port]]/NAME` in a cluster, whose metadata or management servers those are: which of the
/// two tells their hello; `ost://host[:port]/NAME` or `ost+unix:///NAME?socket=PATH` on one OST. Without NAME it is the cluster or the OST
/// itself: for lists and statistics.
public struct Address: Hashable, Sendable, CustomStringConvertible {
    public enum Kind: Hashable, Sendable {
        /// One OST.
        case ost
        /// The metadata or management servers of a cluster.
        case cluster
    }

    public static let defaultPort: UInt16 = 7710
    /// Of a metadata server. A management server listens there too, if it has a machine of its own.
    public static let clusterPort: UInt16 = 7700
    public var kind: Kind
    /// Of a cluster: all that are named, at least one; of an OST: one.
    public var endpoints: [Endpoint]
    /// Nil where the address stands for the OST or the cluster.
    public var name: String?

    public init(_ endpoint: Endpoint, name: String? = nil) {
        kind = .ost
        endpoints = [endpoint]
        self.name = name
    }

    public init(cluster endpoints: [Endpoint], name: String? = nil) {
        invariant(!endpoints.isEmpty, "a cluster has a server")
        kind = .cluster
        self.endpoints = endpoints
        self.name = name
    }

    /// Of the OST, or the first server of the cluster.
    public var endpoint: Endpoint { endpoints[0] }

    /// The OST or the cluster that this is in.
    public var daemon: Address { with(name: nil) }

    /// Another volume there.
    public func with(name: String?) -> Address {
        var address = self
        address.name = name
        return address
    }

    /// Reads an address as a user types it.
    public init(_ text: String) throws(Failure) {
        if let rest = text.dropping(prefix: "ost+unix://") {
            self = try Address.unix(rest, text)
        } else if let rest = text.dropping(prefix: "ost://") {
            let slash = rest.firstIndex(of: "/") ?? rest.endIndex
            let endpoint = try Address.endpoint(rest[..<slash], in: text, scheme: "ost", defaultPort: Address.defaultPort)
            self = Address(endpoint, name: Address.name(rest[slash...]))
        } else if let rest = text.dropping(prefix: "rawstor://") {
            let slash = rest.firstIndex(of: "/") ?? rest.endIndex
            let parts = rest[..<slash].split(separator: ",", omittingEmptySubsequences: false)
            guard parts.count <= Limits.metadataServersMax else {
                throw Failure(.invalidArgument, "'\(text)' names \(parts.count) servers; at most \(Limits.metadataServersMax) are taken")
            }
            var endpoints: [Endpoint] = []
            for part in parts {
                endpoints.append(try Address.endpoint(part, in: text, scheme: "rawstor", defaultPort: Address.clusterPort))
            }
            self = Address(cluster: endpoints, name: Address.name(rest[slash...]))
        } else {
            throw Failure(
                .invalidArgument,
                "'\(text)' is no address: write rawstor://HOST:PORT/NAME, ost://HOST:PORT/NAME or ost+unix:///NAME?socket=PATH")
        }
        if let name { try ObjectRecord.check(name: name) }
    }

    private static func unix(_ rest: Substring, _ text: String) throws(Failure) -> Address {
        guard rest.first == "/" || rest.first == "?" else {
            throw Failure(.invalidArgument, "'\(text)' names a host; with ost+unix write three slashes: ost+unix:///NAME?socket=PATH")
        }
        guard let mark = rest.firstIndex(of: "?"), let path = rest[rest.index(after: mark)...].dropping(prefix: "socket="), !path.isEmpty
        else { throw Failure(.invalidArgument, "'\(text)' does not say which socket; add ?socket=PATH") }
        guard path.utf8.count < 108 else {
            throw Failure(.invalidArgument, "the socket's path has \(path.utf8.count) bytes, Linux takes at most 107: use a shorter one")
        }
        return Address(.unix(path: String(path)), name: name(rest[..<mark]))
    }

    /// `HOST` or `HOST:PORT`.
    private static func endpoint(
        _ authority: Substring, in text: String, scheme: String, defaultPort: UInt16
    ) throws(Failure) -> Endpoint {
        var host = authority
        var port: Substring?
        if authority.first == "[" {
            guard let bracket = authority.firstIndex(of: "]") else {
                throw Failure(.invalidArgument, "'\(text)' opens a bracket and does not close it; write \(scheme)://[::1]:PORT/NAME")
            }
            host = authority[authority.index(after: authority.startIndex)..<bracket]
            let tail = authority[authority.index(after: bracket)...]
            guard tail.isEmpty || tail.first == ":" else {
                throw Failure(.invalidArgument, "'\(text)' has '\(tail)' behind the bracket where :PORT is expected")
            }
            if !tail.isEmpty { port = tail.dropFirst() }
        } else if let colon = authority.firstIndex(of: ":") {
            guard authority.lastIndex(of: ":") == colon else {
                throw Failure(
                    .invalidArgument, "'\(authority)' has several colons; an IPv6 address goes in brackets: \(scheme)://[::1]:PORT/NAME")
            }
            host = authority[..<colon]
            port = authority[authority.index(after: colon)...]
        }
        guard !host.isEmpty else { throw Failure(.invalidArgument, "'\(text)' names no host; write \(scheme)://HOST:PORT/NAME") }
        guard let port else { return .tcp(host: String(host), port: defaultPort) }
        guard let number = UInt16(port), number > 0 else {
            throw Failure(.invalidArgument, "'\(port)' is no port; it is a number from 1 to 65535")
        }
        return .tcp(host: String(host), port: number)
    }

    private static func name(_ path: Substring) -> String? {
        let name = path.first == "/" ? path.dropFirst() : path
        return name.isEmpty ? nil : String(name)
    }

    public var description: String {
        switch (kind, endpoint) {
        case (.cluster, _): "rawstor://\(endpoints.map(\.description).joined(separator: ","))/\(name ?? "")"
        case (.ost, .tcp): "ost://\(endpoint)/\(name ?? "")"
        case (.ost, .unix(let path)): "ost+unix:///\(name ?? "")?socket=\(path)"
        }
    }
}

extension Endpoint {
    /// As a daemon says where it is found: `HOST:PORT`.
    public init(advertised text: String) throws(Failure) { self = try Address("ost://" + text).endpoint }
}

extension StringProtocol where SubSequence == Substring {
    fileprivate func dropping(prefix: String) -> Substring? { hasPrefix(prefix) ? dropFirst(prefix.count) : nil }
}
