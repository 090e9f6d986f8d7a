import Base
import MGSDaemon
import Simulation
import Testing
import Wire

private let cluster = Identifier(high: 1, low: 1)
private let other = Identifier(high: 2, low: 2)

private func at(_ seconds: UInt64) -> Instant { Instant(nanoseconds: (1000 + seconds) * 1_000_000_000) }

private func mdt(_ server: UInt64, _ endpoints: String...) -> MDTRegisterRequest {
    MDTRegisterRequest(server: Identifier(high: 7, low: server), endpoints: endpoints, host: "mds\(server)", incarnation: 1)
}

private func ost(_ store: UInt64, _ endpoint: String = "oss:7710", mounts: UInt64 = 1) -> OSTRegisterRequest {
    OSTRegisterRequest(
        store: Identifier(high: 9, low: store), mountCounter: mounts, boot: .zero, endpoints: [endpoint], host: "oss", domain: "oss",
        capacityBytes: 2, freeBytes: 1)
}

/// What a management server knows, and for how long.
@Suite struct DirectoryTests {
    private func refusal(_ body: () throws -> Void) -> Failure? {
        do {
            try body()
            return nil
        } catch { return error as? Failure }
    }

    @Test func whoIsSilentIsAwayAndThenForgotten() throws {
        var directory = Directory()
        #expect(try directory.register(mdt(1, "mds:7700"), of: cluster, by: 1, at: at(0)))
        #expect(try directory.register(ost(1), of: cluster, by: 2, at: at(0)))
        #expect(try !directory.register(mdt(1, "mds:7700"), of: cluster, by: 1, at: at(5)), "a heartbeat is no news")
        #expect(directory.mdts(at: at(34)).map(\.isAlive) == [true] && directory.osts(after: .zero, at: at(34)).map(\.isAlive) == [false])
        #expect(directory.mdts(at: at(35)).map(\.isAlive) == [false])
        #expect(directory.mdts(at: at(35))[0].silence == .seconds(30))
        #expect(try directory.register(mdt(1, "mds:7700"), of: cluster, by: 1, at: at(40)), "its return is")
        #expect(directory.osts(after: .zero, at: at(599)).count == 1 && directory.osts(after: .zero, at: at(600)).isEmpty)
        #expect(directory.mdts(at: at(639)).count == 1 && directory.mdts(at: at(640)).isEmpty)
        #expect(directory.cluster == cluster, "which cluster it is, it knows for good")
        directory.checkInvariants()
    }

    @Test func whoWasHeardOfLastIsListedFirst() throws {
        var directory = Directory()
        for server in 1...3 as ClosedRange<UInt64> {
            _ = try directory.register(mdt(server, "mds\(server):7700"), of: cluster, by: server, at: at(server))
        }
        _ = try directory.register(mdt(2, "mds2:7700"), of: cluster, by: 2, at: at(4))
        #expect(directory.mdts(at: at(5)).map(\.registration.host) == ["mds2", "mds3", "mds1"])
    }

    @Test func theFirstMetadataServerSaysWhichClusterItIs() throws {
        var directory = Directory()
        // Nobody can tell yet which of these is right.
        _ = try directory.register(ost(1), of: cluster, by: 1, at: at(0))
        _ = try directory.register(ost(2), of: other, by: 2, at: at(0))
        #expect(directory.cluster == .zero && directory.ostCount == 2)
        _ = try directory.register(mdt(1, "mds:7700"), of: cluster, by: 3, at: at(1))
        #expect(directory.cluster == cluster)
        #expect(directory.osts(after: .zero, at: at(1)).map(\.registration.store) == [ost(1).store])
        for refused in [
            refusal { _ = try directory.register(ost(2), of: other, by: 2, at: at(2)) },
            refusal { _ = try directory.register(mdt(2, "x:7700"), of: other, by: 4, at: at(2)) },
        ] {
            #expect(refused?.status == .wrongCluster)
            #expect(refused?.detail.contains("\(cluster)") == true && refused?.detail.contains("\(other)") == true)
        }
        #expect(refusal { _ = try directory.register(ost(3), of: .zero, by: 5, at: at(2)) }?.status == .wrongCluster)
        directory.checkInvariants()
        var named = Directory(cluster: other)
        #expect(refusal { _ = try named.register(mdt(1, "mds:7700"), of: cluster, by: 1, at: at(0)) }?.status == .wrongCluster)
    }

    @Test func aServerThatWasStartedAnewTakesItsOwnPlace() throws {
        var directory = Directory()
        _ = try directory.register(mdt(1, "mds:7700", "mds:7701"), of: cluster, by: 1, at: at(0))
        // A second one says that it is at the address of the first, which is there.
        let refused = refusal { _ = try directory.register(mdt(2, "mds:7701"), of: cluster, by: 2, at: at(5)) }
        #expect(refused?.status == .busy && refused?.detail.contains("mds:7701 is the address of another") == true)
        directory.ended(1)
        #expect(try directory.register(mdt(2, "mds:7701"), of: cluster, by: 2, at: at(6)))
        #expect(directory.mdts(at: at(6)).map(\.registration.endpoints) == [["mds:7701"]])
        // The machine of this one lost its power: its connection does not end.
        #expect(refusal { _ = try directory.register(mdt(3, "mds:7701"), of: cluster, by: 3, at: at(20)) } != nil)
        #expect(try directory.register(mdt(3, "mds:7701"), of: cluster, by: 3, at: at(21)))
        // One that says something else of itself stays one.
        #expect(try directory.register(mdt(3, "mds:7702"), of: cluster, by: 3, at: at(22)))
        #expect(directory.mdts(at: at(22)).map(\.registration.endpoints) == [["mds:7702"]])
        directory.checkInvariants()
    }

    @Test func theSecondOfTwoDisksOfOneIdentityIsRefused() throws {
        var directory = Directory()
        _ = try directory.register(ost(1, "a:7710"), of: cluster, by: 1, at: at(0))
        #expect(refusal { _ = try directory.register(ost(1, "b:7710"), of: cluster, by: 2, at: at(5)) }?.status == .wrongStore)
        #expect(try directory.register(ost(1, "b:7710"), of: cluster, by: 2, at: at(15)))
        #expect(try directory.register(ost(1, "b:7710", mounts: 2), of: cluster, by: 3, at: at(16)), "started anew it is news")
    }

    @Test func whatCannotBeIsRefused() {
        var directory = Directory()
        let long = String(repeating: "h", count: Limits.hostNameBytesMax + 1)
        let bad = [
            mdt(1), mdt(1, "mds"), mdt(1, "mds:0"), mdt(1, "m s:1"), mdt(1, "a:1", "a:2", "a:3", "a:4", "a:5"),
            mdt(1, String(repeating: "x", count: Limits.endpointsBytesMax) + ":1"),
            MDTRegisterRequest(server: .zero, endpoints: ["a:1"], host: "", incarnation: 1),
            MDTRegisterRequest(server: cluster, endpoints: ["a:1"], host: long, incarnation: 1),
        ]
        for request in bad {
            let refused = refusal { _ = try directory.register(request, of: cluster, by: 1, at: at(0)) }
            #expect(refused?.status == .invalidArgument, "\(request)")
        }
        #expect(refusal { _ = try directory.register(ost(0, "a"), of: cluster, by: 1, at: at(0)) }?.status == .invalidArgument)
        #expect(directory.mdtCount == 0 && directory.cluster == .zero)
    }

    @Test func thereAreOnlySoMany() throws {
        var directory = Directory()
        for server in 1...UInt64(Limits.metadataServersMax) {
            _ = try directory.register(mdt(server, "m\(server):1"), of: cluster, by: server, at: at(server))
        }
        #expect(refusal { _ = try directory.register(mdt(99, "m:1"), of: cluster, by: 99, at: at(20)) }?.status == .overloaded)
        // The one that was silent longest gives way.
        #expect(try directory.register(mdt(99, "m:1"), of: cluster, by: 99, at: at(31)))
        #expect(directory.mdtCount == Limits.metadataServersMax)
        #expect(!directory.mdts(at: at(31)).contains { $0.registration.host == "mds1" })
        for store in 1...UInt64(Limits.ostsMax) { _ = try directory.register(ost(store), of: cluster, by: 1, at: at(40)) }
        #expect(refusal { _ = try directory.register(ost(9999), of: cluster, by: 1, at: at(41)) }?.status == .overloaded)
        #expect(try directory.register(ost(9999), of: cluster, by: 1, at: at(70)))
        directory.checkInvariants()
        var pages = 0
        var last = Identifier.zero
        var count = 0
        while let end = directory.osts(after: last, at: at(70)).last {
            count += directory.osts(after: last, at: at(70)).count
            (last, pages) = (end.registration.store, pages + 1)
        }
        #expect(count == Limits.ostsMax && pages == Limits.ostsMax / OSTListReply.countMax)
    }

    @Test(arguments: UInt64(1)...4)
    func whateverComesItsInvariantsHold(seed: UInt64) {
        var random = Random(seed: seed)
        var directory = Directory()
        var now: UInt64 = 0
        var taken = 0
        for _ in 0..<3000 {
            now += UInt64(random.below(random.below(20) == 0 ? 400 : 4))
            let connection = UInt64(random.below(30))
            let cluster = random.below(40) == 0 ? other : cluster
            let refused = refusal {
                switch random.below(5) {
                case 0: directory.ended(connection)
                case 1:
                    _ = try directory.register(
                        ost(UInt64(random.below(9)), "o\(random.below(3)):1"), of: cluster, by: connection, at: at(now))
                default:
                    let endpoints = (0...random.below(3)).map { _ in "m\(random.below(24)):1" }
                    let request = MDTRegisterRequest(
                        server: Identifier(high: 0, low: UInt64(random.below(30))), endpoints: endpoints, host: "", incarnation: 1)
                    _ = try directory.register(request, of: cluster, by: connection, at: at(now))
                }
                taken += 1
            }
            _ = refused
            directory.checkInvariants()
            #expect(directory.mdts(at: at(now)).count == directory.mdtCount)
        }
        #expect(taken > 300)
    }
}
