/// Neighbouring blocks of a part that are in doubt under one version: what a writer that opens a cluster's volume learns from each member.
public struct DoubtRange: Hashable, Sendable, BitwiseCopyable {
    public var part: PartAddress
    public var firstBlock: UInt32
    public var blockCount: UInt32
    public var version: Version

    public init(part: PartAddress, firstBlock: UInt32, blockCount: UInt32, version: Version) {
        self.part = part
        self.firstBlock = firstBlock
        self.blockCount = blockCount
        self.version = version
    }

    /// Takes another block in, if it is the next one and of the same version.
    public mutating func extend(by part: PartAddress, _ block: UInt32, _ version: Version) -> Bool {
        guard part == self.part, block == firstBlock + blockCount, version == self.version else { return false }
        blockCount += 1
        return true
    }
}
