/// A page of a part and the highest version ever written to it: whoever has everything below that version lacks nothing of the page.
public struct ChangedPage: Hashable, Sendable, BitwiseCopyable {
    public var part: PartAddress
    /// Which `Block.perPage` blocks of the part.
    public var page: UInt32
    public var highest: Version

    public init(part: PartAddress, page: UInt32, highest: Version) {
        self.part = part
        self.page = page
        self.highest = highest
    }
}
