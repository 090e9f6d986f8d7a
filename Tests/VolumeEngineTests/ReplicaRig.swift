import Base
import Wire

@testable import VolumeEngine

/// An engine with several fake OSTs, a fake MDT, and everything between them carried by hand.
final class ReplicaRig {
    static let chunkBytes: UInt64 = 256 << 10
    static let objectBytes: UInt64 = 2 << 20

    var engine: VolumeEngine
    var random: SplitMix
    private(set) var osts: [FakeOST]
    var table: MemberTable
    var sessions: [UInt64]
    var boots: [Identifier]
    /// An OST that cannot be reached.
    var isDown: [Bool]
    /// A reset the engine asked for, and nobody has carried out.
    var isResetWanted: [Bool]
    var exclusions: [Int] = []
    var isMapWanted = false
    var excluded: [Int] = []
    var completions: [UInt: Status] = [:]
    var notices: [VolumeNotice] = []
    var memory: [UInt: UnsafeMutableRawBufferPointer] = [:]
    var nextTag: UInt = 1
    private let list = UnsafeMutablePointer<IOVector>.allocate(capacity: 64)

    init(
        peers: Int = 3, members: Int = 2, floor: Int = 1, patience: Interval? = nil, seed: UInt64 = 1, away: Set<Int> = [],
        state: (_ placement: Int, _ peer: Int) -> MemberTable.State = { _, _ in .inSync }
    ) {
        var all: ContiguousArray<MemberTable.Member> = []
        for placement in 0..<peers {
            for member in 0..<members {
                let peer = (placement + member) % peers
                all.append(MemberTable.Member(peer: peer, state: state(placement, peer)))
            }
        }
        table = MemberTable(
            number: 1, peerCount: peers, membersPerPlacement: members, floor: floor, floorPatience: patience, members: all)
        engine = VolumeEngine(isWritable: true, slots: 40, table: table)
        random = SplitMix(state: seed)
        osts = (0..<peers).map { _ in FakeOST(chunkBytes: ReplicaRig.chunkBytes) }
        sessions = [UInt64](repeating: 0, count: peers)
        boots = (0..<peers).map { Identifier(high: 1, low: UInt64($0)) }
        isDown = [Bool](repeating: false, count: peers)
        isResetWanted = [Bool](repeating: false, count: peers)
        for peer in 0..<peers where !away.contains(peer) { attach(peer) }
    }

    deinit {
        for buffer in memory.values { buffer.deallocate() }
        list.deallocate()
    }

    /// One more OST, which nobody has a session with. It joins with the next change of the map.
    func addPeer() {
        osts.append(FakeOST(chunkBytes: ReplicaRig.chunkBytes))
        sessions.append(0)
        boots.append(Identifier(high: 1, low: UInt64(boots.count)))
        isDown.append(false)
        isResetWanted.append(false)
    }

    /// The next map: `row` makes each row of this many seats from what it was.
    func change(width: Int, _ row: (Int, ArraySlice<MemberTable.Member>) -> [MemberTable.Member]) {
        let old = table.membersPerPlacement
        var members: ContiguousArray<MemberTable.Member> = []
        for placement in 0..<table.placementCount {
            members += row(placement, table.members[placement * old..<(placement + 1) * old].map { $0 }[...])
        }
        table = MemberTable(number: table.number + 1, peerCount: osts.count, membersPerPlacement: width, members: members)
        engine.mapChanged(table)
        after()
    }

    // What `#expect` cannot look at in a struct that is not copyable.
    var activeCount: Int { engine.activeCount }
    var marks: VolumeMarks { engine.marks }
    var mapNumber: UInt64 { engine.mapNumber }
    var isSettled: Bool { engine.isSettled }
    var isDegraded: Bool { engine.isDegraded }
    var mark: UInt64 { engine.mark }
    var completed: UInt64 { engine.completed.sequence }
    var last: UInt64 { engine.order.last }
    func isAttached(_ peer: Int) -> Bool { engine.peers.at(peer).pointee.phase != .detached }
    func wantsConnection(_ peer: Int) -> Bool { engine.wantsConnection(peer) }

    func attach(_ peer: Int) {
        sessions[peer] += 1
        engine.attached(
            Attachment(
                session: sessions[peer], generation: 7, handle: 3, objectBytes: ReplicaRig.objectBytes,
                chunkBytes: ReplicaRig.chunkBytes, requestsMax: 12, boot: boots[peer],
                highest: Version(generation: 7, sequence: osts[peer].highest), map: engine.mapNumber),
            peer: peer)
        after()
    }

    func detach(_ peer: Int) {
        isResetWanted[peer] = false
        osts[peer].disconnect { random.chance(50) }
        engine.detached(peer: peer)
        after()
    }

    func after() {
        while let effect = engine.popEffect() {
            switch effect {
            case .completed(let tag, let status):
                precondition(completions[tag.first] == nil, "operation \(tag.first) completed twice")
                completions[tag.first] = status
            case .resetConnection(let peer, _): isResetWanted[peer] = true
            case .exclude(let peer): exclusions.append(peer)
            case .mapWanted: isMapWanted = true
            case .notice(.excluded(let peer)): excluded.append(peer)
            case .notice(let notice): notices.append(notice)
            case .wakeAt, .closed: break
            }
        }
        engine.checkInvariants()
    }

    /// What the MDT does: never takes the last member in sync.
    func exclude(_ peer: Int) {
        var members = table.members
        for first in stride(from: 0, to: members.count, by: table.membersPerPlacement) {
            let range = first..<first + table.membersPerPlacement
            guard range.contains(where: { members[$0].peer != peer && members[$0].state == .inSync }) else { continue }
            for member in range where members[member].peer == peer { members[member].state = .stale }
        }
        guard members != table.members else {
            if members.contains(where: { $0.peer == peer && $0.state == .stale }) {
                engine.mapChanged(table)
            } else {
                engine.exclusionRefused(peer)
            }
            return after()
        }
        change(members)
    }

    /// A map of the next number, as the MDT says.
    func change(_ members: ContiguousArray<MemberTable.Member>, floor: Int? = nil, patience: Interval?? = nil) {
        table = MemberTable(
            number: table.number + 1, peerCount: table.peerCount, membersPerPlacement: table.membersPerPlacement,
            floor: floor ?? table.floor, floorPatience: patience ?? table.floorPatience, members: members)
        engine.mapChanged(table)
        after()
    }

    /// The volume is smaller from now on, everywhere.
    func cut(toBlock end: UInt64) {
        for ost in osts {
            ost.blocks = ost.blocks.filter { $0.key < end }
            ost.versions = ost.versions.filter { $0.key < end }
        }
        table.number += 1
        engine.mapChanged(table, bytes: end * UInt64(Block.bytes))
        after()
    }

    /// All members of a peer that are not in sync get this state.
    func restore(_ peer: Int, _ state: MemberTable.State) {
        var members = table.members
        for member in members.indices where members[member].peer == peer && members[member].state != .inSync {
            members[member].state = state
        }
        change(members)
    }

    @discardableResult
    func submit(
        _ kind: Operation.Kind, _ offset: UInt64 = 0, _ bytes: Int = 0, value: UInt8 = 0, durable: Bool = false,
        deadline: Interval = .seconds(1000), onlyFills: Bool = false
    ) -> (tag: UInt, refusal: Status?) {
        let tag = nextTag
        nextTag += 1
        var vectors: [IOVector] = []
        if kind.movesData {
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: 16)
            buffer.initializeMemory(as: UInt8.self, repeating: kind == .write ? value : 0xee)
            memory[tag] = buffer
            vectors = [IOVector(buffer.baseAddress!, bytes)]
        }
        var operation = Operation(
            kind, offset: offset, bytes: UInt64(bytes), isDurable: durable, deadline: deadline, tag: Operation.Tag(tag, 0))
        operation.onlyFills = onlyFills
        let refusal = vectors.withUnsafeBufferPointer { engine.submit(operation, vectors: $0) }
        after()
        return (tag, refusal)
    }

    /// Brings a block to the members that are being filled, as a resync does.
    @discardableResult
    func fill(block: UInt64) -> UInt {
        var operation = Operation(
            .rewrite, offset: block * UInt64(Block.bytes), bytes: UInt64(Block.bytes), deadline: .seconds(1000),
            tag: Operation.Tag(nextTag, 0))
        nextTag += 1
        operation.onlyFills = true
        let refusal = engine.submit(operation, vectors: UnsafeBufferPointer(start: nil, count: 0))
        precondition(refusal == nil, "a fill is refused")
        after()
        return nextTag - 1
    }

    func bytes(of tag: UInt) -> [UInt8] { memory[tag].map { Array($0) } ?? [] }

    @discardableResult
    func carryOut(_ peer: Int, limit: Int = .max) throws -> Bool {
        if isDown[peer] { return false }
        let count = engine.nextSend(into: list, capacity: 64, peer: peer)
        guard count > 0 else { return false }
        var left = limit
        var sent = 0
        for vector in list.move(count) where left > 0 {
            let length = min(left, vector.count)
            try osts[peer].receive(UnsafeRawBufferPointer(start: vector.base, count: length))
            sent += length
            left -= length
        }
        engine.sent(sent, peer: peer)
        after()
        return true
    }

    @discardableResult
    func carryIn(_ peer: Int, limit: Int = .max) -> Bool {
        let ost = osts[peer]
        guard !isDown[peer], !ost.output.isEmpty else { return false }
        let count = engine.nextReceive(into: list, capacity: 64, peer: peer)
        guard count > 0 else { return false }
        var got = 0
        for vector in list.move(count) where got < min(limit, ost.output.count) {
            let length = min(vector.count, min(limit, ost.output.count) - got)
            ost.output.withUnsafeBytes { vector.base.copyMemory(from: $0.baseAddress! + got, byteCount: length) }
            got += length
        }
        ost.output.removeFirst(got)
        engine.received(got, peer: peer)
        after()
        return true
    }

    func tick(after interval: Interval) {
        engine.now = engine.now + interval
        engine.tick()
        after()
    }

    /// Until nothing moves any more without time.
    func run() throws {
        var moved = true
        while moved {
            moved = false
            for peer in 0..<osts.count {
                if isResetWanted[peer], isAttached(peer) {
                    detach(peer)
                    moved = true
                }
                if !isAttached(peer), !isDown[peer], wantsConnection(peer) {
                    attach(peer)
                    moved = true
                }
                if try carryOut(peer) { moved = true }
                while !isDown[peer], !osts[peer].pending.isEmpty {
                    osts[peer].execute(0)
                    moved = true
                }
                if carryIn(peer) { moved = true }
            }
            if let peer = exclusions.popLast() {
                exclude(peer)
                moved = true
            }
        }
    }

    /// Blocks in which members in sync differ.
    func differences() -> [String] {
        var found: [String] = []
        let chunkBlocks = ReplicaRig.chunkBytes / UInt64(Block.bytes)
        for block in 0..<ReplicaRig.objectBytes / UInt64(Block.bytes) {
            let first = Int((block / chunkBlocks) % UInt64(table.placementCount)) * table.membersPerPlacement
            let range = first..<first + table.membersPerPlacement
            let members = range.filter { table.members[$0].state == .inSync }.map { osts[table.members[$0].peer] }
            for other in members.dropFirst()
            where contents(members[0], block) != contents(other, block) || members[0].versions[block] != other.versions[block] {
                found.append(
                    "block \(block): versions \(members.map { $0.versions[block] ?? 0 }), "
                        + "bytes \(members.map { contents($0, block).first ?? 0 })"
                )
            }
        }
        return found
    }

    private func contents(_ ost: FakeOST, _ block: UInt64) -> [UInt8] {
        ost.blocks[block] ?? [UInt8](repeating: 0, count: Block.bytes)
    }
}
