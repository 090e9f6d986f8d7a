import Base

/// The sequence of this writer's writes: which of them are unfinished, and up to where all are complete and durable.
///
/// Invariants: sequences are given out in the order of sending and never reused; `mark` ≤ `completed`, and neither ever goes back.
struct WriteOrder: ~Copyable {
    /// Slots of the parts without a definite and equal outcome on all members, in the order of their sequences.
    private(set) var unfinished: SlotList
    private let sequences: UnsafeMutablePointer<UInt64>
    /// The last sequence given out.
    private(set) var last: UInt64 = 0
    /// The completion mark.
    private(set) var mark: UInt64 = 0

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

    /// The write has a definite outcome: every member has it, or none does or ever will.
    mutating func end(_ slot: Int) { unfinished.remove(slot) }

    mutating func advance(to sequence: UInt64) { mark = max(mark, min(mutated(.marksWhatSomeHave) ? last : completed, sequence)) }

    func checkInvariants() {
        invariant(mark <= completed || mutated(.marksWhatSomeHave), "mark \(mark) is beyond completed \(completed)")
        var slot = unfinished.first
        var previous: UInt64 = 0
        while slot != SlotList.none {
            invariant(sequences[slot] > previous, "sequence \(sequences[slot]) is listed behind \(previous)")
            previous = sequences[slot]
            slot = unfinished.next(after: slot)
        }
    }
}

/// How far one peer's stable media are, and what it was told.
struct Durability {
    /// What the OST says of its stable media: it has on them all up to this that it was sent.
    private(set) var durable: UInt64 = 0
    /// The highest sequence that the OST is known to have. Some below it may never have got there.
    private(set) var highestTaken: UInt64 = 0
    /// The highest sequence that the OST acknowledged and no loss of power has taken since.
    private(set) var acknowledged: UInt64 = 0
    /// The highest mark that went out with a request of the present session.
    var told: UInt64 = 0

    /// The mark must not pass this on its account.
    @inline(__always)
    var bound: UInt64 { isBehind && !mutated(.marksUnflushed) ? durable : .max }

    @inline(__always)
    var isBehind: Bool { durable < highestTaken }

    @inline(__always)
    mutating func took(_ sequence: UInt64) {
        highestTaken = max(highestTaken, sequence)
        acknowledged = max(acknowledged, sequence)
    }

    /// A reply said how far the store is durable. A peer that claims what was never sent is not believed.
    @inline(__always)
    mutating func learned(durable sequence: UInt64, last: UInt64) -> Bool {
        guard sequence > durable, sequence <= last else { return false }
        durable = sequence
        return true
    }

    /// A new session: the OST has forgotten what it was told, and says what it has. False when that is less than it must have: a restart
    /// takes nothing that was acknowledged, and a loss of power nothing that was said to be durable.
    mutating func attached(highest sequence: UInt64, last: UInt64, lostPower: Bool) -> Bool {
        told = 0
        highestTaken = max(highestTaken, min(sequence, last))
        if sequence < (lostPower ? durable : acknowledged) { return false }
        acknowledged = min(sequence, last)
        return true
    }

    /// It is known for lost: what went with the power will not become durable any more.
    mutating func settleLoss() { highestTaken = max(durable, acknowledged) }
}
