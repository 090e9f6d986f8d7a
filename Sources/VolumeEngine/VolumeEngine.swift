import Base
import Wire

/// The client's end of one volume: turns operations of any size and 512-byte granularity into parts of whole blocks, sends each to the
/// members that concern it, and keeps the promises of the protocol on this side (overlap rule, versions and completion mark, checks,
/// sending again after a reconnect, nothing acknowledged without a member before that is excluded).
///
/// Owns: operations, parts, the order of writes, the peers with both ends of their byte streams. Performs nothing: bytes to move are asked
/// for with `nextSend` and `nextReceive`, everything else comes out of `popEffect`.
///
/// Invariants, checked by `checkInvariants`:
/// - two operations that share a block and of which one changes it are never under way together;
/// - an operation is completed towards the user once, and only when nothing that the kernel may touch refers to its memory;
/// - a write without a definite and equal outcome on all members keeps its blocks locked, and its sequence below which no mark passes;
/// - every slot is free or accounted for.
///
/// Leaves to its shell: connecting, hello and open, the clock (`now` is set before every event), excluding a peer at the MDT, and telling
/// when a connection is gone.
public struct VolumeEngine: ~Copyable {
    /// Set by the owner before each event.
    public var now = Instant.zero
    public internal(set) var objectBytes: UInt64 = 0
    public internal(set) var generation: UInt64 = 0
    /// Everything up to this has ended on all members that count, and is on their stable media.
    public var completed: Version { Version(generation: generation, sequence: min(order.mark, lossFloor)) }
    /// Above this some member that counts has lost what it had acknowledged. The mark says nothing of that: there is nobody to wait for.
    var lossFloor = UInt64.max
    public internal(set) var marks = VolumeMarks()
    /// How a peer broke the protocol last, for the log.
    public internal(set) var lastFault = ""
    public let isWritable: Bool

    var chunkShift: UInt64 = 0
    /// The members as they are used, and the same where the data plane reads it.
    var table: MemberTable
    var rows: MemberRows
    /// Stands in every request: of `tableNext` if there is one.
    public internal(set) var mapNumber: UInt64
    /// The map after an exclusion, until the peers that remain have its number.
    var tableNext: MemberTable?
    /// A peer that is filling by this map, and may be in sync at the MDT by now.
    var fillEnding: Int?
    var peers: PeerTable
    var operations: OperationTable
    var parts: PartTable
    var overlaps: OverlapTable
    /// Operations that have something to send, in the order in which they may.
    var ready: SlotList
    /// Peers with requests to be sent again.
    var resending: SlotList
    /// Parts that read, and must ask (another member) again.
    var retries: SlotList
    /// Operations that shall make members equal, and could not.
    var stalled: SlotList
    var order: WriteOrder
    var unflushed = Unflushed()
    var effects: EffectBuffer
    /// The payload being sent, while its pieces are made.
    let sendPieces: UnsafeMutablePointer<IOVector>

    /// Why nothing works any more; `ok` while it does.
    var deadStatus = Status.ok
    var isClosing = false
    var isClosed = false
    var isMapWanted = false
    /// No deadline is earlier.
    var deadlineNext = Instant.never
    var delayedUntil = Instant.never
    var stalledUntil = Instant.never
    var exclusionCheckAt = Instant.never
    var markAt = Instant.never
    /// When a write may have waited for too long below the floor.
    var floorCheckAt = Instant.never
    var isBelowFloorTold = false
    /// The wish that the owner knows of.
    var armedWake = Instant.never

    /// Beside the user's, who must not keep members from being made equal by having all of his in use.
    private let slotsForRepair: Int
    public static let repairsMax = 32

    /// `bytes`: as the map has them; 0 where there is none, and the first session says.
    public init(isWritable: Bool, slots: Int = Limits.operationsPerVolumeMax, table: MemberTable = .single, bytes: UInt64 = 0) {
        self.isWritable = isWritable
        objectBytes = bytes
        self.table = table
        rows = MemberRows(table)
        mapNumber = table.number
        let partCount = Limits.partsPerVolumeMax
        // One that keeps a volume whole, without a metadata server, is the only one for ever.
        let peersMax = table.number == 0 ? table.peerCount : max(table.peerCount, Limits.peersPerVolumeMax)
        peers = PeerTable(count: table.peerCount, capacity: peersMax)
        slotsForRepair = isWritable && table.number > 0 ? VolumeEngine.repairsMax : 0
        let slots = slots + slotsForRepair
        operations = OperationTable(capacity: slots)
        parts = PartTable(capacity: partCount)
        overlaps = OverlapTable(capacity: slots)
        ready = SlotList(capacity: slots)
        resending = SlotList(capacity: peersMax)
        retries = SlotList(capacity: partCount)
        stalled = SlotList(capacity: slots)
        order = WriteOrder(capacity: partCount)
        effects = EffectBuffer(capacity: 2 * slots + 16)
        for peer in 0..<table.peerCount { peers.at(peer).pointee.isUsed = table.isUsed(peer) }
        sendPieces = .allocate(capacity: Peer.piecesPerRequestMax)
    }

    deinit {
        sendPieces.deallocate()
    }

    /// Operations whose blocks are not free yet, reported ones included.
    public var activeCount: Int { operations.active.count }
    public var isDead: Bool { deadStatus != .ok }
    /// A member does not have everything, or a peer that is needed is not there.
    public var isDegraded: Bool {
        if table.isAnyoneMissing { return true }
        for peer in 0..<peers.count where peers.at(peer).pointee.phase != .attached {
            if table.members.contains(where: { $0.peer == peer && $0.state == .inSync }) { return true }
        }
        return false
    }
    /// Operations that keep their blocks locked since these cannot be made equal on all members.
    public var stalledCount: Int { stalled.count }
    public var mark: UInt64 { order.mark }
    /// How often something acknowledged was lost with the power of an OST, as far as is known.
    public internal(set) var losses = 0
    /// Nothing left to say: every write is acknowledged, durable, and its mark told.
    public var isSettled: Bool {
        mutating get {
            for peer in 0..<peers.count where isUnsettled(peer) { return false }
            return activeCount == 0
        }
    }

    public var hasEffects: Bool { !effects.isEmpty }
    public mutating func popEffect() -> Effect? { effects.pop() }

    /// Takes an operation, or says at once why not. The vectors are copied; their memory belongs to the engine until the completion.
    public mutating func submit(_ operation: Operation, vectors: UnsafeBufferPointer<IOVector>) -> Status? {
        if let refusal = refusal(of: operation, vectors) { return refusal }
        guard operation.isRepair || operations.freeCount > slotsForRepair, let index = operations.take() else {
            marks.hit(.slotsExhausted)
            return .outOfMemory
        }
        prepare(index, operation)
        if operation.kind == .flush {
            begin(flush: index)
        } else {
            let slot = operations.at(index)
            if operation.kind.movesData, operations.copy(vectors, to: index) { marks.hit(.vectorsOverflowed) }
            findEdges(index)
            if operation.kind == .rewrite { slot.pointee.phase = .rewrite }
            let isFree =
                mutated(.fillIgnoresWrites) && operation.onlyFills
                || overlaps.insert(
                    index, slot.pointee.firstBlock, slot.pointee.endBlock, changesBlocks: operation.kind.changesBlocks)
            if overlaps.isWide(index) { marks.hit(.wideOperation) }
            if isFree { ready.append(index) } else { marks.hit(.overlapWait) }
        }
        pump()
        settle()
        return nil
    }

    /// Why nothing may be changed through this, if so.
    public var refusalOfChanges: Status? {
        if isDead { return deadStatus }
        return isWritable ? nil : .readOnly
    }

    private mutating func refusal(of operation: Operation, _ vectors: UnsafeBufferPointer<IOVector>) -> Status? {
        if deadStatus != .ok { return deadStatus }
        if isClosing { return .closed }
        if operation.kind == .flush { return nil }
        if operation.kind == .rewrite { return refusal(ofRewrite: operation) }
        if operation.kind.changesBlocks, !isWritable { return .readOnly }
        let sector = UInt64(Block.sectorBytes)
        guard operation.bytes > 0, operation.bytes % sector == 0, operation.offset % sector == 0 else { return .invalidArgument }
        let (end, overflow) = operation.offset.addingReportingOverflow(operation.bytes)
        if overflow || end > objectBytes { return .outOfRange }
        guard operation.kind.movesData else { return nil }
        guard vectors.count <= Operation.vectorsMax else { return .invalidArgument }
        var total: UInt64 = 0
        for vector in vectors {
            guard vector.count >= 0 else { return .invalidArgument }
            total += UInt64(vector.count)
        }
        return total == operation.bytes ? nil : .invalidArgument
    }

    mutating func prepare(_ index: Int, _ operation: Operation) {
        let slot = operations.at(index)
        let deadline = operation.deadline.nanoseconds == 0 ? Limits.requestDeadlineDefault : operation.deadline
        slot.pointee.phase = .parts
        slot.pointee.kind = operation.kind
        slot.pointee.isDurable = operation.isDurable
        slot.pointee.isReported = false
        slot.pointee.hasVolatileParts = false
        slot.pointee.isRepeated = false
        slot.pointee.hasHeadEdge = false
        slot.pointee.hasTailEdge = false
        slot.pointee.edgesToRead = 0
        slot.pointee.status = .ok
        slot.pointee.isGivenUp = false
        slot.pointee.setback = .ok
        slot.pointee.tag = operation.tag
        slot.pointee.began = now
        slot.pointee.deadline = now + deadline
        slot.pointee.offset = operation.offset
        slot.pointee.bytes = operation.bytes
        slot.pointee.firstBlock = operation.offset / UInt64(Block.bytes)
        slot.pointee.endBlock = Block.count(covering: operation.offset &+ operation.bytes)
        slot.pointee.cursorBlock = slot.pointee.firstBlock
        slot.pointee.cursorVector = 0
        slot.pointee.cursorOffset = 0
        slot.pointee.vectorCount = 0
        slot.pointee.parts = 0
        slot.pointee.needsRewrite = operation.kind == .rewrite
        slot.pointee.source = operation.source
        slot.pointee.onlyFills = operation.onlyFills
        slot.pointee.isUnheard = operation.isUnheard
        slot.pointee.isLost = operation.isLost
        slot.pointee.readsSingly = false
        slot.pointee.avoided = 0
        slot.pointee.hasHeld = false
        slot.pointee.rewriteFirst = slot.pointee.firstBlock
        slot.pointee.rewriteEnd = slot.pointee.firstBlock
        deadlineNext = min(deadlineNext, slot.pointee.deadline)
    }

    private mutating func begin(flush index: Int) {
        let slot = operations.at(index)
        slot.pointee.firstBlock = 0
        slot.pointee.endBlock = 0
        slot.pointee.cursorBlock = 0
        slot.pointee.covered = unflushed.acknowledged
        if !slot.pointee.isUnheard, unflushed.mustFail(slot.pointee.covered) {
            unflushed.reported(slot.pointee.covered)
            marks.hit(.flushFailedAfterPowerLoss)
            slot.pointee.status = .powerLost
            finish(index)
        } else if !isWritable || mutated(.flushSkipsRewrites) && unflushed.acknowledged == unflushed.settled && !slot.pointee.isUnheard {
            // A reader has written nothing that could be flushed.
            finish(index)
        } else {
            ready.append(index)
        }
    }

    /// Reports the result, once.
    mutating func report(_ index: Int) {
        let slot = operations.at(index)
        guard !slot.pointee.isReported else { return }
        slot.pointee.isReported = true
        if slot.pointee.isInternal { return }
        effects.append(.completed(slot.pointee.tag, slot.pointee.status))
    }

    /// Nothing of the operation is under way any more. It is over, unless it left members that differ: then the user hears of the result,
    /// and the blocks stay locked until they are equal again.
    mutating func finish(_ index: Int) {
        let slot = operations.at(index)
        invariant(slot.pointee.parts == 0, "operation \(index) ends with parts under way")
        ready.removeIfPresent(index)
        if slot.pointee.needsRewrite, !isDead { return beginRewrite(index) }
        releaseHeldParts(of: index)
        end(index)
    }

    /// The operation is over: reports it, and lets those start that waited for its blocks.
    mutating func end(_ index: Int) {
        report(index)
        ready.removeIfPresent(index)
        stalled.removeIfPresent(index)
        if overlaps.contains(index) {
            overlaps.remove(index)
            while let next = overlaps.popReleased() { ready.append(next) }
        }
        operations.release(index)
    }

    mutating func reset(_ peer: Int, _ reason: ResetReason) {
        guard peers.at(peer).pointee.phase == .attached else { return }
        peers.at(peer).pointee.phase = .resetting
        effects.append(.resetConnection(peer, reason))
    }

    mutating func resetAll(_ reason: ResetReason) {
        for peer in 0..<peers.count { reset(peer, reason) }
    }
}
