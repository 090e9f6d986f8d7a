import Base
import Client
import Environment
import Simulation
import VolumeEngine

/// A seed with one OST and clients that use one volume.
///
/// What happens to them is in `SingleRun+Events`, how it ends in `SingleRun+End`.
///
/// Two things are left out because a store of one member cannot survive them:
/// - A restart while damage is younger than what the log knows to be durable: in its tail a rotted block looks like a lost one.
/// - A disk that fails an operation, and a process that dies before its store was loaded anew: the next one does not know of the failure.
public final class SingleRun: ClusterRun {
    static let endpoint = Endpoint.tcp(host: "ost", port: 7710)

    let ostHost: SimHost
    let keeperHost: SimHost
    let strangerHost: SimHost
    let disk: SimDisk
    var ost: OSTProcess?
    private var failuresHealed = 0
    var keeper: Keeper?
    var stranger: Stranger?
    /// The OST is about to stop for good.
    var isEnding = false
    var isDamagePaused = false

    public init(seed: UInt64, options: ClusterOptions? = nil) {
        let universe = Universe(seed: seed)
        ostHost = universe.addHost("ost")
        keeperHost = universe.addHost("keeper")
        strangerHost = universe.addHost("stranger")
        let options = options ?? ClusterOptions.drawn(seed: seed)
        disk = ostHost.addDisk(OSTProcess.path, bytes: options.diskBytes)
        disk.mayDamage = { $0.lowerBound >= OSTProcess.dataBegins(diskBytes: options.diskBytes) }
        super.init(universe, options, Address(SingleRun.endpoint, name: "volume"))
    }

    override func release() { keeper?.release() }

    // The beginning

    override func setUp() {
        let process = OSTProcess(self, ostHost, SingleRun.endpoint)
        ost = process
        process.start(format: true)
        let made = Keeper(self)
        keeper = made
        made.createVolume()
        guard universe.run(while: { !made.hasCreated && !hasProblems }, limit: .seconds(60)) else { return report("no volume is made") }
        startClient(force: false)
        guard universe.run(while: { owner == nil && !hasProblems }, limit: .seconds(60)) else {
            return report("the volume cannot be opened")
        }
    }

    override func work() {
        isHealed = false
        isWorking = true
        workBegan = universe.now
        applyFaults()
        planEvents()
        if options.events.catalogue { keeper?.start() }
        if options.events.strangers { stranger = Stranger(self) }
        universe.run(while: { !hasProblems && universe.now - workBegan < options.workTime }, limit: options.workTime)
        isWorking = false
    }

    override func finish() { end() }

    override func ostServes(_ process: OSTProcess) {
        failuresHealed = failures
        applyFaults()
    }

    /// Only while the OST serves does its disk fail or rot; see above.
    func applyFaults() {
        var plan = isHealed ? FaultPlan.none : options.faults
        let isServing = ost?.isServing == true
        if !isServing {
            plan.writeError = 0
            plan.flushError = 0
        }
        if !isServing || isDamagePaused {
            plan.latentError = 0
            plan.bitRot = 0
            plan.misdirectedWrite = 0
            plan.lostWrite = 0
        }
        universe.faults = plan
    }

    /// Whether the store has heard of every failure of its disk, and was loaded since.
    var isDiskSound: Bool { failures == failuresHealed && ost?.server?.engine.hasFailed == false }

    // Checks

    override func checkInvariants(_ world: SimWorld) {
        guard let ost, ost.world === world else { return super.checkInvariants(world) }
        ost.checkInvariants()
        killWhileLogMoves(ost)
    }

    override func logged(_ world: SimWorld, _ level: LogLevel, _ message: String, _ fields: [LogField]) {
        if message.hasPrefix("the store failed") { history.losePower() }
        if message.hasPrefix("the store is back") { failuresHealed = failures }
        super.logged(world, level, message, fields)
        guard level == .error else { return }
        let isExpected =
            message.hasPrefix("a stored block is damaged")
            ? damages > 0
            : ["the store failed", "the store cannot be loaded", "the last flush failed"].contains { message.hasPrefix($0) }
                ? failures > 0
                : false
        if !isExpected { report("\(world.name) logs an error: \(message)\(fields.map { " \($0.name)=\($0.value)" }.joined())") }
    }

    override func isExpected(_ status: Status, of kind: Operation.Kind, client: ClientProcess, isLate: Bool) -> Bool {
        switch status {
        case .noSpace: !isLate || outgrowsDisk(client)
        case .damaged: damages > 0 || universe.counts[.corruption] > 0
        case .diskFailed: failures > 0
        case _: false
        }
    }

    /// Whether the volume has grown beyond its disk. By its size and the disk's, never by what the store says is free: one that loses
    /// blocks must not excuse itself.
    private func outgrowsDisk(_ client: ClientProcess) -> Bool {
        guard let bytes = client.volume?.object.bytes, let server = ost?.server else { return false }
        let capacity = server.engine.storeStatistics.capacityBytes
        let request = UInt64(min(options.operationBytesMax, Limits.frameBytesMax))
        return bytes + capacity / 16 + request > capacity
    }

    override func harvest() {
        super.harvest()
        if let ost { harvest(ost) }
        if let volume = keeper?.volume { marks.add(volume.marks) }
    }
}
