/// What a member holds at one block, without its contents: members whose checks are equal are equal.
public struct BlockCheck: Hashable, Sendable, BitwiseCopyable {
    public enum State: UInt8, Sendable, Hashable, BitwiseCopyable {
        /// Never written.
        case absent = 0
        case zero = 1
        case data = 2
        /// An error until it is overwritten.
        case lost = 3
    }

    public var state: State
    /// CRC32C of the contents; of zeros where there are none, and 0 of a lost block.
    public var check: UInt32
    /// The version of the contents, while they are in doubt.
    public var doubt: Version?

    public init(_ state: State, check: UInt32, doubt: Version? = nil) {
        self.state = state
        self.check = check
        self.doubt = doubt
    }
}
