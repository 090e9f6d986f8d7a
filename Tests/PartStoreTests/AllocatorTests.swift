import Simulation
import Testing

@testable import PartStore

@Suite struct AllocatorTests {
    @Test func spaceIsHandedOutOnceAndComesBack() {
        var allocator = Allocator(first: 100, end: 1000)
        let extents = UnsafeMutablePointer<Allocator.Extent>.allocate(capacity: 900)
        defer { extents.deallocate() }
        var seen = Set<UInt32>()
        var random = Random(seed: 1)
        while allocator.freeBlocks > 0 {
            let count = min(Int(allocator.freeBlocks), 1 + random.below(40))
            let used = allocator.allocate(count, into: extents)
            var total = 0
            for extent in UnsafeBufferPointer(start: extents, count: used) {
                for block in extent.first..<extent.first + extent.count {
                    #expect(seen.insert(block).inserted && block >= 100 && block < 1000)
                }
                total += Int(extent.count)
            }
            #expect(total == count)
        }
        #expect(seen.count == 900)
        for block in seen { allocator.release(block) }
        #expect(allocator.freeBlocks == 900)
        #expect(allocator.allocate(256, into: extents) == 1)
    }
}
