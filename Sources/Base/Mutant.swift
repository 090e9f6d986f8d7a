/// Deliberate bugs, one at a time, that prove that the simulator's checks fire. Only debug builds contain them.
public enum Mutant: String, CaseIterable, Sendable {
    /// The store answers a flush without flushing the disk.
    case forgetsFlush
    /// The store acknowledges a write although an older one of the log is not on disk yet.
    case acknowledgesOutOfLogOrder
    /// The store gives a replaced block out again before the record that replaced it is durable.
    case reusesBlockEarly
    /// The OST takes requests of a session that a newer one has replaced.
    case acceptsOldSession
    /// Neither the OST nor the client compares a block read with its check.
    case skipsCheck

    #if MUTANTS
        /// Set by the test that looks for it; one thread simulates at a time.
        nonisolated(unsafe) public static var active: Mutant?
    #endif
}

/// Whether this bug is switched on.
@inlinable @inline(__always)
public func mutated(_ mutant: Mutant) -> Bool {
    #if MUTANTS
        Mutant.active == mutant
    #else
        false
    #endif
}
