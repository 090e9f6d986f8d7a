import Base
import Client
import Environment
import PartStore
import Simulation
import VolumeEngine

/// One seed of a whole cluster: clients that use one volume, everything that may go wrong, and a history that knows what must never be
/// seen. What the volume is made of is the subclasses' matter: one OST (`SingleRun`), or members on several and a metadata server
/// (`ReplicatedRun`).
///
/// Owns the universe and the clients.
public class ClusterRun {
    public let options: ClusterOptions
    public let universe: Universe
    public private(set) var problems: [String] = []
    public internal(set) var marks = MarkTable()
    /// Gets every line of every log, with the process it is from.
    public var onLog: (String, LogLevel, String) -> Void = { _, _, _ in }

    let history: History
    /// Of the volume, as clients open it.
    let address: Address
    let clientHosts: [SimHost]
    var clients: [ClientProcess] = []
    /// Who opened the volume last.
    var owner: ClientProcess?
    private var generationOfOwner: UInt64 = 0
    /// Every process that was an OST; tasks of those that were killed are never freed.
    var daemons: [OSTProcess] = []
    var isWorking = false
    var isHealed = true {
        didSet { healedAt = isHealed ? universe.now : .never }
    }
    /// Since when nothing can go wrong any more.
    var healedAt = Instant.zero
    /// Clients keep to the beginning of the volume: what lies behind may be cut off.
    var usableBytes = UInt64.max
    private var operationsBegun = 0
    var workBegan = Instant.zero

    init(_ universe: Universe, _ options: ClusterOptions, _ address: Address) {
        self.universe = universe
        self.options = options
        self.address = address
        history = History(name: "volume", bytesMax: options.volumeBytesMax)
        clientHosts = (0..<3).map { universe.addHost("client\($0)") }
        universe.afterTurn = { [unowned self] in checkInvariants($0) }
        universe.onLog = { [unowned self] in logged($0, $1, $2, $3) }
    }

    // What a subclass does

    func setUp() {}
    func work() {}
    func finish() {}
    /// Frees what processes refer to that will never run again.
    func release() {}
    /// Marks live in engines, which end with their processes.
    func harvest() { for client in clients { if let volume = client.volume { marks.add(volume.marks) } } }
    func harvest(_ ost: OSTProcess) {
        guard let server = ost.server else { return }
        marks.add(server.engine.marks)
        marks.add(server.engine.storeMarks)
    }
    func ostServes(_ process: OSTProcess) {}
    func checkInvariants(_ world: SimWorld) {
        for client in clients where client.world === world { client.checkInvariants() }
    }
    func logged(_ world: SimWorld, _ level: LogLevel, _ message: String, _ fields: [LogField]) {
        onLog(world.name, level, message + fields.map { " \($0.name)=\($0.value)" }.joined())
    }
    func isExpected(open status: Status, isLate: Bool) -> Bool { false }
    func isExpected(_ status: Status, of kind: Operation.Kind, client: ClientProcess, isLate: Bool) -> Bool { false }
    var stallsClients: Bool { options.events.takeOver }
    /// A flush of the owner has ended well.
    func flushed(began: Instant) {}

    // The whole of it

    public func perform() {
        setUp()
        if !hasProblems { work() }
        if !hasProblems { finish() }
        harvest()
        for problem in history.problems { report(problem) }
        for process in daemons { process.release() }
        for client in clients { client.release() }
        release()
        owner = nil
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

    var damages: Int {
        let counts = universe.counts
        return counts[.latentError] + counts[.bitRot] + counts[.misdirectedWrite] + counts[.lostWrite]
    }

    var failures: Int { universe.counts[.writeError] + universe.counts[.flushError] }

    func note(_ text: String) { onLog("run", .debug, text) }

    // Clients

    /// The load is spread over the time of work, in bursts.
    func mayBegin() -> Bool {
        let elapsed = (universe.now - workBegan).milliseconds
        let due = UInt64(options.operationsMax) * elapsed / max(options.workTime.milliseconds, 1)
        guard isWorking, operationsBegun < Int(due) + options.depth else { return false }
        operationsBegun += 1
        return true
    }

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

    func ostFailed(_ process: OSTProcess, _ failure: Failure) {
        report("\(process.world.name) does not start: \(failure.detail)")
    }

    // What ends how

    func check(open failure: Failure, isLate: Bool) {
        switch failure.status {
        case .unreachable, .deadlineExceeded, .busy, .closed, .overloaded, .diskFailed, .fenced, .staleSession, .outOfMemory: break
        case let status where universe.counts[.corruption] > 0 && [.malformed, .checksumMismatch, .damaged].contains(status): break
        case let status where isExpected(open: status, isLate: isLate): break
        case _: report("an open is refused with \(failure.status): \(failure.detail)")
        }
    }

    func check(_ status: Status, of kind: Operation.Kind, client: ClientProcess, took: Interval, deadline: Interval, isLate: Bool) {
        // A stalled process is late, not wrong.
        if options.faults.stall == 0, !stallsClients, took > deadline + .seconds(2) {
            report("a \(kind) of client \(client.number) took \(took.milliseconds) ms, its deadline was \(deadline.milliseconds) ms")
        }
        let isFine: Bool
        switch status {
        case .ok, .closed: isFine = true
        case .deadlineExceeded, .overloaded: isFine = !isLate
        case .fenced: isFine = owner !== client || clients.count > 1
        case .checksumMismatch, .malformed: isFine = universe.counts[.corruption] > 0
        case .powerLost: isFine = kind == .flush && history.losses > 0
        case .damaged, .diskFailed, .noSpace, .unavailable, .outOfRange:
            isFine = isExpected(status, of: kind, client: client, isLate: isLate)
        case _: isFine = client.volume?.isDead == true
        }
        if !isFine { report("a \(kind) of client \(client.number) ends with \(status)") }
    }

    // The end

    static let patience = Interval.seconds(60)

    @discardableResult
    func wait(_ what: String, _ limit: Interval = ClusterRun.patience, while condition: () -> Bool) -> Bool {
        if universe.run(while: { condition() && !hasProblems }, limit: limit) { return true }
        if !hasProblems { report("\(limit.milliseconds / 1000) s after healing: \(what)") }
        return false
    }

    func becomeWriter() {
        // Some may be about to open. Each may have been granted it, and the owner need not have heard of that yet.
        let isContested = clients.contains { $0.world.isAlive && !$0.isOpen && !$0.isDone }
        for client in clients where client.world.isAlive && !client.isOpen { client.close() }
        wait("opening does not end") { clients.contains { $0.world.isAlive && !$0.isOpen && !$0.isDone } }
        for client in clients where client.world.isAlive && client !== owner { client.close() }
        if let owner, !isContested, owner.isOpen, !owner.isFenced, owner.volume?.isDead == false { return }
        if let owner, owner.world.isAlive { owner.close() }
        startClient(force: true, works: false)
        guard let fresh = clients.last else { return }
        wait("the volume cannot be opened") { owner !== fresh }
    }

    /// Everything, with the checks of every read.
    func readBack() {
        guard let owner, let volume = owner.volume else { return }
        let step = 512
        let sectors = Int(volume.object.bytes) / Block.sectorBytes
        var first = 0
        while first < sectors, !hasProblems {
            owner.read(volume, first, min(step, sectors - first))
            first += step
            if first % (4 * step) == 0 || first >= sectors {
                volume.kick()
                wait("reading everything does not end") { !owner.isIdle }
            }
        }
        for _ in 0..<2 where !hasProblems {
            owner.flush(volume)
            volume.kick()
            wait("a flush does not end") { !owner.isIdle }
        }
    }

    func closeClients() {
        for client in clients where client.world.isAlive && client.isOpen { client.close() }
        wait("volumes do not close") { clients.contains { $0.world.isAlive && !$0.isDone } }
        harvest()
        universe.run(for: .milliseconds(100))
        for client in clients where client.world.isAlive { if let text = client.leftovers { report(text) } }
    }

    /// Asks the daemon to stop, and looks at what it leaves.
    func stop(_ ost: OSTProcess) {
        harvest()
        ost.stop()
        wait("\(ost.world.name) does not stop") { !ost.isStopped }
        let left = ost.world.outstanding
        if left.operations + left.openDisks + left.listeners + left.streams + left.timers > 0 {
            report("\(ost.world.name) leaves behind \(left)")
        }
        harvest()
        ost.world.exit()
    }

    /// Reads everything on a disk whose daemon has stopped.
    func verifyDisk(of host: SimHost, path: String = OSTProcess.path, mayBeDamaged: Bool) {
        let world = host.start("verify")
        var isDone = false
        world.spawn { [unowned self] in
            do throws(Failure) {
                let opened = try world.openDisk(path, .readOnly)
                let report = try await StoreVerifier.verify(Operations(world), disk: opened, path: path)
                if !mayBeDamaged, !report.damaged.isEmpty { self.report("blocks of \(host.name) are damaged: \(report.damaged)") }
            } catch { self.report("the store of \(host.name) cannot be verified: \(error.detail)") }
            isDone = true
        }
        wait("verifying does not end") { !isDone }
        world.exit()
    }
}

func + (left: Interval, right: Interval) -> Interval { Interval(nanoseconds: left.nanoseconds + right.nanoseconds) }
