import Base
import Environment
import MetaStore
import Testing

/// What only the store in memory can: fail as told, be shared, and be lost at any moment.
@Suite struct MemoryMetaStoreTests {
    @Test func aCallTakesVirtualTime() throws {
        try withMemory { place in
            place.contents.delayMin = .milliseconds(10)
            place.contents.delayMax = .milliseconds(30)
            let store = try await place.create()
            let start = place.world.now
            _ = try await store.read("a")
            let taken = place.world.now - start
            #expect(taken >= .milliseconds(20) && taken < .milliseconds(62))
            await store.close()
        }
    }

    @Test func unreachableBeforeHasChangedNothing() throws {
        try withMemory { place in
            let store = try await place.create()
            place.contents.faults.before = 1_000_000
            let lost = await failure { try await store.put("a", "1") }
            #expect(lost?.status == .unreachable && lost?.leavesCommitOpen == true)
            #expect(await failure { try await store.read("a") }?.status == .unreachable)
            #expect(await failure { try await store.all() }?.status == .unreachable)
            place.contents.faults = .init()
            #expect(try await store.text("a") == nil)
            await store.close()
        }
    }

    @Test func unreachableAfterHasChangedEverything() throws {
        try withMemory { place in
            let store = try await place.create()
            place.contents.faults.after = 1_000_000
            #expect(await failure { try await store.put("a", "1") }?.status == .unreachable)
            place.contents.faults = .init()
            #expect(try await store.text("a") == "1")
            await store.close()
        }
    }

    /// The rule of the unknown outcome: a second attempt with the same conditions settles it, whenever the first one arrives.
    @Test func tryingAgainWithTheSameConditionsSettlesAnUnknownOutcome() throws {
        var wasFirst = 0
        var wasSecond = 0
        for seed in UInt64(1)...60 {
            let result = Box("")
            try withMemory(seed: seed) { place in
                let store = try await place.create()
                place.contents.faults.late = 1_000_000
                let conditions: [MetaCondition] = [.absent("a")]
                let first = await failure { try await store.commit(MetaTransaction(if: conditions, [.put("a", [1])])) }
                #expect(first?.leavesCommitOpen == true)
                place.contents.faults = .init()
                let outcome = try await store.commit(MetaTransaction(if: conditions, [.put("a", [2])]))
                let seen = try await store.read("a")?.bytes
                #expect(seen == (outcome == .conflict("a") ? [1] : [2]))
                // Closing waits for the late one; it has not come through behind the second.
                await store.close()
                let again = try await place.open()
                #expect(try await again.read("a")?.bytes == seen)
                await again.close()
                result.value = seen == [1] ? "first" : "second"
            }
            if result.value == "first" { wasFirst += 1 } else { wasSecond += 1 }
        }
        #expect(wasFirst > 0 && wasSecond > 0, "\(wasFirst) times the first, \(wasSecond) times the second")
    }

    /// A commit under way at a kill is kept wholly or not at all, and both happen.
    @Test func aKillMayCatchACommitOnEitherSide() throws {
        var kept = 0
        for seed in UInt64(1)...60 {
            let isKept = Box(false)
            try withMemory(seed: seed) { place in
                let store = try await place.create()
                place.contents.delayMin = .milliseconds(1)
                let begun = Tally()
                place.world.spawn {
                    begun.add()
                    _ = await failure { try await store.commit(MetaTransaction([.put("a", [1]), .put("b", [1])])) }
                    Issue.record("a call of a dead process has ended")
                }
                await begun.wait(for: 1)
                let operations = Operations(place.world)
                await operations.sleep(.microseconds(seed * 30))
                operations.close()
                place.kill()
                let again = try await place.open()
                let values = try await again.read(["a", "b"]).values
                #expect((values[0] == nil) == (values[1] == nil))
                isKept.value = values[0] != nil
                await again.close()
            }
            if isKept.value { kept += 1 }
        }
        #expect((1..<60).contains(kept), "\(kept) of 60 were kept")
    }

    @Test func severalProcessesShareWhatIsShared() throws {
        try withMemory(isShared: true) { place in
            let first = try await place.create()
            let second = try await place.open()
            try await together(8, in: place.world) { index in
                let store = index % 2 == 0 ? first : second
                var left = 10
                while left > 0 {
                    let value = try await store.read("counter")
                    let next = MetaChange.put("counter", [(value?.bytes.first ?? 0) + 1])
                    let outcome = try await store.commit(MetaTransaction(if: [.unchanged("counter", since: value)], [next]))
                    if case .committed = outcome { left -= 1 }
                }
            }
            await first.close()
            #expect(try await second.read("counter")?.bytes == [80])
            await second.close()
        }
    }
}

/// Crosses into the tasks of a world and back.
private final class Box<Value>: @unchecked Sendable {
    var value: Value
    init(_ value: Value) { self.value = value }
}
