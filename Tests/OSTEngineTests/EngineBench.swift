import Base
import Environment
import OSTEngine
import PartStore
import Simulation
import Wire

/// One engine over a simulated disk. Clients are byte streams in memory that the test moves as it likes; nothing is lost between a
/// client and the engine but what the test withholds.
final class EngineBench: CompletionSink {
    static let cluster = Identifier(high: 1, low: 1)
    static let timerToken = UInt32.max

    let universe: Universe
    let host: SimHost
    let world: SimWorld
    private let operations: Operations
    private var sink = SinkID(0)
    private let disk: DiskID
    private let simDisk: SimDisk
    var engine: OSTEngine
    private(set) var clients: [TestClient] = []
    private var byConnection: [UInt32: TestClient] = [:]
    private(set) var logs: [OSTLogEntry] = []
    private(set) var reloads: [String] = []
    private var timerAt = Instant.never
    /// Disk operations are kept back while set.
    var holdsDisk = false
    /// Flushes are kept back while set, and released with the rest.
    var holdsFlushes = false
    /// Disk operations end in an error while set.
    var failsDisk = false
    private var held: [StoreEffect] = []
    private var heldVectors: [[IOVector]] = []

    init(seed: UInt64 = 1, configuration: OSTConfiguration = .small, diskBytes: UInt64 = 256 << 20) throws {
        universe = Universe(seed: seed, timing: .constant)
        host = universe.addHost("oss")
        simDisk = host.addDisk("/d", bytes: diskBytes)
        world = host.start("ost")
        operations = Operations(world)
        let made = try world.openDisk("/d", .readWrite)
        disk = made
        var store = Box<PartStore>()
        var failure: Failure?
        var isDone = false
        let (world, operations) = (world, operations)
        world.spawn {
            do throws(Failure) {
                try await StoreFile.initialize(operations, disk: made, path: "/d", cluster: EngineBench.cluster)
                store.put(try await StoreFile.load(operations, disk: made, path: "/d"))
            } catch { failure = error }
            isDone = true
        }
        universe.run(while: { !isDone }, limit: .seconds(60))
        if let failure { throw failure }
        engine = OSTEngine(
            store: store.take(), arena: try world.allocate(bytes: configuration.memoryBytes), configuration: configuration, now: world.now)
        sink = world.attach(self)
    }

    func completed(_ token: UInt32, result: Int32) {
        engine.now = world.now
        if token == EngineBench.timerToken { timerAt = .never } else { engine.diskDone(token, result: failsDisk ? -5 : result) }
    }

    func batchEnded() { settle() }

    // Clients

    /// A client whose bytes wait for `settle`; nil when the engine refuses it.
    func connect() -> TestClient? {
        engine.now = world.now
        guard let id = engine.accept(on: "test") else { return nil }
        let client = TestClient(self, id)
        clients.removeAll { !$0.isConnected }
        clients.append(client)
        byConnection[id.index] = client
        return client
    }

    /// A client that has said hello.
    func ready(_ software: String = "test", incarnation: UInt64 = 0) throws -> TestClient {
        guard let client = connect() else { throw Failure(.overloaded, "the bench's client was not accepted") }
        let hello = try client.call(.hello, meta: Hello(role: .client, software: software, incarnation: incarnation).encoded)
        guard hello.header.status == .ok else { throw Failure(hello.header.status, hello.sentence) }
        return client
    }

    func disconnect(_ client: TestClient) {
        guard client.isConnected else { return }
        engine.now = world.now
        client.isConnected = false
        byConnection[client.id.index] = nil
        engine.disconnected(client.id)
        settle()
    }

    /// Moves everything that can move without time passing.
    func settle() {
        var isQuiet = false
        while !isQuiet {
            engine.now = world.now
            engine.endBatch()
            isQuiet = true
            let effects = engine.effects
            for effect in effects { if perform(effect) { isQuiet = false } }
            engine.clearEffects()
            engine.checkInvariants()
            for client in clients where client.isConnected && client.move() { isQuiet = false }
        }
        let wanted = engine.wakeAt
        if wanted < timerAt {
            timerAt = wanted
            _ = world.wake(at: wanted, Ticket(sink, EngineBench.timerToken))
        }
    }

    /// Whether the engine has to look again.
    private func perform(_ effect: OSTEffect) -> Bool {
        switch effect {
        case .receive(let id): byConnection[id.index]?.receives = true
        case .send(let id): byConnection[id.index]?.sends = true
        case .close(let id, let reason):
            guard let client = byConnection[id.index] else { return false }
            client.closeReason = reason
            client.isConnected = false
            byConnection[id.index] = nil
            engine.disconnected(id)
            return true
        case .store(let effect):
            if holdsDisk || (holdsFlushes && isFlush(effect)) {
                hold(effect)
            } else {
                var list: [IOVector] = []
                if case .diskWrite(_, _, let first, let count) = effect {
                    list = Array(UnsafeBufferPointer(start: engine.storeVectors + first, count: count))
                }
                perform(effect, list)
            }
        case .log(let entry): logs.append(entry)
        case .reload(let reason): reloads.append(reason)
        }
        return false
    }

    private func isFlush(_ effect: StoreEffect) -> Bool {
        if case .diskFlush = effect { true } else { false }
    }

    private func hold(_ effect: StoreEffect) {
        held.append(effect)
        if case .diskWrite(_, _, let first, let count) = effect {
            heldVectors.append(Array(UnsafeBufferPointer(start: engine.storeVectors + first, count: count)))
        } else {
            heldVectors.append([])
        }
    }

    func releaseDisk() {
        holdsDisk = false
        let (effects, lists) = (held, heldVectors)
        held = []
        heldVectors = []
        for (effect, list) in zip(effects, lists) { perform(effect, list) }
    }

    private func perform(_ effect: StoreEffect, _ list: [IOVector]) {
        switch effect {
        case .diskRead(let token, let offset, let memory, let bytes):
            [IOVector(memory, bytes)].withUnsafeBufferPointer { world.read(disk, at: offset, into: $0, Ticket(sink, token)) }
        case .diskWrite(let token, let offset, _, _):
            list.withUnsafeBufferPointer { world.write(disk, at: offset, from: $0, Ticket(sink, token)) }
        case .diskFlush(let token): world.flush(disk, Ticket(sink, token))
        case .finished, .damaged, .failed: unreachable("\(effect) came out of the engine")
        }
    }

    /// The daemon is killed and started again: its clients are gone, and the store is loaded by a new engine. With `losingPower` everything
    /// is gone too that was not flushed.
    func restart(losingPower: Bool = false) throws {
        for client in clients { disconnect(client) }
        universe.run(while: { !self.engine.isStoreQuiet }, limit: .seconds(60))
        if losingPower {
            var random = EngineBench.dropsAll
            _ = simDisk.media.losePower(&random)
        }
        engine = OSTEngine(
            store: try load(afterFailure: losingPower), arena: try world.allocate(bytes: engine.configuration.memoryBytes),
            configuration: engine.configuration, now: world.now)
        settle()
    }

    /// Draws with which a loss of power keeps nothing of what was not flushed.
    private static var dropsAll: Random {
        for seed in 0..<1000 as Range<UInt64> {
            var random = Random(seed: seed)
            if random.below(8) == 1 { return Random(seed: seed) }
        }
        unreachable("one seed of eight drops everything")
    }

    /// The store is loaded anew, as the shell does after `reload`.
    func reload() throws {
        engine.replaceStore(try load(afterFailure: true))
        settle()
    }

    private func load(afterFailure: Bool) throws -> PartStore {
        var store = Box<PartStore>()
        var failure: Failure?
        var isDone = false
        let (world, operations, disk) = (world, operations, disk)
        world.spawn {
            do throws(Failure) {
                store.put(try await StoreFile.load(operations, disk: disk, path: "/d", afterFailure: afterFailure))
            } catch { failure = error }
            isDone = true
        }
        universe.run(while: { !isDone }, limit: .seconds(60))
        if let failure { throw failure }
        return store.take()
    }
}

/// Carries a value that cannot be copied out of a closure.
struct Box<Value: ~Copyable>: ~Copyable {
    private var value: Value?

    init() { value = nil }
    mutating func put(_ new: consuming Value) { value = consume new }
    mutating func take() -> Value {
        var taken: Value?
        swap(&taken, &value)
        guard let taken else { unreachable("the box is empty") }
        return taken
    }
}
