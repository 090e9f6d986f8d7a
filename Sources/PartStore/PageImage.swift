import Base

/// One page in a snapshot: its blocks as runs, and what of it is in doubt.
///
///     offset bytes field
///          0     4 bytes of the image
///          4     4 object number
///          8     4 chunk
///         12     2 member
///         14     2 snapshot level
///         16     8 incarnation
///         24     4 page within the part
///         28     4 run count
///         32    16 highest version
///         48     8 last record that the image holds
///         56     4 doubt count
///         60     4 count of checks
///         64    16 runs: first block (2), block count (2), zero (4), disk block, or 1 zero, 2 lost (8)
///          …    48 doubts, oldest of a block first: block (2), flags (1 orphan) (2), old check (4), old disk block (8), version (16),
///                  touched (8), zero (8)
///          …     4 checks of the data runs, padded to 8
enum PageImage {
    static let headBytes = 64
    static let runBytes = 16
    static let doubtBytes = 48
    /// All blocks apart, none in doubt. Doubts come on top, and a page with more than fit a segment is written in a larger one.
    static let bytesMax = headBytes + Block.perPage * (runBytes + 4)

    static func encode(
        _ state: borrowing StoreState, page index: UInt32, record: UInt64, to target: UnsafeMutableRawPointer
    ) -> Int {
        let page = state.map.page(index).pointee
        var runs = 0
        var checks = 0
        var previous = BlockMap.Address.absent
        for block in 0..<Block.perPage {
            let (address, _) = state.map.lookup(index, block)
            defer { previous = address }
            guard address != .absent else { continue }
            let run = target + headBytes + (runs - 1) * runBytes
            let continues = address.isData ? previous.isData && address.raw == previous.raw + 1 : address == previous
            if runs > 0, continues {
                run.store(run.load(UInt16.self, at: 2) + 1, at: 2)
            } else {
                let next = target + headBytes + runs * runBytes
                next.store(UInt16(block), at: 0)
                next.store(UInt16(1), at: 2)
                next.store(UInt32(0), at: 4)
                next.store(UInt64(address.raw), at: 8)
                runs += 1
            }
            if address.isData { checks += 1 }
        }
        var offset = headBytes + runs * runBytes
        let doubts = page.doubts == 0 ? 0 : encodeDoubts(state, index, to: target + offset)
        offset += doubts * doubtBytes
        for block in 0..<Block.perPage {
            let (address, check) = state.map.lookup(index, block)
            guard address.isData else { continue }
            target.store(check, at: offset)
            offset += 4
        }
        if offset % 8 != 0 {
            target.store(UInt32(0), at: offset)
            offset += 4
        }
        target.store(UInt32(offset), at: 0)
        target.store(page.key.object.raw, at: 4)
        target.store(page.key.part.chunk, at: 8)
        target.store(page.key.part.member, at: 12)
        target.store(UInt16(0), at: 14)
        target.store(page.key.part.incarnation, at: 16)
        target.store(page.key.page, at: 24)
        target.store(UInt32(runs), at: 28)
        target.store(page.highest.generation, at: 32)
        target.store(page.highest.sequence, at: 40)
        target.store(record, at: 48)
        target.store(UInt32(doubts), at: 56)
        target.store(UInt32(checks), at: 60)
        return offset
    }

    /// Bytes that an encoding can take at most.
    static func bound(_ state: borrowing StoreState, page index: UInt32) -> Int {
        let page = state.map.page(index).pointee
        return bytesMax + Int(page.doubts) * doubtBytes
    }

    private static func encodeDoubts(_ state: borrowing StoreState, _ index: UInt32, to target: UnsafeMutableRawPointer) -> Int {
        var count = 0
        for block in 0..<Block.perPage {
            let first = count
            state.doubts.forEach(index, block) { entry in
                let place = target + count * doubtBytes
                place.store(entry.block, at: 0)
                place.store(UInt16(entry.isOrphan ? 1 : 0), at: 2)
                place.store(entry.oldCheck, at: 4)
                place.store(UInt64(entry.oldAddress.raw), at: 8)
                place.store(entry.version.generation, at: 16)
                place.store(entry.version.sequence, at: 24)
                place.store(entry.touched, at: 32)
                place.store(UInt64(0), at: 40)
                count += 1
            }
            reverse(target + first * doubtBytes, count - first)
        }
        return count
    }

    /// The list gives the newest first; the loader adds the oldest first.
    private static func reverse(_ target: UnsafeMutableRawPointer, _ count: Int) {
        guard count > 1 else { return }
        for index in 0..<count / 2 {
            let left = UnsafeMutableRawBufferPointer(start: target + index * doubtBytes, count: doubtBytes)
            let right = UnsafeMutableRawBufferPointer(start: target + (count - 1 - index) * doubtBytes, count: doubtBytes)
            for offset in 0..<doubtBytes { swap(&left[offset], &right[offset]) }
        }
    }

    /// Puts a page into a state that is being loaded; returns its bytes, or nil when it contradicts itself. Entries in doubt go to
    /// `doubts`: the lists of the state are in the order of versions, which that of pages is not.
    static func decode(
        _ source: UnsafeRawPointer, available: Int, into state: inout StoreState, doubts list: inout ContiguousArray<DoubtList.Entry>,
        geometry: Geometry
    ) -> Int? {
        guard available >= headBytes else { return nil }
        let bytes = Int(source.load(UInt32.self, at: 0))
        let runs = Int(source.load(UInt32.self, at: 28))
        let doubts = Int(source.load(UInt32.self, at: 56))
        let checks = Int(source.load(UInt32.self, at: 60))
        guard bytes <= available, runs <= Block.perPage, checks <= Block.perPage, doubts <= Limits.doubtsMax,
            bytes == roundUp(headBytes + runs * runBytes + doubts * doubtBytes + checks * 4, to: 8)
        else { return nil }
        let part = PartAddress(
            chunk: source.load(UInt32.self, at: 8), member: source.load(UInt16.self, at: 12), incarnation: source.load(UInt64.self, at: 16))
        let key = BlockMap.Key(object: ObjectNumber(source.load(UInt32.self, at: 4)), part: part, page: source.load(UInt32.self, at: 24))
        guard state.map.find(key) == nil, state.objects.contains(key.object),
            UInt64(key.page) < LogRecord.partBlocksMax / UInt64(Block.perPage)
        else { return nil }
        let index = state.map.findOrMake(key)
        state.map.page(index).pointee.highest = Version(
            generation: source.load(UInt64.self, at: 32), sequence: source.load(UInt64.self, at: 40))
        state.map.page(index).pointee.imageRecord = source.load(UInt64.self, at: 48)
        var check = headBytes + runs * runBytes + doubts * doubtBytes
        var mapped: UInt64 = 0
        var end = 0
        for run in 0..<runs {
            let place = source + headBytes + run * runBytes
            let first = Int(place.load(UInt16.self, at: 0))
            let count = Int(place.load(UInt16.self, at: 2))
            let address = place.load(UInt64.self, at: 8)
            guard count >= 1, first >= end, first + count <= Block.perPage, isSound(address, count, geometry), address != 0 else {
                return nil
            }
            end = first + count
            for offset in 0..<count {
                if address > 2 {
                    guard check + 4 <= bytes else { return nil }
                    _ = state.map.set(
                        index, first + offset, BlockMap.Address(raw: UInt32(address) + UInt32(offset)), source.load(UInt32.self, at: check))
                    check += 4
                    mapped += 1
                } else {
                    _ = state.map.set(index, first + offset, BlockMap.Address(raw: UInt32(address)), 0)
                }
            }
        }
        state.objects[key.object].mappedBlocks += mapped
        for doubt in 0..<doubts {
            let place = source + headBytes + runs * runBytes + doubt * doubtBytes
            let address = place.load(UInt64.self, at: 8)
            guard place.load(UInt16.self, at: 0) < Block.perPage, isSound(address, 1, geometry) else { return nil }
            list.append(
                DoubtList.Entry(
                    page: index, block: Int(place.load(UInt16.self, at: 0)), isOrphan: place.load(UInt16.self, at: 2) & 1 != 0,
                    object: key.object.raw,
                    version: Version(generation: place.load(UInt64.self, at: 16), sequence: place.load(UInt64.self, at: 24)),
                    touched: place.load(UInt64.self, at: 32), oldAddress: BlockMap.Address(raw: UInt32(address)),
                    oldCheck: place.load(UInt32.self, at: 4)))
        }
        return bytes
    }

    private static func isSound(_ address: UInt64, _ count: Int, _ geometry: Geometry) -> Bool {
        address <= 2 || (address >= geometry.firstDataBlock && address <= geometry.blocks - UInt64(count))
    }
}
