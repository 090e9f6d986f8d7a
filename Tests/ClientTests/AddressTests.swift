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

    @Test(arguments: [
        ("", "no address"), ("http://h/a", "no address"), ("ost:///a", "names no host"), ("ost://h:x/a", "is no port"),
        ("ost://h:0/a", "is no port"), ("ost://h:65536/a", "is no port"), ("ost://::1/a", "in brackets"), ("ost://[::1/a", "bracket"),
        ("ost://[::1]x/a", "behind the bracket"), ("ost://h/-a", "is no name"), ("ost://h/a b", "is no name"),
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
