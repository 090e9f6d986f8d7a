import Base
import Environment
import MetaStore
import Simulation
import Testing

/// What every store promises, by the rules in Sources/MetaStore/MetaStore.swift.
@Suite struct MetaStoreTests {
    @Test(arguments: Kind.allCases) func changesAreMadeWhereConditionsHold(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            let store = try await place.create()
            let first = try await store.put("a", "one")
            #expect(try await store.read("a") == MetaValue(Array("one".utf8), first))
            let isA = MetaCondition("a", hasRevision: first)
            let outcome = try await store.commit(MetaTransaction(if: [isA, .absent("b")], [.put("b", [2]), .delete("a")]))
            guard case .committed(let second) = outcome else { throw Failure(.malformed, "\(outcome)") }
            #expect(second > first)
            let snapshot = try await store.read(["a", "b", "c"])
            #expect(snapshot == MetaSnapshot(second, [nil, MetaValue([2], second), nil]))
            #expect(try await store.commit(MetaTransaction(if: [isA], [.delete("b")])) == .conflict("a"))
            #expect(try await store.commit(MetaTransaction(if: [.absent("b")], [.put("b", [])])) == .conflict("b"))
            #expect(try await store.read(["a", "b", "c"]) == snapshot)
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func conditionsAloneAreCheckedAndChangeNothing(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            let store = try await place.create()
            let revision = try await store.put("a", "")
            #expect(try await store.commit(MetaTransaction(if: [.absent("x")], [])) == .committed(revision))
            #expect(try await store.commit(MetaTransaction(if: [.absent("a")], [])) == .conflict("a"))
            #expect(try await store.commit(MetaTransaction([])) == .committed(revision))
            #expect(try await store.read([]) == MetaSnapshot(revision, []))
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func conflictNamesTheFirstKeyAndChangesNothing(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            let store = try await place.create()
            try await store.put("b", "1")
            let before = try await store.all()
            let conditions: [MetaCondition] = [
                .unchanged("b", since: try await store.read("b")), .absent("a"), .absent("b"),
                MetaCondition("c", hasRevision: MetaRevision(1)),
            ]
            let changes: [MetaChange] = [.put("a", [1]), .delete("b"), .put("z", [9])]
            #expect(try await store.commit(MetaTransaction(if: conditions, changes)) == .conflict("b"))
            let reversed = Array(conditions.reversed())
            #expect(try await store.commit(MetaTransaction(if: reversed, changes)) == .conflict("c"))
            #expect(try await store.all() == before)
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func readsAndPagesAreSnapshots(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            let store = try await place.create()
            _ = try await store.commit(MetaTransaction([.put("pair/a", [0]), .put("pair/b", [100])]))
            try await together(3, in: place.world) { index in
                for step in UInt8(1)...40 {
                    if index == 0 {
                        _ = try await store.commit(MetaTransaction([.put("pair/a", [step]), .put("pair/b", [100 - step])]))
                        continue
                    }
                    let values =
                        index == 1
                        ? try await store.read(["pair/a", "pair/b"]).values
                        : try await store.list("pair/", after: nil, limit: 2).entries.map { Optional($0.value) }
                    let bytes = values.compactMap { $0?.bytes.first }
                    #expect(bytes.count == 2 && bytes.reduce(0, +) == 100)
                    #expect(values[0]?.revision == values[1]?.revision)
                }
            }
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func listingGoesInOrderByPrefixAndPage(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            let store = try await place.create()
            let keys: [MetaKey] = [
                MetaKey([0]), MetaKey([0, 0]), "a", "a/1", "a/10", "a/2", "a0", "b/", "b/\u{e9}", MetaKey([0xfe, 0xff]), MetaKey([0xff]),
                MetaKey([0xff, 0xff]), MetaKey([0xff, 0xff, 0]), MetaKey([UInt8](repeating: 0xff, count: Limits.metaKeyBytesMax)),
            ]
            #expect(keys.sorted() == keys)
            for key in keys.reversed() { try await store.put(key, key.description) }
            func listed(_ prefix: MetaKey, _ limit: Int) async throws -> [MetaKey] {
                let entries = try await store.all(prefix, limit: limit)
                for entry in entries where entry.key != MetaFormat.key {
                    #expect(String(decoding: entry.value.bytes, as: UTF8.self) == entry.key.description)
                }
                return entries.map(\.key)
            }
            for limit in [1, 2, 3, 1000] {
                #expect(try await listed("", limit).filter { $0 != MetaFormat.key } == keys)
                #expect(try await listed("a", limit) == ["a", "a/1", "a/10", "a/2", "a0"])
                #expect(try await listed("a/", limit) == ["a/1", "a/10", "a/2"])
                #expect(try await listed("b/", limit).count == 2)
                #expect(try await listed("c", limit) == [])
                #expect(try await listed(MetaKey([0xff]), limit) == Array(keys.suffix(4)))
                #expect(try await listed(MetaKey([0xff, 0xff]), limit) == Array(keys.suffix(3)))
                #expect(try await listed(MetaKey([0xfe]), limit) == [MetaKey([0xfe, 0xff])])
            }
            // Exactly as many as there are is not more; `after` may be any key.
            #expect(try await store.list("a/", after: nil, limit: 3).hasMore == false)
            #expect(try await store.list("a/", after: nil, limit: 2).hasMore)
            #expect(try await store.list("a/", after: "a/1x", limit: 9).entries.map(\.key) == ["a/2"])
            #expect(try await store.list("a/", after: "A", limit: 9).entries.count == 3)
            #expect(try await store.list("a/", after: "b", limit: 9).entries.isEmpty)
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func valuesMayBeEmptyOrLarge(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            var store = try await place.create()
            let large = (0..<Limits.metaValueBytesMax).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
            let longKey = MetaKey([UInt8](repeating: 0, count: Limits.metaKeyBytesMax))
            for (key, value) in [("empty", []), ("large", large), (longKey, large)] {
                guard case .committed = try await store.commit(MetaTransaction([.put(key, value)])) else {
                    throw Failure(.malformed, "\(key)")
                }
                #expect(try await store.read(key)?.bytes == value)
            }
            // A page ends before it is too large, and has at least one entry.
            for index in 1...5 { _ = try await store.commit(MetaTransaction([.put(MetaKey("page/\(index)"), large)])) }
            let page = try await store.list("page/", after: nil, limit: 100)
            #expect((1...4).contains(page.entries.count) && page.hasMore)
            await store.close()
            store = try await place.open()
            #expect(try await store.read("empty")?.bytes == [])
            #expect(try await store.read(longKey)?.bytes == large)
            #expect(try await store.all("page/").count == 5)
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func whatIsBeyondALimitIsRefusedWithASentence(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            let store = try await place.create()
            let before = try await store.all()
            func refused(_ what: String, _ body: () async throws -> Void) async {
                let failure = await failure(body)
                #expect(failure?.status == .invalidArgument && failure?.leavesCommitOpen == false)
                #expect(failure?.detail.contains(what) == true, "\(String(describing: failure))")
            }
            func commit(if conditions: [MetaCondition] = [], _ changes: [MetaChange]) async throws {
                _ = try await store.commit(MetaTransaction(if: conditions, changes))
            }
            let long = MetaKey([UInt8](repeating: 65, count: Limits.metaKeyBytesMax + 1))
            let large = [UInt8](repeating: 1, count: Limits.metaValueBytesMax + 1)
            let many = (0...Limits.metaTransactionKeysMax).map { MetaKey("k\($0)") }
            await refused("a key has at most 512 bytes, this one has 513") { try await commit([.put(long, [])]) }
            await refused("a key has at most 512") { try await commit(if: [.absent(long)], []) }
            await refused("a key has at most 512") { _ = try await store.read([long]) }
            await refused("the empty key") { try await commit([.delete("")]) }
            await refused("the empty key") { try await commit(if: [.absent("")], []) }
            await refused("the empty key") { _ = try await store.read([""]) }
            await refused("that of key big has 1048577") { try await commit([.put("big", large)]) }
            await refused("at most 128 changes, not 129") { try await commit(many.map { .put($0, []) }) }
            await refused("at most 128 conditions, not 129") { try await commit(if: many.map { .absent($0) }, []) }
            await refused("at most 128 keys, not 129") { _ = try await store.read(many) }
            await refused("changes same twice") { try await commit([.put("same", [1]), .delete("same")]) }
            await refused("make several") {
                let half = [UInt8](repeating: 1, count: Limits.metaTransactionBytesMax / 2)
                try await commit([.put("half", half), .put("other half", half)])
            }
            await refused("not 0") { _ = try await store.list("", after: nil, limit: 0) }
            await refused("not 1025") { _ = try await store.list("", after: nil, limit: 1025) }
            #expect(try await store.all() == before)
            try await commit(if: many.dropLast().map { .absent($0) }, many.dropLast().map { .put($0, []) })
            #expect(try await store.read(many.dropLast()).values.allSatisfy { $0 != nil })
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func revisionsOnlyGrow(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            var store = try await place.create()
            var last = try await store.read([]).revision
            for round in 0..<12 {
                let put = try await store.put("a", "\(round)")
                #expect(put > last)
                // Gone and back again is not what it was.
                try await store.delete("a")
                #expect(try await store.commit(MetaTransaction(if: [MetaCondition("a", hasRevision: put)], [])) == .conflict("a"))
                let again = try await store.put("a", "\(round)")
                #expect(again > put)
                #expect(try await store.read("a")?.revision == again)
                try await store.delete("a")
                last = try await store.read([]).revision
                #expect(last >= again)
                // The store remembers although no key has the revision any more.
                await store.close()
                store = try await place.open()
                #expect(try await store.read([]).revision == last)
            }
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func whatWasCommittedOutlivesAKill(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            var store: (any MetaStore)? = try await place.create()
            for round in 0..<5 {
                let acknowledged = await load(try #require(store), in: place.world, round: round)
                store = nil
                store = try await place.reopenAfterKill()
                for (task, step) in acknowledged.sorted(by: { $0.key < $1.key }) {
                    let left = try await store?.text(MetaKey("left/\(task)")) ?? ""
                    #expect(try await store?.text(MetaKey("right/\(task)")) == left)
                    let parts = left.split(separator: ".").compactMap { Int($0) }
                    #expect(parts.count == 2 && parts[0] == round && parts[1] >= step, "\(left), acknowledged \(round).\(step)")
                }
            }
            await store?.close()
        }
    }

    /// Commits pairs from many tasks, and leaves in the middle of it. How far each of them was known to be.
    private func load(_ store: any MetaStore, in world: any World, round: Int) async -> [Int: Int] {
        let done = Tally()
        for task in 0..<8 {
            world.spawn {
                for step in 1...20 {
                    let text = Array("\(round).\(step)".utf8)
                    let pair: [MetaChange] = [.put(MetaKey("left/\(task)"), text), .put(MetaKey("right/\(task)"), text)]
                    // Those that a kill catches never end.
                    if let failure = await failure({ try await store.commit(MetaTransaction(pair)) }) {
                        Issue.record("\(failure)")
                        // Nobody is to wait for what does not come.
                        for _ in step...20 { done.add() }
                        return
                    }
                    done.steps[task] = step
                    done.add()
                }
            }
        }
        await done.wait(for: 60)
        return done.steps
    }

    @Test(arguments: Kind.exclusive) func aSecondOpenerIsRefused(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            var store = try await place.create()
            for _ in 0..<3 {
                let refusal = await failure { try await place.open() }
                #expect(refusal?.status == .busy && refusal?.detail.contains("open in another process") == true)
                #expect(await failure { try await place.create() }?.status == .busy)
                // The first has not noticed.
                try await store.put("a", "b")
                await store.close()
                store = try await place.open()
            }
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func onlyACatalogueThatIsUnderstoodIsOpened(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            #expect(await failure { try await place.open() }?.status == .notFound)
            var store = try await place.create()
            #expect(try await store.text(MetaFormat.key) == "1")
            await store.close()
            // Nothing is in it yet: whoever makes it may have been broken off.
            store = try await place.create()
            try await store.put("key", "value")
            await store.close()
            #expect(await failure { try await place.create() }?.status == .alreadyExists)
            store = try await place.open()
            try await store.put(MetaFormat.key, "2")
            await store.close()
            #expect(await failure { try await place.create() }?.status == .wrongVersion)
            let newer = await failure { try await place.open() }
            #expect(newer?.status == .wrongVersion)
            #expect(newer?.detail.contains("format version 2, this program knows 1; use a newer one") == true)
        }
        for text in ["", "0", "-1", "one"] {
            try await withPlace(kind) { place in
                let store = try await place.create()
                try await store.put(MetaFormat.key, text)
                await store.close()
                #expect(await failure { try await place.open() }?.status == .damaged)
            }
        }
    }

    @Test(arguments: Kind.allCases) func countingTogetherLosesNothing(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            let store = try await place.create()
            let conflicts = Tally()
            try await together(16, in: place.world) { _ in
                var left = 10
                while left > 0 {
                    let value = try await store.read("counter")
                    let number = Int(String(decoding: value?.bytes ?? [48], as: UTF8.self)) ?? 0
                    let change = MetaChange.put("counter", Array("\(number + 1)".utf8))
                    switch try await store.commit(MetaTransaction(if: [.unchanged("counter", since: value)], [change])) {
                    case .committed: left -= 1
                    case .conflict(let key):
                        #expect(key == "counter")
                        conflicts.add()
                    }
                }
            }
            #expect(try await store.number("counter") == 160)
            #expect(conflicts.total > 0, "they never met")
            await store.close()
        }
    }

    @Test(arguments: Kind.allCases) func closingWaitsForWhatIsUnderWay(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            let store = try await place.create()
            let begun = Tally()
            for index in 0..<20 {
                place.world.spawn {
                    begun.add()
                    do { try await store.put(MetaKey("a/\(index)"), "") } catch { Issue.record("\(error)") }
                }
            }
            await begun.wait(for: 20)
            await store.close()
            #expect(await failure { try await store.read([]) }?.status == .closed)
            await store.close()
            let again = try await place.open()
            #expect(try await again.all("a/").count == 20)
            await again.close()
        }
    }

    @Test(arguments: Kind.allCases) func moreCallsThanThereMayBeAreRefused(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            let store = try await place.create()
            let refused = Tally()
            try await together(Limits.metaCallsMax + 50, in: place.world) { _ in
                guard let failure = await failure({ try await store.read("a") }) else { return }
                #expect(failure.status == .overloaded)
                refused.add()
            }
            // A file answers some before all have asked.
            #expect(kind == .memory ? refused.total == 50 : refused.total <= 50)
            #expect(try await store.read("a") == nil)
            await store.close()
        }
    }

    /// Against the plainest model there is, with drawn transactions and openings.
    @Test(arguments: Kind.allCases) func doesWhatADictionaryDoes(_ kind: Kind) async throws {
        try await withPlace(kind) { place in
            var store = try await place.create()
            var model: [MetaKey: MetaValue] = [MetaFormat.key: try #require(try await store.read(MetaFormat.key))]
            var random = Random(seed: 11)
            func draw(_ count: Int) -> Int { random.below(count) }
            func key() -> MetaKey { MetaKey("\(["a", "b/", "b/c", ""][draw(4)])\(draw(4))") }
            for _ in 0..<300 {
                var conditions: [MetaCondition] = []
                for _ in 0..<draw(3) {
                    let key = key()
                    let isTrue = draw(8) > 0
                    conditions.append(isTrue ? .unchanged(key, since: model[key]) : MetaCondition(key, hasRevision: MetaRevision(1)))
                }
                var changes: [MetaChange] = []
                for _ in 0..<draw(4) {
                    let key = key()
                    if changes.contains(where: { $0.key == key }) { continue }
                    changes.append(draw(3) == 0 ? .delete(key) : .put(key, (0..<draw(20)).map { UInt8($0) }))
                }
                let expected = conditions.first { model[$0.key]?.revision ?? .none != $0.revision }
                switch try await store.commit(MetaTransaction(if: conditions, changes)) {
                case .conflict(let key): #expect(key == expected?.key)
                case .committed(let revision):
                    #expect(expected == nil)
                    for change in changes {
                        switch change {
                        case .put(let key, let bytes): model[key] = MetaValue(bytes, revision)
                        case .delete(let key): model[key] = nil
                        }
                    }
                }
                let prefix = ["", "a", "b/", "b/c"].map { MetaKey($0) }[draw(4)]
                let listed = try await store.all(prefix, limit: 1 + draw(5))
                let wanted = model.filter { $0.key.bytes.starts(with: prefix.bytes) }.sorted { $0.key < $1.key }
                #expect(listed == wanted.map { MetaEntry($0.key, $0.value) })
                let keys = (0..<draw(5)).map { _ in key() }
                #expect(try await store.read(keys).values == keys.map { model[$0] })
                if draw(40) == 0 {
                    await store.close()
                    store = try await place.open()
                }
            }
            await store.close()
        }
    }
}

/// What tasks have counted, and one who waits for it.
final class Tally {
    private(set) var total = 0
    var steps: [Int: Int] = [:]
    private var wanted = 0
    private var waiter: UnsafeContinuation<Void, Never>?

    func add() {
        total += 1
        guard total >= wanted, let waiter else { return }
        self.waiter = nil
        waiter.resume()
    }

    func wait(for count: Int) async {
        wanted = count
        await suspend(while: { total < count }) { waiter = $0 }
    }
}
