/// What a loss of power at the OST would take: writes acknowledged, and not known to be on stable media.
///
/// Counts writes in the order of their acknowledgement, since a flush covers what was acknowledged before it was submitted. Durable
/// writes are not counted.
struct Unflushed {
    private(set) var acknowledged: UInt64 = 0
    /// All up to this are on stable media.
    private(set) var settled: UInt64 = 0
    /// Those after `settled` up to this may be gone.
    private(set) var lost: UInt64 = 0
    /// Up to this a flush has said so. What is left of them is still at risk: the next loss must be told again.
    private(set) var told: UInt64 = 0

    mutating func acknowledge() { acknowledged += 1 }

    /// A flush that covers the first `covered` ended well.
    mutating func flushed(_ covered: UInt64) { settled = max(settled, covered) }

    /// The OST made a barrier by itself behind everything acknowledged. That does not bring back what was lost before it.
    mutating func allDurable() {
        if lost <= max(settled, told) { settled = acknowledged }
    }

    /// The OST lost power; whether anything was at risk.
    mutating func lostPower() -> Bool {
        guard acknowledged > settled else { return false }
        lost = acknowledged
        told = 0
        return true
    }

    /// Whether a flush over the first `covered` must fail.
    func mustFail(_ covered: UInt64) -> Bool { min(covered, lost) > max(settled, told) }

    /// It has failed; nobody is told twice of one loss.
    mutating func reported(_ covered: UInt64) { told = max(told, min(covered, lost)) }
}
