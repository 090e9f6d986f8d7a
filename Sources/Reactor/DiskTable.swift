import Base
import CSystem
import Environment

/// The disks of a reactor. What each operation needs lies in one small entry; the rest beside it.
struct DiskTable: ~Copyable {
    static let capacity = 64

    private struct Entry {
        var descriptor: Int32 = -1
        var underWay: Int32 = 0
        var sectorMask: UInt64 = 0
    }

    private let entries: UnsafeMutablePointer<Entry>
    private var traits: [DiskTraits] = []

    init() {
        entries = .allocate(capacity: DiskTable.capacity)
        entries.initialize(repeating: Entry(), count: DiskTable.capacity)
    }

    deinit { entries.deallocate() }

    /// Takes over the descriptor; `nil` when the table is full.
    mutating func add(_ descriptor: Int32, _ new: DiskTraits) -> DiskID? {
        guard let index = (0..<DiskTable.capacity).first(where: { entries[$0].descriptor < 0 }) else { return nil }
        entries[index] = Entry(descriptor: descriptor, underWay: 0, sectorMask: UInt64(new.sectorBytes) - 1)
        if index == traits.count { traits.append(new) } else { traits[index] = new }
        return DiskID(Int32(index))
    }

    func traits(_ disk: DiskID) -> DiskTraits {
        _ = entry(disk)
        return traits[Int(disk.index)]
    }

    @inline(__always)
    private func entry(_ disk: DiskID) -> UnsafeMutablePointer<Entry> {
        let entry = entries + Int(disk.index)
        invariant(disk.index >= 0 && disk.index < DiskTable.capacity && entry.pointee.descriptor >= 0, "disk \(disk.index) is not open")
        return entry
    }

    /// The descriptor, for an operation that begins.
    @inline(__always)
    func began(_ disk: DiskID) -> Int32 {
        let entry = entry(disk)
        entry.pointee.underWay += 1
        return entry.pointee.descriptor
    }

    @inline(__always)
    func ended(_ index: Int32) { entries[Int(index)].underWay -= 1 }

    @inline(__always)
    func isAligned(_ index: Int32, _ value: UInt64) -> Bool { value & entries[Int(index)].sectorMask == 0 }

    func close(_ disk: DiskID) {
        let entry = entry(disk)
        invariant(entry.pointee.underWay == 0, "\(entry.pointee.underWay) operations under way at close of disk \(disk.index)")
        // Explicitly: the kernel may hold the file a moment longer than we do.
        rs_disk_unlock(entry.pointee.descriptor)
        rs_close(entry.pointee.descriptor)
        entry.pointee.descriptor = -1
    }

    func unlockAll() {
        for index in 0..<DiskTable.capacity where entries[index].descriptor >= 0 { rs_disk_unlock(entries[index].descriptor) }
    }

    func closeAll() {
        for index in 0..<DiskTable.capacity where entries[index].descriptor >= 0 {
            rs_close(entries[index].descriptor)
            entries[index].descriptor = -1
        }
    }
}
