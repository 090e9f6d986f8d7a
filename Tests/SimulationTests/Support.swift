import Base
import Environment
import Glibc
import Simulation

/// Remembers what it is told.
final class Recorder: CompletionSink {
    let world: SimWorld
    private(set) var sink = SinkID(0)
    private(set) var completions: [(token: UInt32, result: Int32)] = []
    private(set) var batches: [Int] = []
    private var inBatch = 0
    var onCompletion: (UInt32, Int32) -> Void = { _, _ in }

    init(_ world: SimWorld) {
        self.world = world
        sink = world.attach(self)
    }

    func ticket(_ token: UInt32 = 0) -> Ticket { Ticket(sink, token) }
    func result(of token: UInt32) -> Int32? { completions.first { $0.token == token }?.result }

    func completed(_ token: UInt32, result: Int32) {
        completions.append((token, result))
        inBatch += 1
        onCompletion(token, result)
    }

    func batchEnded() {
        batches.append(inBatch)
        inBatch = 0
    }
}

/// Memory of a test. Never freed: an operation under way may outlive the last use of the variable.
final class Memory {
    let all: UnsafeMutableRawBufferPointer

    init(_ bytes: Int, filledWith byte: UInt8 = 0) {
        all = .allocate(byteCount: bytes, alignment: 4096)
        all.initializeMemory(as: UInt8.self, repeating: byte)
    }

    var contents: [UInt8] { Array(all) }

    func vector(_ range: Range<Int>) -> IOVector {
        guard let base = all.baseAddress else { unreachable("empty memory") }
        return IOVector(base + range.lowerBound, range.count)
    }

    var vectors: [IOVector] { [vector(0..<all.count)] }
}

/// One process with one empty disk that it has open.
struct DiskBench {
    let universe: Universe
    let host: SimHost
    let disk: SimDisk
    let world: SimWorld
    let id: DiskID
    let recorder: Recorder

    init(seed: UInt64, faults: FaultPlan = .none, isVolatile: Bool = true, bytes: UInt64 = 1 << 20) throws {
        universe = Universe(seed: seed, faults: faults)
        host = universe.addHost("a")
        disk = host.addDisk("/disk", bytes: bytes, isVolatile: isVolatile)
        world = host.start("process")
        id = try world.openDisk("/disk", .readWrite)
        recorder = Recorder(world)
    }

    /// Waits for the end of one operation.
    func finish(_ token: UInt32) -> Int32? {
        universe.run(while: { recorder.result(of: token) == nil }, limit: .seconds(60))
        return recorder.result(of: token)
    }

    func write(_ memory: Memory, at offset: UInt64, _ token: UInt32) {
        memory.vectors.withUnsafeBufferPointer { world.write(id, at: offset, from: $0, recorder.ticket(token)) }
    }
    func read(_ memory: Memory, at offset: UInt64, _ token: UInt32) {
        memory.vectors.withUnsafeBufferPointer { world.read(id, at: offset, into: $0, recorder.ticket(token)) }
    }
}

/// How a process ended and what it printed.
struct Child {
    var status: Int32
    var output: String

    /// Runs the probe that is built beside the tests.
    init(_ arguments: [String]) {
        var path = [CChar](repeating: 0, count: 4096)
        let length = readlink("/proc/self/exe", &path, path.count - 1)
        let mine = String(decoding: path[..<max(0, length)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let executable = mine.split(separator: "/").dropLast().map { "/" + $0 }.joined() + "/SimulationProbe"
        var pipes: [Int32] = [0, 0]
        pipe(&pipes)
        // Other tests start children too.
        for descriptor in pipes { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 1)
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 2)
        var words: [UnsafeMutablePointer<CChar>?] = []
        for word in [executable] + arguments { words.append(strdup(word)) }
        words.append(nil)
        var environment: [UnsafeMutablePointer<CChar>?] = [strdup("SWIFT_BACKTRACE=enable=no"), nil]
        var pid: pid_t = 0
        let spawned = posix_spawn(&pid, executable, &actions, nil, &words, &environment)
        Glibc.close(pipes[1])
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = Glibc.read(pipes[0], &buffer, buffer.count)
            if count <= 0 { break }
            bytes += buffer[..<count]
        }
        Glibc.close(pipes[0])
        status = -1
        if spawned == 0 { waitpid(pid, &status, 0) }
        posix_spawn_file_actions_destroy(&actions)
        for word in words + environment { free(word) }
        output = String(decoding: bytes, as: UTF8.self)
    }
}
