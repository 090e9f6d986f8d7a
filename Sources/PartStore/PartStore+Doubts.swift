import Base

/// What a writer that opens a volume asks before it serves anything: which blocks its predecessors left in doubt.
extension PartStore {
    /// Entries in doubt of generations before the current one, oldest version first, as at most `rangesMax` ranges; looks at no more than
    /// `entriesMax` entries. `cursor` is 0 or what the call before returned; 0 is returned at the end.
    ///
    /// The cursor names the entry to go on with. If a mark, a resize or a removal took that away since, the listing begins anew: whoever
    /// lists sees an entry twice rather than not at all.
    public func orphans(
        of object: ObjectNumber, from cursor: UInt64, rangesMax: Int, entriesMax: Int
    ) -> (ranges: [DoubtRange], next: UInt64) {
        var ranges: [DoubtRange] = []
        var index = state.objects[object].orphans.first
        if cursor > 0, cursor < UInt64(noIndex), state.doubts.isOrphan(UInt32(cursor - 1), of: object) { index = UInt32(cursor - 1) }
        var looked = 0
        while index != noIndex {
            guard looked < entriesMax else { return (ranges, UInt64(index) + 1) }
            let entry = state.doubts.entry(index)
            let key = state.map.page(entry.page).pointee.key
            let block = key.page * UInt32(Block.perPage) + UInt32(entry.block)
            let extends = ranges.isEmpty ? false : ranges[ranges.count - 1].extend(by: key.part, block, entry.version)
            if !extends {
                guard ranges.count < rangesMax else { return (ranges, UInt64(index) + 1) }
                ranges.append(DoubtRange(part: key.part, firstBlock: block, blockCount: 1, version: entry.version))
            }
            looked += 1
            index = state.doubts.next(after: index)
        }
        return (ranges, 0)
    }
}
