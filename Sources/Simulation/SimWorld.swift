import Base
import CSimulation
import Environment

/// The world of one simulated process.
///
/// - A turn is what one round of the reactor's loop is: some of the completions that are there, `batchEnded` once for each sink that got
///   one, then jobs.
/// - When it is killed everything it had vanishes: no sink is called and no job runs again. Calls that code of a dead process still makes
///   (a `deinit`, the rest of the job in which it was killed) do nothing. Its sinks are kept so that continuations in them are never freed
///   while the universe lives.
public final class SimWorld: World, @unchecked Sendable {
    public let name: String
    /// Unique in this universe, in the order of starts.
    public let number: Int32
    public private(set) var isAlive = true

    unowned(unsafe) let universe: Universe
    public unowned(unsafe) let host: SimHost
    private let jobs = SimExecutor()
    private var generator: Random
    /// Apart from each other: a build that makes a job more or less must not move the batches.
    private var batchChoices: Random
    private var jobChoices: Random
    private let started: Instant
    private var ended = Instant.zero
    private var stalledUntil: UInt64 = 0
    private var memory: [UnsafeMutableRawBufferPointer] = []

    private struct Sink {
        var sink: (any CompletionSink)?
        /// Operations that name it; its number is not given away again before they end.
        var underWay = 0
        var isTouched = false
    }

    private struct Completion {
        var ticket: Ticket
        var result: Int32
        /// Which timer this is, since it may still be cancelled; or -1.
        var timer: Int32
        var generation: UInt32
    }

    private struct Timer {
        var ticket = Ticket(SinkID(0), 0)
        /// Raised when it completes or is cancelled, which makes its event stale.
        var generation: UInt32 = 0
        var isActive = false
    }

    private var sinks: [Sink] = []
    private var freeSinks: [UInt16] = []
    private var ready: [Completion] = []
    private var readyHead = 0
    private var touched: [UInt16] = []
    private var isTurnPlanned = false
    private var timers: [Timer] = []
    private var freeTimers: [Int32] = []
    private var timersActive = 0
    private var disks: [SimDisk?] = []
    /// Socket and listener numbers by handle; -1 is free.
    var streams: [Int32] = []
    var freeStreams: [Int32] = []
    var listeners: [Int32] = []

    init(_ universe: Universe, name: String, host: SimHost, number: Int32) {
        self.universe = universe
        self.host = host
        self.name = name
        self.number = number
        generator = universe.random.split()
        batchChoices = universe.random.split()
        jobChoices = universe.random.split()
        // Clocks of different processes have nothing in common.
        started = universe.now
        jobs.wakeUp = { [unowned(unsafe) self] in planTurn() }
    }

    // The end

    enum End {
        /// Peers learn of it by and by, or when they send.
        case killed
        /// Nobody is told.
        case silent
    }

    /// kill -9: everything but what its disks hold is gone. Its writes under way land wholly, in part or not at all.
    public func kill() {
        guard isAlive else { return }
        universe.count(.kill)
        end(.killed)
    }

    /// It has done what it was there for. Ends as if it were killed, and is no fault.
    public func exit() { end(.killed) }

    func end(_ end: End) {
        guard isAlive else { return }
        isAlive = false
        ended = universe.now
        universe.trace.fold(0xb000_0000_0000_0000 | UInt64(UInt32(bitPattern: number)))
        for disk in disks { disk?.abandon() }
        disks.removeAll()
        universe.network.processEnded(self, end)
        ready.removeAll()
        readyHead = 0
        timersActive = 0
        for block in memory { if let base = block.baseAddress { rs_sim_forget(base, block.count) } }
    }

    /// The universe is freed: what tasks of this process still refer to must not be reached through it.
    func universeEnds() {
        isAlive = false
        jobs.wakeUp = {}
        sinks.removeAll()
        timers.removeAll()
        disks.removeAll()
        ready.removeAll()
        for block in memory { if let base = block.baseAddress { rs_sim_unmap(base, block.count) } }
        memory.removeAll()
    }

    func heal() {
        if stalledUntil > universe.now.nanoseconds {
            stalledUntil = 0
            isTurnPlanned = false
            planTurn()
        }
    }

    /// It does not run for this long, as when its machine swaps or migrates.
    public func stall(for interval: Interval) {
        universe.count(.stall)
        stalledUntil = max(stalledUntil, (universe.now + interval).nanoseconds)
    }

    /// What it has open and under way.
    public var outstanding: Outstanding {
        var result = Outstanding()
        guard isAlive else { return result }
        result.sinks = sinks.reduce(0) { $0 + ($1.sink == nil ? 0 : 1) }
        for disk in disks {
            guard let disk else { continue }
            result.openDisks += 1
            result.diskOperations += disk.underWay
        }
        result.timers = timersActive
        result.completions = ready.count - readyHead
        result.jobs = jobs.count
        universe.network.count(self, &result)
        return result
    }

    // Turns

    private var hasWork: Bool { readyHead < ready.count || jobs.count > 0 }

    private func planTurn() {
        guard isAlive, !isTurnPlanned else { return }
        isTurnPlanned = true
        // A little later, so that several completions may meet in one batch.
        universe.push(.turn, after: universe.drawn(0, 3_000, constant: 0), a: number)
    }

    func begin(_ ticket: Ticket) {
        let index = Int(ticket.sink.index)
        invariant(index < sinks.count && sinks[index].sink != nil, "process \(name): an operation for sink \(index), which is not attached")
        sinks[index].underWay += 1
    }

    func finish(_ ticket: Ticket, _ result: Int32, timer: Int32 = -1, generation: UInt32 = 0) {
        guard isAlive else { return }
        ready.append(Completion(ticket: ticket, result: result, timer: timer, generation: generation))
        planTurn()
    }

    /// Turns planned before a heal may be left over: they find nothing to do.
    func turn() {
        if stalledUntil > universe.now.nanoseconds {
            return universe.push(.turn, at: stalledUntil, a: number)
        }
        isTurnPlanned = false
        guard hasWork else { return }
        if universe.faults.stall != 0, universe.strikes(universe.faults.stall, .stall) {
            stall(for: Interval(nanoseconds: universe.random.between(1, max(1, universe.faults.stallMax.nanoseconds))))
        }
        deliver()
        runJobs()
        if isAlive, hasWork { planTurn() }
    }

    private func deliver() {
        var count = ready.count - readyHead
        if count > 1, universe.timing == .drawn, batchChoices.coin() { count = 1 + batchChoices.below(count) }
        for _ in 0..<count {
            let completion = ready[readyHead]
            readyHead += 1
            deliver(completion)
            if !isAlive { return touched.removeAll(keepingCapacity: true) }
        }
        if readyHead == ready.count {
            ready.removeAll(keepingCapacity: true)
            readyHead = 0
        } else if readyHead > 256 {
            ready.removeFirst(readyHead)
            readyHead = 0
        }
        var index = 0
        while index < touched.count, isAlive {
            let sink = Int(touched[index])
            sinks[sink].isTouched = false
            sinks[sink].sink?.batchEnded()
            index += 1
        }
        touched.removeAll(keepingCapacity: true)
    }

    private func deliver(_ completion: Completion) {
        if completion.timer >= 0 {
            guard isTimer(completion.timer, completion.generation) else { return }
            freeTimer(completion.timer)
        }
        let index = completion.ticket.sink.index
        sinks[Int(index)].underWay -= 1
        guard let sink = sinks[Int(index)].sink else { return reuse(index) }
        universe.trace.fold(UInt64(UInt32(bitPattern: number)) << 48 | UInt64(index) << 32 | UInt64(completion.ticket.token))
        universe.trace.fold(UInt64(UInt32(bitPattern: completion.result)))
        if !sinks[Int(index)].isTouched {
            sinks[Int(index)].isTouched = true
            touched.append(index)
        }
        sink.completed(completion.ticket.token, result: completion.result)
    }

    private func runJobs() {
        // Bounded, so that a task that waits for nothing cannot keep completions away for ever.
        var budget = 1000
        while isAlive, jobs.count > 0, budget > 0 {
            if universe.timing == .constant { jobs.runFirst() } else { jobs.runAny(&jobChoices) }
            budget -= 1
        }
    }

    // Clock, randomness, log

    public var now: Instant {
        guard isAlive else { return Instant(nanoseconds: ended.nanoseconds - started.nanoseconds) }
        return Instant(nanoseconds: universe.now.nanoseconds - started.nanoseconds)
    }

    /// The universe's time of an instant of this process.
    func onUniverse(_ instant: Instant) -> UInt64 { (started + Interval(nanoseconds: instant.nanoseconds)).nanoseconds }

    public var wallClockMilliseconds: UInt64 {
        // An arbitrary day in 2026.
        1_780_000_000_000 + (started + Interval(nanoseconds: now.nanoseconds)).nanoseconds / 1_000_000
            + (isAlive ? host.wallClockSkewMilliseconds : 0)
    }

    public func random() -> UInt64 { generator.next() }

    public var hostBoot: Identifier { host.boot }
    public var place: Identifier { host.boot }

    public var executor: any WorldExecutor { jobs }

    public func log(_ level: LogLevel, _ message: String, _ fields: [LogField]) {
        guard isAlive else { return }
        universe.trace.fold(0xc000_0000_0000_0000 | UInt64(level.rawValue) << 32 | UInt64(UInt32(bitPattern: number)))
        universe.trace.fold(message)
        for field in fields { universe.trace.fold(field.value) }
        universe.onLog(self, level, message, fields)
    }

    public func mark(_ name: StaticString) {
        if isAlive { universe.mark(name) }
    }

    public func allocate(bytes: Int) throws(Failure) -> UnsafeMutableRawBufferPointer {
        guard isAlive else { throw Failure(.closed, "process \(name) has ended") }
        let size = roundUp(max(1, bytes), to: 4096)
        guard let base = rs_sim_map(size) else { throw Failure(.outOfMemory, "no memory for \(bytes) bytes") }
        let block = UnsafeMutableRawBufferPointer(start: base, count: size)
        memory.append(block)
        return UnsafeMutableRawBufferPointer(rebasing: block[..<bytes])
    }

    // Sinks

    public func attach(_ sink: any CompletionSink) -> SinkID {
        guard isAlive else { return SinkID(.max) }
        if let index = freeSinks.popLast() {
            sinks[Int(index)] = Sink(sink: sink)
            return SinkID(index)
        }
        invariant(sinks.count < Int(UInt16.max), "process \(name): \(sinks.count) sinks")
        sinks.append(Sink(sink: sink))
        return SinkID(UInt16(sinks.count - 1))
    }

    public func detach(_ sink: SinkID) {
        guard isAlive else { return }
        invariant(sinks[Int(sink.index)].sink != nil, "process \(name): sink \(sink.index) is detached twice")
        sinks[Int(sink.index)].sink = nil
        reuse(sink.index)
    }

    private func reuse(_ index: UInt16) {
        // Still in the list of this batch's sinks: it must not become another sink before the batch ends.
        if sinks[Int(index)].sink == nil, sinks[Int(index)].underWay == 0, !touched.contains(index), !freeSinks.contains(index) {
            freeSinks.append(index)
        }
    }

    // Disks

    public func openDisk(_ path: String, _ mode: DiskMode) throws(Failure) -> DiskID {
        guard isAlive else { throw Failure(.closed, "process \(name) has ended") }
        var found = host.disk(path)
        if case .create(let bytes) = mode {
            if universe.strikes(universe.faults.createFull, .createFull) {
                throw Failure(.noSpace, "\(path): no space left for \(bytes) bytes")
            }
            if let existing = found {
                if existing.isBlockDevice {
                    if bytes != 0, bytes != existing.media.bytes {
                        throw Failure(.invalidArgument, "\(path) has \(existing.media.bytes) bytes, not \(bytes)")
                    }
                } else if existing.media.bytes != 0 {
                    throw Failure(.alreadyExists, "\(path) is not empty")
                } else {
                    existing.resize(bytes)
                }
            } else {
                found = host.addDisk(path, bytes: bytes)
            }
        }
        guard let disk = found else { throw Failure(.notFound, "there is no \(path)") }
        if disk.owner != nil { throw Failure(.busy, "\(path) is in use by another process") }
        disk.owner = self
        if let slot = disks.firstIndex(where: { $0 == nil }) {
            disks[slot] = disk
            return DiskID(Int32(slot))
        }
        disks.append(disk)
        return DiskID(Int32(disks.count - 1))
    }

    private func open(_ disk: DiskID) -> SimDisk {
        guard Int(disk.index) < disks.count, let found = disks[Int(disk.index)] else {
            unreachable("process \(name): disk \(disk.index) is not open")
        }
        return found
    }

    public func traits(of disk: DiskID) -> DiskTraits {
        guard isAlive else { return DiskTraits(bytes: 0, sectorBytes: Block.sectorBytes, isVolatile: true, isBlockDevice: false) }
        return open(disk).traits
    }

    public func read(_ disk: DiskID, at offset: UInt64, into vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        guard isAlive else { return }
        begin(ticket)
        open(disk).start(.read, at: offset, vectors, ticket)
    }

    public func write(_ disk: DiskID, at offset: UInt64, from vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        guard isAlive else { return }
        begin(ticket)
        open(disk).start(.write, at: offset, vectors, ticket)
    }

    public func flush(_ disk: DiskID, _ ticket: Ticket) {
        guard isAlive else { return }
        begin(ticket)
        open(disk).start(.flush, at: 0, nil, ticket)
    }

    public func punch(_ disk: DiskID, at offset: UInt64, bytes: UInt64, _ ticket: Ticket) {
        guard isAlive else { return }
        begin(ticket)
        open(disk).start(.punch, at: offset, bytes: bytes, nil, ticket)
    }

    public func closeDisk(_ disk: DiskID) {
        guard isAlive else { return }
        let found = open(disk)
        invariant(found.underWay == 0, "disk \(found.path) is closed with \(found.underWay) operations under way")
        found.owner = nil
        disks[Int(disk.index)] = nil
    }

    // Timers

    public func wake(at instant: Instant, _ ticket: Ticket) -> TimerID {
        guard isAlive else { return TimerID(.max) }
        begin(ticket)
        let slot: Int32
        if let reused = freeTimers.popLast() {
            slot = reused
        } else {
            slot = Int32(timers.count)
            timers.append(Timer())
        }
        timers[Int(slot)].ticket = ticket
        timers[Int(slot)].isActive = true
        timersActive += 1
        let generation = timers[Int(slot)].generation
        // A reactor wakes late, never early.
        let due = started + Interval(nanoseconds: instant.nanoseconds) + Interval(nanoseconds: universe.drawn(0, 50_000, constant: 0))
        if due != .never { universe.push(.timer, at: max(due, universe.now).nanoseconds, a: number, b: slot, generation: generation) }
        return TimerID(UInt64(generation) << 32 | UInt64(UInt32(bitPattern: slot)))
    }

    public func cancel(_ timer: TimerID) {
        let slot = Int32(truncatingIfNeeded: timer.raw)
        guard isAlive, timer.raw != .max, isTimer(slot, UInt32(truncatingIfNeeded: timer.raw >> 32)) else { return }
        let sink = timers[Int(slot)].ticket.sink.index
        freeTimer(slot)
        sinks[Int(sink)].underWay -= 1
        reuse(sink)
    }

    func isTimer(_ slot: Int32, _ generation: UInt32) -> Bool {
        isAlive && Int(slot) < timers.count && timers[Int(slot)].isActive && timers[Int(slot)].generation == generation
    }

    private func freeTimer(_ slot: Int32) {
        timers[Int(slot)].isActive = false
        timers[Int(slot)].generation &+= 1
        timersActive -= 1
        freeTimers.append(slot)
    }

    func timerEnded(_ slot: Int32) {
        // It stays active until it is delivered: until then it can still be cancelled.
        finish(timers[Int(slot)].ticket, 0, timer: slot, generation: timers[Int(slot)].generation)
    }
}
