import Base
import Client
import Environment
import Testing

@Suite struct AddressTests {
    @Test func addressesAreReadAndWritten() throws {
        let cases: [(String, Endpoint, String?, String)] = [
            ("ost://h:1/a/b", .tcp(host: "h", port: 1), "a/b", "ost://h:1/a/b"),
            ("ost://h/a", .tcp(host: "h", port: 7710), "a", "ost://h:7710/a"),
            ("ost://h", .tcp(host: "h", port: 7710), nil, "ost://h:7710/"),
            ("ost://[::1]:99/a", .tcp(host: "::1", port: 99), "a", "ost://[::1]:99/a"),
            ("ost://[::1]", .tcp(host: "::1", port: 7710), nil, "ost://[::1]:7710/"),
            ("ost+unix:///a?socket=/run/o.sock", .unix(path: "/run/o.sock"), "a", "ost+unix:///a?socket=/run/o.sock"),
            ("ost+unix://?socket=o", .unix(path: "o"), nil, "ost+unix:///?socket=o"),
        ]
        for (text, endpoint, name, written) in cases {
            let address = try Address(text)
            #expect(address == Address(endpoint, name: name), "\(text)")
            #expect(address.description == written)
            #expect(try Address(written) == address)
        }
    }

    @Test func addressesOfAClusterNameItsServers() throws {
        let cases: [(String, [Endpoint], String?, String)] = [
            ("rawstor://m/vm1", [.tcp(host: "m", port: 7700)], "vm1", "rawstor://m:7700/vm1"),
            (
                "rawstor://m1:1,m2,[::1]:3/a/b", [.tcp(host: "m1", port: 1), .tcp(host: "m2", port: 7700), .tcp(host: "::1", port: 3)],
                "a/b", "rawstor://m1:1,m2:7700,[::1]:3/a/b"
            ),
            ("rawstor://m", [.tcp(host: "m", port: 7700)], nil, "rawstor://m:7700/"),
        ]
        for (text, endpoints, name, written) in cases {
            let address = try Address(text)
            #expect(address == Address(cluster: endpoints, name: name), "\(text)")
            #expect(address.description == written)
            #expect(try Address(written) == address)
            #expect(address.daemon.name == nil && address.daemon.endpoints == endpoints)
        }
        #expect(try Address("rawstor://m:7710/a") != Address("ost://m:7710/a"))
    }

    @Test(arguments: [
        ("", "no address"), ("http://h/a", "no address"), ("ost:///a", "names no host"), ("ost://h:x/a", "is no port"),
        ("ost://h:0/a", "is no port"), ("ost://h:65536/a", "is no port"), ("ost://::1/a", "in brackets"), ("ost://[::1/a", "bracket"),
        ("ost://[::1]x/a", "behind the bracket"), ("ost://h/-a", "is no name"), ("ost://h/a b", "is no name"),
        ("rawstor:///a", "names no host"), ("rawstor://a,/b", "names no host"), ("rawstor://a,b:x/c", "is no port"),
        ("rawstor://a/b c", "is no name"), ("rawstor://" + String(repeating: "a,", count: 16) + "a/b", "at most 16"),
        ("ost+unix://h/a?socket=x", "three slashes"), ("ost+unix:///a", "which socket"), ("ost+unix:///a?socket=", "which socket"),
        ("ost+unix:///a?socket=/" + String(repeating: "x", count: 107), "at most 107"),
    ])
    func badAddressesGetASentence(text: String, sentence: String) {
        do throws(Failure) {
            _ = try Address(text)
            Issue.record("'\(text)' was taken")
        } catch {
            #expect(error.status == .invalidArgument && error.detail.contains(sentence), "\(error.detail)")
        }
    }
}
