/// Whether a member is complete, as far as its store can tell: a member that is filled lacks writes until the fill has ended well, and
/// knows from which version on. It outlives the fill, which ends with the process.
public struct FillState: Hashable, Sendable, BitwiseCopyable {
    /// The last one that began here; numbers are never used again.
    public var number: UInt64 = 0
    /// It has not ended well, nor has a later one.
    public var isOpen = false
    /// While it is open: what was written up to this version is here, and nothing else that is here counts.
    public var base = Version.zero

    public init() {}
}
