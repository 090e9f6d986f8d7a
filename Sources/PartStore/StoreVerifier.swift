import Base
import Environment

/// Reads every block of a store that is not being served and compares it with its check. Writes nothing.
public final class StoreVerifier {
    public struct Damage: Hashable, Sendable {
        public var volume: String
        public var offset: UInt64
        public var bytes: UInt64
    }

    /// A block that has data, as it was read.
    public struct Held: Hashable, Sendable {
        public var volume: String
        public var part: PartAddress
        public var block: UInt32
        public var check: UInt32
        public var isDamaged: Bool
    }

    public struct Report: Sendable {
        /// Blocks read and compared.
        public var blocks: UInt64 = 0
        /// In the order of volumes and offsets; neighbours are one entry.
        public var damaged: [Damage] = []
    }

    private final class Loaded {
        let state: StoreState
        init(_ state: consuming StoreState) { self.state = state }
    }

    private static let workers = 16
    private let operations: Operations
    private let disk: DiskID
    private let loaded: Loaded
    private var nextPage: UInt32 = 0
    private var report = Report()
    private let progress: (_ done: UInt64, _ all: UInt64) -> Void
    private let found: ((Held) -> Void)?

    private init(
        _ operations: Operations, _ disk: DiskID, _ loaded: Loaded, _ progress: @escaping (UInt64, UInt64) -> Void,
        _ found: ((Held) -> Void)?
    ) {
        self.operations = operations
        self.disk = disk
        self.loaded = loaded
        self.progress = progress
        self.found = found
    }

    /// `found` gets every block that has data, in no order.
    public static func verify(
        _ operations: Operations, disk: DiskID, path: String, progress: @escaping (_ done: UInt64, _ all: UInt64) -> Void = { _, _ in },
        found: ((Held) -> Void)? = nil
    ) async throws(Failure) -> Report {
        var loader = try await StoreLoader(operations, disk: disk, path: path)
        var state = try await loader.rebuild()
        _ = try StoreFile.allocator(for: &state, loader.superblock.geometry)
        let verifier = StoreVerifier(operations, disk, Loaded(state), progress, found)
        await operations.world.together(workers) { _ in await verifier.work() }
        return verifier.finished()
    }

    private func work() async {
        let buffer = PageBuffer(bytes: Block.perPage * Block.bytes)
        while nextPage < loaded.state.map.pageEnd {
            let page = nextPage
            nextPage += 1
            if loaded.state.map.page(page).pointee.isUsed { await verify(page, buffer) }
        }
    }

    /// A page's runs of blocks that lie together on the disk, each with one read.
    private func verify(_ page: UInt32, _ buffer: PageBuffer) async {
        var block = 0
        while block < Block.perPage {
            let first = loaded.state.map.lookup(page, block).address
            if first == .lost {
                damaged(page, block)
                found?(held(page, block, 0, true))
            }
            guard first.isData else {
                block += 1
                continue
            }
            var count = 1
            while block + count < Block.perPage,
                loaded.state.map.lookup(page, block + count).address == BlockMap.Address(raw: first.raw + UInt32(count))
            {
                count += 1
            }
            await verify(page, block, count, first, buffer)
            block += count
        }
        progress(report.blocks, loaded.state.map.mappedBlocks)
    }

    private func verify(_ page: UInt32, _ block: Int, _ count: Int, _ first: BlockMap.Address, _ buffer: PageBuffer) async {
        let memory = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<(count * Block.bytes)])
        var isReadable = true
        do throws(Failure) {
            try await operations.read(disk, at: UInt64(first.raw) * UInt64(Block.bytes), into: memory)
        } catch { isReadable = false }
        // One unreadable sector fails the whole read: then each block is tried alone.
        if !isReadable, count > 1 {
            for offset in 0..<count {
                await verify(page, block + offset, 1, BlockMap.Address(raw: first.raw + UInt32(offset)), buffer)
            }
            return
        }
        report.blocks += UInt64(count)
        for offset in 0..<count {
            let bytes = UnsafeRawBufferPointer(start: buffer.base + offset * Block.bytes, count: Block.bytes)
            let check = loaded.state.map.lookup(page, block + offset).check
            let isDamaged = !isReadable || Checksum.of(bytes) != check
            if isDamaged { damaged(page, block + offset) }
            found?(held(page, block + offset, check, isDamaged))
        }
    }

    private func held(_ page: UInt32, _ block: Int, _ check: UInt32, _ isDamaged: Bool) -> Held {
        let key = loaded.state.map.page(page).pointee.key
        return Held(
            volume: loaded.state.objects[key.object].record.name, part: key.part,
            block: key.page * UInt32(Block.perPage) + UInt32(block), check: check, isDamaged: isDamaged)
    }

    private func damaged(_ page: UInt32, _ block: Int) {
        let key = loaded.state.map.page(page).pointee.key
        let record = loaded.state.objects[key.object].record
        let offset =
            UInt64(key.part.chunk) * record.layout.chunkBytes + (UInt64(key.page) * UInt64(Block.perPage) + UInt64(block))
            * UInt64(Block.bytes)
        report.damaged.append(Damage(volume: record.name, offset: offset, bytes: UInt64(Block.bytes)))
    }

    private func finished() -> Report {
        report.damaged.sort { ($0.volume, $0.offset) < ($1.volume, $1.offset) }
        var merged: [Damage] = []
        for damage in report.damaged {
            if let last = merged.last, last.volume == damage.volume, last.offset + last.bytes == damage.offset {
                merged[merged.count - 1].bytes += damage.bytes
            } else {
                merged.append(damage)
            }
        }
        report.damaged = merged
        return report
    }
}
