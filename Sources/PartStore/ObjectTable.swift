import Base

/// The objects of a store: by number for requests, by name for everybody else.
struct ObjectTable: ~Copyable {
    struct State {
        var record: ObjectRecord
        var mark: UInt64 = 0
        /// A mark that no record carries yet; 0 for none.
        var pendingMark: UInt64 = 0
        /// What requests are held against: ahead of `record` while a fence, resize or removal is on its way to the log.
        var admitted: Admitted
        /// Highest version applied.
        var highest = Version.zero
        /// Highest sequence of this generation that is on stable media, with all below it that were applied.
        var durable: UInt64 = 0
        /// The lowest sequence applied since the barrier under way began; what it covers ends below.
        var lowestSinceBarrier = UInt64.max
        /// Written to since the last barrier began.
        var isTouched = false
        var fill = FillState()
        /// The last resize of the volume that the object has gone along with.
        var resizes: UInt64 = 0
        /// The newest volume record that was handed to this store, and the map number of it; to the store they are bytes.
        fileprivate(set) var volume: [UInt8] = []
        fileprivate(set) var volumeMap: UInt64 = 0
        var mappedBlocks: UInt64 = 0
        var doubtCount = 0
        var doubts = DoubtList.Ends()
        var orphans = DoubtList.Ends()

        init(record: ObjectRecord) {
            self.record = record
            admitted = Admitted(generation: record.generation, bytes: record.bytes)
        }
    }

    struct Admitted: BitwiseCopyable {
        var generation: UInt64
        var bytes: UInt64
        var isRemoved = false
        /// The fill under way in this process; 0 for none.
        var fill: UInt64 = 0
    }

    private var byNumber: NumberTable
    private var byName: [String: ObjectNumber] = [:]
    private var sortedNames: ContiguousArray<String> = []
    /// The number of the next object; numbers are never used again, since records of the log and pages name objects by them.
    var next: UInt32 = 1

    init() { byNumber = NumberTable() }

    var count: Int { sortedNames.count }
    /// What the volume records take in a snapshot.
    private(set) var volumeImageBytes: UInt64 = 0

    /// Keeps the record of a map, unless that of a newer one is here.
    mutating func keep(_ number: ObjectNumber, volume: [UInt8], map: UInt64) {
        guard !volume.isEmpty, let state = byNumber.find(number.raw), map > state.pointee.volumeMap else { return }
        volumeImageBytes -= UInt64(ObjectCodec.volumeImageBytes(state.pointee.volume.count))
        volumeImageBytes += UInt64(ObjectCodec.volumeImageBytes(volume.count))
        state.pointee.volume = volume
        state.pointee.volumeMap = map
    }

    /// By address, and not by a coroutine that yields: optimised, but not as a whole module, a `_read` of this was seen to give away the
    /// name of a record and let go of the rest of it before that was read.
    subscript(_ number: ObjectNumber) -> State {
        unsafeAddress { UnsafePointer(found(number)) }
        unsafeMutableAddress { found(number) }
    }

    @inline(__always)
    private func found(_ number: ObjectNumber) -> UnsafeMutablePointer<State> {
        guard let state = byNumber.find(number.raw) else { unreachable("object \(number.raw) does not exist") }
        return state
    }

    func contains(_ number: ObjectNumber) -> Bool { byNumber.find(number.raw) != nil }

    func find(_ name: String) -> ObjectNumber? { byName[name] }

    func after(_ name: String, count: Int) -> [ObjectNumber] {
        sortedNames[position(name, after: true)...].prefix(count).compactMap { byName[$0] }
    }

    var all: [ObjectNumber] { sortedNames.compactMap { byName[$0] }.sorted() }

    mutating func insert(_ number: ObjectNumber, _ state: State) {
        invariant(byName[state.record.name] == nil, "two objects are named \(state.record.name)")
        byNumber.insert(number.raw, state)
        byName[state.record.name] = number
        sortedNames.insert(state.record.name, at: position(state.record.name, after: false))
        next = max(next, number.raw &+ 1)
    }

    mutating func remove(_ number: ObjectNumber) {
        guard let state = byNumber.find(number.raw) else { return }
        let name = state.pointee.record.name
        volumeImageBytes -= UInt64(ObjectCodec.volumeImageBytes(state.pointee.volume.count))
        byName[name] = nil
        sortedNames.remove(at: position(name, after: false))
        byNumber.remove(number.raw)
    }

    private func position(_ name: String, after: Bool) -> Int {
        var low = 0
        var high = sortedNames.count
        while low < high {
            let middle = (low + high) / 2
            let goesRight = after ? sortedNames[middle] <= name : sortedNames[middle] < name
            if goesRight { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// States at places that do not move, found by a hash of their number: what is made and removed for years takes no more space than what
/// is there, whatever the numbers are.
private struct NumberTable: ~Copyable {
    private struct Entry {
        var number: UInt32
        var state: UnsafeMutablePointer<ObjectTable.State>?
    }

    /// Open addressing with linear probing; a power of two, at most half full.
    private var entries: UnsafeMutablePointer<Entry>
    private var mask: Int
    private var count = 0

    init() {
        mask = 63
        entries = NumberTable.make(64)
    }

    deinit {
        for slot in 0...mask {
            entries[slot].state?.deinitialize(count: 1)
            entries[slot].state?.deallocate()
        }
        entries.deallocate()
    }

    private static func make(_ capacity: Int) -> UnsafeMutablePointer<Entry> {
        let entries = UnsafeMutablePointer<Entry>.allocate(capacity: capacity)
        entries.initialize(repeating: Entry(number: 0, state: nil), count: capacity)
        return entries
    }

    @inline(__always)
    private func home(_ number: UInt32) -> Int { Int(number &* 0x9e37_79b1 >> 8) & mask }

    @inline(__always)
    func find(_ number: UInt32) -> UnsafeMutablePointer<ObjectTable.State>? {
        var slot = home(number)
        while let state = entries[slot].state {
            if entries[slot].number == number { return state }
            slot = (slot + 1) & mask
        }
        return nil
    }

    mutating func insert(_ number: UInt32, _ value: ObjectTable.State) {
        invariant(find(number) == nil, "object \(number) is made twice")
        if (count + 1) * 2 > mask { grow() }
        let state = UnsafeMutablePointer<ObjectTable.State>.allocate(capacity: 1)
        state.initialize(to: value)
        place(Entry(number: number, state: state))
        count += 1
    }

    private func place(_ entry: Entry) {
        var slot = home(entry.number)
        while entries[slot].state != nil { slot = (slot + 1) & mask }
        entries[slot] = entry
    }

    private mutating func grow() {
        let old = entries
        let oldCount = mask + 1
        mask = 2 * oldCount - 1
        entries = NumberTable.make(2 * oldCount)
        for slot in 0..<oldCount where old[slot].state != nil { place(old[slot]) }
        old.deallocate()
    }

    mutating func remove(_ number: UInt32) {
        var slot = home(number)
        while entries[slot].state != nil, entries[slot].number != number { slot = (slot + 1) & mask }
        guard let state = entries[slot].state else { return }
        state.deinitialize(count: 1)
        state.deallocate()
        entries[slot].state = nil
        count -= 1
        // What was displaced by the removed one moves up, or lookups would stop at the hole.
        slot = (slot + 1) & mask
        while entries[slot].state != nil {
            let moved = entries[slot]
            entries[slot].state = nil
            place(moved)
            slot = (slot + 1) & mask
        }
    }
}
