import Base

/// Where an OST stands, as its operator tells it: `room/rack/host`, or `rack/host` or `host` where there is only one room or rack. What
/// shares a host, a rack or a room fails together, so the members of a chunk are kept apart at one of these levels.
public struct FailureDomain: Hashable, Sendable, CustomStringConvertible {
    /// At which the OSTs of one placement must differ.
    public enum Level: String, CaseIterable, Sendable {
        case ost, host, rack, room

        public init(_ text: String) throws(Failure) {
            guard let level = Level(rawValue: text) else {
                throw Failure(.invalidArgument, "'\(text)' is no level of failure domains; write ost, host, rack or room")
            }
            self = level
        }

        /// As it stands in a sentence.
        var name: String { self == .ost ? "OST" : rawValue }
    }

    /// From the host upwards, as far as they are known.
    private let names: [String]

    public init(_ text: String) throws(Failure) {
        let forms = "a failure domain is written room/rack/host, rack/host or host"
        guard !text.isEmpty else { throw Failure(.invalidArgument, "the name of the host is missing: \(forms)") }
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 3 else { throw Failure(.invalidArgument, "'\(text)' has \(parts.count) names: \(forms)") }
        for part in parts {
            guard !part.isEmpty else { throw Failure(.invalidArgument, "'\(text)' has an empty name: \(forms)") }
            try FailureDomain.check(part, in: text)
        }
        names = parts.reversed().map(String.init)
    }

    private static func check(_ name: Substring, in text: String) throws(Failure) {
        guard name.utf8.count <= Limits.domainNameBytesMax else {
            throw Failure(
                .invalidArgument,
                "'\(name)' has \(name.utf8.count) characters; a name in a failure domain has at most \(Limits.domainNameBytesMax)")
        }
        for (index, byte) in name.utf8.enumerated() {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
                continue
            case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                if index > 0 { continue }
            default: break
            }
            throw Failure(
                .invalidArgument,
                "'\(name)' in '\(text)' is no name: it begins with a letter or digit and goes on with letters, digits, '.', '_' or '-'")
        }
    }

    public var host: String { names[0] }
    public var rack: String? { names.count > 1 ? names[1] : nil }
    public var room: String? { names.count > 2 ? names[2] : nil }

    public var description: String { names.reversed().joined(separator: "/") }

    /// The names from `level` upwards; none where that level is not known.
    func path(at level: Level) -> [String] {
        switch level {
        case .ost, .host: names
        case .rack: Array(names.dropFirst())
        case .room: Array(names.dropFirst(2))
        }
    }
}
