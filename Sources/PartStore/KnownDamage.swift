import Base

/// Damaged and lost blocks that reads have met since the store was loaded: an operator is told of them until they are overwritten.
///
/// Bounded, and of no cost to anybody who does not meet damage: whether a block still is what was met is looked up when somebody asks.
struct KnownDamage {
    struct Entry: Hashable {
        var key: BlockMap.Key
        /// In the page.
        var block: Int
        /// Where it lay: elsewhere is another content.
        var address: BlockMap.Address
    }

    /// More is not counted.
    static let entriesMax = 1024

    var entries: [Entry] = []
}

extension PartStore {
    /// A read has met it.
    mutating func noteDamage(_ object: ObjectNumber, _ part: PartAddress, _ block: Int, _ address: BlockMap.Address) {
        let key = BlockMap.Key(object: object, part: part, page: UInt32(block / Block.perPage))
        let entry = KnownDamage.Entry(key: key, block: block % Block.perPage, address: address)
        if damage.entries.contains(entry) { return }
        if damage.entries.count == KnownDamage.entriesMax { forgetOverwrittenDamage() }
        if damage.entries.count < KnownDamage.entriesMax { damage.entries.append(entry) }
    }

    /// Those that still are.
    var damagedBlocks: Int {
        var count = 0
        for entry in damage.entries where isStill(entry) { count += 1 }
        return count
    }

    private mutating func forgetOverwrittenDamage() {
        var left: [KnownDamage.Entry] = []
        for entry in damage.entries where isStill(entry) { left.append(entry) }
        damage.entries = left
    }

    private func isStill(_ entry: KnownDamage.Entry) -> Bool {
        guard let page = state.map.find(entry.key) else { return false }
        return state.map.lookup(page, entry.block).address == entry.address
    }
}
