import Base
import Environment
import PartStore
import Simulation

/// A store on an image, driven a request at a time.
final class ImageStore {
    var store: PartStore
    let image: Image
    private var now = Instant(nanoseconds: 1)
    private var ended: [UInt32: Status] = [:]
    private var nextTag: UInt32 = 1
    /// Before each disk effect.
    var onWrite: (UInt64) -> Void = { _ in }
    private(set) var hasFailed = false
    private let memory = UnsafeMutableRawPointer.allocate(byteCount: 64 * Block.bytes, alignment: Block.bytes)
    private let checks = UnsafeMutableRawPointer.allocate(byteCount: 64 * 4, alignment: 8)

    init(_ store: consuming PartStore, _ image: Image) {
        self.store = store
        self.image = image
        for block in 0..<64 {
            (memory + block * Block.bytes).initializeMemory(as: UInt8.self, repeating: UInt8(block + 1), count: Block.bytes)
            checks.store(Checksum.of(UnsafeRawBufferPointer(start: memory + block * Block.bytes, count: Block.bytes)), at: block * 4)
        }
    }

    deinit {
        memory.deallocate()
        checks.deallocate()
    }

    /// Runs until nothing is under way; time passes where only time helps, at most `sleeps` times.
    func settle(sleeps: Int = 3) {
        var sleeps = sleeps
        while true {
            store.endBatch(now: now)
            let effects = store.effects
            for effect in effects { perform(effect) }
            let vectorsUsed = !effects.isEmpty
            store.clearEffects()
            for token in done { store.diskDone(token, result: 0) }
            let isIdle = done.isEmpty && !vectorsUsed
            done.removeAll()
            store.checkInvariants()
            guard isIdle else { continue }
            if sleeps == 0 || store.wakeAt == .never { return }
            sleeps -= 1
            now = max(now, store.wakeAt)
        }
    }

    private var done: [UInt32] = []

    private func perform(_ effect: StoreEffect) {
        switch effect {
        case .diskRead(let token, let offset, let target, let bytes):
            target.copyMemory(from: image.base + Int(offset), byteCount: bytes)
            done.append(token)
        case .diskWrite(let token, let offset, let first, let count):
            onWrite(offset)
            var position = Int(offset)
            for vector in UnsafeBufferPointer(start: store.vectors + first, count: count) {
                invariant(position + vector.count <= Image.bytes, "a write beyond the disk")
                (image.base + position).copyMemory(from: vector.base, byteCount: vector.count)
                position += vector.count
            }
            done.append(token)
        case .diskFlush(let token): done.append(token)
        case .finished(let tag, let status): ended[tag] = status
        case .damaged: break
        case .failed: hasFailed = true
        }
    }

    /// Does not wait.
    func request(_ body: (inout PartStore, UInt32) -> Status) -> Status {
        nextTag += 1
        return body(&store, nextTag)
    }

    func write(_ object: ObjectNumber, _ block: UInt32, _ count: UInt32, _ version: Version, mark: UInt64) {
        _ = request {
            $0.write(
                tag: $1,
                WriteTarget(
                    object: object, part: PartAddress(chunk: 0), firstBlock: block, blockCount: count, version: version, mark: mark),
                memory: memory, checks: UnsafeRawPointer(checks))
        }
    }

    func zero(_ object: ObjectNumber, _ block: UInt32, _ count: UInt32, _ version: Version, mark: UInt64) {
        _ = request {
            $0.zero(
                tag: $1,
                WriteTarget(object: object, part: PartAddress(chunk: 0), firstBlock: block, blockCount: count, version: version, mark: mark)
            )
        }
    }

    func fill(_ object: ObjectNumber, _ block: UInt32, _ count: UInt32, _ version: Version, number: UInt64, inDoubt: Bool) {
        _ = request {
            var target = WriteTarget(
                object: object, part: PartAddress(chunk: 0), firstBlock: block, blockCount: count, version: version)
            target.fill = number
            target.isInDoubt = inDoubt
            return $0.write(tag: $1, target, memory: memory, checks: UnsafeRawPointer(checks))
        }
    }

    func read(_ object: ObjectNumber, _ block: UInt32, _ count: UInt32) {
        let target = UnsafeMutableRawPointer.allocate(byteCount: Int(count) * (Block.bytes + 4), alignment: 8)
        _ = request {
            $0.read(
                tag: $1, object, PartAddress(chunk: 0), firstBlock: block, blockCount: count, memory: target,
                checks: target + Int(count) * Block.bytes)
        }
        settle()
        target.deallocate()
    }
}

/// Images of sound stores, as the part store has written them: without a snapshot, with one, and cut off while one is written.
func makeSeeds() -> [Image] {
    var seeds: [Image] = []
    let image = Image()
    guard let empty = load(image, mediaOf(image), .initialize) else { unreachable("an empty disk takes a store") }
    let disk = ImageStore(empty.take(), image)
    var cuts = 0
    disk.onWrite = { offset in
        // A superblock after the first snapshots: the log has moved, and the root does not say so yet.
        if offset < 2 * UInt64(Block.bytes), cuts < 2 {
            cuts += 1
            seeds.append(Image(copy: image))
        }
    }
    for (name, bytes) in [("a", UInt64(4 << 20)), ("b/c", 1 << 20), ("gone", 1 << 20)] {
        _ = disk.request { $0.create(tag: $1, ObjectRecord(id: Identifier(high: 1, low: 1), name: name, bytes: bytes)) }
        disk.settle()
    }
    let a = ObjectNumber(1)
    let b = ObjectNumber(2)
    _ = disk.request { $0.fence(tag: $1, a, generation: 1, map: 1, settles: false) }
    _ = disk.request { $0.fence(tag: $1, b, generation: 1, map: 1, settles: true) }
    disk.settle()
    for step in 1...4000 as ClosedRange<UInt64> {
        let version = Version(generation: step > 3000 ? 2 : 1, sequence: step)
        if step == 3001 { _ = disk.request { $0.fence(tag: $1, a, generation: 2, map: 2, settles: false) } }
        switch step % 5 {
        case 0: disk.zero(a, UInt32(step % 900), 3, version, mark: step - 5)
        case 1: disk.write(a, UInt32(step * 7 % 900), UInt32(step % 4 + 1), version, mark: step > 20 ? step - 20 : 0)
        case 2: disk.write(b, UInt32(step % 200), 1, Version(generation: 1, sequence: step), mark: step - 1)
        default: disk.write(a, UInt32(step % 64), 1, version, mark: 0)
        }
        if step % 3 != 0 { disk.settle(sleeps: 0) }
        if step == 40 { _ = disk.request { $0.remove(tag: $1, ObjectNumber(3)) } }
        if step % 700 == 60 {
            _ = disk.request { $0.stamp(tag: $1, a, map: 3 + step, volume: [UInt8](repeating: 9, count: Int(step % 300))) }
        }
        if step % 1000 == 130 { _ = disk.request { $0.beginFill(tag: $1, b, number: step, generation: 1, map: step) } }
        if step % 1000 > 130, step % 7 == 0 {
            let version = Version(generation: 1, sequence: step)
            disk.fill(b, UInt32(step % 200), 3, version, number: step / 1000 * 1000 + 130, inDoubt: step % 2 == 0)
        }
        if step == 3990 { _ = disk.request { $0.endFill(tag: $1, b, number: 3130) } }
        if step == 90 { _ = disk.request { $0.resize(tag: $1, b, bytes: 512 << 10) } }
        if step == 12 || step == 150 || step == 4000 {
            disk.settle()
            seeds.append(Image(copy: image))
        }
    }
    invariant(cuts > 0 && !disk.hasFailed, "no snapshot was taken, the seeds do not hold one: \(disk.store.statistics)")
    return seeds
}

/// The store of an image, or nil with the reason printed where a test asks for it.
final class Loaded {
    private var store: PartStore?
    fileprivate(set) var failure: Failure?
    fileprivate(set) var hasEnded = false

    fileprivate func put(_ store: consuming PartStore) { self.store = .some(store) }

    func take() -> PartStore {
        guard let store = store.take() else { unreachable("the store is taken once: \(failure?.detail ?? "none was loaded")") }
        return store
    }
}

/// What is done with an image. Loading comes with the rest only now and then: the others take longer, and load the same way.
enum Use: Int {
    case initialize, verify, describe, load
}

func mediaOf(_ image: Image) -> Media {
    let media = Media(bytes: UInt64(Image.bytes), isVolatile: true)
    copy(image, to: media, blocks: Array(0..<Image.bytes / Block.bytes))
    return media
}

func copy(_ image: Image, to media: Media, blocks: [Int]) {
    for block in blocks { media.write(UInt64(block * Block.bytes), image.block(block)) }
}

/// `media` holds the image; what loading wrote is in the image afterwards.
func load(_ image: Image, _ media: Media, _ use: Use) -> Loaded? {
    let universe = Universe(seed: 1, timing: .constant)
    let host = universe.addHost("ost")
    let disk = host.addDisk("/disk", media: media)
    let world = host.start("ost")
    let loaded = Loaded()
    world.spawn {
        do throws(Failure) {
            let operations = Operations(world)
            let disk = try world.openDisk("/disk", .readWrite)
            switch use {
            case .initialize: try await StoreFile.initialize(operations, disk: disk, path: "/disk", cluster: Identifier(high: 1, low: 1))
            case .verify: _ = try await StoreVerifier.verify(operations, disk: disk, path: "/disk")
            case .describe:
                _ = try await StoreInspector.info(operations, disk: disk, path: "/disk")
                try await StoreInspector.describeLog(operations, disk: disk, path: "/disk") { _ in }
            case .load: break
            }
            var options = PartStore.Options()
            options.requestsMax = 64
            loaded.put(try await StoreFile.load(operations, disk: disk, path: "/disk", options: options))
        } catch { loaded.failure = error }
        loaded.hasEnded = true
    }
    let ends = universe.run(while: { !loaded.hasEnded }, limit: .seconds(600))
    invariant(ends, "loading a store does not end")
    for block in 0..<Image.metadataBlocks where loaded.failure == nil {
        (image.base + block * Block.bytes).copyMemory(
            from: disk.media.contents(UInt64(block * Block.bytes), Block.bytes), byteCount: Block.bytes)
    }
    universe.end()
    return loaded.failure == nil ? loaded : nil
}
