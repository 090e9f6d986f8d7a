import Base

/// Where a catalogue in etcd is, as an operator writes it: `etcd://HOST[:PORT][,HOST[:PORT]…][/NAME]`, or `etcd+tls://…` with encryption.
///
/// All servers of one etcd cluster are named; each is asked until it fails. NAME keeps several catalogues of one etcd apart: keys of etcd
/// are NAME, a slash, and the key. It contains no slash, so none of them is the beginning of another.
public struct EtcdAddress: Hashable, Sendable, CustomStringConvertible {
    public static let defaultPort: UInt16 = 2379
    static let endpointsMax = 16
    static let nameBytesMax = 64

    public var isEncrypted: Bool
    /// `HOST:PORT`, at least one.
    public var endpoints: [String]
    public var name: String

    public static func isOne(_ text: String) -> Bool { text.hasPrefix("etcd://") || text.hasPrefix("etcd+tls://") }

    public init(_ text: String) throws(Failure) {
        isEncrypted = text.hasPrefix("etcd+tls://")
        guard EtcdAddress.isOne(text) else { throw EtcdAddress.problem(text) }
        let rest = text.dropFirst(isEncrypted ? 11 : 7)
        let slash = rest.firstIndex(of: "/")
        name = slash.map { String(rest[rest.index(after: $0)...]) } ?? "rawstor"
        guard (1...EtcdAddress.nameBytesMax).contains(name.utf8.count), name.utf8.allSatisfy(EtcdAddress.isOfName) else {
            throw Failure(
                .invalidArgument,
                "'\(name)' in '\(text)' is no name of a catalogue: 1 to \(EtcdAddress.nameBytesMax) letters, digits, '.', '_' and '-'")
        }
        endpoints = []
        for part in rest[..<(slash ?? rest.endIndex)].split(separator: ",", omittingEmptySubsequences: false) {
            guard let endpoint = EtcdAddress.endpoint(part), endpoints.count < EtcdAddress.endpointsMax else {
                throw EtcdAddress.problem(text)
            }
            guard !endpoints.contains(endpoint) else {
                throw Failure(.invalidArgument, "the server \(endpoint) of etcd is named twice in '\(text)'; name each once")
            }
            endpoints.append(endpoint)
        }
    }

    public var description: String { "\(isEncrypted ? "etcd+tls" : "etcd")://\(endpoints.joined(separator: ","))/\(name)" }

    private static func endpoint(_ part: Substring) -> String? {
        var host = part
        var port = EtcdAddress.defaultPort
        // The last colon, unless it is one of an IPv6 address, which stands in brackets.
        if let colon = part.lastIndex(of: ":"), !part.hasSuffix("]") {
            guard let number = UInt16(part[part.index(after: colon)...]), number > 0 else { return nil }
            host = part[..<colon]
            port = number
        }
        let isAddress = host.hasPrefix("[") && host.hasSuffix("]")
        let name = isAddress ? host.dropFirst().dropLast() : host
        let isGood = name.utf8.allSatisfy { isOfName($0) || (isAddress && $0 == UInt8(ascii: ":")) }
        return (1...253).contains(name.utf8.count) && isGood ? "\(host):\(port)" : nil
    }

    private static func isOfName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        case _: false
        }
    }

    private static func problem(_ text: String) -> Failure {
        Failure(
            .invalidArgument,
            "'\(text)' is no address of etcd; write etcd://HOST:PORT[,HOST:PORT…][/NAME] with at most \(EtcdAddress.endpointsMax) servers, "
                + "for example etcd://mds1:2379,mds2:2379,mds3:2379/rawstor")
    }
}

/// Files in PEM with which etcd and this program trust each other.
public struct EtcdTrust: Hashable, Sendable {
    /// Who has signed etcd's certificate; without it those that the system trusts.
    public var authorities: String?
    /// What etcd is shown, with its key.
    public var certificate: String?
    public var key: String?

    public init(authorities: String? = nil, certificate: String? = nil, key: String? = nil) {
        self.authorities = authorities
        self.certificate = certificate
        self.key = key
    }
}
