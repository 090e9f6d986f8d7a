import Base
import Testing

@testable import PartStore

/// Content with the right checks that no store of ours has written: refused, and never believed as far as an overflow or a crash.
@Suite struct HostileDiskTests {
    private let geometry = Geometry(blocks: 4096, halfBlocks: 64)

    private func state(_ number: UInt32 = 1) -> StoreState {
        var state = StoreState()
        let record = ObjectRecord(id: Identifier(high: 1, low: 1), name: "v", bytes: 1 << 20, generation: 5)
        state.objects.insert(ObjectNumber(number), ObjectTable.State(record: record))
        return state
    }

    private func applies(_ record: LogRecord, to state: inout StoreState) -> Bool {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: LogRecord.bytesMax, alignment: 8)
        defer { memory.deallocate() }
        record.encode(to: memory, bytes: LogRecord.headBytes)
        return state.apply(record, memory, number: 1)
    }

    @Test func superblocksWithCountersAtTheirEndAreRefused() {
        let block = UnsafeMutableRawPointer.allocate(byteCount: Block.bytes, alignment: Block.bytes)
        defer { block.deallocate() }
        let sound = Superblock(cluster: .zero, store: Identifier(high: 1, low: 1), geometry: geometry)
        let changes: [(inout Superblock) -> Void] = [
            { $0.revision = .max }, { $0.mountCounter = .max }, { $0.tailRecord = 0 }, { $0.tailRecord = .max },
            { $0.tailOffset = $0.geometry.halfBytes },
        ]
        for change in changes {
            var superblock = sound
            change(&superblock)
            superblock.encode(to: block)
            #expect(throws: Failure.self) { try Superblock.decode(block) }
        }
        sound.encode(to: block)
        #expect(throws: Never.self) { try Superblock.decode(block) }
    }

    @Test func sizesAndGenerationsThatCannotBeAreRefused() {
        var state = state()
        var resize = LogRecord(.resize, ObjectNumber(1))
        for bytes in [0, 100, UInt64.max, Limits.volumeBytesMax + 512] {
            resize.argument = bytes
            #expect(!applies(resize, to: &state))
        }
        var fence = LogRecord(.fence, ObjectNumber(1))
        fence.version.generation = 5
        #expect(!applies(fence, to: &state))
        fence.version.generation = 6
        #expect(applies(fence, to: &state))
    }

    @Test func objectNumbersAtTheirEndTakeNoMemoryAndTheLastIsRefused() {
        let state = state(UInt32.max - 1)
        let isThere = state.objects.contains(ObjectNumber(UInt32.max - 1))
        #expect(isThere)
        #expect(!ObjectNumber(0).isSound && !ObjectNumber(UInt32.max).isSound)
    }

    @Test func runsThatOverflowOrOverlapAreRefused() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: PageImage.bytesMax, alignment: 8)
        defer { memory.deallocate() }
        func decodes(_ change: (UnsafeMutableRawPointer) -> Void) -> Bool {
            var state = state()
            let page = state.map.findOrMake(BlockMap.Key(object: ObjectNumber(1), part: PartAddress(chunk: 0), page: 0))
            _ = state.map.set(page, 3, BlockMap.Address(raw: 1000), 7)
            _ = state.map.set(page, 9, BlockMap.Address(raw: 2000), 8)
            let bytes = PageImage.encode(state, page: page, record: 1, to: memory)
            change(memory)
            var target = self.state()
            var doubts: ContiguousArray<DoubtList.Entry> = []
            return PageImage.decode(memory, available: bytes, into: &target, doubts: &doubts, geometry: geometry) != nil
        }
        #expect(decodes { _ in })
        #expect(!decodes { $0.store(UInt64.max, at: PageImage.headBytes + 8) })
        #expect(!decodes { $0.store(UInt64(4096), at: PageImage.headBytes + 8) })
        #expect(!decodes { $0.store(UInt16(3), at: PageImage.headBytes + PageImage.runBytes) })
        #expect(!decodes { $0.store(UInt32.max, at: 24) })
    }

    @Test func theLastBlockOf16TiBIsFreedAsAnyOther() {
        var queue = FreeQueue()
        queue.push(BlockMap.Address(raw: UInt32.max), record: 1)
        queue.push(BlockMap.Address(raw: 1000), record: 1)
        #expect(queue.blocks == 2)
    }

    @Test func runsOfZeroBlocksAreNeverMoreThanCounted() {
        var map = BlockMap()
        let page = map.findOrMake(BlockMap.Key(object: ObjectNumber(1), part: PartAddress(chunk: 0), page: 0))
        var draws: UInt64 = 1
        for _ in 0..<20_000 {
            draws = draws &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let block = Int(draws >> 40 % 1024)
            _ = map.set(page, block, BlockMap.Address(raw: [0, 1, 1, 1, 2, 1000][Int(draws >> 33 % 6)]), 0)
        }
        var runs: UInt64 = 0
        var previous = BlockMap.Address.absent
        for block in 0..<Block.perPage {
            let address = map.lookup(page, block).address
            if address != previous, address == .zero || address == .lost { runs += 1 }
            previous = address
        }
        #expect(runs > 100 && runs <= map.emptyRunsMax)
        for block in 0..<Block.perPage { _ = map.set(page, block, .zero, 0) }
        #expect(map.emptyRunsMax == UInt64(BlockMap.leavesPerPage))
    }
}
