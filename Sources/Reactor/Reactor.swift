import Base
import CSystem
import CURing
import Environment

/// The real world: one thread, one io_uring.
///
/// Owns the ring, everything opened through it, its timers and its executor. One *turn* hands everything queued to the kernel and waits, in
/// one system call; delivers what has completed; then runs the jobs of asynchronous code. Operations begun meanwhile are only queued, and
/// go with the next turn (only disks do not wait for it). While nothing happens the thread sleeps in the kernel without a limit.
///
/// Unless caller-driven, it is made, run and closed on one thread. A caller-driven one may be used from several threads, one at a time;
/// what is called outside of a turn is wrapped in `perform`.
///
/// Only `inbox` and `executor` may be touched by other threads.
public final class Reactor: World, @unchecked Sendable {
    let options: ReactorOptions
    let ring: OpaquePointer
    let inbox: Inbox
    let reactorExecutor: ReactorExecutor

    var operations: OperationTable
    var sinks = SinkTable()
    var timers = TimerTable()
    /// Completions that needed no ring; delivered with the next batch, since none is delivered from within the call that began it.
    private var ready: [Ready] = []
    private var readyTaken: [Ready] = []
    /// Operations for which the kernel had no memory; tried again at each turn.
    private var deferred: [UInt32] = []
    private var messages: [Inbox.Message] = []

    var disks = DiskTable()
    /// Since the last submission, and how many there may be before the next one.
    var transfersQueued = 0
    var transfersAtOnce = 1
    var streams = StreamTable()
    var listeners: [Listener?] = []
    var arenas: [Arena] = []
    var connector: Connector?
    var signals: SignalReader?
    private var randomGenerator = RandomGenerator()

    private let epoch: UInt64
    /// How far the clock was put forward.
    private var skipped = Interval(nanoseconds: 0)
    private var cachedNow = Instant.zero
    private var isInTurn = false
    private var isStopping = false
    private(set) var isClosed = false
    var canRegisterBuffers: Bool?
    var registeredBuffers = 0

    /// What the inbox's eventfd is read into, then the instant of the armed timeout (two words).
    private let words: UnsafeMutablePointer<Int64>
    private var armedTimeout = Instant.never
    private var pollDescriptor: Int32?
    private var shortWaits = ShortWaits()
    /// Waits that ended while it looked.
    private(set) var waitsSpun = 0
    /// Whether so little is under way that the time until something ends matters more than the processor; asked before each wait.
    public var isInHaste: (() -> Bool)?

    struct Ready {
        var sink: UInt16
        var generation: UInt32
        var token: UInt32
        var result: Int32
    }

    public init(_ options: ReactorOptions = ReactorOptions()) throws(Failure) {
        let waker = rs_eventfd()
        if waker < 0 { throw Failure(.outOfMemory, "no eventfd can be made: \(ErrorCode.text(-waker)); raise the limit of open files") }
        // Owns the descriptor, also when the ring cannot be made.
        inbox = Inbox(descriptor: waker)
        ring = try openRing(depth: options.queueDepth, owned: !options.callerDriven)
        self.options = options
        operations = OperationTable(capacity: options.operationsMax)
        reactorExecutor = ReactorExecutor(inbox)
        epoch = rs_monotonic_nanoseconds()
        hostBoot = Reactor.bootOfThisMachine
        words = .allocate(capacity: 3)
        words.initialize(repeating: 0, count: 3)
        connector = Connector(self)
        if !options.callerDriven { _ = reactorExecutor.enter() }
        readInbox()
    }

    deinit {
        if !isClosed { close() }
        words.deallocate()
    }

    // Clock, randomness, log

    /// The same within a turn, apart from the time spent waiting.
    public var now: Instant { isInTurn ? cachedNow : clock }
    private var clock: Instant { Instant(nanoseconds: rs_monotonic_nanoseconds() - epoch) + skipped }
    public var wallClockMilliseconds: UInt64 { rs_wall_clock_milliseconds() }
    public func random() -> UInt64 { randomGenerator.next() }
    public let hostBoot: Identifier
    public var place: Identifier {
        let network = rs_network_namespace()
        return hostBoot == .zero || network == 0 ? .zero : Identifier(high: hostBoot.high, low: hostBoot.low ^ network)
    }

    /// Zero, which is never equal to a boot that is known, where the kernel does not tell.
    private static var bootOfThisMachine: Identifier {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 40) { text in
            guard let base = text.baseAddress else { return .zero }
            rs_boot_id(base)
            return Identifier(text: String(cString: base)) ?? .zero
        }
    }
    public var executor: any WorldExecutor { reactorExecutor }

    public func log(_ level: LogLevel, _ message: String, _ fields: [LogField]) {
        if level < options.logLevel { return }
        var line = LogLine.text(level, message, fields, program: options.name, wallClockMilliseconds: wallClockMilliseconds)
        if let writer = options.logWriter { return writer(line) }
        _ = line.withUTF8 { rs_write_all(2, $0.baseAddress, $0.count) }
    }

    // Turns

    /// Turns until `stop`.
    public func run() {
        while !isStopping { process(wait: .never) }
        isStopping = false
    }

    /// Ends `run` after the turn under way, from any thread.
    public func stop() { post { self.isStopping = true } }

    /// Runs `work` on the reactor's thread in a turn to come; from any thread.
    public func post(_ work: @escaping @Sendable () -> Void) { inbox.post(.work(work)) }

    /// Makes the calling thread the reactor's while `body` runs: for calls into a caller-driven reactor outside of `process`.
    public func perform<Result>(_ body: () throws -> Result) rethrows -> Result {
        let previous = reactorExecutor.enter()
        defer { reactorExecutor.leave(previous) }
        return try body()
    }

    /// One turn. Waits until an operation has ended, a timer is due or `deadline` has come (`nil`: does not wait), and returns how many
    /// completions were delivered. It may return earlier, and with none.
    @discardableResult
    public func process(wait deadline: Instant?) -> Int {
        invariant(!isInTurn && !isClosed, "a turn within a turn, or after close")
        let previous = reactorExecutor.enter()
        if let descriptor = pollDescriptor {
            rs_ring_notify(ring, false)
            rs_eventfd_clear(descriptor)
        }
        if !deferred.isEmpty { retryDeferred() }
        submitAndWait(until: deadline)
        transfersQueued = 0
        transfersAtOnce = options.transfersAtOnce
        cachedNow = clock
        isInTurn = true
        var delivered = deliverCompletions()
        if !ready.isEmpty { delivered += deliverReady() }
        if !timers.isEmpty { delivered += deliverTimers() }
        while let sink = sinks.nextTouched() { sink.batchEnded() }
        reactorExecutor.runJobs(limit: jobsPerTurnMax)
        isInTurn = false
        if options.callerDriven { submit() }
        reactorExecutor.leave(previous)
        return delivered
    }

    /// Whether the next turn has something to do already.
    private var hasWork: Bool { !ready.isEmpty || reactorExecutor.hasJobs || !deferred.isEmpty }

    private func submitAndWait(until deadline: Instant?) {
        guard let deadline, !hasWork else { return collect() }
        let limit = min(deadline, timers.next() ?? .never)
        guard options.spin.nanoseconds > 0, let isInHaste, isInHaste() else { return sleep(until: limit) }
        let began = clock
        let isCaught = shortWaits.areLikely && limit > began + options.spin && spin()
        if !isCaught { sleep(until: limit) }
        shortWaits.ended(isShort: clock - began < options.spin)
    }

    private func sleep(until limit: Instant) {
        var nanoseconds: Int64 = -1
        if limit != .never {
            let left = (limit - clock).nanoseconds
            if left == 0 { return collect() }
            nanoseconds = Int64(clamping: left)
        }
        checkSubmission(rs_ring_submit_and_wait(ring, 1, nanoseconds))
    }

    /// Waits without sleeping; true if there is something to deliver.
    private func spin() -> Bool {
        checkSubmission(rs_ring_submit_and_collect(ring))
        if rs_ring_has_completions(ring) { return true }
        let began = clock
        guard rs_ring_spin(ring, Int64(options.spin.nanoseconds)) else {
            // Far longer than it was to: others want this core.
            if clock - began > Interval(nanoseconds: options.spin.nanoseconds * 4) { shortWaits.giveUp() }
            return false
        }
        checkSubmission(rs_ring_submit_and_collect(ring))
        // In a ring that two threads use in turn what is there to collect may be the other one's.
        guard rs_ring_has_completions(ring) else { return false }
        waitsSpun += 1
        return true
    }

    private func collect() {
        let mustEnter = !options.callerDriven || rs_ring_queued(ring) > 0 || rs_ring_needs_collecting(ring)
        if mustEnter { checkSubmission(rs_ring_submit_and_collect(ring)) }
    }

    /// Everything that can go wrong here for a reason other than our own passes: what was not taken stays queued.
    func checkSubmission(_ result: Int32) {
        switch -result {
        case 0, ErrorCode.interrupted, ErrorCode.timerExpired, ErrorCode.again, ErrorCode.busy, ErrorCode.noMemory: return
        case let code: unreachable("the ring refuses a submission: \(ErrorCode.text(code)); a reactor belongs to the thread that made it")
        }
    }

    private func deliverCompletions() -> Int {
        var delivered = 0
        var first: UnsafePointer<rs_completion>?
        // Twice when the queue wraps around, or when entering the kernel for room in a full submission queue has brought more.
        while true {
            let count = Int(rs_ring_completions(ring, &first))
            guard count > 0, let completions = first else { break }
            for index in 0..<count {
                ended(UInt32(truncatingIfNeeded: completions[index].data), completions[index].result, completions[index].flags)
            }
            rs_ring_advance(ring, UInt32(count))
            delivered += count
            if delivered >= completionsPerTurnMax { break }
        }
        return delivered
    }

    private func deliverReady() -> Int {
        swap(&ready, &readyTaken)
        for each in readyTaken { deliver(each.sink, each.generation, each.token, each.result) }
        let count = readyTaken.count
        readyTaken.removeAll(keepingCapacity: true)
        return count
    }

    private func deliverTimers() -> Int {
        var count = 0
        while let due = timers.popDue(cachedNow) {
            deliver(due.sink.index, due.sinkGeneration, due.token, 0)
            count += 1
        }
        return count
    }

    @inline(__always)
    func deliver(_ sink: UInt16, _ generation: UInt32, _ token: UInt32, _ result: Int32) {
        sinks.receiver(sink, generation)?.completed(token, result: result)
    }

    /// Delivers with the next batch.
    func completeLater(_ ticket: Ticket, _ result: Int32) {
        ready.append(Ready(sink: ticket.sink.index, generation: sinks.generation(ticket.sink), token: ticket.token, result: result))
    }

    private func retryDeferred() {
        let again = deferred
        deferred = []
        for index in again {
            let operation = operations.slots[Int(index)]
            // What it was to cancel has ended, and its slot may be another's.
            let isMoot = operation.kind == .cancel && !operations.slots[Int(operation.address)].isCancelling
            if isMoot { operations.release(index) } else { queue(index) }
        }
    }

    func deferOperation(_ index: UInt32) { deferred.append(index) }

    // The inbox

    private func readInbox() {
        guard let index = begin(.inbox, sink: 0, generation: 0, token: 0) else { unreachable("a new reactor has slots") }
        operations.slots[Int(index)].descriptor = inbox.descriptor
        operations.slots[Int(index)].address = UInt64(UInt(bitPattern: words))
        operations.slots[Int(index)].bytes = 8
        queue(index)
    }

    /// The slot stays the inbox's: the same read goes out again.
    func inboxIsReadable(_ index: UInt32) {
        queue(index)
        inbox.take(into: &messages)
        for message in messages {
            switch message {
            case .work(let work): work()
            case .job(let job): reactorExecutor.append(job)
            }
        }
        messages.removeAll(keepingCapacity: true)
    }

    // Driven by a caller

    /// Becomes readable when `process` has something to do. Made when first asked for, since a caller that only waits in `process` is
    /// faster without.
    public func descriptor() throws(Failure) -> Int32 {
        invariant(options.callerDriven, "only a caller-driven reactor is polled")
        if let pollDescriptor { return pollDescriptor }
        let made = rs_ring_register_eventfd(ring)
        if made < 0 { throw Failure(.outOfMemory, "no eventfd can be registered with io_uring: \(ErrorCode.text(-made))") }
        pollDescriptor = made
        rs_eventfd_signal(made)
        return made
    }

    /// Hands over what was begun outside of a turn. A caller-driven reactor needs it before its descriptor is polled.
    public func submit() {
        armTimeout()
        if rs_ring_queued(ring) > 0 { checkSubmission(rs_ring_submit(ring)) }
        guard let pollDescriptor else { return }
        rs_ring_notify(ring, true)
        if hasWork || rs_ring_has_completions(ring) { rs_eventfd_signal(pollDescriptor) }
    }

    /// Lets the descriptor become readable when the next timer is due. One armed for later is left to fire for nothing.
    private func armTimeout() {
        guard pollDescriptor != nil, let next = timers.next(), next < armedTimeout, !hasWork else { return }
        guard let index = begin(.timeout, sink: 0, generation: 0, token: 0) else { return }
        armedTimeout = next
        let (instant, overflow) = epoch.addingReportingOverflow(next.nanoseconds)
        let clamped = overflow ? UInt64(Int64.max) : min(instant, UInt64(Int64.max))
        words[1] = Int64(clamped / 1_000_000_000)
        words[2] = Int64(clamped % 1_000_000_000)
        operations.slots[Int(index)].address = UInt64(UInt(bitPattern: words + 1))
        operations.slots[Int(index)].offset = next.nanoseconds
        queue(index)
    }

    func timeoutEnded(_ operation: Operation) {
        if operation.offset == armedTimeout.nanoseconds { armedTimeout = .never }
    }

    // Sinks and timers

    public func attach(_ sink: any CompletionSink) -> SinkID { sinks.attach(sink) }
    public func detach(_ sink: SinkID) { sinks.detach(sink) }

    public func wake(at instant: Instant, _ ticket: Ticket) -> TimerID {
        timers.add(at: instant, .init(sink: ticket.sink, sinkGeneration: sinks.generation(ticket.sink), token: ticket.token))
    }

    public func cancel(_ timer: TimerID) { timers.cancel(timer) }

    // The end

    /// Cuts off what has been begun: streams break, connecting fails, and every deadline has passed. Asynchronous code ends soon, by the
    /// ways that it has for all that. It reaches nobody any more: that a wait which keeps others safe is cut short harms none of them.
    /// Turns go on until it has ended; then `close`. Nobody polls the descriptor meanwhile.
    public func sever() {
        invariant(!isInTurn && !isClosed, "severed within a turn, or after close")
        skipped = Reactor.beyondDeadlines
        connector?.isSevered = true
        streams.shutdownAll()
    }

    /// No caller may ask for more than a day.
    private static let beyondDeadlines = Interval.seconds(2 * 86_400)

    /// Ends everything under way, delivering nothing, and gives back every descriptor and all memory. Nothing can be begun afterwards.
    public func close() {
        invariant(!isInTurn && !isClosed, "close within a turn, or twice")
        isClosed = true
        inbox.close()
        sinks.detachAll()
        disks.unlockAll()
        endOperations()
        connector?.closeAll()
        connector = nil
        for index in listeners.indices { listeners[index]?.close() }
        listeners = []
        streams.closeAll()
        disks.closeAll()
        signals = nil
        rs_ring_close(ring)
        if let pollDescriptor { rs_close(pollDescriptor) }
        pollDescriptor = nil
        for arena in arenas { rs_unmap(arena.base, arena.bytes) }
        arenas = []
        ready = []
    }

    /// The ring dies in the background; only what has ended before certainly holds no file and no memory any more.
    private func endOperations() {
        let deadline = clock + .seconds(5)
        var all = rs_entry()
        all.opcode = UInt8(rs_opcode_async_cancel.rawValue)
        all.flags = UInt32(rs_cancel_all | rs_cancel_any)
        all.data = UInt64(OperationTable.none)
        rs_ring_submit(ring)
        deferred.forEach { operations.release($0) }
        while operations.count > 0, clock < deadline {
            _ = rs_ring_queue(ring, &all)
            rs_ring_submit_and_wait(ring, 1, 10_000_000)
            _ = deliverCompletions()
        }
        if operations.count > 0 {
            log(.warning, "closing while the kernel does not end what is under way", [LogField("operations", operations.count)])
        }
    }
}

/// Whether the waits of late were short. One long one counts as much as several short ones: looking in vain costs the whole time.
private struct ShortWaits {
    private static let most = 16
    private var score = 0

    var areLikely: Bool { score > ShortWaits.most / 2 }

    mutating func ended(isShort: Bool) { score = isShort ? min(score + 1, ShortWaits.most) : max(score - 4, min(score, 0)) }

    /// For the next thousand short waits.
    mutating func giveUp() { score = -1000 }
}

/// So that a task which only yields, or a device that is always done already, does not keep out the others.
private let jobsPerTurnMax = 4096
private let completionsPerTurnMax = 16384

private func openRing(depth: Int, owned: Bool) throws(Failure) -> OpaquePointer {
    var ring: OpaquePointer?
    let result = rs_ring_open(UInt32(depth), owned, &ring)
    if let ring, result == 0 { return ring }
    switch -result {
    case ErrorCode.notPermitted, ErrorCode.accessDenied:
        throw Failure(
            .permissionDenied,
            "io_uring is not permitted here: set kernel.io_uring_disabled to 0 (sysctl), and in a container allow the io_uring "
                + "system calls "
                + "in its seccomp profile")
    case ErrorCode.noSystemCall:
        throw Failure(.unsupported, "this kernel has no io_uring, or too old a one: Linux 6.1 or newer is needed")
    case ErrorCode.invalid:
        throw Failure(.unsupported, "io_uring refuses a queue of depth \(depth): use 1 to 32768, on Linux 6.1 or newer")
    case ErrorCode.noMemory:
        throw Failure(
            .outOfMemory, "no memory for an io_uring of depth \(depth): use a smaller one, or raise the memory lock limit (ulimit -l)")
    case let code: throw Failure(.outOfMemory, "io_uring cannot be set up: \(ErrorCode.text(code))")
    }
}
