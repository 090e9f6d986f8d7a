/// One piece of memory; laid out like `struct iovec`.
@frozen
public struct IOVector {
    public var base: UnsafeMutableRawPointer
    public var count: Int

    @inlinable
    public init(_ base: UnsafeMutableRawPointer, _ count: Int) {
        self.base = base
        self.count = count
    }
}
