import Base
import Environment

/// Where a volume is: `ost://host:port/NAME` or `ost+unix:///NAME?socket=PATH`. Without NAME it is the OST itself: for lists and
/// statistics.
public struct Address: Hashable, Sendable, CustomStringConvertible {
    public static let defaultPort: UInt16 = 7710

    public var endpoint: Endpoint
    /// Nil where the address stands for the OST.
    public var name: String?

    public init(_ endpoint: Endpoint, name: String? = nil) {
        self.endpoint = endpoint
        self.name = name
    }

    /// Reads an address as a user types it.
    public init(_ text: String) throws(Failure) {
        if let rest = text.dropping(prefix: "ost+unix://") {
            self = try Address.unix(rest, text)
        } else if let rest = text.dropping(prefix: "ost://") {
            self = try Address.tcp(rest, text)
        } else {
            throw Failure(
                .invalidArgument, "'\(text)' is no address: write ost://HOST:PORT/NAME or ost+unix:///NAME?socket=PATH")
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

    private static func tcp(_ rest: Substring, _ text: String) throws(Failure) -> Address {
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        let authority = rest[..<slash]
        var host = authority
        var port: Substring?
        if authority.first == "[" {
            guard let bracket = authority.firstIndex(of: "]") else {
                throw Failure(.invalidArgument, "'\(text)' opens a bracket and does not close it; write ost://[::1]:PORT/NAME")
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
                    .invalidArgument, "'\(authority)' has several colons; an IPv6 address goes in brackets: ost://[::1]:PORT/NAME")
            }
            host = authority[..<colon]
            port = authority[authority.index(after: colon)...]
        }
        guard !host.isEmpty else { throw Failure(.invalidArgument, "'\(text)' names no host; write ost://HOST:PORT/NAME") }
        guard let port else { return Address(.tcp(host: String(host), port: defaultPort), name: name(rest[slash...])) }
        guard let number = UInt16(port), number > 0 else {
            throw Failure(.invalidArgument, "'\(port)' is no port; it is a number from 1 to 65535")
        }
        return Address(.tcp(host: String(host), port: number), name: name(rest[slash...]))
    }

    private static func name(_ path: Substring) -> String? {
        let name = path.first == "/" ? path.dropFirst() : path
        return name.isEmpty ? nil : String(name)
    }

    public var description: String {
        switch endpoint {
        case .tcp: "ost://\(endpoint)/\(name ?? "")"
        case .unix(let path): "ost+unix:///\(name ?? "")?socket=\(path)"
        }
    }
}

extension StringProtocol where SubSequence == Substring {
    fileprivate func dropping(prefix: String) -> Substring? { hasPrefix(prefix) ? dropFirst(prefix.count) : nil }
}
