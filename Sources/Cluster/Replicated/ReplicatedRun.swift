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
        fileprivate(set) var disk: SimDisk
        fileprivate(set) var path = OSTProcess.path
        /// Its disk is new, and no store was made on it yet.
        fileprivate(set) var isEmpty = true
        var process: OSTProcess?
        /// Once it has served.
        var store: Identifier?
        /// Its disk has failed an operation, and the store was not loaded since.
        var hasFailed = false
        /// Its disk as it was when its process had died some time ago, how often the store had been mounted, and what was written there.
        var copy: (media: Media, mounts: UInt64, writtenBytes: UInt64)?
        /// While that copy is in the place of its newest disk.
        var newest: SimDisk?

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
    let toolHost: SimHost
    /// Who changes the size, while he does.
    var resizer: SimWorld?
    /// The volume was made smaller beside writes to what was cut off. They may come when that is there again: it never is.
    var wasCutAbruptly = false
    private(set) var reader: ReaderProcess?
    private var volumeID: Identifier?
    private var revision = MetaRevision.none
    private(set) var losses = Losses()
    private var lastVolume: VolumeRecord?
    private(set) var disksLost = 0
    /// Machines that are to be emptied, as far as it was asked for.
    var drained: Set<Int> = []
    /// The server that has not noted the last of it yet: what it is told meanwhile it may note before.
    var draining: MDTProcess?
    /// Since when no client is cut off from a server or does not run.
    var undisturbedSince = Instant.zero
    var disturbances = 0
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
        toolHost = universe.addHost("tool")
        super.init(universe, drawn, Address(cluster: [MDTProcess.endpoint], name: "volume"))
        for machine in machines { setFaults(of: machine) }
        history.writersMayLinger = true
    }

    private func setFaults(of machine: Machine) {
        let first = OSTProcess.dataBegins(diskBytes: options.diskBytes)
        let number = machines.firstIndex { $0 === machine }
        machine.disk.mayDamage = { [unowned self, unowned machine] range in
            number == plan.rotting && range.lowerBound >= first && machine.process?.isServing == true && !isHealed && machine.newest == nil
        }
        machine.disk.mayFail = { [unowned self, unowned machine] in
            number == plan.failing && machine.process?.isServing == true && !isHealed && machine.newest == nil
        }
    }

    /// An empty disk takes the place of the one that was there. What that had is gone.
    func replaceDisk(of machine: Machine) {
        disksLost += 1
        lost(machine)
        losses.noteDamage()
        insertDisk(Media(bytes: options.diskBytes, isVolatile: true), into: machine)
        machine.isEmpty = true
        machine.store = nil
        machine.copy = nil
        machine.newest = nil
    }

    private func insertDisk(_ media: Media, into machine: Machine) {
        insert(machine.host.addDisk("\(OSTProcess.path)\(machine.host.disks.count)", media: media), into: machine)
    }

    private func insert(_ disk: SimDisk, into machine: Machine) {
        machine.path = disk.path
        machine.disk = disk
        setFaults(of: machine)
    }

    /// The copy takes the place of the newest disk. It may lack also what was flushed.
    func insertCopy(of machine: Machine) {
        guard let copy = machine.copy, let store = machine.store else { unreachable("\(machine.host.name) has no copy of its disk") }
        machine.newest = machine.disk
        insertDisk(copy.media, into: machine)
        losses.wentBack(store)
        lost(machine)
    }

    func insertNewest(into machine: Machine) {
        guard let newest = machine.newest else { return }
        insert(newest, into: machine)
        keepDisk(of: machine)
    }

    /// The one that is there is the newest from now on.
    func keepDisk(of machine: Machine) {
        machine.copy = nil
        machine.newest = nil
        if let store = machine.store { losses.cameBack(store) }
    }

    override func release() {
        for server in servers { server.ended() }
    }

    // The beginning

    override func setUp() {
        startMDT(format: true)
        for machine in machines { start(machine) }
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
        client.exit()
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

    func start(_ machine: Machine) {
        if !machine.host.isUp { machine.host.restorePower() }
        if let process = machine.process, process.world.isAlive { return }
        machine.hasFailed = false
        if machine.isEmpty, machine.process?.path == machine.path {
            // It died while a store was made there; what it left is thrown away.
            insertDisk(Media(bytes: options.diskBytes, isVolatile: true), into: machine)
        }
        let process = OSTProcess(self, machine.host, machine.endpoint, servers: [MDTProcess.endpoint], path: machine.path)
        machine.process = process
        process.start(format: machine.isEmpty)
    }

    override func startClient(force: Bool, works: Bool = true) {
        // To whoever opens the volume anew an old copy that the metadata server takes for the newest disk is that.
        for machine in machines where machine.newest != nil && !isRefused(machine) { comeBackWithNewest(machine) }
        super.startClient(force: force, works: works)
    }

    override func ostServes(_ process: OSTProcess) {
        for machine in machines where machine.process === process {
            machine.store = process.store
            machine.isEmpty = false
        }
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
        if let lastVolume { checkMoves(from: lastVolume, to: volume) }
        lastVolume = volume
        let before = losses
        if losses.observe(volume, now: universe.now) { history.losePower() }
        // What it has to do with the volume when it comes to keep something again a copy from before does not know.
        for machine in machines where machine.store.map({ volume.stores.contains($0) }) != true && machine.newest == nil {
            machine.copy = nil
        }
        for (store, hasBegun) in losses.fillsChanged(since: before) { fillChanged(on: store, hasBegun: hasBegun) }
        note("map \(volume.object.map): \(losses)")
    }

    /// A member that moves counts where it was until it has everything where it goes to.
    private func checkMoves(from old: VolumeRecord, to new: VolumeRecord) {
        for (index, entry) in new.entries.enumerated() {
            let (from, store) = (old.entries[index], new.stores[entry.ost])
            guard old.stores[from.ost] != store else { continue }
            let move = old.moves.first { $0.placement * old.members + $0.member == index }
            let isFilled = move.map { old.stores[$0.entry.ost] == store && $0.entry.state == .filling } == true
            if entry.state != .inSync || !isFilled { report("member \(index) is put on another OST, and has not everything there") }
        }
        for placement in 0..<new.placementCount {
            let range = placement * new.members..<(placement + 1) * new.members
            let left = range.count { old.entries[$0].state == .inSync && new.entries[$0].state != .inSync }
            if left > 0, !new.entries[range].contains(where: { $0.state == .inSync }) {
                report("placement \(placement) has nobody in sync")
            }
        }
    }

    func lost(_ machine: Machine) {
        guard let store = machine.store else { return }
        let isFatal = losses.lost(store, now: universe.now)
        note("\(machine.host.name) may lack what was not durable\(isFatal ? ", and is the last in sync somewhere" : "")")
        if isFatal { history.losePower() }
    }

    /// A block of the volume: two faults at once take back what was not flushed, where each of the copies has met one.
    private func damaged(_ machine: Machine, _ fields: [LogField]) {
        guard let store = machine.store, let offset = fields.first(where: { $0.name == "offset" }).flatMap({ UInt64($0.value) }),
            losses.isOnlyComplete(store, chunk: offset / options.chunkBytes)
        else { return }
        history.damaged(firstSector: Int(offset) / Block.sectorBytes, sectors: Block.bytes / Block.sectorBytes)
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
            if message.hasPrefix("a stored block is damaged") { damaged(machine, fields) }
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
        case .outOfRange: wasCutAbruptly && kind.changesBlocks
        case _: false
        }
    }

    override func harvest() {
        super.harvest()
        for machine in machines { if let process = machine.process { harvest(process) } }
    }
}
