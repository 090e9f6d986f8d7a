import Base
import Placement
import Testing

@Suite struct FailureDomainTests {
    @Test(arguments: [
        ("a", "a", nil, nil), ("r/a", "a", "r", nil), ("x/r/a", "a", "r", "x"), ("Room-1/r.2/oss_3", "oss_3", "r.2", "Room-1"),
        (String(repeating: "n", count: 64), String(repeating: "n", count: 64), nil, nil),
    ])
    func domainsAreReadAndWritten(text: String, host: String, rack: String?, room: String?) throws {
        let domain = try FailureDomain(text)
        #expect(domain.host == host && domain.rack == rack && domain.room == room)
        #expect(domain.description == text)
    }

    @Test(arguments: [
        ("", "the name of the host is missing: a failure domain is written room/rack/host, rack/host or host"),
        ("a/b/c/d", "'a/b/c/d' has 4 names: a failure domain is written room/rack/host, rack/host or host"),
        ("a//c", "'a//c' has an empty name: a failure domain is written room/rack/host, rack/host or host"),
        ("/a", "'/a' has an empty name: a failure domain is written room/rack/host, rack/host or host"),
        ("a/", "'a/' has an empty name: a failure domain is written room/rack/host, rack/host or host"),
        (
            "r/-a",
            "'-a' in 'r/-a' is no name: it begins with a letter or digit and goes on with letters, digits, '.', '_' or '-'"
        ),
        ("a b", "'a b' in 'a b' is no name: it begins with a letter or digit and goes on with letters, digits, '.', '_' or '-'"),
        ("ä", "'ä' in 'ä' is no name: it begins with a letter or digit and goes on with letters, digits, '.', '_' or '-'"),
        (
            String(repeating: "n", count: 65),
            "'\(String(repeating: "n", count: 65))' has 65 characters; a name in a failure domain has at most 64"
        ),
    ])
    func badDomainsGetASentence(text: String, sentence: String) {
        #expect(throws: Failure(.invalidArgument, sentence)) { try FailureDomain(text) }
    }

    @Test func levelsAreRead() throws {
        for level in FailureDomain.Level.allCases { #expect(try FailureDomain.Level(level.rawValue) == level) }
        #expect(throws: Failure(.invalidArgument, "'disk' is no level of failure domains; write ost, host, rack or room")) {
            try FailureDomain.Level("disk")
        }
    }
}
