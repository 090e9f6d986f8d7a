import Base
import Simulation
import Testing

@testable import PartStore

@Suite struct DoubtListTests {
    private func entry(_ object: UInt32, _ sequence: UInt64, block: Int, isOrphan: Bool = false) -> DoubtList.Entry {
        DoubtList.Entry(
            page: 1 + UInt32(block / Block.perPage), block: block % Block.perPage, isOrphan: isOrphan, object: object,
            version: Version(generation: 1, sequence: sequence), touched: 1, oldAddress: .absent, oldCheck: 0)
    }

    private func sequences(_ list: borrowing DoubtList, _ ends: DoubtList.Ends) -> [UInt64] {
        var found: [UInt64] = []
        var index = ends.first
        while index != noIndex {
            found.append(list.entry(index).version.sequence)
            index = list.next(after: index)
        }
        return found
    }

    @Test func listsAreInTheOrderOfVersionsHoweverWritesCome() {
        for seed in 0..<50 as Range<UInt64> {
            var random = Random(seed: seed)
            var list = DoubtList()
            var ends = [DoubtList.Ends(), DoubtList.Ends()]
            var model: [[UInt64]] = [[], []]
            for _ in 0..<200 {
                let object = Int(random.next() % 2)
                let sequence = 1 + random.next() % 40
                switch random.next() % 4 {
                case 0:
                    let removed = list.popFirst(from: &ends[object])
                    #expect(removed?.version.sequence == model[object].first)
                    if !model[object].isEmpty { model[object].removeFirst() }
                case 1:
                    var count = 0
                    list.removeAll(from: &ends[object], where: { $0.version.sequence == sequence }, { _ in count += 1 })
                    #expect(count == model[object].count { $0 == sequence })
                    model[object].removeAll { $0 == sequence }
                case _:
                    let blocks = 1 + random.next() % 4
                    for block in 0..<blocks {
                        list.add(entry(UInt32(object + 1), sequence, block: Int(block)), to: &ends[object])
                        model[object].append(sequence)
                    }
                    model[object].sort()
                }
                #expect(sequences(list, ends[object]) == model[object], "seed \(seed)")
            }
        }
    }

    /// Large discards, the last one first: minutes of looking, were it done for each block.
    @Test(.timeLimit(.minutes(1))) func aWriteLooksForItsPlaceOnce() {
        var list = DoubtList()
        var ends = DoubtList.Ends()
        let writes = UInt64(Limits.requestsPerConnectionMax / 2)
        for sequence in (1...writes).reversed() {
            for block in 0..<Limits.zeroBlocksMax { list.add(entry(1, sequence, block: block), to: &ends) }
        }
        #expect(list.count == Int(writes) * Limits.zeroBlocksMax)
        #expect(list.entry(ends.first).version.sequence == 1)
        #expect(list.entry(ends.last).version.sequence == writes)
    }
}
