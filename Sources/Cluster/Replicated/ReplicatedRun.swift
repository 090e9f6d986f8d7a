import Base
import Client
import Environment
import MetaStore
import Metadata
import Simulation
import VolumeEngine
import Wire

/// A seed with a metadata server, several OSTs, a volume with two or three members, and clients that use it.
///
/// What happens to them is in `ReplicatedRun+Events`, how it ends in `ReplicatedRun+End`.
public final class ReplicatedRun: ClusterRun {
    /// A machine with one OST.
    final class Machine {
        let host: SimHost
        let disk: SimDisk
        var process: OSTProcess?
        /// Once it has served.
        var store: Identifier?
        /// Its disk has failed an operation, and the store was not loaded since.
        var hasFailed = false

        init(_ host: SimHost, _ disk: SimDisk) {
            self.host = host
            self.disk = disk
        }

        var endpoint: Endpoint { .tcp(host: host.name, port: 7710) }
    }

    public let plan: ReplicatedPlan
    let machines: [Machine]
    let mds: SimHost
    let contents = MemoryMetaContents()
    var mdt: MDTProcess?
    private var servers: [MDTProcess] = []
    let auditHost: SimHost
    private let readerHost: SimHost
    private(set) var reader: ReaderProcess?
    private var volumeID: Identifier?
    private var revision = MetaRevision.none
    private(set) var losses = Losses()
    var isEnding = false

    public init(seed: UInt64, options: ClusterOptions? = nil, plan: ReplicatedPlan? = nil) {
        let universe = Universe(seed: seed)
        var (drawn, made) = ReplicatedPlan.drawn(seed: seed)
        if let options { drawn = options }
        if let plan { made = plan }
        self.plan = made
        mds = universe.addHost("mds")
        machines = (0..<self.plan.osts).map { number in
            let host = universe.addHost("ost\(number)")
            return Machine(host, host.addDisk(OSTProcess.path, bytes: drawn.diskBytes))
        }
        auditHost = universe.addHost("audit")
        readerHost = universe.addHost("reader")
        super.init(universe, drawn, Address(cluster: [MDTProcess.endpoint], name: "volume"))
        for (number, machine) in machines.enumerated() {
            let first = OSTProcess.dataBegins(diskBytes: drawn.diskBytes)
            machine.disk.mayDamage = { [unowned self] range in
                number == self.plan.rotting && range.lowerBound >= first && machine.process?.isServing == true && !isHealed
            }
            machine.disk.mayFail = { [unowned self] in
                number == self.plan.failing && machine.process?.isServing == true && !isHealed
            }
        }
        history.readsOutliveWriters = true
    }

    override func release() {
        for server in servers { server.ended() }
    }

    // The beginning

    override func setUp() {
        startMDT(format: true)
        for machine in machines { start(machine, format: true) }
        wait("the OSTs have not registered") { machines.contains { $0.process?.isRegistered != true } }
        let client = universe.addHost("maker").start("maker")
        perform("the volume is made", in: client) { [unowned self] () throws(Failure) in
            let catalogue = MDTCatalogue(client, [MDTProcess.endpoint])
            defer { catalogue.close() }
            let layout = Layout(chunkBytes: options.chunkBytes, dataMembers: UInt16(plan.replicas))
            let request = VolumeCreateRequest(
                name: "volume", bytes: options.volumeBytes, layout: layout, floor: plan.floor, belowFloor: plan.belowFloor)
            volumeID = try await catalogue.create(request).object.id
        }
        client.kill()
        observe()
        startClient(force: false)
        wait("the volume is not opened") { owner == nil }
    }

    override func work() {
        isHealed = false
        isWorking = true
        workBegan = universe.now
        universe.faults = options.faults
        contents.faults = plan.meta
        planEvents()
        if plan.hasReader { reader = ReaderProcess(self, readerHost) }
        universe.run(while: { !hasProblems && universe.now - workBegan < options.workTime }, limit: options.workTime)
        isWorking = false
    }

    override func finish() { end() }

    /// Runs code in a process until it ends, and reports its error.
    func perform(_ what: String, in world: SimWorld, _ body: @escaping () async throws(Failure) -> Void) {
        var isDone = false
        world.spawn { [unowned self] in
            do throws(Failure) { try await body() } catch { report("\(what): \(error.status), \(error.detail)") }
            isDone = true
        }
        wait("it does not end that \(what)") { !isDone }
    }

    // Processes

    func start(_ machine: Machine, format: Bool = false) {
        if !machine.host.isUp { machine.host.restorePower() }
        if let process = machine.process, process.world.isAlive { return }
        machine.hasFailed = false
        let process = OSTProcess(self, machine.host, machine.endpoint, servers: [MDTProcess.endpoint])
        machine.process = process
        process.start(format: format)
    }

    override func ostServes(_ process: OSTProcess) {
        for machine in machines where machine.process === process { machine.store = process.store }
    }

    func startMDT(format: Bool = false) {
        if !mds.isUp { mds.restorePower() }
        if let mdt, mdt.world.isAlive { return }
        let process = MDTProcess(self, mds, contents)
        mdt = process
        servers.append(process)
        process.start(format: format)
    }

    func mdtFailed(_ process: MDTProcess, _ failure: Failure) {
        if failure.status != .unreachable { report("the metadata server does not start: \(failure.detail)") }
        universe.after(.milliseconds(100)) { [unowned self] in
            process.kill()
            if !isEnding { startMDT() }
        }
    }

    // What may be gone

    /// The catalogue, as it stands.
    func volume() -> VolumeRecord? {
        guard let volumeID else { return nil }
        do throws(Failure) { return try contents.volume(volumeID) } catch {
            report("the catalogue: \(error.detail)")
            return nil
        }
    }

    private func observe() {
        guard contents.revision != revision else { return }
        revision = contents.revision
        guard let volume = volume() else { return }
        if losses.observe(volume, now: universe.now) { history.losePower() }
        note("map \(volume.object.map): \(losses)")
    }

    func lost(_ machine: Machine) {
        guard let store = machine.store else { return }
        let isFatal = losses.lost(store, now: universe.now)
        note("\(machine.host.name) may lack what was not durable\(isFatal ? ", and is the last in sync somewhere" : "")")
        if isFatal { history.losePower() }
    }

    override var stallsClients: Bool { plan.happenings.contains(.takeOver) }

    override func flushed(began: Instant) { losses.flushed(began: began) }

    // Checks

    override func checkInvariants(_ world: SimWorld) {
        if world === mdt?.world { return observe() }
        for machine in machines where machine.process?.world === world { machine.process?.checkInvariants() }
        super.checkInvariants(world)
    }

    override func logged(_ world: SimWorld, _ level: LogLevel, _ message: String, _ fields: [LogField]) {
        super.logged(world, level, message, fields)
        for machine in machines where machine.process?.world === world {
            if message.hasPrefix("the store failed") {
                machine.hasFailed = true
                lost(machine)
            }
            if message.hasPrefix("the store is back") { machine.hasFailed = false }
        }
        guard level == .error else { return }
        let expected =
            message.hasPrefix("a stored block is damaged") || message.hasPrefix("a block is damaged on every member")
            ? damages > 0
            : failures > 0
                && ["the store failed", "the store cannot be loaded", "the last flush failed"].contains { message.hasPrefix($0) }
        if !expected { report("\(world.name) logs an error: \(message)\(fields.map { " \($0.name)=\($0.value)" }.joined())") }
    }

    override func isExpected(open status: Status, isLate: Bool) -> Bool {
        switch status {
        case .unavailable: !isLate
        case .damaged: damages > 0 && losses.wasDegraded
        case _: false
        }
    }

    /// With one member left what is wrong with that one reaches the user.
    override func isExpected(_ status: Status, of kind: Operation.Kind, client: ClientProcess, isLate: Bool) -> Bool {
        switch status {
        case .damaged: (damages > 0 && losses.wasDegraded) || universe.counts[.corruption] > 0
        case .diskFailed: failures > 0 && losses.wasDegraded
        // Also when all are there again, until they are up to date.
        case .unavailable: plan.belowFloor != .wait && kind.changesBlocks
        case _: false
        }
    }

    override func harvest() {
        super.harvest()
        for machine in machines { if let process = machine.process { harvest(process) } }
    }
}
