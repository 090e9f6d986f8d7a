import Base

/// What a volume may hold: for each sector the writes to it in the order of their submission, over all clients (P1–P4).
///
/// - The *floor* of a sector is the newest write that is acknowledged or was observed by a read. A read returns the floor at its submission
///   or something newer that was submitted before its end, and never what was not written there.
/// - A write that ended with an error stays possible, at its place in the order, until a read that began afterwards has returned something
///   older: then it has not happened, and never will.
/// - A flush that ends well makes what was acknowledged when it was submitted stable. A loss of power, and nothing else, takes the floors
///   back to what is stable. The next flush of the same client must say so; one that ends well instead vouches for what was lost.
/// - Once a client has opened the volume, what another one submits never happens (P2). With `writersMayLinger` one that cannot know of it
///   may still read what it would read if it were alone, and flush: its flush vouches for what was acknowledged to itself, and no more.
///
/// Numbers of writes grow with their submission, so their order is that of the numbers. Number 0 is the zeros of a new volume.
final class History {
    private struct Write {
        var firstSector: Int
        var sectors: Int
        var isZero: Bool
        var isDurable: Bool
        var client: Int
        /// When its outcome was told, or became definite without anybody to tell; `.max` while it is under way.
        var endedAt = UInt64.max
        /// It was under way at a loss of power: an acknowledgement may be older than that.
        var crossedLoss = false
        /// Submitted by a client that is no longer the writer.
        var isForbidden = false
    }

    struct Reading {
        fileprivate var firstSector: Int
        fileprivate var floors: [UInt32]
        fileprivate var beganAt: UInt64
        fileprivate var crossedLoss = false
        fileprivate var isForbidden: Bool
        /// Of a client that was the writer when it began: it may return what has been written over and settled since.
        fileprivate var isStale = false
    }

    final class Flushing {
        fileprivate let client: Int
        fileprivate var acknowledged: [UInt32]
        fileprivate let isForbidden: Bool

        fileprivate init(client: Int, _ acknowledged: [UInt32], isForbidden: Bool) {
            self.client = client
            self.acknowledged = acknowledged
            self.isForbidden = isForbidden
        }
    }

    let name: String
    private(set) var problems: [String] = []
    private(set) var losses = 0
    /// A client that cannot be reached may read and flush for a while after another one has opened the volume.
    var writersMayLinger = false
    /// Clients that ask for the volume now, and whether another one than the writer has asked since that got it.
    private var asking: Set<Int> = []
    private var isContested = false
    private var lossesWhenOpened = 0
    /// What happens to this sector is told to `onWatched`.
    var watched: Int?
    var onWatched: (String) -> Void = { _ in }
    private var writes: [Write]
    /// Writes that a sector may hold, ascending, from what is stable on.
    private var possible: [[UInt32]]
    private var floor: [UInt32]
    private var stable: [UInt32]
    /// The newest acknowledged, lost ones included until a flush has told.
    private var acknowledged: [UInt32]
    private var readings: [UInt: Reading] = [:]
    private var staleReadings = 0
    private var flushings: [Flushing] = []
    /// Of clients that were the writer: what was acknowledged to each, and may be at risk.
    private var leftBehind: [Int: [UInt32]] = [:]
    private var openWrites: [UInt32] = []
    private var stamp: UInt64 = 1
    private var writer = 0

    init(name: String, bytesMax: UInt64) {
        self.name = name
        let sectors = Int(bytesMax) / Block.sectorBytes
        writes = [Write(firstSector: 0, sectors: 0, isZero: true, isDurable: true, client: 0, endedAt: 0)]
        possible = Array(repeating: [0], count: sectors)
        floor = Array(repeating: 0, count: sectors)
        stable = floor
        acknowledged = floor
    }

    var writesBegun: Int { writes.count - 1 }

    private func tell(_ text: @autoclosure () -> String) {
        guard let watched else { return }
        onWatched(
            "sector \(watched): \(text()); floor \(floor[watched]), acknowledged \(acknowledged[watched]), stable \(stable[watched]), "
                + "possible \(possible[watched].map { describe($0) })")
    }

    private func touches(_ number: UInt32) -> Bool {
        guard let watched else { return false }
        let write = writes[Int(number)]
        return write.firstSector <= watched && watched < write.firstSector + write.sectors
    }

    /// This client asks for the volume, and may be granted it without anybody else hearing of that.
    func asks(client: Int) {
        asking.insert(client)
        if client != writer { isContested = true }
    }

    /// It has been refused, or is no more.
    func hasAsked(client: Int) { asking.remove(client) }

    /// Power was lost, and the writer may have a successor that takes another member for the truth than the one it reads.
    private var mayBeUndone: Bool { isContested && losses > lossesWhenOpened }

    private func report(_ text: String) { if problems.count < 20 { problems.append("\(name): \(text)") } }

    // Clients

    /// This client is the writer from now on. What others have under way has happened or never will.
    func opened(by client: Int) {
        stamp += 1
        asking.remove(client)
        isContested = !asking.isEmpty
        lossesWhenOpened = losses
        leftBehind[writer] = acknowledged
        writer = client
        for number in openWrites where writes[Int(number)].client != client && writes[Int(number)].endedAt == .max {
            writes[Int(number)].endedAt = stamp
        }
        // In no order, which nothing can see.
        for tag in readings.keys where readings[tag]?.isStale == false {
            readings[tag]?.isStale = true
            staleReadings += 1
        }
        acknowledged = floor
        tell("client \(client) is the writer")
    }

    // Writes

    func beginWrite(client: Int, firstSector: Int, sectors: Int, isZero: Bool, isDurable: Bool) -> UInt32 {
        stamp += 1
        let number = UInt32(writes.count)
        let isForbidden = client != writer
        writes.append(
            Write(
                firstSector: firstSector, sectors: sectors, isZero: isZero, isDurable: isDurable, client: client, isForbidden: isForbidden))
        openWrites.append(number)
        if !isForbidden { for sector in firstSector..<firstSector + sectors { possible[sector].append(number) } }
        if touches(number) { tell("write \(number) of client \(client) begins") }
        return number
    }

    /// What lies behind becomes zero for good, and nobody uses it before that has ended. No client does it.
    func beginCut(from sector: Int) -> UInt32 {
        beginWrite(client: writer, firstSector: sector, sectors: floor.count - sector, isZero: true, isDurable: true)
    }

    /// From here on everything that was written has been acknowledged, or is known not to have happened.
    var unsettledEnd: Int { 1 + (possible.indices.last { possible[$0].last != floor[$0] } ?? -1) }

    /// It was refused at once: it has never been.
    func withdraw(_ number: UInt32) {
        let write = writes[Int(number)]
        end(number)
        for sector in write.firstSector..<write.firstSector + write.sectors where possible[sector].last == number {
            possible[sector].removeLast()
        }
    }

    private func end(_ number: UInt32) {
        stamp += 1
        writes[Int(number)].endedAt = min(writes[Int(number)].endedAt, stamp)
        openWrites.removeAll { $0 == number }
    }

    func endWrite(_ number: UInt32, acknowledged isAcknowledged: Bool) {
        end(number)
        defer { if touches(number) { tell("write \(number) ends \(isAcknowledged ? "well" : "with an error")") } }
        guard isAcknowledged else { return }
        let write = writes[Int(number)]
        if write.isForbidden { return report("write \(number) of client \(write.client) is acknowledged, \(writer) is the writer") }
        // Said before the loss, heard after it, by one whose flush nobody waits for any more.
        if write.crossedLoss, !write.isDurable, write.client != writer { return }
        for sector in write.firstSector..<write.firstSector + write.sectors {
            if floor[sector] < number, !possible[sector].contains(number) {
                return report("write \(number) is acknowledged, a read of sector \(sector) showed before that it has not happened")
            }
            acknowledged[sector] = max(acknowledged[sector], number)
            if write.client != writer, let known = leftBehind[write.client]?[sector] {
                leftBehind[write.client]?[sector] = max(known, number)
            }
            if !write.crossedLoss || write.isDurable { floor[sector] = max(floor[sector], number) }
            if write.isDurable { settle(sector, number) }
        }
    }

    private func settle(_ sector: Int, _ number: UInt32) {
        guard number > stable[sector] else { return }
        stable[sector] = number
        guard staleReadings == 0 else { return }
        possible[sector].removeAll { $0 < number }
    }

    // Reads

    func beginRead(_ tag: UInt, client: Int, firstSector: Int, sectors: Int) {
        stamp += 1
        readings[tag] = Reading(
            firstSector: firstSector, floors: Array(floor[firstSector..<firstSector + sectors]), beganAt: stamp,
            isForbidden: client != writer)
        if writersMayLinger, client != writer {
            readings[tag]?.isForbidden = false
            readings[tag]?.isStale = true
            staleReadings += 1
        }
    }

    func dropRead(_ tag: UInt) { _ = takeRead(tag) }

    private func takeRead(_ tag: UInt) -> Reading? {
        let reading = readings.removeValue(forKey: tag)
        if reading?.isStale == true { staleReadings -= 1 }
        return reading
    }

    /// The read has ended well and returned this.
    func endRead(_ tag: UInt, _ memory: UnsafeRawPointer) {
        guard let reading = takeRead(tag) else { return report("read \(tag) ends twice") }
        stamp += 1
        if reading.isForbidden { return report("a read ended well although another client had opened the volume before it was submitted") }
        for index in reading.floors.indices {
            let sector = reading.firstSector + index
            let content = SectorPattern.content(memory + index * Block.sectorBytes, sector: sector)
            guard let found = explanation(content, sector, atLeast: reading.floors[index]) else {
                // One that did not run for long may hear only now what it read before the loss; its successor has found that gone since.
                if reading.isStale, reading.crossedLoss, isExplained(content, sector, atLeast: reading.floors[index]) { continue }
                return report(
                    "sector \(sector) reads \(content); possible are \(possible[sector].map { describe($0) }) "
                        + "from \(reading.floors[index]) on"
                )
            }
            guard !reading.crossedLoss, !mayBeUndone else { continue }
            floor[sector] = max(floor[sector], found)
            defer { if sector == watched { tell("a read has found \(describe(found))") } }
            // Zeros may be from any write of zeros: nothing can be said of what came before the last of them.
            let newest = content == .zero ? possible[sector].last { writes[Int($0)].isZero } ?? found : found
            if let last = possible[sector].last, last > newest {
                possible[sector].removeAll { $0 > newest && writes[Int($0)].endedAt < reading.beganAt }
            }
        }
    }

    private func describe(_ number: UInt32) -> String { writes[Int(number)].isZero ? "\(number) (zeros)" : "\(number)" }

    private func explanation(_ content: SectorPattern.Content, _ sector: Int, atLeast low: UInt32) -> UInt32? {
        switch content {
        case .garbage: nil
        case .zero: possible[sector].first { $0 >= low && writes[Int($0)].isZero }
        case .write(let number): number >= low && possible[sector].contains(number) && !writes[Int(number)].isZero ? number : nil
        }
    }

    /// By any write that may ever have happened there, from this one on.
    private func isExplained(_ content: SectorPattern.Content, _ sector: Int, atLeast low: UInt32) -> Bool {
        func isPossible(_ write: Int) -> Bool {
            let write = writes[write]
            return !write.isForbidden && write.firstSector <= sector && sector < write.firstSector + write.sectors
        }
        return switch content {
        case .garbage: false
        case .write(let number): number >= low && Int(number) < writes.count && isPossible(Int(number)) && !writes[Int(number)].isZero
        case .zero: writes[Int(low)].isZero || (Int(low)..<writes.count).contains { writes[$0].isZero && isPossible($0) }
        }
    }

    // Readers, which see what was flushed before they opened, or anything newer

    func stableNow() -> [UInt32] { stable }

    /// What a client that only reads has got.
    func check(reader number: Int, _ memory: UnsafeRawPointer, firstSector: Int, sectors: Int, since stable: [UInt32]) {
        for index in 0..<sectors {
            let sector = firstSector + index
            let content = SectorPattern.content(memory + index * Block.sectorBytes, sector: sector)
            if !isExplained(content, sector, atLeast: stable[sector]) {
                return report(
                    "reader \(number): sector \(sector) reads \(content), \(describe(stable[sector])) was flushed before it opened")
            }
        }
    }

    // Flushes and losses of power

    func beginFlush(client: Int) -> Flushing {
        let flushing =
            if client == writer {
                Flushing(client: client, acknowledged, isForbidden: false)
            } else {
                Flushing(client: client, leftBehind[client] ?? stable, isForbidden: !writersMayLinger)
            }
        flushings.append(flushing)
        return flushing
    }

    /// It has ended with an error that tells of no loss.
    func dropFlush(_ flushing: Flushing) { flushings.removeAll { $0 === flushing } }

    func endFlush(_ flushing: Flushing) {
        stamp += 1
        dropFlush(flushing)
        if flushing.isForbidden {
            return report("a flush ended well although another client had opened the volume before it was submitted")
        }
        for sector in flushing.acknowledged.indices where flushing.acknowledged[sector] > stable[sector] {
            floor[sector] = max(floor[sector], flushing.acknowledged[sector])
            settle(sector, flushing.acknowledged[sector])
        }
        tell("a flush has ended well")
    }

    /// The flush has told its user of a loss.
    func flushTold(_ flushing: Flushing) {
        if losses == 0 { report("a flush tells of a loss of power, and there was none") }
        dropFlush(flushing)
        acknowledged = floor
        if let known = leftBehind[flushing.client] { leftBehind[flushing.client] = zip(known, floor).map(min) }
        // Those submitted before this one's user had heard of the loss need not tell it again.
        for other in flushings {
            for sector in floor.indices { other.acknowledged[sector] = min(other.acknowledged[sector], floor[sector]) }
        }
        tell("a flush has told of a loss")
    }

    /// These are damaged on the only copy that is known to have all of them: the others, whose power was lost, may lack what is not stable,
    /// and are what is left.
    func damaged(firstSector: Int, sectors: Int) {
        let range = firstSector..<min(firstSector + sectors, floor.count)
        for sector in range { floor[sector] = stable[sector] }
        for tag in readings.keys {
            guard var reading = readings[tag] else { continue }
            for index in reading.floors.indices where range.contains(reading.firstSector + index) {
                reading.floors[index] = min(reading.floors[index], stable[reading.firstSector + index])
            }
            readings[tag] = reading
        }
        if let watched, range.contains(watched) { tell("the only whole copy is damaged") }
    }

    /// What is not stable may be gone.
    func losePower() {
        losses += 1
        stamp += 1
        floor = stable
        for number in openWrites { writes[Int(number)].crossedLoss = true }
        for tag in readings.keys {
            guard var reading = readings[tag] else { continue }
            reading.crossedLoss = true
            for index in reading.floors.indices { reading.floors[index] = min(reading.floors[index], stable[reading.firstSector + index]) }
            readings[tag] = reading
        }
        tell("power is lost")
    }
}
