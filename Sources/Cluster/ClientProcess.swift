import Base
import Client
import Environment
import Simulation
import VolumeEngine

/// One process that uses the volume: opens it, keeps random operations under way, and tells the history of each what became of it.
final class ClientProcess {
    private struct Pending {
        var kind: Operation.Kind
        var endSector: Int
        var write: UInt32 = 0
        var flushing: History.Flushing?
        var memory: Memory?
        var began: Instant
        var deadline: Interval
        /// Submitted when nothing could go wrong any more.
        var isLate: Bool
    }

    let world: SimWorld
    let number: Int
    private unowned let run: ClusterRun
    private(set) var volume: Volume?
    private(set) var isFenced = false
    /// Has given up opening, or its volume is closed.
    private(set) var isDone = false
    private var isClosing = false
    private var isOpening = true
    private var isWorking = false
    private var pending: [UInt: Pending] = [:]
    private var nextTag: UInt = 0
    private var isSubmitting = false
    private var cleaning: (tag: UInt, then: () -> Void)?
    private let startSinks: Outstanding

    init(_ run: ClusterRun, _ host: SimHost, number: Int) {
        self.run = run
        self.number = number
        world = host.start("client\(number)")
        startSinks = world.outstanding
    }

    var isOpen: Bool { volume != nil && !isClosing && world.isAlive }
    var isIdle: Bool { pending.isEmpty }
    var pendingCount: Int { pending.count }
    private var history: History { run.history }

    /// Opens, by force once it has been refused for a while, and then works until told otherwise.
    func start(force: Bool, works: Bool) {
        isWorking = works
        world.spawn { [self] in
            var attempts = 0
            while world.isAlive, !isClosing {
                var options = run.options.client
                options.force = force || attempts > 3
                let began = world.now
                do throws(Failure) {
                    history.asks(client: number)
                    let opened = try await Volume.open(world, run.address, options)
                    adopt(opened)
                    break
                } catch {
                    history.hasAsked(client: number)
                    run.check(open: error, isLate: began >= run.healedAt)
                    attempts += 1
                    await pause(.milliseconds(run.universe.choices.between(50, 1_500)))
                }
            }
            isOpening = false
            if isClosing { return await finishClosing() }
            if isWorking { await work() }
        }
    }

    private func adopt(_ opened: Volume) {
        volume = opened
        opened.onCompletion = { [unowned self] in ended($0, $1) }
        opened.onNotice = { [unowned self] notice in
            if notice == .fenced {
                isFenced = true
                // Another one may have been granted the volume and not heard of it.
                if run.clients.count == 1 { run.report("client \(number) is fenced and nobody else has opened the volume") }
            }
        }
        run.opened(self)
    }

    func pause(_ interval: Interval) async {
        let operations = Operations(world)
        await operations.sleep(interval)
        operations.close()
    }

    private func work() async {
        while isWorking, world.isAlive, volume?.isDead == false {
            if run.isWorking { submitMore() }
            volume?.kick()
            await pause(.microseconds(run.universe.choices.between(200, 40_000)))
        }
    }

    func stopWorking() { isWorking = false }

    /// Closes the volume and checks that nothing of it is left.
    func close() {
        guard !isClosing else { return }
        isClosing = true
        isWorking = false
        // While it opens, it closes when that has ended.
        guard !isOpening else { return }
        world.spawn { [self] in await finishClosing() }
    }

    private func finishClosing() async {
        if let volume { await volume.close() }
        isDone = true
    }

    /// What it has more than it began with; nothing, once it is closed.
    var leftovers: String? {
        let now = world.outstanding
        if !pending.isEmpty { return "\(pending.count) operations of client \(number) never ended" }
        if let volume, volume.operationsUnderWay > 0 { return "client \(number) counts \(volume.operationsUnderWay) operations" }
        return now == startSinks ? nil : "client \(number) leaves behind \(now)"
    }

    func kill() {
        // In no order, which nothing can see.
        for (tag, entry) in pending {
            history.dropRead(tag | UInt(number) << 32)
            if let flushing = entry.flushing { history.dropFlush(flushing) }
        }
        pending.removeAll()
        history.hasAsked(client: number)
        world.kill()
    }

    /// The universe is about to end.
    func release() {
        pending.removeAll()
        cleaning = nil
        volume = nil
    }

    func checkInvariants() {
        // Quadratic in what is under way.
        guard let volume, volume.operationsUnderWay <= 24 || run.universe.events % 8 == 0 else { return }
        volume.checkInvariants()
    }

    // Operations

    private func submitMore() {
        guard !isSubmitting, let volume, run.owner === self || run.universe.choices.below(8 as UInt64) == 0 else { return }
        isSubmitting = true
        defer { isSubmitting = false }
        let burst = 1 + run.universe.choices.below(run.options.depth)
        for _ in 0..<burst where pending.count < run.options.depth && run.mayBegin() { submitOne(volume) }
    }

    private func submitOne(_ volume: Volume) {
        let options = run.options
        let roll = run.universe.choices.below(1000 as UInt64)
        let isDurable = run.universe.choices.below(1000 as UInt64) < options.durablePerMille
        if roll < options.flushPerMille { return flush(volume) }
        let (first, sectors) = range(volume)
        if roll < options.flushPerMille + options.readPerMille {
            read(volume, first, sectors)
        } else if run.universe.choices.below(1000 as UInt64) < options.zeroPerMille {
            zero(volume, first, sectors, isDurable)
        } else {
            write(volume, first, sectors, isDurable)
        }
    }

    private func range(_ volume: Volume) -> (first: Int, sectors: Int) {
        let all = Int(min(volume.object.bytes, run.usableBytes)) / Block.sectorBytes
        var random = run.universe.choices.split()
        let area = max(1, all / Int(random.coin() ? run.options.hotSpot : 1))
        var sectors = 1 + random.below(max(1, run.options.operationBytesMax / Block.sectorBytes))
        // Small ones are what there are most of.
        if random.coin() { sectors = min(sectors, 1 + random.below(32)) }
        sectors = min(sectors, area)
        var first = random.below(area - sectors + 1)
        if random.coin() {
            first &= ~7
            sectors = min(roundUp(sectors, to: 8), all - first)
        }
        return (first, sectors)
    }

    private func deadline() -> Interval {
        let options = run.options
        // Clients may still be on their way back.
        if run.isHealed { return Limits.requestDeadlineDefault }
        return Interval(nanoseconds: run.universe.choices.between(options.deadlineMin.nanoseconds, options.deadlineMax.nanoseconds))
    }

    /// Whether something is under way at this sector or behind it, or a read is.
    func uses(from sector: Int, onlyReads: Bool = false) -> Bool {
        world.isAlive && pending.values.contains { $0.endSector > sector && (!onlyReads || $0.kind == .read) }
    }

    private func begin(_ kind: Operation.Kind, until end: Int = 0, memory: Memory?, write: UInt32 = 0) -> UInt {
        nextTag += 1
        pending[nextTag] = Pending(
            kind: kind, endSector: end, write: write, memory: memory, began: world.now, deadline: deadline(),
            isLate: world.now >= run.healedAt)
        return nextTag
    }

    func read(_ volume: Volume, _ first: Int, _ sectors: Int) {
        let memory = Memory(bytes: sectors * Block.sectorBytes)
        cut(memory)
        let tag = begin(.read, until: first + sectors, memory: memory)
        history.beginRead(tag | UInt(number) << 32, client: number, firstSector: first, sectors: sectors)
        submit(volume, tag, first, sectors, false)
    }

    private func write(_ volume: Volume, _ first: Int, _ sectors: Int, _ isDurable: Bool) {
        let memory = Memory(bytes: sectors * Block.sectorBytes)
        let write = history.beginWrite(client: number, firstSector: first, sectors: sectors, isZero: false, isDurable: isDurable)
        SectorPattern.fill(memory.base, firstSector: first, sectors: sectors, write: write)
        cut(memory)
        submit(volume, begin(.write, until: first + sectors, memory: memory, write: write), first, sectors, isDurable)
    }

    private func zero(_ volume: Volume, _ first: Int, _ sectors: Int, _ isDurable: Bool) {
        let isDiscard = run.universe.choices.coin()
        let isDurable = isDurable && !isDiscard
        let write = history.beginWrite(client: number, firstSector: first, sectors: sectors, isZero: true, isDurable: isDurable)
        let tag = begin(isDiscard ? .discard : .writeZeroes, until: first + sectors, memory: nil, write: write)
        submit(volume, tag, first, sectors, isDurable)
    }

    func flush(_ volume: Volume) {
        let tag = begin(.flush, memory: nil)
        pending[tag]?.flushing = history.beginFlush(client: number)
        submit(volume, tag, 0, 0, false)
    }

    /// Has the store flush everything and then note in its log, durably, that it did. What was damaged before can no longer be taken for
    /// lost by a restart.
    func makeClean(then body: @escaping () -> Void) {
        guard let volume, volume.isDead == false else { return }
        flush(volume)
        cleaning = (
            nextTag,
            { [unowned self] in
                guard volume.isDead == false else { return }
                write(volume, 0, 1, true)
                cleaning = (nextTag, body)
            }
        )
        volume.kick()
    }

    private func cut(_ memory: Memory) {
        guard run.universe.choices.below(3 as UInt64) == 0 else { return }
        var random = run.universe.choices.split()
        memory.cut(pieces: 1 + random.below(8), &random)
    }

    private func submit(_ volume: Volume, _ tag: UInt, _ first: Int, _ sectors: Int, _ isDurable: Bool) {
        guard let entry = pending[tag] else { unreachable("operation \(tag) was begun") }
        let operation = Operation(
            entry.kind, offset: UInt64(first * Block.sectorBytes), bytes: UInt64(sectors * Block.sectorBytes), isDurable: isDurable,
            deadline: entry.deadline, tag: Operation.Tag(1, tag))
        let vectors = entry.memory?.vectors ?? []
        let refusal = vectors.withUnsafeBufferPointer { volume.submit(operation, $0) }
        guard let refusal else { return }
        pending[tag] = nil
        if entry.kind == .read { history.dropRead(tag | UInt(number) << 32) }
        if let flushing = entry.flushing { history.dropFlush(flushing) }
        if entry.kind.changesBlocks { history.withdraw(entry.write) }
        let isExpected = refusal == .outOfMemory || (refusal == .fenced && run.owner !== self) || volume.isDead
        if !isExpected { run.report("client \(number): \(entry.kind) is refused with \(refusal)") }
    }

    private func ended(_ tag: Operation.Tag, _ status: Status) {
        guard let entry = pending.removeValue(forKey: tag.second) else { return run.report("operation \(tag.second) ends twice") }
        run.check(status, of: entry.kind, client: self, took: world.now - entry.began, deadline: entry.deadline, isLate: entry.isLate)
        switch entry.kind {
        case .read:
            let reading = tag.second | UInt(number) << 32
            if status == .ok, let memory = entry.memory { history.endRead(reading, memory.base) } else { history.dropRead(reading) }
        case .write, .discard, .writeZeroes: history.endWrite(entry.write, acknowledged: status == .ok)
        case .flush:
            guard let flushing = entry.flushing else { unreachable("a flush covers something") }
            switch status {
            case .ok:
                history.endFlush(flushing)
                if run.owner === self { run.flushed(began: entry.began) }
            case .powerLost: history.flushTold(flushing)
            case _: history.dropFlush(flushing)
            }
        case .rewrite: unreachable("no user rewrites")
        }
        if let step = cleaning, step.tag == tag.second {
            cleaning = nil
            if status == .ok { step.then() }
        }
        // As users do: the next one from within the completion of the last.
        if isWorking, run.isWorking, run.universe.choices.coin() { submitMore() }
    }
}
