import Base

/// Blocks that the writer has written since the fill of their object began, a bit each. A fill write does not cover them: what it brings
/// was read from a member that may not have had them yet.
///
/// In memory alone: a fill ends with the process. About 200 bytes for a page that is written during a fill.
///
/// Invariant: a bit is set when its write enters the log, and looked at when a fill write does: the log's order is the order of both.
struct LiveBlocks: ~Copyable {
    struct Bits: BitwiseCopyable {
        var words = InlineArray<16, UInt64>(repeating: 0)
    }

    /// Never iterated but to forget an object.
    private var pages: [BlockMap.Key: UInt32] = [:]
    private var bits = Slab<Bits>()

    var bytesInUse: UInt64 { bits.bytesInUse + UInt64(pages.count * 2 * MemoryLayout<BlockMap.Key>.stride) }

    mutating func add(_ object: ObjectNumber, _ part: PartAddress, firstBlock: UInt32, count: UInt32) {
        for block in Int(firstBlock)..<Int(firstBlock) + Int(count) {
            let key = BlockMap.Key(object: object, part: part, page: UInt32(block / Block.perPage))
            let index: UInt32
            if let found = pages[key] {
                index = found
            } else {
                index = bits.take(Bits())
                pages[key] = index
            }
            bits.pointer(index).pointee.words[block % Block.perPage / 64] |= 1 << UInt64(block % 64)
        }
    }

    func contains(_ object: ObjectNumber, _ part: PartAddress, _ block: UInt32) -> Bool {
        let key = BlockMap.Key(object: object, part: part, page: block / UInt32(Block.perPage))
        guard let index = pages[key] else { return false }
        return bits.pointer(index).pointee.words[Int(block) % Block.perPage / 64] & 1 << UInt64(block % 64) != 0
    }

    mutating func forget(_ object: ObjectNumber) {
        for (key, index) in pages where key.object == object { bits.give(index) }
        pages = pages.filter { $0.key.object != object }
    }
}
