import Base
import Environment

/// Addresses to listen on as an operator writes them, and which of them need no keys (P8); levels of logs at the end.
public enum ListenAddress {
    /// `HOST:PORT`, with an IPv6 address in brackets.
    public static func parse(_ text: String) throws(Failure) -> Endpoint {
        let problem = Failure(
            .invalidArgument, "'\(text)' is no address to listen on; write HOST:PORT, for example 127.0.0.1:7710 or [::1]:7710")
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { throw problem }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            throw problem
        }
        guard !host.isEmpty else { throw problem }
        return .tcp(host: String(host), port: port)
    }

    /// Whether only this machine can reach it. A name that has to be looked up cannot be known to be.
    public static func isLocal(_ endpoint: Endpoint) -> Bool {
        switch endpoint {
        case .unix: true
        case .tcp(let host, _): host == "localhost" || host == "::1" || isLoopback(host)
        }
    }

    /// 127.x.x.x, all four parts numbers.
    private static func isLoopback(_ host: String) -> Bool {
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }

    /// Until there are keys, whoever reaches the port can read and write every volume.
    public static func check(_ endpoint: Endpoint, allowsNetwork: Bool) throws(Failure) {
        guard isLocal(endpoint) || allowsNetwork else {
            throw Failure(
                .permissionDenied,
                "\(endpoint) can be reached from other machines, and connections are neither authenticated nor encrypted yet: anyone "
                    + "there could read and overwrite every volume; listen on 127.0.0.1, or accept that with --insecure-network")
        }
    }
}

extension LogLevel {
    /// As an operator writes it.
    public init(_ text: String) throws(Failure) {
        switch text {
        case "debug": self = .debug
        case "info": self = .info
        case "warning": self = .warning
        case "error": self = .error
        case _: throw Failure(.invalidArgument, "there is no log level '\(text)'; use debug, info, warning or error")
        }
    }
}
