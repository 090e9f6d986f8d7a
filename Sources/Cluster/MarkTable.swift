import OSTEngine
import PartStore
import VolumeEngine

/// Which rare branches of the three engines were taken.
public struct MarkTable: Hashable, Sendable {
    private var volume: UInt64 = 0
    private var ost: UInt64 = 0
    private var store: UInt64 = 0

    public init() {}

    mutating func add(_ marks: VolumeMarks) { volume |= marks.bits }
    mutating func add(_ marks: OSTMarks) { ost |= marks.bits }
    mutating func add(_ marks: StoreMarks) { store |= marks.bits }

    public mutating func formUnion(_ other: MarkTable) {
        volume |= other.volume
        ost |= other.ost
        store |= other.store
    }

    /// For taking them from one process to another.
    public var words: [UInt64] { [volume, ost, store] }

    public init(words: [UInt64]) {
        (volume, ost, store) = (words[0], words[1], words[2])
    }

    /// Every mark there is, in the order of its declaration, and whether it was reached.
    public var all: [(name: String, isReached: Bool)] {
        VolumeMark.allCases.map { ("volume.\($0)", volume & 1 << UInt64($0.rawValue) != 0) }
            + OSTMark.allCases.map { ("ost.\($0)", ost & 1 << UInt64($0.rawValue) != 0) }
            + StoreMark.allCases.map { ("store.\($0)", store & 1 << UInt64($0.rawValue) != 0) }
    }

    public var missing: [String] { all.filter { !$0.isReached }.map(\.name) }
}
