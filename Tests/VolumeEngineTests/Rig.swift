import Base
import Wire

@testable import VolumeEngine

struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}

/// An engine and a fake OST, with bytes carried between them by hand.
final class Rig {
    var engine: VolumeEngine
    let ost: FakeOST
    var random: SplitMix
    var session: UInt64 = 0
    var boot = Identifier(high: 1, low: 1)
    let attachedBytes: UInt64
    let chunkBytes: UInt64
    var completions: [UInt: Status] = [:]
    var notices: [VolumeNotice] = []
    var resets: [ResetReason] = []
    var wake = Instant.never
    var isClosed = false
    var memory: [UInt: [UnsafeMutableRawBufferPointer]] = [:]
    var nextTag: UInt = 1
    var requestsMax = 256
    private let list = UnsafeMutablePointer<IOVector>.allocate(capacity: 64)

    init(
        objectBytes: UInt64 = 8 << 20, chunkBytes: UInt64 = 1 << 20, isWritable: Bool = true, slots: Int = 64, seed: UInt64 = 1,
        attached: Bool = true
    ) {
        engine = VolumeEngine(isWritable: isWritable, slots: slots)
        ost = FakeOST(chunkBytes: chunkBytes)
        random = SplitMix(state: seed)
        attachedBytes = objectBytes
        self.chunkBytes = chunkBytes
        if attached { attach() }
    }

    // `#expect` cannot look into a struct that is not copyable.
    var marks: VolumeMarks { engine.marks }
    var lastFault: String { engine.lastFault }
    var mark: UInt64 { engine.mark }
    var isSettled: Bool { engine.isSettled }
    var isDead: Bool { engine.isDead }
    var isDetached: Bool { engine.peers.at(0).pointee.phase == .detached }
    var activeCount: Int { engine.activeCount }
    var freeCount: Int { engine.operations.freeCount }
    var objectBytes: UInt64 { engine.objectBytes }

    deinit {
        for buffers in memory.values { for buffer in buffers { buffer.deallocate() } }
        list.deallocate()
    }

    func attach() {
        session += 1
        engine.attached(
            Attachment(
                session: session, generation: 7, handle: 3, objectBytes: attachedBytes, chunkBytes: chunkBytes, requestsMax: requestsMax,
                boot: boot, highest: Version(generation: 7, sequence: ost.highest)))
        after()
    }

    func detach(keepingPercent: Int = 50) {
        ost.disconnect { random.chance(keepingPercent) }
        engine.detached()
        after()
    }

    /// Takes the effects out, and checks what must hold after every event.
    func after() {
        while let effect = engine.popEffect() {
            switch effect {
            case .completed(let tag, let status):
                precondition(completions[tag.first] == nil, "operation \(tag.first) completed twice")
                completions[tag.first] = status
            case .resetConnection(_, let reason): resets.append(reason)
            case .exclude, .mapWanted: preconditionFailure("one OST is never excluded")
            case .notice(let notice): notices.append(notice)
            case .wakeAt(let instant): wake = instant
            case .closed: isClosed = true
            }
        }
        engine.checkInvariants()
    }

    /// Submits with memory cut into `pieces` vectors; the bytes of a write come from `data`.
    @discardableResult
    func submit(
        _ kind: Operation.Kind, _ offset: UInt64 = 0, _ bytes: Int = 0, data: [UInt8] = [], cuts: [Int] = [], durable: Bool = false,
        deadline: Interval = .seconds(1000)
    ) -> (tag: UInt, refusal: Status?) {
        let tag = nextTag
        nextTag += 1
        var buffers: [UnsafeMutableRawBufferPointer] = []
        if kind.movesData {
            var start = 0
            for cut in cuts + [bytes] where cut > start {
                let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: cut - start, alignment: 16)
                buffer.initializeMemory(as: UInt8.self, repeating: 0xee)
                if kind == .write { buffer.copyBytes(from: data[start..<cut]) }
                buffers.append(buffer)
                start = cut
            }
        }
        memory[tag] = buffers
        let vectors = buffers.map { IOVector($0.baseAddress!, $0.count) }
        let operation = Operation(
            kind, offset: offset, bytes: UInt64(bytes), isDurable: durable, deadline: deadline, tag: Operation.Tag(tag, 0))
        let refusal = vectors.withUnsafeBufferPointer { engine.submit(operation, vectors: $0) }
        after()
        return (tag, refusal)
    }

    func bytes(of tag: UInt) -> [UInt8] { (memory[tag] ?? []).flatMap { Array($0) } }

    /// Carries at most `limit` bytes to the OST; false if there was nothing.
    @discardableResult
    func carryOut(limit: Int = .max) throws -> Bool {
        let count = engine.nextSend(into: list, capacity: 64)
        guard count > 0 else { return false }
        var left = limit
        var sent = 0
        for vector in list.move(count) where left > 0 {
            let length = min(left, vector.count)
            try ost.receive(UnsafeRawBufferPointer(start: vector.base, count: length))
            sent += length
            left -= length
        }
        engine.sent(sent)
        after()
        return true
    }

    @discardableResult
    func carryIn(limit: Int = .max) -> Bool {
        guard !ost.output.isEmpty else { return false }
        let count = engine.nextReceive(into: list, capacity: 64)
        guard count > 0 else { return false }
        var got = 0
        for vector in list.move(count) where got < min(limit, ost.output.count) {
            let length = min(vector.count, min(limit, ost.output.count) - got)
            ost.output.withUnsafeBytes { vector.base.copyMemory(from: $0.baseAddress! + got, byteCount: length) }
            got += length
        }
        ost.output.removeFirst(got)
        engine.received(got)
        after()
        return true
    }

    func tick(after interval: Interval) {
        engine.now = engine.now + interval
        engine.tick()
        after()
    }

    /// Until nothing moves any more.
    func run() throws {
        while true {
            var moved = try carryOut()
            while !ost.pending.isEmpty {
                ost.execute(0)
                moved = true
            }
            if carryIn() { moved = true }
            if !moved { return }
        }
    }
}

extension UnsafeMutablePointer<IOVector> {
    func move(_ count: Int) -> [IOVector] { Array(UnsafeBufferPointer(start: self, count: count)) }
}
