import Base
import Daemon
import Environment
import Testing

@Suite struct ListenAddressTests {
    @Test func addressesAreReadAsPeopleWriteThem() throws {
        #expect(try ListenAddress.parse("127.0.0.1:7710") == .tcp(host: "127.0.0.1", port: 7710))
        #expect(try ListenAddress.parse("[::1]:0") == .tcp(host: "::1", port: 0))
        for text in ["", ":7710", "host", "host:", "host:70000", "::1:7710", "[::1]", "host:x"] {
            #expect(throws: Failure.self, "\(text)") { try ListenAddress.parse(text) }
        }
    }

    @Test func onlyLoopbackNeedsNoPermission() throws {
        for local in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1"] {
            try ListenAddress.check(try ListenAddress.parse(local), allowsNetwork: false)
        }
        for remote in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "127.0.0.1.example.org:1", "127.example:1", "1270.0.0.1:1"] {
            let endpoint = try ListenAddress.parse(remote)
            #expect(throws: Failure.self, "\(remote)") { try ListenAddress.check(endpoint, allowsNetwork: false) }
            try ListenAddress.check(endpoint, allowsNetwork: true)
        }
    }
}
