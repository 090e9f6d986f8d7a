import Base
import Client
import Environment
import MDTDaemon
import MetaStore
import Metadata
import Simulation
import Testing
import VolumeEngine
import Wire

/// Volumes with two members on three OSTs, end to end in the simulator: the shipping library, daemons and metadata server.
@Suite struct ReplicatedVolumeTests {
    @Test func whatIsWrittenIsOnBothMembersAndReadBackByTheNextWriter() throws {
        let run = try VolumeRun(seed: 1)
        try run.open()
        for block in 0..<64 { run.submit(.write, block, 1) }
        try run.drain()
        run.submit(.flush, 0, 1)
        try run.drain()
        try run.close()
        try run.open()
        for block in 0..<64 { run.submit(.read, block, 1) }
        try run.drain()
        try run.close()
        #expect(run.errors == [] && run.failures() == [])
        #expect(try run.differences() == [])
    }

    @Test func aSecondWriterWaitsForTheFirstAndForceFencesIt() throws {
        let run = try VolumeRun(seed: 2)
        try run.open()
        run.submit(.write, 0, 1)
        try run.drain()
        let other = run.bench.universe.addHost("other").start("client")
        #expect(throws: Failure.self) { _ = try run.openVolume(in: other) }
        let second = try run.openVolume(in: other, force: true)
        run.submit(.write, 1, 1)
        try run.drain()
        #expect(run.volume?.isDead == true)
        try run.bench.run(other) { await second.close() }
    }

    /// Whoever has opened the volume since died before it could fence an OST. The first writer could go on, and never bring a member up to
    /// date again.
    @Test func aWriterThatOnlyTheServerKnowsAsReplacedHearsItWithItsNextQuestion() throws {
        let run = try VolumeRun(seed: 24)
        try run.open()
        run.bench.osts[1].kill()
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        let other = try run.bench.connect()
        #expect(try other.open("vm1", [.write, .force], nonce: 99).object.generation == 2)
        other.close()
        run.submit(.write, 0, 1)
        try run.drain()
        #expect(run.failures() == [] && run.volume?.isDead == false, "no OST knows of it")
        try run.bench.osts[1].start()
        try run.bench.waitUntil("the writer hears of it", seconds: 30) { run.volume?.isDead == true }
    }

    /// Without it writes go on within a second, and the metadata server knows.
    @Test func aKilledOSTCostsLessThanASecond() throws {
        let run = try VolumeRun(seed: 3)
        try run.open()
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        run.bench.osts[1].kill()
        try writeEverywhere(run, within: .seconds(1))
        #expect(run.failures() == [] && run.errors == [])
        let map = try run.bench.connect().ask(.volumeMap, VolumeMapRequest(name: "vm1"), VolumeMap.self)
        #expect(map.object.map == 2 && map.entries.contains { $0.state == .stale })
        try run.close()
        #expect(try run.differences() == [])
    }

    @Test(arguments: UInt64(1)...16) func anOSTThatIsRestartedWithinItsGraceIsNotExcluded(seed: UInt64) throws {
        let run = try VolumeRun(seed: seed)
        try run.open()
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        run.bench.universe.run(for: .seconds(3))
        run.bench.osts[1].kill()
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        run.bench.universe.run(for: .milliseconds(250 + 10 * seed))
        try run.bench.osts[1].start()
        try run.drain()
        let map = try run.bench.connect().ask(.volumeMap, VolumeMapRequest(name: "vm1"), VolumeMap.self)
        #expect(map.object.map == 1)
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
        #expect(try run.differences() == [])
    }

    /// In every placement, from now on.
    private func writeEverywhere(_ run: VolumeRun, within limit: Interval) throws {
        let began = run.bench.universe.now
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        let taken = run.bench.universe.now - began
        #expect(taken < limit, "\(taken.milliseconds) ms")
    }

    /// The writer reaches the OST, the metadata server does not yet. What was written behind the cut would be lost there when it is made up
    /// for.
    @Test func anOSTThatHasMissedACutIsToldBeforeItIsFilled() throws {
        let run = try VolumeRun(seed: 80)
        try run.open()
        try writeEverywhere(run, within: .seconds(1))
        run.bench.osts[1].kill()
        try writeEverywhere(run, within: .seconds(1))
        let peer = try run.bench.connect()
        for bytes in [UInt64(Block.bytes), UInt64(VolumeRun.blocks * Block.bytes)] {
            _ = try peer.resize("vm1", bytes)
            try run.bench.waitUntil("the writer knows it", seconds: 20) { run.volume?.object.bytes == bytes }
        }
        try writeEverywhere(run, within: .seconds(1))
        run.bench.universe.partition(run.bench.mds, run.bench.osts[1].host)
        try run.bench.osts[1].start()
        run.bench.universe.run(for: .seconds(10))
        #expect(try run.map().entries.contains { $0.state == .stale })
        run.bench.universe.healPartition(run.bench.mds, run.bench.osts[1].host)
        try run.waitForHealth(writes: false)
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
        #expect(try run.differences() == [])
    }

    /// As `rawstor_resize` does when no OST has told the new size.
    @Test func aWriterWhomNoOSTCanTellAsksTheServerHowLargeTheVolumeIs() throws {
        let run = try VolumeRun(seed: 81)
        let host = run.bench.universe.addHost("other")
        let world = host.start("client")
        let volume = try run.openVolume(in: world)
        let (before, after) = (volume.object.bytes, volume.object.bytes * 2)
        for ost in run.bench.osts { run.bench.universe.partition(ost.host, host) }
        #expect(try run.bench.connect().resize("vm1", after).object.bytes == after)
        #expect(volume.object.bytes == before)
        let asked = try run.bench.run(world) { () throws(Failure) in try await volume.askSize(deadline: world.now + .seconds(1)) }
        #expect(asked == after && volume.object.bytes == after)
        for ost in run.bench.osts { run.bench.universe.healPartition(ost.host, host) }
        try run.bench.run(world) { await volume.close() }
    }

    /// Between the answer of the metadata server and those of the OSTs, which have heard of a newer map then.
    @Test func anOpenThatAResizeComesBetweenKnowsTheNewSize() throws {
        let run = try VolumeRun(seed: 82)
        let universe = run.bench.universe
        let (host, tool) = (universe.addHost("other"), universe.addHost("tool").start("tool"))
        for ost in run.bench.osts { universe.partition(ost.host, host) }
        let bytes = UInt64(VolumeRun.blocks * Block.bytes) * 2
        universe.after(.milliseconds(500)) {
            tool.spawn {
                let catalogue = MDTCatalogue(tool, [MDTBench.address])
                defer { catalogue.close() }
                do { try await catalogue.resize("vm1", bytes: bytes) } catch { Issue.record(error) }
                for ost in run.bench.osts { universe.healPartition(ost.host, host) }
            }
        }
        let world = host.start("client")
        let volume = try run.openVolume(in: world)
        #expect(volume.object.bytes == bytes)
        try run.bench.run(world) { await volume.close() }
    }

    @Test func anOSTThatIsCutOffCostsLessThanFiveSeconds() throws {
        let run = try VolumeRun(seed: 4)
        try run.open()
        run.bench.universe.partition(run.bench.osts[1].host, run.clientHost)
        try writeEverywhere(run, within: .seconds(5))
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
    }

    @Test func aRestartOfTheMetadataServerIsNotNoticed() throws {
        let run = try VolumeRun(seed: 5)
        try run.open()
        // Each in turn, so that none can hide behind another: while it is away, while it starts, and after it.
        var longest = Interval.milliseconds(0)
        func write(_ count: Int) throws {
            for block in 0..<count {
                let began = run.bench.universe.now
                run.submit(.write, block * 32, 1)
                run.submit(.read, block * 32 + 16, 1)
                try run.drain()
                longest = max(longest, run.bench.universe.now - began)
            }
        }
        try write(16)
        let usual = longest
        run.bench.killMDT()
        try write(16)
        run.bench.universe.run(for: .seconds(3))
        try write(16)
        try run.bench.startMDT()
        try write(64)
        #expect(longest < Interval(nanoseconds: usual.nanoseconds * 4), "\(longest.milliseconds) ms, usually \(usual.milliseconds) ms")
        run.bench.universe.run(for: .seconds(5))
        // The writer is known there again.
        let other = run.bench.universe.addHost("other").start("client")
        #expect(throws: Failure.self) { _ = try run.openVolume(in: other) }
        #expect(run.failures() == [])
        try run.close()
        #expect(try run.differences() == [])
    }

    /// With the metadata server gone a member that fails makes writes wait, and they go on when it is back.
    @Test func writesWaitWhileNobodyCanExclude() throws {
        let run = try VolumeRun(seed: 6)
        try run.open()
        run.bench.killMDT()
        run.bench.osts[1].kill()
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        run.bench.universe.run(for: .seconds(8))
        #expect(run.underWay > 0)
        try run.bench.startMDT()
        try run.drain()
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
        #expect(try run.differences() == [])
    }

    /// It gets what it missed and no more, while writes go on; then the other one may die.
    @Test func aMemberThatWasAwayIsBroughtUpToDate() throws {
        let run = try VolumeRun(seed: 7)
        try run.open()
        for block in 0..<1024 { run.submit(.write, block * 4, 1) }
        try run.drain()
        run.submit(.flush, 0, 1)
        try run.drain()
        run.bench.osts[1].kill()
        // In so many chunks that it keeps some of them.
        for block in 0..<16 { run.submit(.write, block * 17, 1) }
        try run.drain()
        try run.bench.osts[1].start()
        for round in 0..<40 {
            run.submit(.write, round * 50, 3)
            run.bench.universe.run(for: .milliseconds(50))
        }
        try run.drain()
        try run.waitForHealth()
        #expect(run.bench.logs.contains { $0.contains("brought up to date") })
        #expect(try run.differences() == [])
        run.bench.osts[0].kill()
        run.bench.osts[2].kill()
        for block in 0..<64 { run.submit(.read, block * 4, 1) }
        run.bench.universe.run(for: .seconds(3))
        try run.bench.osts[0].start()
        try run.bench.osts[2].start()
        try run.drain()
        #expect(run.errors == [] && run.failures() == [])
    }

    /// The writer's metadata server dies together with an OST: it finds another one, and excludes there, while nobody else gets the volume.
    @Test func theWriterGoesOnAtAnotherMetadataServer() throws {
        let run = try VolumeRun(seed: 12, servers: 2)
        try run.open()
        for block in 0..<16 { run.submit(.write, block * 32, 1) }
        try run.drain()
        run.bench.killMDT(0)
        run.bench.osts[1].kill()
        try writeEverywhere(run, within: .milliseconds(1500))
        let other = run.bench.universe.addHost("other").start("client")
        #expect(throws: Failure.self) { _ = try run.openVolume(in: other) }
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
        try run.bench.startMDT(0)
        #expect(try run.differences() == [])
    }

    /// A machine with both of them dies without a word, whatever the writer has just asked its server.
    @Test(arguments: UInt64(0)..<12) func aMachineWithAnOSTAndTheMetadataServerCostsLessThanFiveSeconds(step: UInt64) throws {
        let run = try VolumeRun(seed: 60 + step, servers: 2)
        try run.open()
        run.submit(.write, 0, 64)
        try run.drain()
        run.bench.universe.run(for: .milliseconds(4000 + 400 * step))
        for host in [run.bench.mds, run.bench.osts[1].host] { run.bench.universe.partition(host, run.clientHost) }
        try writeEverywhere(run, within: .seconds(5))
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
    }

    /// The catalogue takes longer than the first attempt at an exclusion has, and of the other servers one has been away for long.
    @Test func anExclusionGetsThroughWhereTheCatalogueIsSlow() throws {
        let run = try VolumeRun(seed: 73, servers: 3)
        let away = try #require(run.bench.universe.host("mds1"))
        run.bench.universe.partition(away, run.clientHost)
        try run.open()
        run.submit(.write, 0, 64)
        try run.drain()
        (run.bench.contents.delayMin, run.bench.contents.delayMax) = (.milliseconds(120), .milliseconds(120))
        run.bench.osts[1].kill()
        try writeEverywhere(run, within: .seconds(8))
        #expect(run.failures() == [] && run.errors == [])
        try run.close()
    }

    /// It says hello, and no more. Both were silent once.
    @Test func aServerThatCannotReachTheCatalogueIsNotAskedForEver() throws {
        let run = try VolumeRun(seed: 75, servers: 2)
        try run.open()
        run.submit(.write, 0, 64)
        try run.drain()
        for server in 0..<2 { run.bench.universe.partition(run.bench.hostOfMDT(server), run.clientHost) }
        run.bench.universe.run(for: .seconds(10))
        for server in 0..<2 { run.bench.universe.healPartition(run.bench.hostOfMDT(server), run.clientHost) }
        run.bench.contents.heldUp = run.bench.mdt
        run.bench.osts[1].kill()
        try writeEverywhere(run, within: .seconds(10))
        #expect(run.failures() == [] && run.errors == [])
        run.bench.contents.heldUp = nil
        try run.close()
    }

    /// A metadata server dies again and again, an OST and the writer often with it.
    @Test(arguments: UInt64(1)...6) func withSeveralMetadataServersNothingIsLost(seed: UInt64) throws {
        let run = try VolumeRun(seed: seed * 37, servers: 3)
        try run.open()
        for _ in 0..<8 {
            let (server, isAlone) = (run.below(3), run.below(3) == 0)
            run.bench.killMDT(server)
            if !isAlone { run.bench.osts[1].kill() }
            for _ in 0..<40 {
                let kinds: [Operation.Kind] = [.read, .write, .write, .discard, .flush]
                run.submit(kinds[run.below(5)], run.below(run.below(2) == 0 ? 64 : VolumeRun.blocks - 64), 1 + run.below(4))
                run.bench.universe.run(for: .milliseconds(UInt64(run.below(40))))
            }
            if run.below(3) == 0 {
                run.crash()
                try run.openWhenFree()
            }
            try run.bench.startMDT(server)
            if !isAlone { try run.bench.osts[1].start() }
            run.bench.universe.run(for: .milliseconds(UInt64(run.below(1500))))
        }
        try run.drain()
        try run.waitForHealth()
        for start in stride(from: 0, to: VolumeRun.blocks, by: 64) {
            run.submit(.read, start, 64)
            try run.drain()
        }
        #expect(run.errors == [])
        #expect(run.bench.logs.contains { $0.contains("members excluded") })
        try run.close()
        #expect(try run.differences() == [])
    }

    /// A block that is damaged on the only copy is lost, and nothing else: the rest gets its second copy, and nobody reads what is older.
    @Test func damageOnTheOnlyCopyDoesNotKeepTheRestFromBeingCopied() throws {
        let run = try VolumeRun(seed: 8)
        try run.open()
        run.submit(.write, 0, 64)
        try run.drain()
        run.submit(.flush, 0, 1)
        try run.drain()
        run.bench.osts[1].kill()
        for block in 0..<16 { run.submit(.write, block, 1) }
        run.submit(.flush, 0, 1)
        try run.drain()
        // The ninth entry of the log, so the value 11: operations 0 and 1 came before.
        let damaged = run.bench.osts.filter { $0.isRunning && $0.damage(value: 11) }
        #expect(damaged.count == 1)
        try run.bench.osts[1].start()
        try run.waitForHealth(writes: false)
        #expect(run.bench.logs.contains { $0.contains("a block is damaged on every member in sync") })
        for block in 0..<64 { run.submit(.read, block, 1) }
        try run.drain()
        #expect(run.failures() == [.damaged] && run.errors.count == 1, "\(run.errors)")
        run.submit(.write, 8, 1)
        run.submit(.read, 8, 1)
        try run.drain()
        #expect(run.failures() == [.damaged])
        try run.close()
        #expect(try run.differences() == [])
    }
}

/// A volume with a history: what each block may be, given what was acknowledged, by whichever writer.
final class VolumeRun {
    static let blocks = 4096
    let bench: MDTBench
    let clientHost: SimHost
    private var random: UInt64
    private var world: SimWorld
    private(set) var volume: Volume?
    private var log: [Entry] = []
    private var mixtures: [String] = []
    /// Operations of the writer that runs now.
    private(set) var underWay = 0
    private var epoch = 0

    private struct Entry {
        var kind: Operation.Kind
        var first: Int
        var count: Int
        var value: UInt32
        var status: Status?
        var seen: [UInt32] = []
    }

    /// Where the volume is opened; by default at the metadata servers.
    var doors: [Endpoint]?

    init(
        seed: UInt64, servers: Int = 1, managers: Int = 0, floor: Int = 1, belowFloor: BelowFloor = .wait, replicas: UInt16 = 2,
        placements: Int = 0, bytes: UInt64 = UInt64(blocks * Block.bytes), chunkBytes: UInt64 = 64 << 10,
        spareAfter: Interval = Limits.spareAfterDefault
    ) throws {
        bench = try MDTBench(seed: seed, servers: servers, managers: managers, spareAfter: spareAfter)
        random = seed &* 0x9e37_79b9_7f4a_7c15
        clientHost = bench.universe.addHost("compute")
        world = clientHost.start("writer")
        // Small chunks are small pages, so that a change that is overlooked is not found by chance beside another one.
        let layout = Layout(chunkBytes: chunkBytes, dataMembers: replicas)
        let request = VolumeCreateRequest(
            name: "vm1", bytes: bytes, layout: layout, floor: floor, placements: placements, belowFloor: belowFloor)
        _ = try bench.connect().ask(.volumeCreate, request, VolumeMap.self)
    }

    func below(_ bound: Int) -> Int {
        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(random >> 33) % bound
    }

    /// Operations that have ended well.
    var successes: Int { log.count { $0.status == .ok } }

    func failures() -> [Status] { log.compactMap(\.status).filter { $0 != .ok } }

    func openVolume(in world: SimWorld, force: Bool = false) throws -> Volume {
        let servers = doors ?? bench.addresses
        return try bench.run(world) { () throws(Failure) in
            var options = OpenOptions(force: force)
            options.deadline = .seconds(30)
            return try await Volume.open(world, Address(cluster: servers, name: "vm1"), options)
        }
    }

    func open() throws {
        let volume = try openVolume(in: world)
        underWay = 0
        epoch += 1
        volume.onCompletion = { [unowned self] tag, status in ended(Int(tag.second), status) }
        self.volume = volume
    }

    /// A writer whose machine died may be held for alive, by another metadata server, until it was silent for long enough.
    func openWhenFree() throws {
        let end = bench.universe.now + Limits.writerSilenceMax + .seconds(4)
        while true {
            do { return try open() } catch let error as Failure {
                guard error.status == .busy, bench.universe.now < end else { throw error }
                bench.universe.run(for: .milliseconds(500))
            }
        }
    }

    func close() throws {
        guard let volume else { return }
        try bench.run(world) { await volume.close() }
        self.volume = nil
    }

    /// The process dies with whatever it had under way.
    func crash() {
        world.kill()
        volume = nil
        world = clientHost.start("writer")
        underWay = 0
        epoch += 1
    }

    // Operations

    private var memory: [Int: UnsafeMutableRawBufferPointer] = [:]
    private var epochs: [Int] = []

    deinit {
        bench.universe.end()
        for buffer in memory.values { buffer.deallocate() }
    }

    func submit(_ kind: Operation.Kind, _ first: Int, _ count: Int) {
        guard let volume, !volume.isDead else { return }
        let number = log.count
        let value = UInt32(number + 1)
        log.append(Entry(kind: kind, first: first, count: count, value: kind == .write ? value : 0))
        epochs.append(epoch)
        var vectors: [IOVector] = []
        if kind.movesData {
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count * Block.bytes, alignment: 4096)
            if kind == .write {
                for word in 0..<buffer.count / 4 { buffer.storeBytes(of: value, toByteOffset: word * 4, as: UInt32.self) }
            }
            memory[number] = buffer
            if let base = buffer.baseAddress { vectors = [IOVector(base, buffer.count)] }
        }
        let operation = Operation(
            kind, offset: UInt64(first * Block.bytes), bytes: UInt64(count * Block.bytes), deadline: .seconds(120),
            tag: Operation.Tag(0, UInt(number)))
        underWay += 1
        let refusal = vectors.withUnsafeBufferPointer { volume.submit(operation, $0) }
        if let refusal {
            underWay -= 1
            log[number].status = refusal
        } else {
            world.spawn { [weak volume] in volume?.kick() }
        }
    }

    private func ended(_ number: Int, _ status: Status) {
        guard epochs[number] == epoch else { return }
        underWay -= 1
        log[number].status = status
        guard log[number].kind == .read, status == .ok, let buffer = memory[number] else { return }
        for block in 0..<log[number].count {
            let values = Set((0..<Block.bytes / 4).map { buffer.load(fromByteOffset: block * Block.bytes + $0 * 4, as: UInt32.self) })
            if values.count != 1 { mixtures.append("block \(log[number].first + block) reads as a mixture of \(values.count) writes") }
            log[number].seen.append(values.first ?? 0)
        }
    }

    func drain() throws { try bench.waitUntil("all operations have ended", seconds: 150) { underWay == 0 } }

    func waitForHealth(writes: Bool = true) throws {
        let end = bench.universe.now + .seconds(60)
        while try !map().entries.allSatisfy({ $0.state == .inSync }) {
            guard bench.universe.now < end else { return mixtures.append("members are not brought up to date") }
            for _ in 0..<25 {
                if writes, underWay < 8 { submit(.write, below(VolumeRun.blocks - 8), 1 + below(4)) }
                bench.universe.run(for: .milliseconds(20))
            }
        }
    }

    func ost(_ store: Identifier) -> OST {
        guard let found = bench.osts.first(where: { $0.store == store }) else { preconditionFailure("store \(store) is served by nobody") }
        return found
    }

    /// Of all members, in the catalogue as it is at this moment.
    func states(_ id: Identifier) -> [MemberState] {
        do throws(Failure) {
            return try bench.contents.volume(id)?.entries.map(\.state) ?? []
        } catch {
            mixtures.append("the catalogue: \(error.detail)")
            return []
        }
    }

    /// All members on this OST count, whatever the others do.
    func waitForHealth(of ost: OST) throws {
        let end = bench.universe.now + .seconds(60)
        while true {
            let map = try map()
            if map.entries.allSatisfy({ $0.state == .inSync || map.osts[$0.ost].store != ost.store }) { return }
            guard bench.universe.now < end else { return mixtures.append("OST \(ost.number) is not brought up to date") }
            bench.universe.run(for: .milliseconds(100))
        }
    }

    private var inquiries: [Int: (ControlConnection, FrameHeader)] = [:]

    func map() throws -> VolumeMap {
        let peer = try bench.connect()
        defer { peer.close() }
        return try peer.ask(.volumeMap, VolumeMapRequest(name: "vm1"), VolumeMap.self)
    }

    /// Replays the log in the order of submission, which is that of effect for all that overlap.
    var errors: [String] {
        var errors = mixtures
        var possible = [Set<UInt32>](repeating: [0], count: VolumeRun.blocks)
        for (number, entry) in log.enumerated() {
            let isDone = entry.status == .ok
            switch entry.kind {
            case .flush, .rewrite: continue
            case .read:
                guard isDone else { continue }
                for (place, value) in entry.seen.enumerated() {
                    let block = entry.first + place
                    if !possible[block].contains(value) {
                        errors.append("operation \(number): block \(block) reads \(value), not of \(possible[block].sorted())")
                    }
                    possible[block] = [value]
                }
            case .write, .discard, .writeZeroes:
                for block in entry.first..<entry.first + entry.count {
                    if isDone { possible[block] = [entry.value] } else { possible[block].insert(entry.value) }
                }
            }
        }
        let unexpected = log.filter { $0.status != nil && $0.status != .ok }
        for entry in unexpected { errors.append("\(entry.kind) of \(entry.first) ended with \(String(describing: entry.status))") }
        return errors
    }

    /// Blocks in which members in sync differ, as the OSTs themselves see them.
    func differences() throws -> [String] {
        defer {
            for (connection, _) in inquiries.values { connection.close() }
            inquiries = [:]
        }
        let map = try bench.connect().ask(.volumeMap, VolumeMapRequest(name: "vm1"), VolumeMap.self)
        var found: [String] = []
        let chunkBlocks = Int(map.object.layout.chunkBytes) / Block.bytes
        for chunk in 0..<VolumeRun.blocks / chunkBlocks {
            let placement = map.placement(ofChunk: UInt64(chunk))
            var contents: [[BlockCheck]] = []
            for member in 0..<map.membersPerPlacement where map[placement, member].state == .inSync {
                guard let ost = bench.osts.first(where: { $0.store == map.ost(placement, member).store }) else { continue }
                contents.append(try checks(ost, map, chunk: chunk, member: member, blocks: chunkBlocks))
            }
            for other in contents.dropFirst() where other.map(\.check) != contents[0].map(\.check) {
                let block = other.indices.first { other[$0].check != contents[0][$0].check } ?? 0
                found.append("chunk \(chunk) block \(block): \(contents.map { $0[block] })")
            }
        }
        return found
    }

    /// What a member holds of a chunk.
    private func checks(_ ost: OST, _ map: VolumeMap, chunk: Int, member: Int, blocks: Int) throws -> [BlockCheck] {
        let world = bench.client
        return try bench.run { [self] () throws(Failure) in
            let (connection, opened) = try await inquiry(ost, map)
            var header = FrameHeader(.checks)
            header.session = 1
            header.handle = opened.handle
            header.generation = opened.generation
            header.map = opened.map
            header.part = PartAddress(
                chunk: UInt32(chunk), member: UInt16(member),
                incarnation: map[map.placement(ofChunk: UInt64(chunk)), member].incarnation)
            header.blockCount = UInt32(blocks)
            let (_, reply) = try await connection.exchange(header, [], deadline: world.now + .seconds(5))
            return try connection.decode(ChecksReply.self, reply).blocks
        }
    }

    private func inquiry(_ ost: OST, _ map: VolumeMap) async throws(Failure) -> (ControlConnection, FrameHeader) {
        if let known = inquiries[ost.number] { return known }
        let world = bench.client
        let connection = try await ControlConnection.open(
            world, ost.address, cluster: MDTBench.cluster, incarnation: map.incarnation, deadline: world.now + .seconds(5))
        var open = FrameHeader(.open)
        open.session = 1
        open.generation = map.object.generation
        open.map = map.object.map
        let body = OpenRequest(name: map.object.id.description, flags: .recover)
        let (opened, _) = try await connection.exchange(open, body.encoded, deadline: world.now + .seconds(5))
        inquiries[ost.number] = (connection, opened)
        return (connection, opened)
    }
}
