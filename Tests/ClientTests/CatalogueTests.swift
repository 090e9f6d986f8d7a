import Base
import Client
import Environment
import Simulation
import Testing
import Wire

@Suite struct CatalogueTests {
    @Test func objectsAreCreatedListedResizedAndRemoved() throws {
        for seed in UInt64(1)...5 {
            let bench = try Bench(seed: seed)
            let before = bench.client.outstanding
            try bench.run {
                let catalogue = OSTCatalogue(bench.client, FakeDaemon.endpoint)
                let made = try await catalogue.create("a", bytes: 1 << 30)
                #expect(try await catalogue.stat("a").object == made)
                do throws(Failure) {
                    _ = try await catalogue.create("a", bytes: 1 << 30)
                    Issue.record("created twice")
                } catch {
                    #expect(error == Failure(.alreadyExists, "there is a volume 'a' already"))
                }
                try await catalogue.resize("a", bytes: 2 << 30)
                #expect(try await catalogue.list().map(\.object.name) == ["a", "vm/disk1"])
                #expect(try await catalogue.stat("a").object.bytes == 2 << 30)
                try await catalogue.remove("a")
                #expect(try await catalogue.statistics().objects == 1)
                // A daemon that was restarted is found again by the second call at the latest.
                bench.killDaemon()
                try bench.restartDaemon()
                do { _ = try await catalogue.list() } catch {}
                #expect(try await catalogue.list().count == 1)
                catalogue.close()
            }
            #expect(bench.client.outstanding == before)
        }
    }

    @Test func aDaemonThatIsNotThereIsAnErrorInTime() throws {
        let bench = try Bench()
        bench.server.losePower()
        try bench.run {
            let catalogue = OSTCatalogue(bench.client, FakeDaemon.endpoint, deadline: .seconds(3))
            do throws(Failure) {
                _ = try await catalogue.list()
                Issue.record("listed")
            } catch {
                #expect(error.status == .unreachable)
            }
            #expect(bench.client.now < Instant.zero + .seconds(4))
            catalogue.close()
        }
    }
}
