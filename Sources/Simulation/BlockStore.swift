import Base
import CSimulation

/// The bytes of a disk, kept for the blocks that were ever written. Absent blocks read as zeros.
///
/// Two levels of tables instead of a dictionary: no hashing on the way, and no order that could show.
final class BlockStore {
    let blocks: UInt64
    private let top: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutableRawPointer?>?>
    private let leaves: Int
    private static let leafBlocks = 512

    init(bytes: UInt64) {
        blocks = Block.count(covering: bytes)
        leaves = Int(blocks) / Self.leafBlocks + 1
        guard let memory = rs_sim_map(leaves * MemoryLayout<UnsafeRawPointer>.size) else {
            unreachable("no memory for a disk of \(bytes) bytes")
        }
        top = memory.bindMemory(to: UnsafeMutablePointer<UnsafeMutableRawPointer?>?.self, capacity: leaves)
    }

    deinit {
        for index in 0..<leaves {
            guard let leaf = top[index] else { continue }
            for block in 0..<Self.leafBlocks { leaf[block]?.deallocate() }
            leaf.deallocate()
        }
        rs_sim_unmap(top, leaves * MemoryLayout<UnsafeRawPointer>.size)
    }

    private func find(_ block: UInt64) -> UnsafeMutableRawPointer? { top[Int(block) / Self.leafBlocks]?[Int(block) % Self.leafBlocks] }

    private func make(_ block: UInt64) -> UnsafeMutableRawPointer {
        let leaf: UnsafeMutablePointer<UnsafeMutableRawPointer?>
        if let existing = top[Int(block) / Self.leafBlocks] {
            leaf = existing
        } else {
            leaf = .allocate(capacity: Self.leafBlocks)
            leaf.initialize(repeating: nil, count: Self.leafBlocks)
            top[Int(block) / Self.leafBlocks] = leaf
        }
        if let existing = leaf[Int(block) % Self.leafBlocks] { return existing }
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Block.bytes, alignment: 16)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Block.bytes)
        leaf[Int(block) % Self.leafBlocks] = memory
        return memory
    }

    /// Pieces of [offset, offset + bytes) that lie in one block each.
    @inline(__always)
    private func forEach(_ offset: UInt64, _ bytes: Int, _ body: (_ block: UInt64, _ within: Int, _ at: Int, _ count: Int) -> Void) {
        var at = 0
        while at < bytes {
            let position = offset + UInt64(at)
            let within = Int(position % UInt64(Block.bytes))
            let count = min(Block.bytes - within, bytes - at)
            body(position / UInt64(Block.bytes), within, at, count)
            at += count
        }
    }

    func read(_ offset: UInt64, into memory: UnsafeMutableRawPointer, _ bytes: Int) {
        forEach(offset, bytes) { block, within, at, count in
            if let found = find(block) {
                (memory + at).copyMemory(from: found + within, byteCount: count)
            } else {
                (memory + at).initializeMemory(as: UInt8.self, repeating: 0, count: count)
            }
        }
    }

    func write(_ offset: UInt64, from memory: UnsafeRawPointer, _ bytes: Int) {
        forEach(offset, bytes) { block, within, at, count in
            (make(block) + within).copyMemory(from: memory + at, byteCount: count)
        }
    }

    /// Takes the range over from another store of the same size.
    func copy(_ offset: UInt64, _ bytes: Int, from other: BlockStore) {
        forEach(offset, bytes) { block, within, _, count in
            if let found = other.find(block) {
                (make(block) + within).copyMemory(from: found + within, byteCount: count)
            } else if let mine = find(block) {
                (mine + within).initializeMemory(as: UInt8.self, repeating: 0, count: count)
            }
        }
    }

    func flip(_ offset: UInt64, bit: UInt8) {
        let byte = make(offset / UInt64(Block.bytes)) + Int(offset % UInt64(Block.bytes))
        byte.storeBytes(of: byte.load(as: UInt8.self) ^ 1 << (bit & 7), as: UInt8.self)
    }

    func clone() -> BlockStore {
        let result = BlockStore(bytes: blocks * UInt64(Block.bytes))
        for index in 0..<leaves {
            guard let leaf = top[index] else { continue }
            for within in 0..<Self.leafBlocks {
                guard let found = leaf[within] else { continue }
                result.make(UInt64(index * Self.leafBlocks + within)).copyMemory(from: found, byteCount: Block.bytes)
            }
        }
        return result
    }
}
