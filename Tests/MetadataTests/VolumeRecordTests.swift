import Base
import MetaStore
import Placement
import Testing
import Wire

@testable import Metadata

private let stores = (1...3).map { Identifier(high: 7, low: UInt64($0)) }
private let maker = Identifier(high: 9, low: 9)

/// Ready, of two replicas: placements 0-1, 1-2, 2-0.
private func volume(floor: Int = 1) throws -> VolumeRecord {
    var volume = VolumeRecord(
        object: ObjectRecord(id: Identifier(high: 1, low: 1), name: "vm1", bytes: 1 << 20, layout: Layout(dataMembers: 2)),
        level: .host, floor: floor, maker: maker,
        placements: [[stores[0], stores[1]], [stores[1], stores[2]], [stores[2], stores[0]]])
    expect(try volume.becomeReady(by: maker))
    return volume
}

/// Evaluates its argument here and not in the macro, which takes no mutating calls.
private func expect(_ holds: Bool, _ comment: Comment? = nil, at location: SourceLocation = #_sourceLocation) {
    #expect(holds, comment, sourceLocation: location)
}

private func failure(_ body: () throws -> Void) -> Failure? {
    do {
        try body()
        return nil
    } catch {
        return error as? Failure
    }
}

@Suite struct VolumeRecordTests {
    @Test func aNewVolumeIsInSyncEverywhere() throws {
        let volume = try volume()
        expect(volume.object.generation == 0 && volume.object.map == 1 && !volume.hasWork)
        expect(volume.entries.allSatisfy { $0 == MemberEntry(ost: $0.ost, changed: 1, incarnation: 1) })
        expect(volume.map([:]).ost(2, 1).store == stores[0])
    }

    @Test func aRaiseCountsOnceForEachNonce() throws {
        var volume = try volume()
        let nonce = Identifier(high: 3, low: 3)
        expect(try volume.raise(nonce: nonce) && volume.object.generation == 1)
        expect(try !volume.raise(nonce: nonce) && volume.object.generation == 1)
        expect(try volume.raise(nonce: maker) && volume.object.generation == 2)
        expect(volume.object.map == 1)
        expect(failure { _ = try volume.raise(nonce: .zero) }?.status == .invalidArgument)
    }

    @Test func aRaiseMakesFillingMembersStale() throws {
        var volume = try volume()
        volume.entries[1].state = .filling
        let nonce = Identifier(high: 3, low: 3)
        expect(try volume.raise(nonce: nonce))
        expect(volume.object.map == 2 && volume.entries[1] == MemberEntry(ost: 1, state: .stale, changed: 2, incarnation: 1))
        // A recovery that began after the raise goes on when the writer only asks again.
        volume.entries[1].state = .filling
        expect(try !volume.raise(nonce: nonce) && volume.entries[1].state == .filling)
    }

    @Test func anExclusionMakesAllMembersOfItsStoresStale() throws {
        var volume = try volume()
        expect(try volume.raise(nonce: maker))
        expect(try volume.exclude([stores[0]], generation: 1, base: .zero))
        expect(volume.object.map == 2 && volume.count(.stale) == 2 && volume.inSyncMin == 1)
        expect(volume.entries[0] == MemberEntry(ost: 0, state: .stale, changed: 2, incarnation: 1))
        expect(try !volume.exclude([stores[0], Identifier(high: 99, low: 99)], generation: 1, base: .zero) && volume.object.map == 2)
    }

    /// For the next who opens, until it is said that nobody reads there any more.
    @Test func itIsRememberedThatAMemberInSyncHasLeft() throws {
        var volume = try volume()
        expect(try volume.raise(nonce: maker) && volume.left == 0)
        expect(try volume.exclude([stores[0]], generation: 1, base: .zero) && volume.left == 2)
        expect(try volume.beginFill([stores[0]], generation: 1, base: .zero) && volume.left == 2)
        expect(try volume.exclude([stores[0]], generation: 1, base: .zero) && volume.object.map == 4 && volume.left == 2, "nobody read it")
        expect(try !volume.settle(generation: 1, number: 1) && volume.left == 2, "its writer has not heard of it")
        expect(try volume.settle(generation: 1, number: 2) && volume.left == 0)
        expect(try !volume.settle(generation: 1, number: 2))
        expect(try volume.exclude([stores[1]], generation: 1, base: .zero) && volume.left == 5)
        expect(try volume.raise(nonce: stores[2]) && volume.left == 5)
        expect(failure { _ = try volume.settle(generation: 1, number: .max) }?.status == .fenced, "it does not speak for its successor")
        expect(VolumeRecord(volume.map([:])).left == 5, "a rebuild does not know who has heard")
    }

    @Test func theLastMemberInSyncStays() throws {
        var volume = try volume()
        expect(try volume.raise(nonce: maker))
        expect(try volume.exclude([stores[0]], generation: 1, base: .zero))
        // Where it is the last it stays, elsewhere it goes.
        expect(try volume.exclude([stores[1]], generation: 1, base: .zero))
        expect(volume.object.map == 3 && volume.inSyncMin == 1 && volume.count(.stale) == 3)
        expect(try !volume.exclude([stores[1]], generation: 1, base: .zero) && volume.object.map == 3)
        let refusal = failure { _ = try volume.exclude([stores[2]], generation: 1, base: .zero) }
        expect(refusal?.status == .unavailable && refusal?.detail.contains("nothing was changed") == true)
        // A member that is being filled does not count as a copy.
        expect(try volume.beginFill([stores[0]], generation: 1, base: Version(generation: 1, sequence: 7)))
        expect(volume.count(.filling) == 2 && volume.object.map == 4)
        expect(failure { _ = try volume.exclude([stores[2]], generation: 1, base: .zero) }?.status == .unavailable)
    }

    /// Where the OST is the last in sync, or moves to, or moves from: what counts goes on to count.
    @Test func aFillIsGivenUpAlone() throws {
        var volume = try volume()
        let base = Version(generation: 1, sequence: 9)
        expect(try volume.raise(nonce: maker) && volume.exclude([stores[1]], generation: 1, base: base))
        // In sync in the second of its places, in the first it is the last.
        expect(try volume.exclude([stores[0]], generation: 1, base: base))
        expect(volume.entries[0].state == .inSync && volume.entries[5].state == .stale)
        let left = volume.left
        expect(try volume.beginFill([stores[1]], generation: 1, base: base) && volume.endFill([stores[1]], generation: 1, number: 4))
        expect(try volume.beginFill([stores[0]], generation: 1, base: base) && volume.object.map == 6 && volume.count(.filling) == 1)
        expect(try !volume.exclude([stores[0]], generation: 1, base: base, fill: 4) && volume.object.map == 6, "that one has ended")
        expect(try volume.exclude([stores[0]], generation: 1, base: base, fill: 6))
        expect(volume.entries[0].state == .inSync && volume.entries[5].state == .stale && volume.left == left, "nobody read it")
        expect(try !volume.exclude([stores[0]], generation: 1, base: base, fill: 6) && volume.object.map == 7)
    }

    /// A fill that ends half way leaves the version at which the next one begins; only the end of the newest one counts.
    @Test func aFillIsEndedByAnythingElse() throws {
        var volume = try volume()
        expect(try volume.raise(nonce: maker) && volume.exclude([stores[0]], generation: 1, base: .init(generation: 1, sequence: 9)))
        expect(try volume.beginFill([stores[0]], generation: 1, base: Version(generation: 1, sequence: 7)))
        let first = volume.object.map
        expect(try volume.exclude([stores[0]], generation: 1, base: .init(generation: 1, sequence: 800)) && volume.count(.stale) == 2)
        expect(try !volume.endFill([stores[0]], generation: 1, number: first) && volume.count(.inSync) == 4)
        expect(try volume.beginFill([stores[0]], generation: 1, base: Version(generation: 1, sequence: 900)))
        expect(volume.bases == [VolumeRecord.FillBase(store: stores[0], version: Version(generation: 1, sequence: 7))])
        expect(try !volume.endFill([stores[0]], generation: 1, number: first) && volume.count(.filling) == 2)
        expect(try volume.endFill([stores[0]], generation: 1, number: volume.object.map) && volume.count(.inSync) == 6)
        expect(volume.bases.isEmpty)
        // A member that still counts elsewhere says of itself more than it has here.
        expect(try volume.exclude([stores[0]], generation: 1, base: .init(generation: 1, sequence: 1000)))
        expect(try volume.beginFill([stores[0]], generation: 1, base: Version(generation: 1, sequence: 2000)))
        expect(volume.bases == [VolumeRecord.FillBase(store: stores[0], version: Version(generation: 1, sequence: 1000))])
        // One more attempt, after one that ended without a word: all its members begin anew.
        let second = volume.object.map
        expect(try volume.beginFill([stores[0]], generation: 1, base: Version(generation: 1, sequence: 2000)))
        expect(try !volume.endFill([stores[0]], generation: 1, number: second) && volume.count(.filling) == 2)
        expect(try volume.exclude([stores[0]], generation: 1, base: .zero) && volume.beginFill([stores[0]], generation: 1, base: .zero))
        expect(try volume.raise(nonce: stores[0]) && volume.count(.stale) == 2)
        expect(failure { _ = try volume.endFill([stores[0]], generation: 1, number: volume.object.map) }?.status == .fenced)
    }

    #if MUTANTS
        @Test func withoutItsNumberAFillThatHasEndedWouldCount() throws {
            Mutant.active = .endsAnyFill
            defer { Mutant.active = nil }
            var volume = try volume()
            expect(try volume.raise(nonce: maker) && volume.exclude([stores[0]], generation: 1, base: .zero))
            expect(try volume.beginFill([stores[0]], generation: 1, base: .zero))
            let first = volume.object.map
            expect(try volume.exclude([stores[0]], generation: 1, base: .zero))
            expect(try volume.endFill([stores[0]], generation: 1, number: first) && volume.count(.inSync) == 6)
        }
    #endif

    /// Since when a store is behind is told from the first exclusion on, until the last member there is in sync again.
    @Test func theTimeOfTheFirstExclusionIsKept() throws {
        var volume = try volume()
        expect(volume.map([:]).bases.isEmpty && volume.health.allSatisfy { $0.inSync == 2 && $0.sinceMilliseconds == 0 && $0.last == 0 })
        expect(try volume.raise(nonce: maker) && volume.exclude([stores[0]], generation: 1, base: .zero, at: 1000))
        expect(try volume.exclude([stores[1]], generation: 1, base: .zero, at: 2000), "where it is not the last one")
        expect(volume.health.map(\.sinceMilliseconds) == [1000, 2000, 0] && volume.health.map(\.stale) == [2, 1, 0])
        expect(volume.health.map(\.last) == [0, 1, 2], "what is nowhere else")
        expect(try volume.beginFill([stores[0]], generation: 1, base: .zero, at: 3000))
        expect(try volume.exclude([stores[0]], generation: 1, base: .zero, at: 4000))
        expect(try volume.beginFill([stores[0]], generation: 1, base: .zero, at: 5000))
        expect(volume.health.map(\.sinceMilliseconds) == [1000, 2000, 0] && volume.health[0].filling == 2)
        let back = VolumeRecord(volume.map([:]))
        expect(
            back.bases.map(\.version) == volume.bases.map(\.version) && back.health.map(\.sinceMilliseconds) == [0, 0, 0],
            "the disks do not say")
        expect(try volume.endFill([stores[0]], generation: 1, number: volume.object.map))
        expect(volume.health.map(\.sinceMilliseconds) == [0, 2000, 0])
    }

    /// What a list says of an OST that is not there, before anybody has missed it.
    @Test func aSummaryTellsWhatCannotBeReached() throws {
        let volume = try volume()
        let summary = volume.summary(hasWriter: false) { $0 != stores[0] }
        expect(summary.inSyncMin == 2 && summary.reachableMin == 1 && summary.away == 2 && summary.stale == 0)
        let well = volume.summary(hasWriter: true, stalled: 3) { _ in true }
        expect(well.reachableMin == 2 && well.away == 0 && well.stalled == 3)
    }

    @Test func theFloorCanBeChanged() throws {
        var volume = try volume()
        expect(volume.floor == 1 && volume.belowFloor == .wait)
        expect(try volume.set(floor: 2, belowFloor: nil) && volume.object.map == 2)
        expect(try volume.set(floor: nil, belowFloor: .fail(after: .seconds(5))) && volume.floor == 2 && volume.object.map == 3)
        expect(try !volume.set(floor: 2, belowFloor: .fail(after: .seconds(5))) && volume.object.map == 3, "nothing new, no new map")
        expect(failure { _ = try volume.set(floor: 3, belowFloor: nil) }?.detail.contains("the floor is 1 to 2") == true)
        expect(failure { _ = try volume.set(floor: 0, belowFloor: nil) }?.status == .invalidArgument)
        expect(volume.map([:]).belowFloor == .fail(after: .seconds(5)) && volume.map([:]).floor == 2)
        expect(VolumeRecord(volume.map([:])).belowFloor == volume.belowFloor, "a rebuild knows it")
    }

    @Test func olderWritersAreFenced() throws {
        var volume = try volume()
        expect(try volume.raise(nonce: maker) && volume.raise(nonce: stores[0]))
        expect(failure { _ = try volume.exclude([stores[0]], generation: 1, base: .zero) }?.status == .fenced)
        expect(failure { try volume.check(generation: 3) }?.status == .wrongStore)
    }

    @Test func aVolumeGrowsWhenAllThatCountHaveGrown() throws {
        var volume = try volume()
        expect(try volume.beginResize(to: 2 << 20))
        expect(volume.object.bytes == 1 << 20 && volume.objectBytes == 2 << 20 && volume.hasWork)
        expect(volume.resized([stores[0], stores[1]], number: 1) && volume.object.bytes == 1 << 20)
        expect(!volume.resized([stores[2]], number: 0), "a number of before counts for nothing")
        expect(volume.resized([stores[2]], number: 1) && volume.object.bytes == 2 << 20 && !volume.hasWork)
    }

    @Test func aVolumeGrowsWithoutAnOSTThatIsStaleAnyway() throws {
        var volume = try volume()
        expect(try volume.raise(nonce: maker) && volume.exclude([stores[2]], generation: 1, base: .zero))
        expect(try volume.beginResize(to: 2 << 20))
        expect(volume.resized([stores[0], stores[1]], number: 1) && volume.object.bytes == 2 << 20)
        expect(volume.unresized == [VolumeRecord.Unresized(store: stores[2], cut: 1 << 20)])
    }

    /// It would get what is written behind a cut that is still to be made up for, and lose it then.
    @Test func aMemberThatHasMissedAResizeIsNotFilledYet() throws {
        var volume = try volume()
        expect(try volume.raise(nonce: maker) && volume.exclude([stores[2]], generation: 1, base: .zero))
        expect(try volume.beginResize(to: 1 << 19) && volume.resized([stores[0], stores[1]], number: 1))
        expect(try volume.beginResize(to: 1 << 20) && volume.resized([stores[0], stores[1]], number: 2))
        let refusal = failure { _ = try volume.beginFill([stores[2]], generation: 1, base: .zero) }
        expect(refusal?.status == .unavailable && refusal?.detail.contains("gone along with a resize") == true)
        expect(volume.count(.filling) == 0)
        expect(volume.resized([stores[2]], number: 2))
        expect(try volume.beginFill([stores[2]], generation: 1, base: .zero) && volume.count(.filling) > 0)
    }

    @Test func aVolumeThatCannotGrowKeepsItsSize() throws {
        var volume = try volume()
        expect(try volume.beginResize(to: 2 << 20) && volume.resized([stores[0]], number: 1))
        expect(volume.cancelResize(number: 1))
        expect(volume.object.bytes == 1 << 20 && volume.objectBytes == 1 << 20)
        expect(volume.unresized.map(\.cut) == [1 << 20, 1 << 20, 1 << 20], "whoever has grown is cut")
    }

    /// An OST that was away while a volume was cut and grown again must not bring back what was cut off.
    @Test func whatWasCutOffIsRemembered() throws {
        var volume = try volume()
        expect(try volume.beginResize(to: 1 << 19) && volume.object.bytes == 1 << 19)
        expect(volume.resized([stores[0], stores[1]], number: 1))
        expect(try volume.beginResize(to: 1 << 20))
        expect(volume.unresized.map(\.cut) == [1 << 19, 1 << 19, 1 << 19])
        expect(volume.resized([stores[0], stores[1]], number: 2))
        expect(try volume.beginResize(to: 4 << 20))
        expect(volume.unresized.map(\.cut) == [1 << 20, 1 << 20, 1 << 19])
    }

    @Test func aRemovalEndsWithTheLastObject() throws {
        var volume = try volume()
        expect(volume.beginRemoval() && !volume.beginRemoval() && volume.hasWork)
        expect(failure { try volume.checkUsable() }?.status == .notFound)
        var other = volume
        expect(other.cancelRemoval() && !other.hasWork)
        expect(volume.removed(from: [stores[0]]) && !volume.cancelRemoval(), "a part of it is gone")
        expect(volume.removed(from: Set(stores)) && volume.unremoved.isEmpty && !volume.removed(from: Set(stores)))
    }

    @Test func onlyItsMakerFinishesIt() throws {
        var volume = VolumeRecord(
            object: ObjectRecord(id: stores[0], name: "a", bytes: 512, layout: Layout()), level: .ost, floor: 1, maker: maker,
            placements: [[stores[0]]])
        expect(failure { _ = try volume.becomeReady(by: stores[0]) }?.status == .closed)
        expect(failure { try volume.checkUsable() }?.status == .busy)
        var made = volume
        expect(failure { _ = try made.becomeReady(by: maker) } == nil && !made.cancelCreation() && made.state == .ready)
        expect(volume.cancelCreation() && volume.state == .removing)
        expect(failure { _ = try volume.becomeReady(by: maker) }?.status == .closed)
    }

    @Test func goldenBytesOfAVolume() throws {
        var volume = VolumeRecord(
            object: ObjectRecord(
                id: Identifier(high: 1, low: 2), name: "vm1", bytes: 1 << 20, layout: Layout(dataMembers: 2), createdMilliseconds: 6),
            level: .rack, floor: 2, belowFloor: .fail(after: .milliseconds(258)), maker: Identifier(high: 3, low: 4),
            placements: [[stores[0], stores[1]]])
        volume.nonce = Identifier(high: 5, low: 6)
        volume.unresized = [VolumeRecord.Unresized(store: stores[0], cut: 512)]
        volume.unremoved = [stores[1]]
        volume.resizes = 258
        volume.bases = [
            VolumeRecord.FillBase(store: stores[1], version: Version(generation: 8, sequence: 9), sinceMilliseconds: 259)
        ]
        volume.stores.append(stores[2])
        volume.moves = [MemberMove(placement: 0, member: 1, entry: MemberEntry(ost: 2, state: .filling, changed: 1, incarnation: 1))]
        volume.strays = [VolumeRecord.Stray(store: Identifier(high: 7, low: 4), since: 1)]
        volume.left = 1
        let hex = volume.value.map { hexadecimal(UInt64($0), digits: 2) }.joined()
        let first = "00000000000000070000000000000001"
        let second = "00000000000000070000000000000002"
        let record =
            "00000000000000010000000000000002" + "0300766d31" + "0000100000000000" + "01" + "0000400000000000" + "0200" + "0000"
            + "0000000000000000" + "0100000000000000" + "0600000000000000"
        let head = "03" + "0200" + "02010000" + "02" + "00000000000000030000000000000004" + "00000000000000050000000000000006"
        let work = "0000100000000000" + "0201000000000000" + "0100" + first + "0002000000000000" + "0100" + second
        let base = "0100" + second + "0800000000000000" + "0900000000000000" + "0301000000000000"
        let member = "01" + "0100000000000000" + "0100000000000000"
        let moves = "0100" + "0000" + "0100" + "0200" + "03" + "0100000000000000" + "0100000000000000"
        let strays = "0100" + "00000000000000070000000000000004" + "0100000000000000"
        let places = "0300" + first + second + "00000000000000070000000000000003"
        expect(
            hex == "01" + record + head + work + places + base + "02000000" + "0000" + member + "0100" + member + moves + strays
                + "0100000000000000")
        let back = try VolumeRecord(MetaValue(volume.value, .none), of: "x")
        expect(back == volume)
    }

    @Test func aDamagedValueIsNamed() throws {
        let value = try volume().value
        for length in 0..<value.count {
            let refusal = failure { _ = try VolumeRecord(MetaValue(Array(value[..<length]), .none), of: "volume/x") }
            expect(refusal?.status == .damaged && refusal?.detail.contains("volume/x") == true, "cut to \(length)")
        }
        expect(failure { _ = try VolumeRecord(MetaValue(value + [0], .none), of: "x") }?.status == .damaged)
        expect(failure { _ = try VolumeRecord(MetaValue([2] + value.dropFirst(), .none), of: "x") }?.status == .wrongVersion)
        var none = try volume()
        none.entries[0].state = .stale
        none.entries[1].state = .stale
        expect(failure { _ = try VolumeRecord(MetaValue(none.value, .none), of: "x") }?.detail.contains("no member in sync") == true)
    }
}
