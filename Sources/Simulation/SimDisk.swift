import Base
import Environment

/// A disk of a host: a `Media`, the operations under way on it, and the faults between them and the caller.
///
/// - It outlives processes; one process at a time has it open.
/// - Operations complete in any order. A write's data is taken at the call; the memory must be unchanged when it completes.
/// - A read beside a write of the same sectors sees old or new per sector.
public final class SimDisk {
    public struct Statistics: Hashable, Sendable {
        public var reads = 0
        public var writes = 0
        public var flushes = 0
        public var punches = 0
        public var bytesRead: UInt64 = 0
        public var bytesWritten: UInt64 = 0

        public var operations: Int { reads + writes + flushes + punches }
    }

    public enum Kind: UInt8, Sendable { case free, read, write, flush, punch }

    /// One operation, as a test may want to make it fail.
    public struct Access: Hashable, Sendable {
        public var kind: Kind
        /// How many operations of any kind began before it: for failing the first, the second, the nth.
        public var number: Int
        public var offset: UInt64
        public var bytes: Int
    }

    private struct Operation {
        var kind = Kind.free
        /// Raised when the slot is freed, which makes its event stale.
        var generation: UInt32 = 0
        var ticket = Ticket(SinkID(0), 0)
        var offset: UInt64 = 0
        var bytes = 0
        /// The memory of a read or write.
        var vectors = VectorList()
        /// What a write is going to store.
        var data: UnsafeMutableRawPointer?
        /// What a flush makes stable.
        var mark: UInt64 = 0
        var isSampled = false
        var number = 0
    }

    public let path: String
    public let isBlockDevice: Bool
    public internal(set) var media: Media
    /// Where a fault may destroy what cannot be had again from this disk alone: latent errors, rot, misdirected and lost writes.
    public var mayDamage: (Range<UInt64>) -> Bool = { _ in false }
    /// Whether drawn failures of writes and flushes strike here.
    public var mayFail: () -> Bool = { true }
    /// Asked at the end of each operation; true makes it end with -EIO, as `FaultPlan` would.
    public var fails: ((Access) -> Bool)?
    public private(set) var statistics = Statistics()
    public private(set) var history: DiskHistory?
    /// Completes nothing while set.
    public private(set) var isStuck = false

    let number: Int32
    /// Who has it open.
    unowned(unsafe) var owner: SimWorld?
    private unowned(unsafe) let universe: Universe
    private var slowUntil: UInt64 = 0
    private var slots: [Operation] = []
    private var free: [Int32] = []
    private var waiting: [Int32] = []
    private(set) var writesUnderWay = 0
    private(set) var underWay = 0

    init(_ universe: Universe, number: Int32, path: String, media: Media, isBlockDevice: Bool) {
        self.universe = universe
        self.number = number
        self.path = path
        self.media = media
        self.isBlockDevice = isBlockDevice
    }

    deinit {
        for index in slots.indices {
            slots[index].vectors.free()
            slots[index].data?.deallocate()
        }
    }

    var traits: DiskTraits {
        DiskTraits(bytes: media.bytes, sectorBytes: Block.sectorBytes, isVolatile: media.isVolatile, isBlockDevice: isBlockDevice)
    }

    func resize(_ bytes: UInt64) { media = Media(bytes: bytes, isVolatile: media.isVolatile) }

    // Operations

    func start(_ kind: Kind, at offset: UInt64, bytes length: UInt64 = 0, _ vectors: UnsafeBufferPointer<IOVector>?, _ ticket: Ticket) {
        let slot = takeSlot()
        slots[slot].kind = kind
        slots[slot].ticket = ticket
        slots[slot].offset = offset
        slots[slot].isSampled = false
        slots[slot].number = statistics.operations
        if let vectors { slots[slot].vectors.set(vectors) }
        let bytes = vectors == nil ? Int(length) : slots[slot].vectors.bytes
        slots[slot].bytes = bytes
        invariant(
            offset % UInt64(Block.sectorBytes) == 0 && bytes % Block.sectorBytes == 0,
            "\(kind) at \(offset) of \(bytes) bytes is not in sectors")
        underWay += 1
        universe.trace.fold(UInt64(kind.rawValue) << 56 | UInt64(UInt32(bitPattern: number)) << 32 | UInt64(ticket.token))
        universe.trace.fold(offset)
        switch kind {
        case .read:
            statistics.reads += 1
            // What a read sees is fixed somewhere between its call and its end; here at one of the two.
            if universe.timing == .drawn, isInside(slot), universe.random.coin() { sample(slot) }
        case .write:
            statistics.writes += 1
            writesUnderWay += 1
            let data = UnsafeMutableRawPointer.allocate(byteCount: max(1, bytes), alignment: 16)
            slots[slot].vectors.forEach(limit: bytes) { memory, at, count in (data + at).copyMemory(from: memory, byteCount: count) }
            slots[slot].data = data
            universe.trace.fold(UInt64(Checksum.of(UnsafeRawBufferPointer(start: data, count: bytes))))
        case .flush:
            statistics.flushes += 1
            slots[slot].mark = media.mark
        case .punch:
            statistics.punches += 1
        case .free:
            unreachable("an operation of no kind")
        }
        drawFaults()
        universe.push(.disk, after: latency(kind, bytes), a: number, b: Int32(slot), generation: slots[slot].generation)
    }

    func isLive(_ slot: Int32, _ generation: UInt32) -> Bool { slots[Int(slot)].generation == generation }

    /// The event of an operation has come.
    func ended(_ slot: Int32) {
        if isStuck { return waiting.append(slot) }
        finish(Int(slot))
    }

    private func takeSlot() -> Int {
        if let slot = free.popLast() { return Int(slot) }
        slots.append(Operation())
        return slots.count - 1
    }

    private func release(_ slot: Int) {
        if slots[slot].kind == .write { writesUnderWay -= 1 }
        underWay -= 1
        slots[slot].kind = .free
        slots[slot].generation &+= 1
        slots[slot].vectors.clear()
        slots[slot].data?.deallocate()
        slots[slot].data = nil
        free.append(Int32(slot))
    }

    private func isInside(_ slot: Int) -> Bool {
        slots[slot].offset <= media.bytes && UInt64(slots[slot].bytes) <= media.bytes - slots[slot].offset
    }

    private func finish(_ slot: Int) {
        let result: Int32
        switch slots[slot].kind {
        case .read: result = finishRead(slot)
        case .write: result = finishWrite(slot)
        case .flush: result = finishFlush(slot)
        case .punch: result = finishPunch(slot)
        case .free: unreachable("disk \(path): slot \(slot) ended twice")
        }
        let ticket = slots[slot].ticket
        release(slot)
        guard let owner else { unreachable("disk \(path): an operation without an owner") }
        owner.finish(ticket, result)
    }

    private func isFailing(_ slot: Int) -> Bool {
        guard let fails else { return false }
        let operation = slots[slot]
        return fails(Access(kind: operation.kind, number: operation.number, offset: operation.offset, bytes: operation.bytes))
    }

    private func finishRead(_ slot: Int) -> Int32 {
        let offset = slots[slot].offset
        let bytes = slots[slot].bytes
        guard isInside(slot), !isFailing(slot) else { return -Code.inputOutput }
        if bytes > 0, universe.faults.bitRot | universe.faults.latentError != 0 { drawDamage(offset, bytes) }
        guard media.isReadable(offset, bytes) else { return -Code.inputOutput }
        statistics.bytesRead += UInt64(bytes)
        if !slots[slot].isSampled { sample(slot) }
        return 0
    }

    private func sample(_ slot: Int) {
        let offset = slots[slot].offset
        let bytes = slots[slot].bytes
        slots[slot].isSampled = true
        slots[slot].vectors.forEach(limit: bytes) { memory, at, count in media.read(offset + UInt64(at), into: memory, count) }
        guard writesUnderWay > 0, universe.timing == .drawn else { return }
        for index in slots.indices where slots[index].kind == .write {
            guard let data = slots[index].data else { continue }
            let start = max(offset, slots[index].offset)
            let end = min(offset + UInt64(bytes), slots[index].offset + UInt64(slots[index].bytes))
            guard start < end else { continue }
            forEachSector(start, Int(end - start)) { sector, _ in
                if universe.random.coin() { return }
                let position = sector * UInt64(Block.sectorBytes)
                copy(
                    data + Int(position - slots[index].offset), Block.sectorBytes, to: slots[slot].vectors, at: Int(position - offset),
                    of: bytes)
            }
        }
    }

    private func copy(_ source: UnsafeMutableRawPointer, _ bytes: Int, to vectors: VectorList, at start: Int, of total: Int) {
        vectors.forEach(limit: total) { memory, at, count in
            let from = max(at, start)
            let to = min(at + count, start + bytes)
            if from < to { (memory + (from - at)).copyMemory(from: source + (from - start), byteCount: to - from) }
        }
    }

    private func finishWrite(_ slot: Int) -> Int32 {
        guard let data = slots[slot].data else { unreachable("a write without its data") }
        var offset = slots[slot].offset
        let bytes = slots[slot].bytes
        slots[slot].vectors.forEach(limit: bytes) { memory, at, count in
            invariant(equal(memory, data + at, count), "the memory of a write at \(offset) of \(path) was changed while it was under way")
        }
        guard isInside(slot) else { return -Code.noSpace }
        if bytes == 0 { return 0 }
        statistics.bytesWritten += UInt64(bytes)
        if isFailing(slot) || strikes(universe.faults.writeError, .writeError) {
            landPart(slot)
            return -Code.inputOutput
        }
        if universe.faults.lostWrite | universe.faults.misdirectedWrite != 0, mayDamage(offset..<offset + UInt64(bytes)) {
            if universe.strikes(universe.faults.lostWrite, .lostWrite) { return 0 }
            if universe.random.chance(perMillion: universe.faults.misdirectedWrite), let elsewhere = drawTarget(bytes) {
                universe.count(.misdirectedWrite)
                offset = elsewhere
            }
        }
        slots[slot].data = nil
        history?.wrote(offset, data, bytes)
        media.land(offset, data, bytes)
        return 0
    }

    private func strikes(_ probability: UInt32, _ fault: Fault) -> Bool {
        probability != 0 && mayFail() && universe.strikes(probability, fault)
    }

    private func finishFlush(_ slot: Int) -> Int32 {
        if isFailing(slot) || strikes(universe.faults.flushError, .flushError) {
            // What a failed flush leaves behind differs from system to system; nobody may count on either.
            if universe.random.coin() { loseUnflushed() }
            return -Code.inputOutput
        }
        history?.flushed(slots[slot].mark)
        media.flush(upTo: slots[slot].mark)
        return 0
    }

    private func finishPunch(_ slot: Int) -> Int32 {
        guard isInside(slot), !isFailing(slot) else { return -Code.inputOutput }
        // Undefined contents: zeros on one device, the old bytes on another.
        if universe.timing == .constant || universe.random.coin() { return 0 }
        var offset = slots[slot].offset
        var rest = slots[slot].bytes
        while rest > 0 {
            let count = min(rest, 1 << 20)
            let zeros = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 16)
            zeros.initializeMemory(as: UInt8.self, repeating: 0, count: count)
            history?.wrote(offset, zeros, count)
            media.land(offset, zeros, count)
            offset += UInt64(count)
            rest -= count
        }
        return 0
    }

    // The end of a process, or of the power

    /// The process that has it open is gone. What it had under way lands wholly, in part or not at all.
    func abandon() {
        owner = nil
        waiting.removeAll()
        for slot in slots.indices where slots[slot].kind != .free {
            switch slots[slot].kind {
            case .write: if isInside(slot) { landAnyhow(slot) }
            case .flush: if universe.random.coin() { media.flush(upTo: slots[slot].mark) }
            case .read, .punch, .free: break
            }
            release(slot)
        }
    }

    private func landAnyhow(_ slot: Int) {
        guard slots[slot].bytes > 0 else { return }
        switch universe.random.below(3 as UInt64) {
        case 0:
            universe.count(.droppedWrite)
        case 1:
            universe.count(.tornWrite)
            landPart(slot)
        default:
            guard let data = slots[slot].data else { return }
            slots[slot].data = nil
            history?.wrote(slots[slot].offset, data, slots[slot].bytes)
            media.land(slots[slot].offset, data, slots[slot].bytes)
        }
    }

    private func landPart(_ slot: Int) {
        guard let data = slots[slot].data else { return }
        slots[slot].data = nil
        media.landTorn(slots[slot].offset, data, slots[slot].bytes, &universe.random)
        if let history {
            let offset = slots[slot].offset
            media.contents(offset, slots[slot].bytes).withUnsafeBytes { bytes in
                if let base = bytes.baseAddress { history.wrote(offset, base, bytes.count) }
            }
        }
    }

    /// The power is cut. Nobody has it open any more.
    func losePower() {
        invariant(owner == nil && underWay == 0, "disk \(path): processes end before the power does")
        loseUnflushed()
    }

    private func loseUnflushed() {
        let (dropped, torn) = media.losePower(&universe.random)
        universe.count(.droppedWrite, dropped)
        universe.count(.tornWrite, torn)
        // The steps so far no longer lead to what is there.
        if history != nil { history = DiskHistory(of: media) }
    }

    // Faults

    /// Remembers from here on what the disk is told.
    public func startHistory() { history = DiskHistory(of: media) }

    public func stick() { isStuck = true }

    public func slow(for interval: Interval) { slowUntil = max(slowUntil, (universe.now + interval).nanoseconds) }

    /// No longer stuck or slow. Damage stays.
    public func heal() {
        isStuck = false
        slowUntil = 0
        let slots = waiting
        waiting.removeAll()
        for slot in slots {
            let delay = universe.drawn(1_000, 100_000, constant: 1_000)
            universe.push(.disk, after: delay, a: number, b: slot, generation: self.slots[Int(slot)].generation)
        }
    }

    private func latency(_ kind: Kind, _ bytes: Int) -> UInt64 {
        // 2 GB/s and the access itself.
        let transfer = UInt64(bytes) / 2
        var result: UInt64
        switch kind {
        case .read: result = universe.drawn(40_000, 160_000, constant: 60_000) + transfer
        case .write: result = universe.drawn(15_000, 120_000, constant: 20_000) + transfer
        case .flush: result = universe.drawn(30_000, 500_000, constant: 40_000)
        case .punch, .free: result = universe.drawn(20_000, 300_000, constant: 20_000)
        }
        guard universe.timing == .drawn else { return result }
        // The tail that every disk has.
        if universe.random.below(64 as UInt64) == 0 { result += universe.random.below(4_000_000 as UInt64) }
        if slowUntil > universe.now.nanoseconds { result *= 1000 }
        return result
    }

    private func drawFaults() {
        let faults = universe.faults
        if faults.diskSlow != 0, universe.strikes(faults.diskSlow, .diskSlow) {
            slow(for: Interval(nanoseconds: universe.random.between(1, max(1, faults.diskSlowMax.nanoseconds))))
        }
        if faults.diskStuck != 0, !isStuck, universe.strikes(faults.diskStuck, .diskStuck) { stick() }
    }

    private func drawDamage(_ offset: UInt64, _ bytes: Int) {
        let sector = offset + UInt64(Block.sectorBytes) * universe.random.below(UInt64(bytes / Block.sectorBytes))
        let range = sector..<sector + UInt64(Block.sectorBytes)
        if universe.random.chance(perMillion: universe.faults.latentError), mayDamage(range) {
            universe.count(.latentError)
            media.makeUnreadable(sectorAt: sector)
        }
        if universe.random.chance(perMillion: universe.faults.bitRot), mayDamage(range), media.isSettled(sector, Block.sectorBytes) {
            universe.count(.bitRot)
            media.flip(sector + universe.random.below(UInt64(Block.sectorBytes)), bit: UInt8(universe.random.below(8 as UInt64)))
        }
    }

    private func drawTarget(_ bytes: Int) -> UInt64? {
        let blocks = media.bytes / UInt64(Block.bytes)
        for _ in 0..<16 where blocks > 0 {
            let offset = universe.random.below(blocks) * UInt64(Block.bytes)
            if offset + UInt64(bytes) <= media.bytes, mayDamage(offset..<offset + UInt64(bytes)) { return offset }
        }
        return nil
    }
}

private func equal(_ left: UnsafeRawPointer, _ right: UnsafeRawPointer, _ count: Int) -> Bool {
    var at = 0
    var difference: UInt64 = 0
    while at + 8 <= count {
        difference |= left.loadUnaligned(fromByteOffset: at, as: UInt64.self) ^ right.loadUnaligned(fromByteOffset: at, as: UInt64.self)
        at += 8
    }
    while at < count {
        difference |= UInt64(left.load(fromByteOffset: at, as: UInt8.self) ^ right.load(fromByteOffset: at, as: UInt8.self))
        at += 1
    }
    return difference == 0
}
