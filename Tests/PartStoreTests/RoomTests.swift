import Base
import Testing

@testable import PartStore

@Suite struct RoomTests {
    /// The mark, which gives room back, waits for such a write: behind others that wait for room it would wait for ever.
    @Test func aWriteThatMakesMembersEqualHasRoomOfItsOwn() {
        let bench = Bench()
        bench.format()
        var sequence: UInt64 = 0
        func zero(isRewrite: Bool = false, mark: UInt64 = 0) -> Status? {
            sequence += 1
            var target = WriteTarget(
                object: bench.object, part: PartAddress(chunk: 0), firstBlock: 0, blockCount: 128,
                version: Version(generation: 1, sequence: sequence), mark: mark)
            target.isRewrite = isRewrite
            return bench.request { $0.zero(tag: $1, target) }
        }
        var last = zero()
        while last == .ok, sequence < 1000 { last = zero() }
        #expect(last == .noSpace)
        #expect(zero(isRewrite: true) == .ok)
        #expect(zero() == .noSpace)
        #expect(zero(mark: sequence) == .ok)
    }
}
