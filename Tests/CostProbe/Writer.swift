import Base
import PartStore

/// Writes blocks of one object the way a client does: sequences in order, and the mark of what has ended with all before it.
final class Writer {
    private let disk: CountingDisk
    private let memory = UnsafeMutableRawPointer.allocate(byteCount: Block.bytes, alignment: Block.bytes)
    private let check = UnsafeMutableRawPointer.allocate(byteCount: 4, alignment: 4)
    private let object: ObjectNumber
    private var generation: UInt64 = 0
    private var sequence: UInt64 = 0
    private var mark: UInt64 = 0
    private var isEnded = ContiguousArray(repeating: false, count: 1 << 16)
    private var sequenceOfTag: ContiguousArray<UInt64>
    private var freeTags: ContiguousArray<UInt32> = []
    private static let controlTag = UInt32.max - 1
    private var controlsEnded = 0

    init(_ disk: CountingDisk, volumeBytes: UInt64, depth: Int) {
        self.disk = disk
        memory.initializeMemory(as: UInt8.self, repeating: 0x5a, count: Block.bytes)
        check.storeBytes(of: Checksum.of(UnsafeRawBufferPointer(start: memory, count: Block.bytes)), as: UInt32.self)
        sequenceOfTag = ContiguousArray(repeating: 0, count: depth)
        for tag in 0..<UInt32(depth) { freeTags.append(tag) }
        object = ObjectNumber(1)
        disk.onFinished = { [unowned self] tag, status in ended(tag, status) }
        control { $0.create(tag: $1, ObjectRecord(id: Identifier(high: 1, low: 1), name: "vm", bytes: volumeBytes)) }
        guard let found = disk.store.find(name: "vm") else { unreachable("the object was made") }
        invariant(found == object, "the first object is number 1")
        control { $0.fence(tag: $1, object, generation: 1, map: 0, settles: true) }
        generation = 1
    }

    private func ended(_ tag: UInt32, _ status: Status) {
        invariant(status == .ok, "request \(tag) ended with \(status)")
        if tag == Writer.controlTag {
            controlsEnded += 1
            return
        }
        isEnded[Int(sequenceOfTag[Int(tag)] & 0xffff)] = true
        while mark < sequence, isEnded[Int((mark + 1) & 0xffff)] {
            mark += 1
            isEnded[Int(mark & 0xffff)] = false
        }
        freeTags.append(tag)
    }

    func control(_ body: (inout PartStore, UInt32) -> Status) {
        let before = controlsEnded
        let status = body(&disk.store, Writer.controlTag)
        invariant(status == .ok, "a control request is refused: \(status)")
        while controlsEnded == before { if !disk.step() { disk.passTime() } }
    }

    func write(_ block: UInt64) {
        while freeTags.isEmpty { if !disk.step() { disk.passTime() } }
        guard let tag = freeTags.popLast() else { unreachable("a tag is free") }
        sequence += 1
        sequenceOfTag[Int(tag)] = sequence
        let target = WriteTarget(
            object: object, part: PartAddress(chunk: UInt32(block / 1024)), firstBlock: UInt32(block % 1024), blockCount: 1,
            version: Version(generation: generation, sequence: sequence), mark: mark)
        let status = disk.store.write(tag: tag, target, memory: memory, checks: UnsafeRawPointer(check))
        invariant(status == .ok, "a write is refused: \(status)")
    }

    /// Waits for all writes, and makes them durable; the log says so in a record without data.
    func finish() {
        while freeTags.count < sequenceOfTag.count { if !disk.step() { disk.passTime() } }
        control { $0.flush(tag: $1, object, generation: generation, mark: mark) }
        control { $0.fence(tag: $1, object, generation: generation + 1, map: 0, settles: true) }
    }
}
