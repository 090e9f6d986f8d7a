import Base

/// Which disk blocks are free: a bit each, set when used, and a summary bit for each word that is full.
///
/// Space is handed out from a cursor that moves forward, so that writes of one moment lie together on the disk and are one disk write.
struct Allocator: ~Copyable {
    struct Extent: BitwiseCopyable, Hashable {
        var first: UInt32
        var count: UInt32
    }

    private let words: UnsafeMutablePointer<UInt64>
    private let wordCount: Int
    private var cursor: Int
    private(set) var freeBlocks: UInt64

    /// Blocks below `first` and from `end` on are never handed out.
    init(first: UInt64, end: UInt64) {
        wordCount = Int((end + 63) / 64)
        words = .allocate(capacity: wordCount)
        words.initialize(repeating: 0, count: wordCount)
        freeBlocks = end - first
        cursor = Int(first / 64)
        for block in Int(first) / 64 * 64..<Int(first) { words[block / 64] |= 1 << UInt64(block % 64) }
        for word in 0..<Int(first) / 64 { words[word] = .max }
        for block in Int(end)..<wordCount * 64 { words[block / 64] |= 1 << UInt64(block % 64) }
    }

    deinit { words.deallocate() }

    func isUsed(_ block: UInt32) -> Bool { words[Int(block) / 64] & 1 << UInt64(block % 64) != 0 }

    /// False when the block was used already: two owners, which a sound store never has.
    mutating func markUsed(_ block: UInt32) -> Bool {
        if isUsed(block) { return false }
        words[Int(block) / 64] |= 1 << UInt64(block % 64)
        freeBlocks -= 1
        return true
    }

    mutating func release(_ block: UInt32) {
        invariant(isUsed(block), "block \(block) is released twice")
        words[Int(block) / 64] &= ~(1 << UInt64(block % 64))
        freeBlocks += 1
    }

    /// `count` blocks as few extents; there must be as many. Returns how many extents were written to `extents`, which has room for
    /// `count`.
    mutating func allocate(_ count: Int, into extents: UnsafeMutablePointer<Extent>) -> Int {
        invariant(UInt64(count) <= freeBlocks, "\(count) blocks asked for, \(freeBlocks) are free")
        if count >= 16, let start = findRun(count) {
            take(start, count)
            extents[0] = Extent(first: UInt32(start), count: UInt32(count))
            cursor = (start + count) / 64 % wordCount
            return 1
        }
        var remaining = count
        var used = 0
        while remaining > 0 {
            let free = ~words[cursor]
            guard free != 0 else {
                cursor = cursor + 1 == wordCount ? 0 : cursor + 1
                continue
            }
            let bit = free.trailingZeroBitCount
            let run = min((~(free >> UInt64(bit))).trailingZeroBitCount, 64 - bit, remaining)
            let first = cursor * 64 + bit
            take(first, run)
            if used > 0, Int(extents[used - 1].first) + Int(extents[used - 1].count) == first {
                extents[used - 1].count += UInt32(run)
            } else {
                extents[used] = Extent(first: UInt32(first), count: UInt32(run))
                used += 1
            }
            remaining -= run
        }
        return used
    }

    /// The start of a free run of at least `count` blocks near the cursor. Looks at a bounded number of words: a large write on a
    /// fragmented disk shall not wait for a search of all of it.
    private func findRun(_ count: Int) -> Int? {
        var length = 0
        var start = 0
        var word = cursor
        for _ in 0..<min(wordCount, 1 << 14) {
            var bits = words[word]
            if bits == .max {
                length = 0
            } else if bits == 0 {
                if length == 0 { start = word * 64 }
                length += 64
                if length >= count { return start }
            } else {
                for bit in 0..<64 {
                    if bits & 1 == 0 {
                        if length == 0 { start = word * 64 + bit }
                        length += 1
                        if length >= count { return start }
                    } else {
                        length = 0
                    }
                    bits >>= 1
                }
            }
            word += 1
            if word == wordCount {
                word = 0
                length = 0
            }
        }
        return nil
    }

    private mutating func take(_ first: Int, _ count: Int) {
        for block in first..<first + count { words[block / 64] |= 1 << UInt64(block % 64) }
        freeBlocks -= UInt64(count)
    }
}

/// Blocks that nothing refers to any more, each waiting for the record that freed it to be durable. In the order of those records.
struct FreeQueue: ~Copyable {
    private struct Run: BitwiseCopyable {
        var record: UInt64
        var first: UInt32
        var count: UInt32
    }

    private var runs: ContiguousArray<Run> = []
    private var head = 0
    private(set) var blocks: UInt64 = 0

    init() { runs.reserveCapacity(1024) }

    mutating func push(_ address: BlockMap.Address, record: UInt64) {
        guard address.isData else { return }
        blocks += 1
        if head < runs.count {
            let last = runs.count - 1
            if runs[last].record == record, runs[last].first &+ runs[last].count == address.raw {
                runs[last].count += 1
                return
            }
            invariant(runs[last].record <= record, "blocks are freed in the order of records")
        }
        runs.append(Run(record: record, first: address.raw, count: 1))
    }

    /// Gives back what was freed up to this record.
    mutating func release(upTo record: UInt64, to allocator: inout Allocator) {
        while head < runs.count, runs[head].record <= record {
            let run = runs[head]
            for offset in 0..<run.count { allocator.release(run.first + offset) }
            blocks -= UInt64(run.count)
            head += 1
        }
        if head == runs.count {
            runs.removeAll(keepingCapacity: true)
            head = 0
        } else if head > 4096, head * 2 > runs.count {
            runs.removeFirst(head)
            head = 0
        }
    }

    mutating func removeAll() {
        runs.removeAll(keepingCapacity: true)
        head = 0
        blocks = 0
    }
}
