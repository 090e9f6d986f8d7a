import Base
import Blocking
import Environment
import Foundation
import MetaStore
import Simulation
import Testing

@testable import SQLiteStore

/// What only a file can: be copied in the middle, be cut, be damaged, belong to somebody else.
@Suite struct SQLiteMetaStoreTests {
    @Test func aCopyTakenMidwayHasEverythingCommitted() async throws {
        try await withFile { place in
            let store = try await place.create()
            let value = [UInt8](repeating: 7, count: 60_000)
            // Several times what the log takes before it is folded into the file.
            for round in 1...200 {
                let number = Array("\(round)".utf8)
                _ = try await store.commit(
                    MetaTransaction([.put("first", number), .put(MetaKey("data/\(round % 50)"), value), .put("last", number)]))
                if round % 8 != 0 { continue }
                let copy = try await SQLiteMetaStore.open(try place.copy(as: "copy-\(round)"), in: place.world)
                #expect(try await copy.number("first") == round)
                #expect(try await copy.number("last") == round)
                #expect(try await copy.all("data/", limit: 20).count == min(round, 50))
                #expect(try await copy.read([]).revision == store.read([]).revision)
                await copy.close()
            }
            await store.close()
        }
    }

    /// A crash of the machine leaves any beginning of the log.
    @Test func aLogThatIsCutHasWholeTransactions() async throws {
        try await withFile { place in
            let store = try await place.create()
            for round in 1...40 {
                let number = Array("\(round)".utf8)
                let filler = [UInt8](repeating: UInt8(round), count: round * 300)
                _ = try await store.commit(MetaTransaction([.put("a", number), .put("filler", filler), .put("z", number)]))
            }
            let base = try place.copy(as: "base")
            await store.close()
            let log = try Data(contentsOf: URL(fileURLWithPath: base + "-wal"))
            var seen: Set<Int> = []
            var random = Random(seed: 3)
            for cut in 0..<60 {
                let copy = place.directory + "/cut-\(cut)"
                try FileManager.default.copyItem(atPath: base, toPath: copy)
                try log.prefix(random.below(log.count)).write(to: URL(fileURLWithPath: copy + "-wal"))
                let opened: SQLiteMetaStore
                do throws(Failure) { opened = try await SQLiteMetaStore.open(copy, in: place.world) } catch {
                    // Cut before it was made.
                    #expect(error.status == .notFound)
                    continue
                }
                let number = try await opened.number("a")
                #expect(try await opened.number("z") == number)
                #expect(try await opened.read("filler")?.bytes.count ?? 0 == number * 300)
                seen.insert(number)
                await opened.close()
            }
            #expect(seen.count > 10)
        }
    }

    /// Whatever bit has changed: what is opened is what was written.
    @Test func aDamagedFileIsRefused() async throws {
        try await withFile { place in
            let store = try await place.create()
            for index in 0..<60 {
                try await store.put(MetaKey("volume/\(index)"), String(repeating: "value \(index) ", count: 1 + index * 3))
            }
            for index in 0..<60 where index % 7 == 0 { try await store.delete(MetaKey("volume/\(index)")) }
            let written = try await store.all()
            await store.close()
            let whole = try Data(contentsOf: URL(fileURLWithPath: place.path))
            #expect(!FileManager.default.fileExists(atPath: place.path + "-wal"))
            var random = Random(seed: 5)
            var refused = 0
            for attempt in 0..<200 {
                var damaged = whole
                damaged[random.below(damaged.count)] ^= 1 << UInt8(random.below(8))
                let path = place.directory + "/damaged-\(attempt)"
                try damaged.write(to: URL(fileURLWithPath: path))
                do {
                    let opened = try await SQLiteMetaStore.open(path, in: place.world)
                    #expect(try await opened.all() == written, "attempt \(attempt)")
                    await opened.close()
                } catch let error as Failure {
                    #expect([.damaged, .wrongVersion, .invalidArgument].contains(error.status), "\(error)")
                    #expect(error.detail.contains(path))
                    refused += 1
                }
                try FileManager.default.removeItem(atPath: path)
            }
            #expect(refused > 50, "\(refused) of 200 were refused")
        }
    }

    @Test func aChangedValueIsNamed() async throws {
        try await withFile { place in
            let store = try await place.create()
            try await store.put("volume/a", "the value of a")
            await store.close()
            let url = URL(fileURLWithPath: place.path)
            var bytes = try Data(contentsOf: url)
            let value = try #require(bytes.range(of: Data("the value of a".utf8)))
            bytes[value.lowerBound] ^= 1
            try bytes.write(to: url)
            let refusal = await failure { try await place.open() }
            #expect(refusal?.status == .damaged && refusal?.leavesCommitOpen == false)
            let detail = refusal?.detail ?? ""
            for part in [place.path, "'volume/a'", "keep a copy", "restore it from a backup"] {
                #expect(detail.contains(part), "\(detail)")
            }
        }
    }

    @Test func aFileThatIsCutIsRefused() async throws {
        try await withFile { place in
            let store = try await place.create()
            for index in 0..<50 { try await store.put(MetaKey("a/\(index)"), String(repeating: "x", count: 1000)) }
            await store.close()
            let whole = try Data(contentsOf: URL(fileURLWithPath: place.path))
            for bytes in stride(from: 4096, to: whole.count, by: 4096) + [100, whole.count - 1] {
                try whole.prefix(bytes).write(to: URL(fileURLWithPath: place.path))
                #expect(await failure { try await place.open() }?.status == .damaged, "\(bytes) of \(whole.count) bytes")
            }
        }
    }

    @Test func aRevisionThatIsBehindItsKeysIsDamage() async throws {
        try await withFile { place in
            let store = try await place.create()
            try await store.put("a", "")
            await store.close()
            try alter(place.path, "DELETE FROM entries WHERE key = x''")
            let refusal = await failure { try await place.open() }
            #expect(refusal?.status == .damaged && refusal?.detail.contains("revision of the store is missing") == true)
        }
    }

    @Test func whatIsNoCatalogueIsRefused() async throws {
        try await withFile { place in
            try Data("this is a text and no database, and long enough to be sure".utf8).write(to: URL(fileURLWithPath: place.path))
            #expect(await failure { try await place.open() }?.status == .damaged)
            try FileManager.default.removeItem(atPath: place.path)
            try alter(place.path, create: true, "CREATE TABLE other (x)")
            let other = await failure { try await place.open() }
            #expect(other?.status == .invalidArgument && other?.detail.contains("database of something else") == true)
            #expect(await failure { try await place.create() }?.status == .alreadyExists)
            try FileManager.default.removeItem(atPath: place.path)
            let missing = await failure { try await place.open() }
            #expect(missing?.status == .notFound && missing?.detail.contains(place.path) == true)
            #expect(!FileManager.default.fileExists(atPath: place.path))
            let folder = await failure { try await SQLiteMetaStore.create(place.directory + "/none/catalogue", in: place.world) }
            #expect(folder?.status == .notFound)
            #expect(await failure { try await SQLiteMetaStore.open(place.directory, in: place.world) }?.status == .permissionDenied)
            // An empty file is as good as none for who makes a catalogue, and for nobody else.
            try Data().write(to: URL(fileURLWithPath: place.path))
            #expect(await failure { try await place.open() }?.status == .notFound)
            let store = try await place.create()
            await store.close()
        }
    }

    @Test func aNewerTableIsRefused() async throws {
        try await withFile { place in
            await (try place.create()).close()
            try alter(place.path, "PRAGMA user_version = 2")
            let refusal = await failure { try await place.open() }
            #expect(refusal?.status == .wrongVersion && refusal?.detail.contains("use a newer one") == true)
        }
    }

    /// The lock is one for other processes as well.
    @Test func anotherProcessFindsItLocked() async throws {
        try await withFile { place in
            let store = try await place.create()
            for step in 0..<2 {
                let script = "import sqlite3, sys\nsqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM entries').fetchall()"
                let process = Process()
                process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
                process.arguments = ["python3", "-c", script, place.path]
                let output = Pipe()
                process.standardError = output
                try process.run()
                let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
                process.waitUntilExit()
                if step == 0 {
                    #expect(text.contains("database is locked"), "\(text)")
                    await store.close()
                } else {
                    #expect(process.terminationStatus == 0, "\(text)")
                }
            }
        }
    }

    @Test func whatIsHeldByAnotherProcessIsRefused() async throws {
        try await withFile { place in
            await (try place.create()).close()
            let script = """
                import sqlite3, sys
                database = sqlite3.connect(sys.argv[1], isolation_level=None)
                database.execute('PRAGMA locking_mode=EXCLUSIVE')
                database.execute('BEGIN IMMEDIATE')
                sys.stdout.write('held')
                sys.stdout.flush()
                sys.stdin.read()
                """
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            process.arguments = ["python3", "-c", script, place.path]
            let output = Pipe()
            let input = Pipe()
            process.standardOutput = output
            process.standardInput = input
            try process.run()
            #expect(String(decoding: output.fileHandleForReading.availableData, as: UTF8.self).hasPrefix("held"))
            let refusal = await failure { try await place.open() }
            #expect(refusal?.status == .busy && refusal?.detail.contains("\(place.path) is open in another process") == true)
            // Its end, by whatever, gives the lock back.
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            await (try place.open()).close()
        }
    }

    @Test func theWorldGoesOnWhileSQLiteWaits() async throws {
        try await withFile { place in
            let thread = try BlockingThread()
            let gate = DispatchSemaphore(value: 0)
            let outcome = Tally()
            place.world.spawn {
                let passed = await thread.run { gate.wait(timeout: .now() + 10) == .success }
                #expect(passed, "the world stood still until the time was over")
                outcome.add()
            }
            await place.operations.sleep(.milliseconds(5))
            #expect(outcome.total == 0)
            gate.signal()
            await outcome.wait(for: 1)
        }
    }

    @Test func aFullDiskIsNoEnd() async throws {
        try await withFile { place in
            let database = try Database(place.path, create: true)
            try database.run("PRAGMA journal_mode=WAL; CREATE TABLE t (x); PRAGMA max_page_count=3")
            let full = await failure { try database.run("INSERT INTO t VALUES (zeroblob(100000))") }
            #expect(full?.status == .noSpace && full?.leavesCommitOpen == false)
            try database.run("INSERT INTO t VALUES (1)")
            database.close()
        }
    }

    /// What the disk has failed to do once, it is not asked again.
    @Test func afterACommitOfUnknownOutcomeEverythingFails() async throws {
        try await withFile { place in
            let database = try Database(place.path, create: true)
            try database.run("CREATE TABLE t (x)")
            // There is none to commit, which fails as nothing else should.
            let failed = await failure { try database.commit() }
            #expect(failed?.status == .diskFailed && failed?.leavesCommitOpen == true)
            #expect(await failure { try database.run("INSERT INTO t VALUES (1)") } == failed)
            #expect(await failure { try database.checkUsable() } == failed)
            database.close()
        }
    }

    private func alter(_ path: String, create: Bool = false, _ text: String) throws {
        let database = try Database(path, create: create)
        try database.run(text)
        database.close()
    }
}
