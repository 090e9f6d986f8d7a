import Base
import CSimulation
import Environment

/// The simulated world of one seed: a clock, one queue of events, hosts with disks, processes, and the network between them.
///
/// - Everything runs on the thread that calls `run`; nothing is concurrent, and time passes only between events.
/// - Everything that could go one way or another is drawn from the seed. The trace hash of two runs of a seed is equal.
/// - Tasks that leave the world while it runs (the global or main executor) stop the process.
///
/// It knows nothing of what runs in it. Processes reach it through `SimWorld`; tests through the methods here.
public final class Universe {
    public let seed: UInt64
    public let timing: Timing
    public private(set) var now = Instant.zero
    /// The faults that happen by themselves. A test may change them at any time.
    public var faults: FaultPlan
    public var trace = Trace()
    public private(set) var counts = FaultCounts()
    /// Events that took place.
    public private(set) var events = 0
    public private(set) var hosts: [SimHost] = []
    /// In the order of their start, dead ones included: what a dead process left behind is kept, never run.
    public private(set) var processes: [SimWorld] = []
    public private(set) var marks = Marks()
    /// Called after each turn of a process: the place to check its invariants.
    public var afterTurn: (SimWorld) -> Void = { _ in }
    public var onLog: (SimWorld, LogLevel, String, [LogField]) -> Void = { _, _, _, _ in }

    /// For tests and workloads; what they draw does not move the world's own choices.
    public var choices: Random

    var random: Random
    var disks: [SimDisk] = []
    private(set) lazy var network = SimNetwork(self)
    private var queue = EventQueue()
    private var pushed: UInt32 = 0
    private var actions: [(() -> Void)?] = []
    private var freeActions: [Int32] = []
    private var lastWork = Instant.zero
    private var isRunning = false
    private var hasEnded = false
    private var eventsOfThisInstant = 0

    /// A process that spins without time passing is a bug worth a message.
    private static let eventsPerInstantMax = 200_000

    public init(seed: UInt64, faults: FaultPlan = .none, timing: Timing = .drawn) {
        self.seed = seed
        self.faults = faults
        self.timing = timing
        var first = Random(seed: seed)
        choices = first.split()
        random = first
        rs_stray_install()
    }

    deinit { end() }

    /// Frees disks, connections and the processes' memory. For tests that run many seeds in one process: a task that was killed or still
    /// waits is never freed, nor is anything it refers to, and that may be this universe. Its counts and trace stay.
    public func end() {
        invariant(!isRunning, "a universe ends within a run")
        hasEnded = true
        for process in processes { process.universeEnds() }
        for host in hosts { host.disks.removeAll() }
        disks.removeAll()
        network.end()
        queue = EventQueue()
        actions.removeAll()
        afterTurn = { _ in }
        onLog = { _, _, _, _ in }
    }

    // Hosts and processes

    /// Its name is its address.
    public func addHost(_ name: String) -> SimHost {
        invariant(host(name) == nil, "there is a host \(name) already")
        invariant(hosts.count < SimNetwork.hostsMax, "at most \(SimNetwork.hostsMax) hosts")
        let host = SimHost(self, name: name, number: Int32(hosts.count))
        hosts.append(host)
        return host
    }

    public func host(_ name: String) -> SimHost? { hosts.first { $0.name == name } }

    func start(_ name: String, on host: SimHost) -> SimWorld {
        invariant(host.isUp, "host \(host.name) has no power")
        let process = SimWorld(self, name: name, host: host, number: Int32(processes.count))
        processes.append(process)
        trace.fold(0xa000_0000_0000_0000 | UInt64(UInt32(bitPattern: process.number)))
        return process
    }

    // Steps of the test

    /// Runs `body` at that time, between two events.
    public func at(_ instant: Instant, _ body: @escaping () -> Void) {
        let index: Int32
        if let reused = freeActions.popLast() {
            index = reused
            actions[Int(index)] = body
        } else {
            index = Int32(actions.count)
            actions.append(body)
        }
        push(.action, at: max(instant, now).nanoseconds, a: index)
    }

    public func after(_ interval: Interval, _ body: @escaping () -> Void) { at(now + interval, body) }

    // Faults

    /// Ends all faults: no new ones, links open, disks neither slow nor stuck, no process stalled. What is damaged or lost stays so, and
    /// hosts without power stay off.
    public func heal() {
        faults = .none
        network.heal()
        for disk in disks { disk.heal() }
        for process in processes where process.isAlive { process.heal() }
    }

    /// Nothing that `from` sends reaches `to` until healed.
    public func block(from: SimHost, to: SimHost) {
        count(.partition)
        network.partition(from.number, to.number, until: .max)
    }

    /// Cuts two hosts off from each other, both ways.
    public func partition(_ left: SimHost, _ right: SimHost) {
        block(from: left, to: right)
        network.partition(right.number, left.number, until: .max)
    }

    public func healPartition(_ left: SimHost, _ right: SimHost) {
        network.open(left.number, right.number)
        network.open(right.number, left.number)
    }

    /// Resets every connection between the two hosts.
    public func breakConnections(_ left: SimHost, _ right: SimHost) { network.breakConnections(left, right) }

    func count(_ fault: Fault, _ times: Int = 1) { counts.add(fault, times) }

    /// Whether the fault strikes now; counted when it does.
    @inline(__always)
    func strikes(_ probability: UInt32, _ fault: Fault) -> Bool {
        if probability == 0 { return false }
        guard random.chance(perMillion: probability) else { return false }
        counts.add(fault)
        return true
    }

    /// A length of time in nanoseconds.
    @inline(__always)
    func drawn(_ low: UInt64, _ high: UInt64, constant: UInt64) -> UInt64 { timing == .drawn ? random.between(low, high) : constant }

    func mark(_ name: StaticString) { marks.hit(name) }

    // Running

    /// Runs until that time, which it is afterwards.
    public func run(until instant: Instant) {
        enter()
        defer { leave() }
        while let time = nextTime(), time <= instant.nanoseconds { step() }
        now = max(now, instant)
    }

    public func run(for interval: Interval) { run(until: now + interval) }

    /// Runs while the condition holds, checked after every event; false when it still held after `limit`, or when nothing was left to do.
    @discardableResult
    public func run(while condition: () -> Bool, limit: Interval) -> Bool {
        enter()
        defer { leave() }
        let end = now + limit
        while condition() {
            guard let time = nextTime() else { return false }
            if time > end.nanoseconds {
                now = end
                return false
            }
            step()
        }
        return true
    }

    /// Runs until nothing is under way but timers, accepts and receives, and stays so for `calm`; false when `limit` passes first.
    @discardableResult
    public func runUntilQuiet(limit: Interval, calm: Interval = .milliseconds(1)) -> Bool {
        enter()
        defer { leave() }
        let end = now + limit
        lastWork = now
        while true {
            let time = nextTime()
            if isQuiet {
                let quiet = lastWork + calm
                if time ?? .max > quiet.nanoseconds {
                    now = max(now, quiet)
                    return true
                }
            }
            guard let time else { return false }
            if time > end.nanoseconds {
                now = end
                return false
            }
            step()
        }
    }

    /// Nothing is under way but timers, accepts and receives.
    public var isQuiet: Bool { queue.work == 0 && network.isQuiet && disks.allSatisfy { $0.underWay == 0 } }

    private func enter() {
        invariant(!isRunning, "run is called from within a run")
        invariant(!hasEnded, "the universe has ended")
        isRunning = true
        rs_stray_enter()
    }

    private func leave() {
        rs_stray_leave()
        isRunning = false
    }

    /// Of the first event that still means something.
    private func nextTime() -> UInt64? {
        while let event = queue.first {
            if isLive(event) { return event.time }
            _ = queue.pop()
        }
        return nil
    }

    private func isLive(_ event: Event) -> Bool {
        switch event.kind {
        case .turn: processes[Int(event.a)].isAlive
        case .timer: processes[Int(event.a)].isTimer(event.b, event.generation)
        case .disk: disks[Int(event.a)].isLive(event.b, event.generation)
        case .arrive, .window, .reset: network.isSocket(event.a)
        case .connectArrive, .connectAnswer, .connectDeadline: network.isAttempt(event.a)
        case .release, .action: true
        }
    }

    /// The first event takes place; it must be live.
    private func step() {
        let event = queue.pop()
        if event.time > now.nanoseconds {
            now = Instant(nanoseconds: event.time)
            eventsOfThisInstant = 0
        }
        events += 1
        eventsOfThisInstant += 1
        invariant(
            eventsOfThisInstant < Self.eventsPerInstantMax, "\(eventsOfThisInstant) events and no time passes at \(now), seed \(seed)")
        if event.kind.isWork { lastWork = now }
        trace.fold(event.time)
        trace.fold(UInt64(event.kind.rawValue) << 60 | UInt64(UInt32(bitPattern: event.a)) << 28 ^ UInt64(UInt32(bitPattern: event.b)))
        switch event.kind {
        case .turn:
            let process = processes[Int(event.a)]
            process.turn()
            if process.isAlive { afterTurn(process) }
        case .timer: processes[Int(event.a)].timerEnded(event.b)
        case .disk: disks[Int(event.a)].ended(event.b)
        case .arrive: network.arrived(event.a)
        case .window: network.windowOpened(event.a)
        case .reset: network.resetArrived(event.a)
        case .connectArrive: network.connectArrived(event.a)
        case .connectAnswer: network.connectAnswered(event.a)
        case .connectDeadline: network.connectTimedOut(event.a)
        case .release: network.release(event.a, event.b)
        case .action:
            guard let body = actions[Int(event.a)] else { unreachable("action \(event.a) ran twice") }
            actions[Int(event.a)] = nil
            freeActions.append(event.a)
            body()
        }
    }

    func push(_ kind: Event.Kind, at time: UInt64, a: Int32, b: Int32 = 0, generation: UInt32 = 0) {
        pushed &+= 1
        let drawn = timing == .drawn ? random.next() << 32 : UInt64(0)
        queue.push(Event(time: time, order: drawn | UInt64(pushed), a: a, b: b, generation: generation, kind: kind))
    }

    func push(_ kind: Event.Kind, after delay: UInt64, a: Int32, b: Int32 = 0, generation: UInt32 = 0) {
        push(kind, at: (now + Interval(nanoseconds: delay)).nanoseconds, a: a, b: b, generation: generation)
    }
}
