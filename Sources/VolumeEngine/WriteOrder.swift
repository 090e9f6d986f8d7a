import Base

/// The sequence of this writer's writes: which of them are unfinished, how far everything is durable, and what the OST was told of it.
///
/// Invariants: sequences are given out in the order of sending and never reused; `mark` ≤ `completed`, `mark` ≤ `durable`, and none of
/// the three ever goes back.
struct WriteOrder: ~Copyable {
    /// Request slots of the writes without a definite outcome, in the order of their sequences.
    private(set) var unfinished: SlotList
    private let sequences: UnsafeMutablePointer<UInt64>
    /// The last sequence given out.
    private(set) var last: UInt64 = 0
    /// What the OST says of its stable media.
    private(set) var durable: UInt64 = 0
    /// The completion mark.
    private(set) var mark: UInt64 = 0
    /// The highest mark that went out with a request of this session.
    private(set) var told: UInt64 = 0
    /// The highest sequence that the OST is known to have. Some below it may never have got there.
    private(set) var highestTaken: UInt64 = 0

    init(capacity: Int) {
        unfinished = SlotList(capacity: capacity)
        sequences = .allocate(capacity: capacity)
        sequences.initialize(repeating: 0, count: capacity)
    }

    deinit { sequences.deallocate() }

    /// All writes up to this sequence have a definite outcome.
    var completed: UInt64 { unfinished.isEmpty ? last : sequences[unfinished.first] - 1 }

    mutating func begin(_ slot: Int) -> UInt64 {
        last += 1
        sequences[slot] = last
        unfinished.append(slot)
        return last
    }

    /// The write has a definite outcome: the OST has it, or refused it, or a new session has drained the one that carried it.
    mutating func end(_ slot: Int, isTaken: Bool) {
        unfinished.remove(slot)
        if isTaken { highestTaken = max(highestTaken, sequences[slot]) }
        advance()
    }

    /// A reply said how far the store is durable. A peer that claims what was never sent is not believed.
    mutating func learned(durable sequence: UInt64) {
        guard sequence > durable, sequence <= last else { return }
        durable = sequence
        advance()
    }

    /// A new session: the OST has forgotten what it was told, and says what it has.
    mutating func attached(highestTaken sequence: UInt64) {
        told = 0
        highestTaken = max(highestTaken, min(sequence, last))
    }

    mutating func tell() -> UInt64 {
        told = mark
        return mark
    }

    private mutating func advance() { mark = max(mark, min(completed, durable)) }

    /// Whether the OST should hear the mark, or be asked how far it is.
    var isUnsettled: Bool { mark > told || isBehind }
    var isBehind: Bool { durable < highestTaken }

    func checkInvariants() {
        invariant(mark <= completed && mark <= durable, "mark \(mark) is beyond completed \(completed) or durable \(durable)")
        invariant(told <= mark && durable <= last && highestTaken <= last, "told \(told), durable \(durable), last \(last)")
        var slot = unfinished.first
        var previous: UInt64 = 0
        while slot != SlotList.none {
            invariant(sequences[slot] > previous, "sequence \(sequences[slot]) is listed behind \(previous)")
            previous = sequences[slot]
            slot = unfinished.next(after: slot)
        }
    }
}
