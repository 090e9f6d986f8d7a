import Base
import PartStore
import Simulation

private struct Seed {
    let image: Image
    let media: Media
    let blocks: [Int]
    let batches: [BatchPlace]

    init(_ image: Image) {
        self.image = image
        media = mediaOf(image)
        blocks = image.writtenBlocks
        batches = BatchPlace.all(in: image, blocks: blocks)
        invariant(load(Image(copy: image), media.clone(), .verify) != nil, "a seed does not load")
    }
}

nonisolated(unsafe) private let scratch = Image()
nonisolated(unsafe) private let seeds = makeSeeds().map { Seed($0) }

/// A disk whose metadata somebody has changed, and then put the right checks on: loading gives a store that works, or a typed error.
///
/// An input is a seed and changes of it: place (2 bytes, in words of 8), length (1), bytes.
@_cdecl("rs_fuzz_store")
public func fuzzStore(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    let input = UnsafeRawBufferPointer(start: bytes, count: count)
    let seed = seeds[Int(input.first ?? 0) % seeds.count]
    // One for all: fresh memory would cost more than everything else.
    let image = scratch
    image.set(to: seed.image)
    var position = 1
    while position + 3 < count {
        let word = Int(input[position]) | Int(input[position + 1]) << 8
        let length = min(Int(input[position + 2]) % 24 + 1, count - position - 3)
        let block = seed.blocks[word / 512 % seed.blocks.count]
        let place = block * Block.bytes + word % 512 * 8
        for offset in 0..<min(length, (block + 1) * Block.bytes - place) { image.memory[place + offset] = input[position + 3 + offset] }
        position += 3 + length
    }
    seal(image, seed)
    let media = seed.media.clone()
    copy(image, to: media, blocks: seed.blocks)
    let use = Use(rawValue: count % 16) ?? .load
    if let loaded = load(image, media, use == .initialize ? .load : use) { exercise(ImageStore(loaded.take(), image)) }
    return 0
}

/// Checks of superblocks, segments and batches are made right, and the chain of the batches.
private func seal(_ image: Image, _ seed: Seed) {
    for copy in 0..<2 {
        let start = image.base + copy * Block.bytes
        start.store(Checksum.of(UnsafeRawBufferPointer(start: start + 16, count: Block.bytes - 16)), at: 12)
    }
    for block in seed.blocks where image.base.load(UInt32.self, at: block * Block.bytes) == BatchPlace.segmentMagic {
        if let check = BatchPlace.check(image, block * Block.bytes) { image.base.store(check, at: block * Block.bytes + 4) }
    }
    var changed: [UInt32: UInt32] = [:]
    for batch in seed.batches {
        let previous = image.base.load(UInt32.self, at: batch.offset + 40)
        if let now = changed[previous] { image.base.store(now, at: batch.offset + 40) }
        guard let check = BatchPlace.check(image, batch.offset) else { continue }
        image.base.store(check, at: batch.offset + 4)
        if check != batch.check { changed[batch.check] = check }
    }
}

/// A store that was let in must serve: requests end, and nothing that must hold is broken.
private func exercise(_ disk: ImageStore) {
    disk.settle()
    for object in disk.store.objects(after: "", count: 3) {
        let generation = disk.store.generation(of: object)
        let next = generation == .max ? generation : generation + 1
        disk.read(object, 0, 16)
        _ = disk.request { $0.fence(tag: $1, object, generation: next, map: 1, settles: true) }
        disk.settle()
        for step in 1...40 as ClosedRange<UInt64> {
            disk.write(object, UInt32(step * 3 % 100), 2, Version(generation: next, sequence: step), mark: step - 1)
            if step % 2 == 0 { disk.settle(sleeps: 0) }
        }
        _ = disk.request { $0.flush(tag: $1, object, generation: next, mark: 40) }
        disk.settle()
        _ = disk.request { $0.resize(tag: $1, object, bytes: 64 << 10) }
        disk.settle()
        disk.read(object, 0, 16)
        _ = disk.request { $0.remove(tag: $1, object) }
        disk.settle()
    }
    _ = disk.request { $0.create(tag: $1, ObjectRecord(id: Identifier(high: 2, low: 2), name: "new", bytes: 1 << 20)) }
    disk.settle()
}
