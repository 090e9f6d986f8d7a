import Base
import Testing

@testable import Cluster

/// That the history of a volume, which judges all others, says no.
@Suite struct HistoryTests {
    /// Two writes to a sector: the first is flushed, then both may be read by whoever opens now; the zeros before them may not.
    @Test func aReaderMustSeeWhatWasFlushedBeforeItOpened() {
        let history = History(name: "v", bytesMax: 1 << 20)
        history.opened(by: 1)
        let before = history.stableNow()
        let first = history.beginWrite(client: 1, firstSector: 3, sectors: 2, isZero: false, isDurable: false)
        history.endWrite(first, acknowledged: true)
        history.endFlush(history.beginFlush(client: 1))
        let second = history.beginWrite(client: 1, firstSector: 3, sectors: 1, isZero: false, isDurable: false)
        let since = history.stableNow()
        let memory = Memory(bytes: Block.sectorBytes)
        func read(_ sector: Int, since stable: [UInt32]) -> Int {
            let known = history.problems.count
            history.check(reader: 1, memory.base, firstSector: sector, sectors: 1, since: stable)
            return history.problems.count - known
        }
        memory.bytes.initializeMemory(as: UInt8.self, repeating: 0)
        #expect(read(3, since: before) == 0 && read(3, since: since) == 1)
        for write in [first, second] {
            SectorPattern.fill(memory.base, firstSector: 3, sectors: 1, write: write)
            #expect(read(3, since: since) == 0)
        }
        SectorPattern.fill(memory.base, firstSector: 4, sectors: 1, write: second)
        #expect(read(4, since: since) == 1, "that write was never there")
        memory.bytes[100] ^= 1
        #expect(read(4, since: before) == 1, "garbage")
    }
}
