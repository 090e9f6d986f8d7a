import Base
import Client
import Environment
import Simulation
import Testing
import VolumeEngine
import Wire

/// What an earlier writer may still read when another one has the volume (P3). One simulation at a time: a mutant is switched for all of
/// them.
@Suite(.serialized) struct SuccessorTests {
    /// The answer to an exclusion is lost, and its writer is cut off from everybody but the member that it has excluded. Whether it reads
    /// there what its successor has written anew.
    private func readsOnWhereAMemberHasLeft() throws -> Bool {
        let run = try VolumeRun(seed: 31, placements: 1)
        let (bench, map) = (run.bench, try run.map())
        let (staying, leaving, block) = try prepare(run, map)
        leaving.kill()
        run.submit(.write, 0, 1)
        try bench.waitUntil("it is excluded") { run.states(map.object.id).contains(.stale) }
        for host in [bench.mds, staying.host] { bench.universe.partition(host, run.clientHost) }
        try leaving.start()
        try bench.waitUntil("it is there again for its writer") { run.volume?.isDegraded == false }
        return try readsOld(run, block, bench.universe.addHost("other"))
    }

    /// The successor reaches all but one, and the writer before it that one only: it must miss the word of the others sooner than the
    /// successor writes.
    private func readsOnWithoutTheWordOfAll() throws -> Bool {
        let run = try VolumeRun(seed: 33, placements: 1)
        let (bench, map) = (run.bench, try run.map())
        let (staying, leaving, block) = try prepare(run, map)
        let other = bench.universe.addHost("other")
        for host in [bench.mds, staying.host] { bench.universe.partition(host, run.clientHost) }
        bench.universe.partition(leaving.host, other)
        return try readsOld(run, block, other)
    }

    /// Opens the volume and writes a block of which the second of the two members is read: the first is for the chunks between.
    private func prepare(_ run: VolumeRun, _ map: VolumeMap) throws -> (first: OST, second: OST, block: Int) {
        let block = Int(map.object.layout.chunkBytes) / Block.bytes
        try run.open()
        run.submit(.write, block, 1)
        run.submit(.flush, 0, 1)
        try run.drain()
        return (run.ost(map.ost(0, 0).store), run.ost(map.ost(0, 1).store), block)
    }

    /// Another client opens the volume and writes the block. Whether the first one still reads it.
    private func readsOld(_ run: VolumeRun, _ block: Int, _ host: SimHost) throws -> Bool {
        let world = host.start("client")
        let successor = try run.openVolume(in: world, force: true)
        try write(successor, block: block, in: world, run.bench)
        let before = run.successes
        run.submit(.read, block, 1)
        run.bench.universe.run(for: .seconds(6))
        let hasRead = run.successes > before
        try run.bench.run(world) { await successor.close() }
        return hasRead
    }

    private func write(_ volume: Volume, block: Int, in world: SimWorld, _ bench: MDTBench) throws {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Block.bytes, alignment: 4096)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0xee)
        var outcome: Status?
        volume.onCompletion = { _, status in outcome = status }
        let operation = Operation(
            .write, offset: UInt64(block * Block.bytes), bytes: UInt64(Block.bytes), deadline: .seconds(60), tag: Operation.Tag(0, 0))
        let vectors = [IOVector(try #require(memory.baseAddress), memory.count)]
        #expect(vectors.withUnsafeBufferPointer { volume.submit(operation, $0) } == nil)
        world.spawn { volume.kick() }
        try bench.waitUntil("it is written") { outcome != nil }
        #expect(outcome == .ok)
    }

    @Test func aWriterThatHasNotHeardOfAnExclusionReadsNothingOld() throws { #expect(try !readsOnWhereAMemberHasLeft()) }

    @Test func aWriterThatMissesTheWordOfAMemberReadsNothingOld() throws { #expect(try !readsOnWithoutTheWordOfAll()) }

    /// What only it has taken of a write was not reconciled with the other one, which dies before it hears that this one is excluded.
    @Test func aMemberThatWasAwayWhenTheVolumeWasOpenedIsNotReadBeforeOthersKnow() throws {
        let run = try VolumeRun(seed: 34, placements: 1)
        let bench = run.bench
        let (staying, missed, block) = try prepare(run, run.map())
        // The mark follows within a second: nothing of that is in doubt.
        bench.universe.run(for: .seconds(3))
        bench.universe.partition(staying.host, run.clientHost)
        bench.universe.breakConnections(staying.host, run.clientHost)
        bench.universe.run(for: .milliseconds(50))
        run.submit(.write, block, 1)
        bench.universe.run(for: .milliseconds(50))
        run.crash()
        missed.kill()
        bench.universe.heal()
        let world = bench.universe.addHost("fate").start("fate")
        world.spawn {
            let operations = Operations(world)
            // An open gives the other one three seconds, and has its word until four seconds later.
            await operations.sleep(.milliseconds(2_900))
            staying.kill()
        }
        try run.open()
        try missed.start()
        let before = run.successes
        run.submit(.read, block, 1)
        bench.universe.run(for: .milliseconds(1_900))
        #expect(run.successes == before)
        try staying.start()
        try run.drain()
        #expect(run.successes == before + 1 && run.errors == [])
    }

    private func timeToOpen(_ run: VolumeRun) throws -> Interval {
        let asked = run.bench.universe.now
        try run.open()
        return run.bench.universe.now - asked
    }

    /// It is waited for once, and only for those who may not have heard.
    @Test func anOpenWaitsOnlyForWhoMayNotHaveHeard() throws {
        let run = try VolumeRun(seed: 32)
        let osts = run.bench.osts
        func exclude(_ ost: OST) throws {
            ost.kill()
            for chunk in 0..<3 { run.submit(.write, chunk * 16, 1) }
            try run.drain()
        }
        #expect(try timeToOpen(run) < .seconds(1))
        try exclude(osts[0])
        run.crash()
        #expect(try timeToOpen(run) > .seconds(5), "its writer was gone at once: it may have missed the answer")
        run.crash()
        #expect(try timeToOpen(run) > .seconds(5), "nobody is there who could say that the first is done")
        // Its writer looks at the map, and says so.
        run.bench.universe.run(for: .seconds(7))
        run.crash()
        #expect(try timeToOpen(run) < .seconds(1), "an exclusion of long ago")
        try osts[0].start()
        try run.waitForHealth(writes: false)
        try exclude(osts[1])
        try run.close()
        #expect(try timeToOpen(run) < .seconds(1), "who has closed the volume reads no more")
        try run.close()
    }

    /// Nobody but the server knows of the other one yet, and it hears of it with the last that it says.
    @Test func aWriterThatWasReplacedClosesQuietly() throws {
        let run = try VolumeRun(seed: 34)
        try run.open()
        let other = try run.bench.connect()
        #expect(try other.open("vm1", [.write, .force], nonce: 7).object.generation == 2)
        let volume = try #require(run.volume)
        var notices: [VolumeNotice] = []
        volume.onNotice = { notices.append($0) }
        try run.close()
        #expect(!notices.contains(.fenced) && !volume.isDead)
    }

    #if MUTANTS
        @Test func theScenesEndOtherwiseWithoutTheirRules() throws {
            defer { Mutant.active = nil }
            Mutant.active = .opensWithoutWaiting
            #expect(try readsOnWhereAMemberHasLeft() && readsOnWithoutTheWordOfAll())
            Mutant.active = .readsUnheard
            #expect(try readsOnWithoutTheWordOfAll())
        }
    #endif
}
