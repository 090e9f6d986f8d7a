import Base
import Environment
import Simulation

/// A little cluster of straight-line asynchronous code: clients send numbered blocks to servers, which write and flush them and answer.
/// Servers are killed and lose power as the seed says. It stands in for the real engines in the simulator's own tests.
public final class Scenario {
    public let universe: Universe
    public private(set) var acknowledged = 0
    public private(set) var failures = 0
    public private(set) var lost = 0
    private let servers: [SimHost]
    private let clients: [SimHost]
    private var requests = 0
    private let requestsMax: Int

    private static let blocks = 64

    public init(seed: UInt64, faults: FaultPlan = .none, timing: Timing = .drawn, requests: Int = 400) {
        universe = Universe(seed: seed, faults: faults, timing: timing)
        requestsMax = requests
        let universe = universe
        servers = (0..<2).map { universe.addHost("server\($0)") }
        clients = (0..<2).map { universe.addHost("client\($0)") }
        for host in servers {
            host.addDisk("/disk", bytes: 1 << 20)
            serve(host)
        }
        for host in clients { use(host) }
    }

    /// All requests, with a kill and a loss of power on the way, then healing.
    @discardableResult
    public func run(crashes: Bool = true) -> Bool {
        if crashes {
            universe.after(.milliseconds(5 + universe.choices.below(20 as UInt64))) { [unowned self] in
                servers[0].processes.first?.kill()
                serve(servers[0])
            }
            universe.after(.milliseconds(10 + universe.choices.below(30 as UInt64))) { [unowned self] in
                servers[1].losePower()
                universe.after(.milliseconds(5)) { [unowned self] in
                    servers[1].restorePower()
                    serve(servers[1])
                }
            }
        }
        universe.run(for: .seconds(20))
        universe.heal()
        return universe.run(while: { [unowned self] in requests < requestsMax }, limit: .seconds(600))
    }

    private func serve(_ host: SimHost) {
        let world = host.start("server")
        world.spawn { [unowned self] in await serve(world) }
    }

    private func serve(_ world: SimWorld) async {
        let operations = Operations(world)
        do {
            let disk = try world.openDisk("/disk", .readWrite)
            let listener = try world.listen(on: .tcp(host: world.host.name, port: 7))
            while true {
                guard case .success(let stream) = await operations.accept(listener) else { return }
                world.spawn { [unowned self] in await serve(world, operations, disk, stream) }
            }
        } catch {
            failures += 1
        }
    }

    private func serve(_ world: SimWorld, _ operations: Operations, _ disk: DiskID, _ stream: StreamID) async {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Block.bytes, alignment: 4096)
        defer { memory.deallocate() }
        serving: while true {
            guard await receive(operations, stream, memory) else { break serving }
            let block = memory.load(as: UInt64.self) % UInt64(Self.blocks)
            do throws(Failure) {
                try await operations.write(disk, at: block * UInt64(Block.bytes), from: memory)
                try await operations.flush(disk)
                try await operations.read(disk, at: block * UInt64(Block.bytes), into: memory)
            } catch {
                world.mark("scenario.disk-error")
                break serving
            }
            guard await operations.send(stream, memory) else { break serving }
        }
        world.close(stream)
    }

    private func use(_ host: SimHost) {
        let world = host.start("client")
        for _ in 0..<4 { world.spawn { [unowned self] in await use(world) } }
    }

    private func use(_ world: SimWorld) async {
        let operations = Operations(world)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Block.bytes, alignment: 4096)
        while requests < requestsMax {
            let server = servers[Int(world.random() % 2)]
            let connected = await operations.connect(to: .tcp(host: server.name, port: 7), deadline: world.now + .milliseconds(100))
            guard case .success(let stream) = connected else {
                failures += 1
                await operations.sleep(.milliseconds(3))
                continue
            }
            // Nothing but a deadline ends the wait for a server that has lost power.
            let guardian = Guardian(world, stream)
            for _ in 0..<20 where requests < requestsMax {
                let word = world.random()
                for at in stride(from: 0, to: Block.bytes, by: 8) { memory.storeBytes(of: word, toByteOffset: at, as: UInt64.self) }
                requests += 1
                guardian.arm(.milliseconds(200))
                guard await operations.send(stream, memory), await receive(operations, stream, memory) else {
                    failures += 1
                    break
                }
                acknowledged += 1
                if memory.load(as: UInt64.self) % UInt64(Self.blocks) != word % UInt64(Self.blocks) { lost += 1 }
            }
            guardian.end()
            world.close(stream)
        }
        memory.deallocate()
        operations.close()
    }

    private func receive(_ operations: Operations, _ stream: StreamID, _ memory: UnsafeMutableRawBufferPointer) async -> Bool {
        var have = 0
        while have < memory.count {
            let count = await operations.receive(stream, into: UnsafeMutableRawBufferPointer(rebasing: memory[have...]))
            if count <= 0 { return false }
            have += count
        }
        return true
    }
}

/// Shuts a stream down when a deadline passes.
private final class Guardian: CompletionSink {
    private let world: SimWorld
    private let stream: StreamID
    private var sink = SinkID(0)
    private var timer: TimerID?

    init(_ world: SimWorld, _ stream: StreamID) {
        self.world = world
        self.stream = stream
        sink = world.attach(self)
    }

    func arm(_ interval: Interval) {
        if let timer { world.cancel(timer) }
        timer = world.wake(at: world.now + interval, Ticket(sink, 0))
    }

    func end() {
        if let timer { world.cancel(timer) }
        world.detach(sink)
    }

    func completed(_ token: UInt32, result: Int32) {
        timer = nil
        world.shutdown(stream)
    }

    func batchEnded() {}
}
