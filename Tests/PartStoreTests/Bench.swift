import Base
import Environment
import Simulation
import Testing

@testable import PartStore

/// A store on one simulated disk, driven a request at a time.
final class Bench {
    let universe = Universe(seed: 1, timing: .constant)
    let host: SimHost
    let disk: SimDisk
    var shell: StoreShell
    private var statuses: [UInt32: Status] = [:]
    private var nextTag: UInt32 = 1
    var object = ObjectNumber(0)
    /// The one that `write` and `read` address.
    var chunk: UInt32 = 0
    private var sequence: UInt64 = 0
    private(set) var damagedBlocks: [UInt32] = []

    var options = PartStore.Options()

    init(bytes: UInt64 = 16 << 20, isVolatile: Bool = true) {
        host = universe.addHost("ost")
        disk = host.addDisk("/disk", bytes: bytes, isVolatile: isVolatile)
        shell = StoreShell(host.start("ost"), path: "/disk", options: options)
    }

    /// Runs asynchronous code to its end; the failure, if it threw one.
    @discardableResult
    func run(_ body: @escaping () async throws -> Void) -> Failure? {
        var outcome: Result<Void, any Error>?
        shell.world.spawn {
            do {
                try await body()
                outcome = .success(())
            } catch { outcome = .failure(error) }
        }
        _ = universe.run(while: { outcome == nil }, limit: .seconds(60))
        guard case .failure(let failure) = outcome else { return nil }
        return failure as? Failure
    }

    func format() {
        let failure = run { [self] in try await shell.format() }
        #expect(failure == nil)
        #expect(mount() == nil)
        #expect(request { $0.create(tag: $1, ObjectRecord(id: Identifier(high: 1, low: 1), name: "v", bytes: 8 << 20)) } == .ok)
        object = shell.use { $0.find(name: "v") } ?? ObjectNumber(0)
        #expect(request { $0.fence(tag: $1, self.object, generation: 1, map: 0, settles: true) } == .ok)
    }

    func mount() -> Failure? {
        shell.onFinished = { [unowned self] in statuses[$0] = $1 }
        shell.onDamaged = { [unowned self] in damagedBlocks.append($0) }
        return run { [self] in try await shell.mount() }
    }

    func restart() -> Failure? {
        (shell.world as? SimWorld)?.kill()
        universe.run(for: .milliseconds(10))
        shell = StoreShell(host.start("ost"), path: "/disk", options: options)
        return mount()
    }

    func request(_ body: (inout PartStore, UInt32) -> Status) -> Status? {
        let tag = nextTag
        nextTag += 1
        let status = shell.use { body(&$0, tag) }
        guard status == .ok else { return status }
        _ = universe.run(while: { statuses[tag] == nil }, limit: .seconds(60))
        return statuses[tag]
    }

    /// Given to the store together, in this order; how they ended.
    func batch(_ bodies: [(inout PartStore, UInt32) -> Status]) -> [Status?] {
        let tags = bodies.map { body -> (UInt32, Status) in
            let tag = nextTag
            nextTag += 1
            return (tag, shell.use { body(&$0, tag) })
        }
        _ = universe.run(while: { tags.contains { $0.1 == .ok && statuses[$0.0] == nil } }, limit: .seconds(60))
        return tags.map { $0.1 == .ok ? statuses[$0.0] : $0.1 }
    }

    func write(
        _ block: UInt32, _ value: UInt64, count: Int = 1, wrongCheck: Bool = false, isDurable: Bool = true, generation: UInt64 = 1,
        sequence chosen: UInt64? = nil, mark: UInt64? = nil
    ) -> Status? {
        sequence = chosen ?? sequence + 1
        let data = UnsafeMutableRawBufferPointer.allocate(byteCount: count * Block.bytes, alignment: Block.bytes)
        defer { data.deallocate() }
        data.initializeMemory(as: UInt64.self, repeating: value)
        var checks = (0..<count).map { Checksum.of(UnsafeRawBufferPointer(rebasing: data[($0 * Block.bytes)..<(($0 + 1) * Block.bytes)])) }
        if wrongCheck { checks[0] ^= 1 }
        return checks.withUnsafeBytes { checks in
            request {
                let target = WriteTarget(
                    object: object, part: PartAddress(chunk: chunk), firstBlock: block, blockCount: UInt32(count),
                    version: Version(generation: generation, sequence: sequence), mark: mark ?? sequence - 1, isDurable: isDurable)
                return $0.write(tag: $1, target, memory: data.baseAddress!, checks: checks.baseAddress!)
            }
        }
    }

    func zero(_ chunk: UInt32, _ block: UInt32, count: UInt32 = 1, isLost: Bool = false, isDurable: Bool = false) -> Status? {
        sequence += 1
        return request {
            var target = WriteTarget(
                object: object, part: PartAddress(chunk: chunk), firstBlock: block, blockCount: count,
                version: Version(generation: 1, sequence: sequence), mark: $0.durableSequence(of: object), isDurable: isDurable)
            target.isLost = isLost
            return $0.zero(tag: $1, target)
        }
    }

    func read(_ block: UInt32) -> (Status?, UInt64) {
        let data = UnsafeMutableRawBufferPointer.allocate(byteCount: Block.bytes + 8, alignment: Block.bytes)
        defer { data.deallocate() }
        let status = request {
            $0.read(
                tag: $1, object, PartAddress(chunk: chunk), firstBlock: block, blockCount: 1, memory: data.baseAddress!,
                checks: data.baseAddress! + Block.bytes)
        }
        return (status, data.load(as: UInt64.self))
    }

    /// Where this content stands on the disk: every copy.
    func find(_ value: UInt64) -> [UInt64] {
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Block.bytes, alignment: 8)
        defer { block.deallocate() }
        return stride(from: UInt64(0), to: disk.media.bytes, by: Block.bytes).filter {
            disk.media.read($0, into: block.baseAddress!, Block.bytes)
            return block.load(as: UInt64.self) == value && block.load(fromByteOffset: 2048, as: UInt64.self) == value
        }
    }
}
