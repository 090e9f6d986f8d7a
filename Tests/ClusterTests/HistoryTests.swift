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

    /// A block on the only whole copy is damaged: of that one, what was not flushed may be gone, and of no other.
    @Test func damageOnTheOnlyWholeCopyTakesBackWhatWasNotFlushed() {
        let history = History(name: "v", bytesMax: 1 << 20)
        history.opened(by: 1)
        func write(flushed isFlushed: Bool) -> UInt32 {
            let write = history.beginWrite(client: 1, firstSector: 0, sectors: 16, isZero: false, isDurable: false)
            history.endWrite(write, acknowledged: true)
            if isFlushed { history.endFlush(history.beginFlush(client: 1)) }
            return write
        }
        let old = write(flushed: true)
        _ = write(flushed: false)
        let memory = Memory(bytes: Block.sectorBytes)
        func read(_ sector: Int, _ write: UInt32) -> Int {
            let known = history.problems.count
            if write == 0 { memory.bytes.initializeMemory(as: UInt8.self, repeating: 0) }
            if write > 0 { SectorPattern.fill(memory.base, firstSector: sector, sectors: 1, write: write) }
            history.beginRead(1, client: 1, firstSector: sector, sectors: 1)
            history.endRead(1, memory.base)
            return history.problems.count - known
        }
        #expect(read(3, old) == 1)
        history.damaged(firstSector: 8, sectors: 8)
        #expect(read(7, old) == 1 && read(8, old) == 0)
        #expect(read(9, 0) == 1, "what was flushed stays")
    }

    /// Client 1 is paused while the answer to its read is on the way; meanwhile the power takes what it has read, and client 2 finds it
    /// gone.
    @Test func whatWasReadBeforeALossMayBeHeardAfterIt() {
        func problems(stale isStale: Bool) -> Int {
            let history = History(name: "v", bytesMax: 1 << 20)
            history.opened(by: 1)
            let write = history.beginWrite(client: 1, firstSector: 3, sectors: 1, isZero: false, isDurable: false)
            history.endWrite(write, acknowledged: true)
            history.beginRead(1, client: 1, firstSector: 3, sectors: 1)
            history.losePower()
            history.opened(by: 2)
            let memory = Memory(bytes: Block.sectorBytes)
            memory.bytes.initializeMemory(as: UInt8.self, repeating: 0)
            history.beginRead(2, client: 2, firstSector: 3, sectors: 1)
            history.endRead(2, memory.base)
            SectorPattern.fill(memory.base, firstSector: 3, sectors: 1, write: write)
            if !isStale { history.beginRead(3, client: 2, firstSector: 3, sectors: 1) }
            history.endRead(isStale ? 1 : 3, memory.base)
            return history.problems.count
        }
        #expect(problems(stale: true) == 0)
        #expect(problems(stale: false) == 1, "it does not come back")
    }

    /// Client 1 has written the sector, and client 2 has opened the volume and written it again; then client 1 flushes, and the power goes.
    /// How many problems there are when the sector reads as `write` says.
    private func problems(lingering: Bool, flushes: Bool, reads write: (_ first: UInt32, _ second: UInt32) -> UInt32) -> Int {
        let history = History(name: "v", bytesMax: 1 << 20)
        history.writersMayLinger = lingering
        history.opened(by: 1)
        let first = history.beginWrite(client: 1, firstSector: 3, sectors: 1, isZero: false, isDurable: false)
        history.endWrite(first, acknowledged: true)
        history.opened(by: 2)
        let second = history.beginWrite(client: 2, firstSector: 3, sectors: 1, isZero: false, isDurable: false)
        history.endWrite(second, acknowledged: true)
        if flushes { history.endFlush(history.beginFlush(client: 1)) }
        history.losePower()
        let memory = Memory(bytes: Block.sectorBytes)
        memory.bytes.initializeMemory(as: UInt8.self, repeating: 0)
        let found = write(first, second)
        if found > 0 { SectorPattern.fill(memory.base, firstSector: 3, sectors: 1, write: found) }
        history.beginRead(1, client: 2, firstSector: 3, sectors: 1)
        history.endRead(1, memory.base)
        return history.problems.count
    }

    @Test func aFlushOfAWriterThatMayNotLingerMustFail() {
        #expect(problems(lingering: false, flushes: false) { _, second in second } == 0)
        #expect(problems(lingering: false, flushes: true) { _, second in second } == 1)
    }

    @Test func aFlushOfAWriterThatLingersVouchesForWhatWasAcknowledgedToIt() {
        #expect(problems(lingering: true, flushes: true) { _, second in second } == 0)
        #expect(problems(lingering: true, flushes: true) { first, _ in first } == 0, "what another one wrote it does not speak of")
        #expect(problems(lingering: true, flushes: false) { _, _ in 0 } == 0)
        #expect(problems(lingering: true, flushes: true) { _, _ in 0 } == 1, "it has said that its own is safe")
    }
}
