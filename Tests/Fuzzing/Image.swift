import Base

/// The bytes of a small disk, and what of them the fuzzer may change.
final class Image {
    static let bytes = 4 << 20
    /// Superblocks and log area.
    static let metadataBlocks = 16 + 2 * 128
    let memory: UnsafeMutableRawBufferPointer

    init() {
        memory = .allocate(byteCount: Image.bytes, alignment: Block.bytes)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
    }

    convenience init(copy other: Image) {
        self.init()
        set(to: other)
    }

    func set(to other: Image) { memory.copyMemory(from: UnsafeRawBufferPointer(other.memory)) }

    deinit { memory.deallocate() }

    var base: UnsafeMutableRawPointer {
        guard let base = memory.baseAddress else { unreachable("an image has bytes") }
        return base
    }

    func block(_ index: Int) -> [UInt8] { Array(memory[index * Block.bytes..<(index + 1) * Block.bytes]) }

    /// Blocks of superblocks and log area with something in them.
    var writtenBlocks: [Int] { (0..<Image.metadataBlocks).filter { block in !self.block(block).allSatisfy { $0 == 0 } } }
}

/// Where an image has a batch of the log, and its check. The offsets are those of docs/format/disk.md.
struct BatchPlace {
    static let magic: UInt32 = 0x424c_5352
    static let segmentMagic: UInt32 = 0x4753_5352
    var offset: Int
    var check: UInt32
    var firstRecord: UInt64

    /// All of an image, in the order of their records.
    static func all(in image: Image, blocks: [Int]) -> [BatchPlace] {
        var places: [BatchPlace] = []
        for block in blocks {
            for offset in stride(from: block * Block.bytes, to: (block + 1) * Block.bytes, by: 8) {
                guard image.base.load(UInt32.self, at: offset) == magic, let check = check(image, offset) else { continue }
                places.append(BatchPlace(offset: offset, check: check, firstRecord: image.base.load(UInt64.self, at: offset + 8)))
            }
        }
        return places.sorted { ($0.firstRecord, $0.offset) < ($1.firstRecord, $1.offset) }
    }

    /// Of bytes 8 to the end, for a batch or a segment; nil when its length makes no sense.
    static func check(_ image: Image, _ offset: Int) -> UInt32? {
        let bytes = Int(image.base.load(UInt32.self, at: offset + 32))
        guard bytes >= 64, offset + bytes <= Image.bytes else { return nil }
        return Checksum.of(UnsafeRawBufferPointer(start: image.base + offset + 8, count: bytes - 8))
    }
}
