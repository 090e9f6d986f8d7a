import Base
import Environment

/// What can be told of a store that is not being served, without changing it.
public enum StoreInspector {
    public struct Info: Sendable {
        public var superblock: Superblock
        public var objects: [(record: ObjectRecord, mappedBlocks: UInt64)]
        public var dataBlocks: UInt64
        public var mappedBlocks: UInt64
        public var doubts: Int
        /// Memory that serving it takes.
        public var memoryBytes: UInt64
    }

    public static func info(_ operations: Operations, disk: DiskID, path: String) async throws(Failure) -> Info {
        var loader = try await StoreLoader(operations, disk: disk, path: path)
        var state = try await loader.rebuild(verifyingTail: false)
        state.dropOrphanedPages()
        var objects: [(record: ObjectRecord, mappedBlocks: UInt64)] = []
        for number in state.objects.all { objects.append((state.objects[number].record, state.objects[number].mappedBlocks)) }
        let blocks = loader.superblock.geometry.blocks
        return Info(
            superblock: loader.superblock, objects: objects, dataBlocks: loader.superblock.geometry.dataBlocks,
            mappedBlocks: state.map.mappedBlocks, doubts: state.doubts.count,
            memoryBytes: StoreMemory.fixedBytes(blocks: blocks) + state.map.bytesInUse)
    }

    /// The log as text, a record a line.
    public static func describeLog(
        _ operations: Operations, disk: DiskID, path: String, _ line: (String) -> Void
    ) async throws(Failure) {
        var loader = try await StoreLoader(operations, disk: disk, path: path)
        _ = try await loader.rebuild(verifyingTail: false)
        let superblock = loader.superblock
        line("store \(superblock.store) cluster \(superblock.cluster) revision \(superblock.revision) mounts \(superblock.mountCounter)")
        line("snapshot half \(superblock.snapshotHalf) bytes \(superblock.snapshotBytes) up to record \(loader.objectsRecord)")
        line("log half \(loader.half) offset \(loader.offset) durable \(loader.durableRecord) next \(loader.nextRecord)")
        loader.forEachRecord { number, record, isVoid in
            var text = "\(number) \(record.kind) object \(record.object.raw) version \(record.version) mark \(record.mark)"
            if record.carriesBlocks {
                text += " \(record.part) blocks \(record.firstBlock)+\(record.blockCount) extents \(record.extentCount)"
            } else if record.argument != 0 {
                text += " argument \(record.argument)"
            }
            line(isVoid ? text + " void" : text)
        }
    }
}
