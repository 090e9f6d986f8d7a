import Base
import Environment
import PartStore
import Simulation

/// One seed of a part store under random operations, faults and crashes, held against the model.
///
/// One volume, one writer that obeys the rules of a client: versions grow, the mark passes what is acknowledged and durable. Overlapping
/// writes in flight are given on purpose: the store's own order decides.
final class StoreRun {
    let universe: Universe
    private let host: SimHost
    private let disk: SimDisk
    private var options = PartStore.Options()
    private var shell: StoreShell
    private var model = StoreModel()
    private var object = ObjectNumber(0)
    private var generation: UInt64 = 0
    private var sequence: UInt64 = 0
    /// The highest map number that was asked for, and that was answered: durable.
    private var map: (asked: UInt64, answered: UInt64) = (0, 0)
    /// The same of the incarnation of the store's catalogue.
    private var incarnation: (asked: UInt64, answered: UInt64) = (0, 0)
    private(set) var problems: [String] = []
    private(set) var reads = 0
    private(set) var crashes = 0
    private(set) var snapshots: UInt64 = 0

    private enum Request {
        case control
        case stamp(UInt64)
        case adopt(UInt64)
        case write(operation: Int, places: [StoreModel.Place], isDurable: Bool)
        case flush(upTo: Int)
        case read(first: UInt32, chunk: UInt32, count: Int, began: Int)
    }

    private var requests: [UInt32: Request] = [:]
    private var memories: [UInt32: Buffer] = [:]
    private var nextTag: UInt32 = 1
    /// Sequence of each operation, to compute the mark.
    private var sequences: [Int: UInt64] = [:]
    private var unacknowledged: Set<UInt64> = []
    private var isMounted = false
    private var isBroken = false
    private let chunks: UInt32
    private let blocksPerChunk: UInt32 = 1024

    private final class Buffer {
        let data: UnsafeMutableRawBufferPointer
        let checks: UnsafeMutableRawBufferPointer
        init(blocks: Int) {
            data = .allocate(byteCount: blocks * Block.bytes, alignment: Block.bytes)
            checks = .allocate(byteCount: blocks * 4, alignment: 8)
        }
        deinit {
            data.deallocate()
            checks.deallocate()
        }
    }

    /// `settlesAlways`: as a single member does. Otherwise what is in doubt at a restart often stays so, and keeps its space.
    init(seed: UInt64, faults: FaultPlan = .none, diskBytes: UInt64 = 8 << 20, settlesAlways: Bool = false) {
        self.settlesAlways = settlesAlways
        universe = Universe(seed: seed, faults: .none)
        host = universe.addHost("ost")
        disk = host.addDisk("/disk", bytes: diskBytes)
        options.requestsMax = 64
        options.doubtsMax = 8192 + universe.choices.below(16384)
        options.barrierBytes = 64 << (10 + universe.choices.below(8))
        chunks = 1 + UInt32(universe.choices.below(3))
        shell = StoreShell(host.start("ost"), path: "/disk", options: options)
        plan = faults
    }

    private let plan: FaultPlan
    private let settlesAlways: Bool

    private func report(_ text: String) { problems.append("seed \(universe.seed) at \(universe.now): \(text)") }

    /// Formats, runs `steps` steps with `crashes` crashes between them, and ends quiet.
    func run(steps: Int, crashes count: Int, powerLoss: Bool) {
        start(format: true)
        for _ in 0..<count {
            work(steps / (count + 1))
            crash(lostPower: powerLoss && universe.choices.coin())
            if !problems.isEmpty { return }
        }
        work(steps / (count + 1))
        finish()
    }

    // MARK: Life

    private func start(format: Bool) {
        isMounted = false
        hook()
        let shell = shell
        shell.world.spawn { [self] in
            do throws(Failure) {
                if format { try await shell.format() }
                try await shell.mount()
                isMounted = true
            } catch { report("mounting failed: \(error)") }
        }
        if !universe.run(while: { [self] in !isMounted && problems.isEmpty }, limit: .seconds(600)) { report("mounting does not end") }
        guard problems.isEmpty else { return }
        if format {
            control { $0.create(tag: $1, ObjectRecord(id: Identifier(high: 7, low: 7), name: "volume", bytes: UInt64(self.chunks) << 22)) }
        }
        object = shell.use { $0.find(name: "volume") } ?? ObjectNumber(0)
        if object.raw == 0 { return report("the volume is gone") }
        let found = shell.use { $0.record(of: self.object).map }
        if found < map.answered || found > map.asked { report("the map is \(found), \(map) was asked for and answered") }
        let (number, volume) = shell.use { $0.volume(of: self.object) }
        // Whoever finds the number finds what it stands for.
        if number != found { report("the map is \(found), its record that of \(number)") }
        if volume != StoreRun.volume(found) { report("the record of map \(found) has \(volume.count) bytes that it never had") }
        map = (found, found)
        let raised = shell.use { $0.incarnation }
        if raised < incarnation.answered || raised > incarnation.asked {
            report("the incarnation is \(raised), \(incarnation) was asked for and answered")
        }
        incarnation = (raised, raised)
        generation = shell.use { $0.generation(of: self.object) } + 1
        control {
            $0.fence(tag: $1, self.object, generation: self.generation, map: 0, settles: self.settlesAlways || self.universe.choices.coin())
        }
        sequence = 0
        sequences = [:]
        unacknowledged = []
        universe.faults = plan
    }

    private func hook() {
        shell.onFinished = { [unowned self] in finished($0, $1) }
        shell.onFailed = { [unowned self] _ in isBroken = true }
        shell.onDamaged = { [unowned self] in report("block \($0) is damaged") }
    }

    /// Kills the process, or the machine, in the middle of everything; then mounts and compares.
    private func crash(lostPower: Bool) {
        crashes += 1
        universe.faults = .none
        snapshots += shell.use { $0.statistics.snapshots }
        if lostPower {
            host.losePower()
            universe.run(for: .milliseconds(1))
            host.restorePower()
        } else {
            (shell.world as? SimWorld)?.kill()
            universe.run(for: .milliseconds(1))
        }
        requests = [:]
        memories = [:]
        shell = StoreShell(host.start("ost"), path: "/disk", options: options)
        start(format: false)
        if problems.isEmpty { compare(lostPower: lostPower) }
    }

    private func compare(lostPower: Bool) {
        var found: [StoreModel.Place: UInt64] = [:]
        for place in model.places {
            let buffer = Buffer(blocks: 1)
            var status: Status?
            let tag = nextTag
            nextTag += 1
            shell.onFinished = { if $0 == tag { status = $1 } }
            let refusal = shell.use {
                $0.read(
                    tag: tag, object, PartAddress(chunk: place.chunk), firstBlock: place.block, blockCount: 1,
                    memory: buffer.data.baseAddress!, checks: buffer.checks.baseAddress!)
            }
            if refusal != .ok { return report("reading after a restart is refused: \(refusal)") }
            _ = universe.run(while: { status == nil }, limit: .seconds(10))
            guard status == .ok else { return report("reading \(place) after a restart: \(String(describing: status))") }
            found[place] = buffer.data.load(as: UInt64.self)
        }
        hook()
        let (prefix, why) = model.prefix(found, lostPower: lostPower)
        guard let prefix else { return report("after \(lostPower ? "a loss of power" : "a kill"): \(why)") }
        model.restart(prefix)
    }

    /// Faults end; everything is answered; nothing is left.
    private func finish() {
        universe.heal()
        // A disk operation that was under way may still fail.
        universe.run(for: .seconds(5))
        if isBroken { remountAfterFailure() }
        if !drain(to: 0) { report("\(requests.count) requests never end") }
        // What older generations left in doubt goes with a settling fence, what this one did with the marks.
        generation += 1
        control { $0.fence(tag: $1, object, generation: generation, map: 0, settles: true) }
        universe.run(for: .seconds(5))
        let (isQuiet, doubts) = shell.use { ($0.isQuiet, $0.doubtCount(of: object)) }
        if !isQuiet { report("the store does not come to rest") }
        if doubts != 0 { report("\(doubts) blocks stay in doubt") }
        snapshots += shell.use { $0.statistics.snapshots }
    }

    // MARK: Work

    private func work(_ steps: Int) {
        for _ in 0..<steps where problems.isEmpty && !isBroken {
            if requests.count < 24 { step() }
            if universe.choices.below(4) == 0 { universe.run(for: .microseconds(universe.choices.below(400))) }
            if requests.count >= 24, !drain(to: 23) { report("requests never end") }
        }
        if isBroken { remountAfterFailure() }
    }

    /// Waits until so many requests are left, telling the mark meanwhile as a writer does: a write that waits for room needs it.
    private func drain(to count: Int) -> Bool {
        for _ in 0..<60 {
            if universe.run(while: { [self] in requests.count > count && !isBroken }, limit: .seconds(1)) { return true }
            shell.use { $0.mark(object, generation: generation, mark: mark(&$0)) }
        }
        return false
    }

    private func step() {
        let chunk = UInt32(universe.choices.below(UInt64(chunks)))
        let large = universe.choices.below(20) == 0
        let count = 1 + universe.choices.below(large ? 200 : 6)
        let area = universe.choices.coin() ? 64 : Int(blocksPerChunk)
        let first = UInt32(universe.choices.below(max(1, area - count)))
        switch universe.choices.below(20) {
        case 0..<11: write(chunk, first, count, isZero: false)
        case 11: write(chunk, first, count, isZero: true)
        case 12..<17: read(chunk, first, min(count, 256))
        case 17: flush()
        case 18: shell.use { $0.mark(object, generation: generation, mark: mark(&$0)) }
        case 19 where universe.choices.below(4) == 0: universe.choices.below(8) == 0 ? adopt() : stamp()
        default: universe.run(for: .milliseconds(universe.choices.below(50)))
        }
    }

    /// All below it is acknowledged and durable.
    private func mark(_ store: inout PartStore) -> UInt64 {
        min(store.durableSequence(of: object), (unacknowledged.min() ?? sequence + 1) - 1)
    }

    private func write(_ chunk: UInt32, _ first: UInt32, _ count: Int, isZero: Bool) {
        let places = (0..<UInt32(count)).map { StoreModel.Place(chunk: chunk, block: first + $0) }
        let operation = model.begin(places, isZero: isZero)
        sequence += 1
        let isDurable = universe.choices.below(10) == 0
        sequences[operation] = sequence
        unacknowledged.insert(sequence)
        let written = sequence
        let status = request(.write(operation: operation, places: places, isDurable: isDurable), blocks: isZero ? 0 : count) { store, tag in
            let target = WriteTarget(
                object: object, part: PartAddress(chunk: chunk), firstBlock: first, blockCount: UInt32(count),
                version: Version(generation: generation, sequence: written), mark: mark(&store), isDurable: isDurable)
            if isZero { return store.zero(tag: tag, target) }
            guard let buffer = memories[tag] else { return .invalidArgument }
            for block in 0..<count {
                let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer.data[(block * Block.bytes)..<((block + 1) * Block.bytes)])
                bytes.initializeMemory(as: UInt64.self, repeating: UInt64(operation))
                buffer.checks.storeBytes(of: Checksum.of(UnsafeRawBufferPointer(bytes)), toByteOffset: block * 4, as: UInt32.self)
            }
            return store.write(tag: tag, target, memory: buffer.data.baseAddress!, checks: buffer.checks.baseAddress!)
        }
        if status != .ok {
            model.takeBack(places)
            unacknowledged.remove(sequence)
            sequence -= 1
        }
    }

    private func stamp() {
        let wanted = map.asked + universe.choices.below(3 as UInt64)
        map.asked = max(map.asked, wanted)
        request(.stamp(wanted), blocks: 0) { $0.stamp(tag: $1, object, map: wanted, volume: StoreRun.volume(wanted)) }
    }

    /// The record of a map: of each number another, some of them larger than any other record of the log.
    private static func volume(_ map: UInt64) -> [UInt8] {
        guard map > 0 else { return [] }
        let count = map % 16 == 0 ? 9_000 : 1 + Int(map * 97 % 700)
        return (0..<count).map { UInt8(truncatingIfNeeded: map &* 31 &+ UInt64($0)) }
    }

    private func adopt() {
        let wanted = incarnation.asked + 1 + universe.choices.below(3 as UInt64)
        let status = request(.adopt(wanted), blocks: 0) { $0.adopt(tag: $1, from: $0.incarnation, to: wanted) }
        if status == .ok { incarnation.asked = wanted }
    }

    private func flush() {
        request(.flush(upTo: model.acknowledged), blocks: 0) { $0.flush(tag: $1, object, generation: generation, mark: mark(&$0)) }
    }

    private func read(_ chunk: UInt32, _ first: UInt32, _ count: Int) {
        request(.read(first: first, chunk: chunk, count: count, began: model.acknowledged), blocks: count) { store, tag in
            guard let buffer = memories[tag] else { return .invalidArgument }
            return store.read(
                tag: tag, object, PartAddress(chunk: chunk), firstBlock: first, blockCount: UInt32(count), memory: buffer.data.baseAddress!,
                checks: buffer.checks.baseAddress!)
        }
    }

    @discardableResult
    private func request(_ request: Request, blocks: Int, _ body: (inout PartStore, UInt32) -> Status) -> Status {
        let tag = nextTag
        nextTag += 1
        if blocks > 0 { memories[tag] = Buffer(blocks: blocks) }
        requests[tag] = request
        let status = shell.use { body(&$0, tag) }
        if status != .ok {
            requests[tag] = nil
            memories[tag] = nil
        }
        return status
    }

    private func control(_ body: (inout PartStore, UInt32) -> Status) {
        let status = request(.control, blocks: 0, body)
        if status != .ok { return report("a control request is refused: \(status)") }
        if !universe.run(while: { [self] in !requests.isEmpty && !isBroken }, limit: .seconds(60)) {
            report("a control request never ends")
        }
    }

    private func finished(_ tag: UInt32, _ status: Status) {
        guard let request = requests.removeValue(forKey: tag) else { return report("tag \(tag) finished, which is not under way") }
        let buffer = memories.removeValue(forKey: tag)
        if status == .diskFailed { return }
        switch request {
        case .control: if status != .ok { report("a control request ended with \(status)") }
        case .stamp(let wanted):
            if status != .ok { report("a stamp ended with \(status)") }
            map.answered = max(map.answered, wanted)
        case .adopt(let wanted):
            if status != .ok { report("raising the incarnation ended with \(status)") }
            incarnation.answered = max(incarnation.answered, wanted)
        case .write(let operation, let places, let isDurable):
            if status == .noSpace {
                model.forget(operation, places)
                if let sequence = sequences[operation] { unacknowledged.remove(sequence) }
                return
            }
            guard status == .ok else { return report("a write ended with \(status)") }
            if let sequence = sequences[operation] { unacknowledged.remove(sequence) }
            model.acknowledge(operation)
            if isDurable { model.flush(upTo: operation) }
        case .flush(let operation):
            if status == .ok { model.flush(upTo: operation) } else { report("a flush ended with \(status)") }
        case .read(let first, let chunk, let count, _):
            guard status == .ok, let buffer else { return report("a read ended with \(status)") }
            reads += 1
            for block in 0..<count {
                let content = buffer.data.load(fromByteOffset: block * Block.bytes, as: UInt64.self)
                let place = StoreModel.Place(chunk: chunk, block: first + UInt32(block))
                // A read may have begun before what is acknowledged now: only places at rest are compared.
                let possible = model.contents(place)
                if possible.count == 1, !possible.contains(content), !changedSince(request, place) {
                    report("chunk \(chunk) block \(first + UInt32(block)) reads \(content), \(possible) is possible")
                }
            }
        }
    }

    private func changedSince(_ request: Request, _ place: StoreModel.Place) -> Bool {
        guard case .read(_, _, _, let began) = request else { return false }
        return (model.changes[place] ?? []).contains { $0.operation > began }
    }

    /// A disk operation failed: the store is loaded anew under another identity; what was not flushed may be gone.
    private func remountAfterFailure() {
        universe.faults = .none
        isBroken = false
        requests = [:]
        memories = [:]
        isMounted = false
        let shell = shell
        shell.world.spawn { [self] in
            do throws(Failure) {
                try await shell.mount(afterFailure: true)
                isMounted = true
            } catch { report("mounting after a failure: \(error)") }
        }
        _ = universe.run(while: { [self] in !isMounted && problems.isEmpty }, limit: .seconds(60))
        guard problems.isEmpty else { return }
        generation += 1
        control { $0.fence(tag: $1, self.object, generation: self.generation, map: 0, settles: true) }
        sequence = 0
        sequences = [:]
        unacknowledged = []
        compare(lostPower: true)
        universe.faults = plan
    }
}
