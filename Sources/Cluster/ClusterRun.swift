import Base
import Client
import Environment
import OSTEngine
import Simulation
import VolumeEngine

/// One seed of a whole cluster: one OST, clients that use one volume, everything that may go wrong, and a history that knows what must
/// never be seen.
///
/// Owns the universe and all processes. What happens to them is in `ClusterRun+Events`, how it ends in `ClusterRun+End`.
///
/// Two things are left out because a store of one member cannot survive them:
/// - A restart while damage is younger than what the log knows to be durable: in its tail a rotted block looks like a lost one.
/// - A disk that fails an operation, and a process that dies before its store was loaded anew: the next one does not know of the failure.
public final class ClusterRun {
    public let options: ClusterOptions
    public let universe: Universe
    public private(set) var problems: [String] = []
    public private(set) var marks = MarkTable()
    /// Gets every line of every log, with the process it is from.
    public var onLog: (String, LogLevel, String) -> Void = { _, _, _ in }

    let history: History
    let address = Address(OSTProcess.endpoint, name: "volume")
    let ostHost: SimHost
    let clientHosts: [SimHost]
    let keeperHost: SimHost
    let strangerHost: SimHost
    let disk: SimDisk
    var ost: OSTProcess? { didSet { if let ost { daemons.append(ost) } } }
    private var daemons: [OSTProcess] = []
    var clients: [ClientProcess] = []
    /// Who opened the volume last.
    var owner: ClientProcess?
    private var failuresHealed = 0
    private var generationOfOwner: UInt64 = 0
    var keeper: Keeper?
    var stranger: Stranger?
    var isWorking = false
    var isHealed = true
    /// The OST is about to stop for good.
    var isEnding = false
    var isDamagePaused = false
    var operationsBegun = 0
    var workBegan = Instant.zero

    public init(seed: UInt64, options: ClusterOptions? = nil) {
        self.options = options ?? ClusterOptions.drawn(seed: seed)
        universe = Universe(seed: seed)
        history = History(name: "volume", bytesMax: self.options.volumeBytesMax)
        ostHost = universe.addHost("ost")
        clientHosts = (0..<3).map { [universe] in universe.addHost("client\($0)") }
        keeperHost = universe.addHost("keeper")
        strangerHost = universe.addHost("stranger")
        disk = ostHost.addDisk(OSTProcess.path, bytes: self.options.diskBytes)
        universe.afterTurn = { [unowned self] in checkInvariants($0) }
        universe.onLog = { [unowned self] in logged($0, $1, $2, $3) }
    }

    public func report(_ text: String) {
        if problems.count < 20 { problems.append("seed \(universe.seed) at \(universe.now): \(text)") }
    }

    /// Logs what happens to this sector of the volume.
    public func watch(sector: Int) {
        history.watched = sector
        history.onWatched = { [unowned self] in onLog("history", .debug, $0) }
    }

    public var writesBegun: Int { history.writesBegun }
    var hasProblems: Bool { !problems.isEmpty || !history.problems.isEmpty }

    public func perform() {
        setUp()
        if !hasProblems { work() }
        if !hasProblems { finish() }
        harvest()
        for problem in history.problems { report(problem) }
        release()
    }

    /// Tasks of processes that were killed are never freed, nor is what they refer to. It shall not be much.
    private func release() {
        for process in daemons { process.release() }
        for client in clients { client.release() }
        keeper?.release()
        owner = nil
    }

    // The beginning

    private func setUp() {
        let process = OSTProcess(self, ostHost)
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

    private func work() {
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

    /// The load is spread over the time of work, in bursts.
    func mayBegin() -> Bool {
        let elapsed = (universe.now - workBegan).milliseconds
        let due = UInt64(options.operationsMax) * elapsed / max(options.workTime.milliseconds, 1)
        guard isWorking, operationsBegun < Int(due) + options.depth else { return false }
        operationsBegun += 1
        return true
    }

    // What processes tell

    func startClient(force: Bool, works: Bool = true) {
        let client = ClientProcess(self, clientHosts[clients.count % clientHosts.count], number: clients.count + 1)
        clients.append(client)
        client.start(force: force, works: works)
    }

    func opened(_ client: ClientProcess) {
        // Two may be granted it one after the other and hear of it the other way round.
        let generation = client.volume?.object.generation ?? 0
        guard generation > generationOfOwner else { return }
        generationOfOwner = generation
        owner = client
        history.opened(by: client.number)
    }

    func ostServes(_ process: OSTProcess) {
        failuresHealed = failures
        applyFaults()
    }

    func ostFailed(_ process: OSTProcess, _ failure: Failure) {
        report("the OST does not start: \(failure.detail)")
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
        let first = UInt64(32 + 2 * min(max(options.diskBytes / 4096 / 64, 64), options.diskBytes / 4096 / 8)) * 4096
        disk.mayDamage = { $0.lowerBound >= first }
    }

    var damages: Int {
        let counts = universe.counts
        return counts[.latentError] + counts[.bitRot] + counts[.misdirectedWrite] + counts[.lostWrite]
    }

    /// Whether the store has heard of every failure of its disk, and was loaded since.
    var isDiskSound: Bool { failures == failuresHealed && ost?.server?.engine.hasFailed == false }

    var failures: Int { universe.counts[.writeError] + universe.counts[.flushError] }

    // Checks

    private func checkInvariants(_ world: SimWorld) {
        if let ost, ost.world === world {
            ost.checkInvariants()
            return killWhileLogMoves(ost)
        }
        for client in clients where client.world === world { client.checkInvariants() }
    }

    private func logged(_ world: SimWorld, _ level: LogLevel, _ message: String, _ fields: [LogField]) {
        if message.hasPrefix("the store failed") { history.losePower() }
        if message.hasPrefix("the store is back") { failuresHealed = failures }
        onLog(world.name, level, message + fields.map { " \($0.name)=\($0.value)" }.joined())
        guard level == .error else { return }
        let isExpected =
            message.hasPrefix("a stored block is damaged")
            ? damages > 0
            : ["the store failed", "the store cannot be loaded", "the last flush failed"].contains { message.hasPrefix($0) }
                ? failures > 0
                : false
        if !isExpected { report("\(world.name) logs an error: \(message)\(fields.map { " \($0.name)=\($0.value)" }.joined())") }
    }

    /// A refused open is expected to have one of few reasons.
    func check(open failure: Failure) {
        switch failure.status {
        case .unreachable, .deadlineExceeded, .busy, .closed, .overloaded, .diskFailed, .fenced, .staleSession, .outOfMemory: break
        case .malformed where universe.counts[.corruption] > 0: break
        case _: report("an open is refused with \(failure.status): \(failure.detail)")
        }
    }

    func check(_ status: Status, of kind: Operation.Kind, client: ClientProcess, took: Interval, deadline: Interval, isLate: Bool) {
        // A stalled process is late, not wrong.
        if options.faults.stall == 0, !options.events.takeOver, took > deadline + .seconds(2) {
            report("a \(kind) of client \(client.number) took \(took.milliseconds) ms, its deadline was \(deadline.milliseconds) ms")
        }
        let isExpected: Bool
        switch status {
        case .ok: isExpected = true
        case .deadlineExceeded, .overloaded: isExpected = !isLate
        case .noSpace: isExpected = !isLate || outgrowsDisk(client)
        case .fenced: isExpected = owner !== client || clients.count > 1
        case .damaged: isExpected = damages > 0 || universe.counts[.corruption] > 0
        case .diskFailed: isExpected = failures > 0
        case .powerLost: isExpected = kind == .flush && history.losses > 0
        case .closed: isExpected = true
        case .checksumMismatch, .malformed: isExpected = universe.counts[.corruption] > 0
        case _: isExpected = client.volume?.isDead == true
        }
        if !isExpected { report("a \(kind) of client \(client.number) ends with \(status)") }
    }

    /// Whether the volume has grown beyond its disk. By its size and the disk's, never by what the store says is free: one that loses
    /// blocks must not excuse itself.
    private func outgrowsDisk(_ client: ClientProcess) -> Bool {
        guard let bytes = client.volume?.object.bytes, let server = ost?.server else { return false }
        let capacity = server.engine.storeStatistics.capacityBytes
        let request = UInt64(min(options.operationBytesMax, Limits.frameBytesMax))
        return bytes + capacity / 16 + request > capacity
    }

    /// Marks live in engines, which end with their processes.
    func harvest() {
        if let server = ost?.server {
            marks.add(server.engine.marks)
            marks.add(server.engine.storeMarks)
        }
        for client in clients { if let volume = client.volume { marks.add(volume.marks) } }
        if let volume = keeper?.volume { marks.add(volume.marks) }
    }
}

func + (left: Interval, right: Interval) -> Interval { Interval(nanoseconds: left.nanoseconds + right.nanoseconds) }
