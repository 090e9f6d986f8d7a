import Base

/// What is asked of a member besides its blocks: by a writer that opens the volume, which of them its predecessors left in doubt; by a
/// recovery, which pages were written since a version, and what they hold. Answered from what is applied, a bounded piece at a time.
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

    /// Pages of the object to which something above a version was ever written; looks at no more than `lookedMax` pages of the store.
    /// `cursor` as above. Pages written while the list is read may be missing.
    public func changedPages(
        of object: ObjectNumber, above version: Version, from cursor: UInt64, pagesMax: Int, lookedMax: Int
    ) -> (pages: [ChangedPage], next: UInt64) {
        var pages: [ChangedPage] = []
        var index = UInt32(clamping: cursor)
        let end = UInt32(min(UInt64(state.map.pageEnd), UInt64(index) + UInt64(lookedMax)))
        while index < end {
            let page = state.map.page(index).pointee
            if page.isUsed, page.key.object == object, page.highest > version {
                guard pages.count < pagesMax else { return (pages, UInt64(index)) }
                pages.append(ChangedPage(part: page.key.part, page: page.key.page, highest: page.highest))
            }
            index += 1
        }
        return (pages, index < state.map.pageEnd ? UInt64(index) : 0)
    }

    /// What the store holds of blocks of one page, and the page's highest version. The caller has checked the range.
    public func checks(
        of object: ObjectNumber, _ part: PartAddress, firstBlock: UInt32, blockCount: UInt32
    ) -> (highest: Version, blocks: [BlockCheck]) {
        let key = BlockMap.Key(object: object, part: part, page: firstBlock / UInt32(Block.perPage))
        guard let page = state.map.find(key) else {
            return (.zero, Array(repeating: BlockCheck(.absent, check: Checksum.ofZeroBlock), count: Int(blockCount)))
        }
        let mayDoubt = state.map.page(page).pointee.doubts > 0
        let first = Int(firstBlock) % Block.perPage
        let blocks = (first..<first + Int(blockCount)).map { block -> BlockCheck in
            let (address, check) = state.map.lookup(page, block)
            let doubt = mayDoubt ? state.doubts.newest(page, block)?.version : nil
            if address.isData { return BlockCheck(.data, check: check, doubt: doubt) }
            if address == .lost { return BlockCheck(.lost, check: 0, doubt: doubt) }
            return BlockCheck(address == .zero ? .zero : .absent, check: Checksum.ofZeroBlock, doubt: doubt)
        }
        return (state.map.page(page).pointee.highest, blocks)
    }

    /// The mark of the current generation, as a version.
    public func mark(of object: ObjectNumber) -> Version {
        Version(generation: state.objects[object].record.generation, sequence: state.objects[object].mark)
    }
}
