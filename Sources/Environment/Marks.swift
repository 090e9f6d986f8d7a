// What a world does with marks unless it is the simulator.

extension World {
    /// Says that a rare branch was taken. The simulator counts marks, so that a test can prove that its seeds reach the branch; everywhere
    /// else this does nothing.
    @inlinable
    public func mark(_ name: StaticString) {}
}
