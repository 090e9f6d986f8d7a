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
    }

    private var states: ContiguousArray<State?> = []
    private var byName: [String: ObjectNumber] = [:]
    private var sortedNames: ContiguousArray<String> = []
    /// The number of the next object; numbers are never used again, since records of the log and pages name objects by them.
    var next: UInt32 = 1

    var count: Int { sortedNames.count }

    subscript(_ number: ObjectNumber) -> State {
        _read {
            guard let index = index(number) else { unreachable("object \(number.raw) does not exist") }
            yield states[index]!
        }
        _modify {
            guard let index = index(number) else { unreachable("object \(number.raw) does not exist") }
            yield &states[index]!
        }
    }

    func contains(_ number: ObjectNumber) -> Bool { index(number) != nil }

    private func index(_ number: ObjectNumber) -> Int? {
        let index = Int(number.raw)
        return index < states.count && states[index] != nil ? index : nil
    }

    func find(_ name: String) -> ObjectNumber? { byName[name] }

    func after(_ name: String, count: Int) -> [ObjectNumber] {
        sortedNames[position(name, after: true)...].prefix(count).compactMap { byName[$0] }
    }

    var all: [ObjectNumber] { sortedNames.compactMap { byName[$0] }.sorted() }

    mutating func insert(_ number: ObjectNumber, _ state: State) {
        invariant(byName[state.record.name] == nil, "two objects are named \(state.record.name)")
        while states.count <= Int(number.raw) { states.append(nil) }
        states[Int(number.raw)] = state
        byName[state.record.name] = number
        sortedNames.insert(state.record.name, at: position(state.record.name, after: false))
        next = max(next, number.raw + 1)
    }

    mutating func remove(_ number: ObjectNumber) {
        guard let index = index(number), let state = states[index] else { return }
        byName[state.record.name] = nil
        sortedNames.remove(at: position(state.record.name, after: false))
        states[index] = nil
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
