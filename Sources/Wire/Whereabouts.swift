import Base

/// Where a daemon says that it is found, checked by whoever is told, before anything is done with it.
public enum Whereabouts {
    /// `noun` is the daemon's, for the sentence.
    public static func check(_ noun: String, host: String, endpoints: [String]) throws(Failure) {
        guard host.utf8.count <= Limits.hostNameBytesMax else {
            throw Failure(
                .invalidArgument, "the host's name has \(host.utf8.count) characters; at most \(Limits.hostNameBytesMax) are taken")
        }
        guard (1...Limits.endpointsPerOSTMax).contains(endpoints.count), endpoints.allSatisfy(isEndpoint) else {
            throw Failure(
                .invalidArgument,
                "\(noun) has 1 to \(Limits.endpointsPerOSTMax) addresses HOST:PORT for clients, not '\(endpoints.joined(separator: " "))'; "
                    + "name them with --advertise")
        }
        guard endpoints.reduce(0, { $0 + $1.utf8.count }) <= Limits.endpointsBytesMax else {
            throw Failure(
                .invalidArgument,
                "the addresses of \(noun) have at most \(Limits.endpointsBytesMax) characters together; name fewer, or shorter ones")
        }
    }

    private static func isEndpoint(_ text: String) -> Bool {
        guard let colon = text.lastIndex(of: ":"), colon > text.startIndex, let port = UInt16(text[text.index(after: colon)...])
        else { return false }
        return port > 0 && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
    }
}
