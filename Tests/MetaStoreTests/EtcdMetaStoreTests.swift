import Base
import Environment
import MetaStore
import Simulation
import Testing

@testable import EtcdStore

/// What only a store behind a network can: lose an answer, have servers that fail, be answered nonsense.
@Suite struct EtcdMetaStoreTests {
    /// A real etcd behind a relay.
    private func withRelay(_ body: @escaping @Sendable (EtcdPlace, Relay) async throws -> Void) async throws {
        try await withEtcd { place in
            let relay = try Relay(place.world, place.operations, to: try EtcdServer.shared.get())
            do { try await body(place, relay) } catch {
                await relay.close()
                throw error
            }
            await relay.close()
        }
    }

    private func address(_ endpoints: String..., like place: EtcdPlace) throws -> EtcdAddress {
        try EtcdAddress("etcd://\(endpoints.joined(separator: ","))/\(place.address.name)")
    }

    @Test func aServerThatIsAwayIsPassedOver() async throws {
        try await withRelay { place, relay in
            await (try place.create()).close()
            // Nobody listens on the first port of all.
            let store = try await EtcdMetaStore.open(address("127.0.0.1:1", relay.endpoint, like: place), in: place.world)
            try await store.put("a", "1")
            #expect(try await store.text("a") == "1")
            await store.close()
            let lost = await failure { try await EtcdMetaStore.open(address("127.0.0.1:1", like: place), in: place.world) }
            #expect(lost?.status == .unreachable)
            #expect(
                lost?.detail.contains("127.0.0.1:1: ") == true && lost?.detail.contains("see to its servers") == true,
                "\(lost?.detail ?? "")")
        }
    }

    @Test func aServerThatIsSilentIsPassedOver() async throws {
        try await withRelay { place, relay in
            await (try place.create()).close()
            let store = try await EtcdMetaStore.open(address(relay.endpoint, place.address.endpoints[0], like: place), in: place.world)
            relay.decide = { _ in .beSilent }
            let asked = place.world.now
            #expect(try await store.text("a") == nil)
            let taken = place.world.now - asked
            #expect(taken >= Limits.etcdRequestTimeout && taken < .seconds(4), "\(taken.milliseconds) ms")
            // The other one is asked first from now on.
            let count = relay.bodies.count
            try await store.put("a", "1")
            #expect(relay.bodies.count == count)
            await store.close()
        }
    }

    /// Whoever waits behind others that wait for silence does not wait longer than they may.
    @Test func nobodyWaitsForEver() async throws {
        try await withRelay { place, relay in
            await (try place.create()).close()
            let store = try await EtcdMetaStore.open(address(relay.endpoint, like: place), in: place.world)
            relay.decide = { _ in .beSilent }
            let asked = place.world.now
            try await together(8, in: place.world) { _ in
                #expect(await failure { try await store.read("a") }?.status == .unreachable)
            }
            #expect(place.world.now - asked < .seconds(11))
            await store.close()
        }
    }

    /// An answer that is lost leaves the change made, once; and the caller is told that this is not known.
    @Test func anAnswerThatIsLostIsAnUnknownOutcome() async throws {
        try await withRelay { place, relay in
            await (try place.create()).close()
            let store = try await EtcdMetaStore.open(address(relay.endpoint, like: place), in: place.world)
            for round in UInt8(1)...3 {
                try await store.put("warm", "the connection is one that is used again")
                let before = try await store.read("a")
                relay.decide = { $0.contains("request_put") ? .loseAnswer : .forward }
                let count = relay.bodies.count
                let change = MetaTransaction(if: [.unchanged("a", since: before)], [.put("a", [round])])
                let lost = await failure { try await store.commit(change) }
                #expect(lost?.status == .unreachable && lost?.leavesCommitOpen == true)
                #expect(lost?.detail.contains("not known (\(relay.endpoint): ") == true, "\(lost?.detail ?? "")")
                #expect(relay.bodies.count == count + 1, "it was sent \(relay.bodies.count - count) times")
                relay.decide = { _ in .forward }
                // The rule of MetaStore: again with the same conditions, and a look whose change it was.
                #expect(try await store.commit(change) == .conflict("a"))
                #expect(try await store.read("a")?.bytes == [round])
            }
            await store.close()
        }
    }

    @Test func nonsenseIsAnErrorAndNoAnswer() async throws {
        let header = "\"header\":{\"cluster_id\":\"CLUSTER\",\"revision\":\"99999999\"}"
        let texts = [
            "", "nonsense", "{", "[]", "{\"header\":7}", "{\"header\":{\"cluster_id\":\"x\",\"revision\":\"5\"}}",
            "{\(header),\"responses\":7}", "{\(header),\"succeeded\":1}", "{\(header),\"responses\":[{}]}",
            "{\(header),\"succeeded\":false,\"responses\":[{\"response_range\":{}}]}",
            "{\(header),\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":\"eA==\",\"mod_revision\":\"1\"}]}}]}",
        ]
        try await withRelay { place, relay in
            let first = try await place.create()
            let written = try await first.put("a", "1")
            await first.close()
            for text in texts {
                let store = try await EtcdMetaStore.open(address(relay.endpoint, like: place), in: place.world)
                let cluster = relay.cluster
                relay.decide = { _ in .answer(status: 200, text.replacing("CLUSTER", with: cluster)) }
                let change = MetaTransaction(if: [.absent("b")], [.delete("b")])
                let lost = await failure { try await store.commit(change) }
                #expect(lost?.leavesCommitOpen == true, "\(text): \(String(describing: lost))")
                #expect(await failure { try await store.read("a") }?.status == .unreachable, "\(text)")
                relay.decide = { _ in .forward }
                await store.close()
            }
            let store = try await place.open()
            #expect(try await store.read("a") == MetaValue([49], written))
            await store.close()
        }
    }

    @Test func whatEtcdRefusesIsToldWithWhatToDo() async throws {
        let cases: [(Int, String, Status, String)] = [
            (400, "{\"error\":\"etcdserver: request is too large\",\"code\":3}", .invalidArgument, "limits of requests lowered"),
            (403, "{\"error\":\"etcdserver: permission denied\",\"code\":7}", .permissionDenied, "log in"),
            (429, "{\"error\":\"etcdserver: mvcc: database space exceeded\",\"code\":8}", .noSpace, "defragment"),
            (429, "{\"error\":\"etcdserver: too many requests\",\"code\":8}", .overloaded, "try again"),
            (503, "{\"error\":\"etcdserver: no leader\",\"code\":14}Grpc-Trailer: x", .unreachable, "no leader"),
            (500, "{\"error\":\"etcdserver: corrupt cluster\",\"code\":15}", .damaged, "newest backup"),
            (404, "404 page not found", .unreachable, "no etcd 3.4 or newer"),
        ]
        try await withRelay { place, relay in
            await (try place.create()).close()
            let store = try await EtcdMetaStore.open(address(relay.endpoint, like: place), in: place.world)
            for (status, text, wanted, sentence) in cases {
                relay.decide = { _ in .answer(status: status, text) }
                let refusal = await failure { try await store.put("a", "1") }
                #expect(refusal?.status == wanted && refusal?.detail.contains(sentence) == true, "\(String(describing: refusal))")
                relay.decide = { _ in .forward }
                #expect(try await store.text("a") == nil)
            }
            await store.close()
        }
    }

    /// Servers of two etcds in one list: nothing is written to the second.
    @Test func anotherEtcdIsNotBelieved() async throws {
        try await withRelay { place, relay in
            await (try place.create()).close()
            let other = try Relay(place.world, place.operations, to: try EtcdServer.shared.get())
            let answer =
                "{\"header\":{\"cluster_id\":\"17\",\"revision\":\"99999999\"},\"succeeded\":true,\"responses\":[{\"response_range\":{}}]}"
            other.decide = { _ in .answer(status: 200, answer) }
            let store = try await EtcdMetaStore.open(address(relay.endpoint, other.endpoint, like: place), in: place.world)
            await relay.close()
            let refusal = await failure { try await store.put("a", "1") }
            #expect(refusal?.status == .unreachable && refusal?.detail.contains("another etcd (cluster id 17)") == true)
            #expect(other.bodies.allSatisfy { !$0.contains("request_put") })
            #expect(await failure { try await store.read("a") }?.detail.contains("another etcd") == true)
            await store.close()
            await other.close()
        }
    }

    /// An etcd that was restored from a backup while this runs.
    @Test func anEtcdThatGoesBackEndsTheStore() async throws {
        try await withRelay { place, relay in
            await (try place.create()).close()
            let store = try await EtcdMetaStore.open(address(relay.endpoint, like: place), in: place.world)
            try await store.put("a", "1")
            let cluster = relay.cluster
            relay.decide = { _ in .answer(status: 200, "{\"header\":{\"cluster_id\":\"\(cluster)\",\"revision\":\"1\"},\"succeeded\":true}")
            }
            let failed = await failure { try await store.put("a", "2") }
            #expect(failed?.status == .diskFailed && failed?.detail.contains("restored from a backup") == true)
            relay.decide = { _ in .forward }
            #expect(await failure { try await store.read("a") } == failed)
            await store.close()
        }
    }

    @Test func whatSomebodyElseHasWrittenIsDamage() async throws {
        try await withEtcd { place in
            let store = try await place.create()
            try await store.put("a", "1")
            let client = try EtcdClient(place.address, EtcdMessages(name: place.address.name), EtcdTrust())
            var key: [UInt8] = []
            Base64.append(Array("\(place.address.name)/a".utf8), to: &key)
            let body = "{\"success\":[{\"request_put\":{\"key\":\"\(String(decoding: key, as: UTF8.self))\",\"value\":\"bm90IG91cnM=\"}}]}"
            _ = try client.change(Array(body.utf8), endsBy: .max)
            for refusal in [await failure { try await store.read("a") }, await failure { try await store.all() }] {
                #expect(refusal?.status == .damaged && refusal?.detail.contains("'a'") == true, "\(String(describing: refusal))")
            }
            await store.close()
        }
    }

    @Test func cataloguesOfOneEtcdAreApart() async throws {
        try await withEtcd { place in
            let first = try await place.create()
            try await first.put("a", "first")
            let second = try await EtcdMetaStore.create(
                try EtcdAddress("etcd://\(place.address.endpoints[0])/\(place.address.name)-"), in: place.world)
            #expect(try await second.all().map(\.key) == [MetaFormat.key])
            try await second.put("a", "second")
            #expect(try await first.all().count == 2)
            #expect(try await first.text("a") == "first")
            await first.close()
            await second.close()
        }
    }

    /// Two openings of one catalogue are as two processes.
    @Test func severalServersShareIt() async throws {
        try await withEtcd { place in
            let stores = [try await place.create(), try await place.open(), try await place.open()]
            let conflicts = Tally()
            try await together(6, in: place.world) { index in
                let store = stores[index % 3]
                var left = 20
                while left > 0 {
                    let value = try await store.read("counter")
                    let next = MetaChange.put("counter", [(value?.bytes.first ?? 0) + 1])
                    switch try await store.commit(MetaTransaction(if: [.unchanged("counter", since: value)], [next])) {
                    case .committed: left -= 1
                    case .conflict: conflicts.add()
                    }
                }
            }
            #expect(try await stores[1].read("counter")?.bytes == [120])
            #expect(conflicts.total > 0, "they never met")
            for store in stores { await store.close() }
        }
    }
}
