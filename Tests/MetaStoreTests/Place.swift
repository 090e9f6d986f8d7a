import Base
import Environment
import Foundation
import MetaStore
import Reactor
import SQLiteStore
import Simulation
import Testing

/// Where one catalogue is kept, in one of the ways there are. Tests make, open and lose it as often as they like.
protocol Place: AnyObject, Sendable {
    /// That of the test's own tasks.
    var world: any World { get }
    func create() async throws(Failure) -> any MetaStore
    func open() async throws(Failure) -> any MetaStore
    /// Ends the process that has it open, as far as that can be done here, and opens it again. The test lets go of the store first.
    func reopenAfterKill() async throws -> any MetaStore
}

enum Kind: CaseIterable {
    case memory, sqlite, etcd

    /// Those that one process has at a time.
    static let exclusive: [Kind] = [.memory, .sqlite]
}

/// Runs the body as a task of the simulator, for several seeds, or of a reactor.
func withPlace(_ kind: Kind, _ body: @escaping @Sendable (any Place) async throws -> Void) async throws {
    switch kind {
    case .memory: for seed in UInt64(1)...5 { try withMemory(seed: seed, body) }
    case .sqlite: try await withFile(body)
    case .etcd: try await withEtcd(body)
    }
}

// In memory

/// Each opening is a process of its own in the universe, so that it can be killed.
final class MemoryPlace: Place, @unchecked Sendable {
    let contents: MemoryMetaContents
    let world: any World
    private let host: SimHost
    private(set) var processes: [SimWorld] = []

    init(_ host: SimHost, _ contents: MemoryMetaContents) {
        self.host = host
        self.contents = contents
        world = host.start("test")
    }

    func create() async throws(Failure) -> any MetaStore { try await MemoryMetaStore.create(contents, in: start()) }
    func open() async throws(Failure) -> any MetaStore { try await MemoryMetaStore.open(contents, in: start()) }

    func kill() {
        for process in processes { process.kill() }
        contents.processEnded()
    }

    func reopenAfterKill() async throws -> any MetaStore {
        kill()
        return try await open()
    }

    private func start() -> SimWorld {
        let process = host.start("mdt-\(processes.count)")
        processes.append(process)
        return process
    }
}

func withMemory(
    seed: UInt64 = 1, isShared: Bool = false, _ body: @escaping @Sendable (MemoryPlace) async throws -> Void
) throws {
    let universe = Universe(seed: seed)
    let place = MemoryPlace(universe.addHost("mds"), MemoryMetaContents(isShared: isShared))
    let outcome = Outcome()
    place.world.spawn {
        do { try await body(place) } catch { outcome.error = error }
        outcome.isKnown = true
    }
    universe.run(while: { !outcome.isKnown }, limit: .seconds(3600))
    #expect(outcome.isKnown, "seed \(seed): the test waits for something that does not come")
    universe.end()
    if let error = outcome.error { throw error }
}

// In a file

final class FilePlace: Place, @unchecked Sendable {
    let directory: String
    let world: any World
    let operations: Operations
    var path: String { directory + "/catalogue" }

    init(_ world: any World, _ operations: Operations, _ directory: String) {
        self.world = world
        self.operations = operations
        self.directory = directory
    }

    func create() async throws(Failure) -> any MetaStore { try await SQLiteMetaStore.create(path, in: world) }
    func open() async throws(Failure) -> any MetaStore { try await SQLiteMetaStore.open(path, in: world) }

    /// The store's thread closes the file by and by.
    func reopenAfterKill() async throws -> any MetaStore {
        let deadline = world.now + .seconds(10)
        while true {
            do throws(Failure) { return try await open() } catch {
                if error.status != .busy || world.now > deadline { throw error }
            }
            await operations.sleep(.milliseconds(1))
        }
    }

    /// The file and its log as they are now, under another name.
    func copy(as name: String) throws -> String {
        let target = directory + "/" + name
        for suffix in ["", "-wal"] where FileManager.default.fileExists(atPath: path + suffix) {
            try FileManager.default.copyItem(atPath: path + suffix, toPath: target + suffix)
        }
        return target
    }
}

func withFile(_ body: @escaping @Sendable (FilePlace) async throws -> Void) async throws {
    let directory = temporaryDirectory()
    try await withReactor { reactor, operations in
        let place = FilePlace(reactor, operations, directory)
        try await body(place)
    }
    try FileManager.default.removeItem(atPath: directory)
}

func temporaryDirectory() -> String {
    var name = Array((FileManager.default.temporaryDirectory.path + "/rawstor-meta-XXXXXX").utf8CString)
    guard let made = mkdtemp(&name) else { unreachable("no temporary directory") }
    return String(cString: made)
}

/// Runs the body as a task of a reactor that has a thread of its own.
func withReactor(_ body: @escaping @Sendable (Reactor, Operations) async throws -> Void) async throws {
    let outcome = Outcome()
    await onThread {
        do {
            var options = ReactorOptions()
            options.logLevel = .error
            options.logWriter = { _ in }
            let reactor = try Reactor(options)
            let operations = Operations(reactor)
            reactor.spawn {
                do { try await body(reactor, operations) } catch { outcome.error = error }
                reactor.stop()
            }
            reactor.run()
            if outcome.error == nil { operations.close() }
            reactor.close()
        } catch {
            outcome.error = error
        }
    }
    if let error = outcome.error { throw error }
}

/// A thread that is not of Swift's pool, which may block.
private func onThread(_ body: @escaping @Sendable () -> Void) async {
    await withUnsafeContinuation { (done: UnsafeContinuation<Void, Never>) in
        let thread = Thread {
            body()
            done.resume()
        }
        thread.stackSize = 8 << 20
        thread.start()
    }
}

/// Written by the tasks of a world, read when it has ended.
private final class Outcome: @unchecked Sendable {
    var error: (any Error)?
    var isKnown = false
}

// What tests say often

func failure<Value>(_ body: () async throws -> Value) async -> Failure? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error as? Failure
    }
}

extension MetaStore {
    /// Without conditions.
    @discardableResult
    func put(_ key: MetaKey, _ text: String) async throws(Failure) -> MetaRevision {
        switch try await commit(MetaTransaction([.put(key, Array(text.utf8))])) {
        case .committed(let revision): return revision
        case .conflict(let key): throw Failure(.malformed, "a conflict about \(key) without a condition")
        }
    }

    func delete(_ key: MetaKey) async throws(Failure) { _ = try await commit(MetaTransaction([.delete(key)])) }

    func text(_ key: MetaKey) async throws(Failure) -> String? { try await read(key).map { String(decoding: $0.bytes, as: UTF8.self) } }

    func number(_ key: MetaKey) async throws(Failure) -> Int { Int(try await text(key) ?? "0") ?? -1 }

    /// Page by page.
    func all(_ prefix: MetaKey = "", limit: Int = 7) async throws(Failure) -> [MetaEntry] {
        var entries: [MetaEntry] = []
        while true {
            let page = try await list(prefix, after: entries.last?.key, limit: limit)
            entries += page.entries
            if !page.hasMore { return entries }
        }
    }
}

/// Waits for all of them, which run at once.
func together(_ count: Int, in world: any World, _ body: @escaping (Int) async throws -> Void) async throws {
    var failure: (any Error)?
    await world.together(count) { index in
        do { try await body(index) } catch { failure = error }
    }
    if let failure { throw failure }
}
