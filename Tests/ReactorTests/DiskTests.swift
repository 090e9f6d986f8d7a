import Base
import Environment
import Glibc
import Testing

@testable import Reactor

@Suite struct DiskTests {
    private let bytes: UInt64 = 4 << 20

    @Test func whatIsWrittenIsRead() async throws {
        try await withReactor { [bytes] bench in
            let disk = try bench.reactor.openDisk(bench.directory + "/disk", .create(bytes: bytes))
            let traits = bench.reactor.traits(of: disk)
            #expect(traits.bytes == bytes && traits.isVolatile && !traits.isBlockDevice)
            let memory = bench.memory(64 << 10)
            defer { memory.deallocate() }
            for index in memory.indices { memory[index] = UInt8(truncatingIfNeeded: index * 31) }
            try await bench.operations.write(disk, at: 8192, from: memory)
            try await bench.operations.flush(disk)
            memory.initializeMemory(as: UInt8.self, repeating: 0)
            try await bench.operations.read(disk, at: 8192, into: memory)
            #expect(memory.indices.allSatisfy { memory[$0] == UInt8(truncatingIfNeeded: $0 * 31) })
            bench.reactor.closeDisk(disk)
        }
    }

    @Test func registeredMemoryAndVectorListsReadWhatWasWritten() async throws {
        try await withReactor { [bytes] bench in
            let disk = try bench.reactor.openDisk(bench.directory + "/disk", .create(bytes: bytes))
            let arena = try bench.reactor.allocate(bytes: 1 << 20)
            guard let base = arena.baseAddress else { return }
            #expect(arena.allSatisfy { $0 == 0 })
            for index in 0..<16384 { arena[index] = UInt8(truncatingIfNeeded: index / 4096 + 1) }
            let page = { UnsafeMutableRawBufferPointer(start: base + $0 * 4096, count: 4096) }
            try await bench.operations.write(disk, at: 0, from: page(0))
            let sink = Recorder()
            let id = bench.reactor.attach(sink)
            let gathered = [IOVector(base + 8192, 4096), IOVector(base + 4096, 4096), IOVector(base + 12288, 4096)]
            await withUnsafeContinuation { done in
                sink.onCompleted = { _, result in
                    #expect(result == 0)
                    done.resume()
                }
                gathered.withUnsafeBufferPointer { bench.reactor.write(disk, at: 4096, from: $0, Ticket(id, 7)) }
            }
            bench.reactor.detach(id)
            try await bench.operations.read(disk, at: 0, into: UnsafeMutableRawBufferPointer(start: base + 65536, count: 16384))
            let found: [UInt8] = (0..<4).map { arena[65536 + $0 * 4096] }
            #expect(found == [1, 3, 2, 4])
            bench.reactor.closeDisk(disk)
        }
    }

    @Test func manyMoreWritesThanTheQueueHoldsAllEnd() async throws {
        var options = ReactorOptions()
        options.queueDepth = 4
        try await withReactor(options) { [bytes] bench in
            let disk = try bench.reactor.openDisk(bench.directory + "/disk", .create(bytes: bytes))
            let memory = bench.memory(4096)
            defer { memory.deallocate() }
            memory.initializeMemory(as: UInt8.self, repeating: 7)
            let sink = Recorder()
            let id = bench.reactor.attach(sink)
            await withUnsafeContinuation { done in
                sink.onCompleted = { _, _ in if sink.completions.count == 200 { done.resume() } }
                for index in 0..<200 {
                    withVector(memory) { bench.reactor.write(disk, at: UInt64(index) * 4096, from: $0, Ticket(id, UInt32(index))) }
                }
            }
            #expect(sink.completions.allSatisfy { $0.result == 0 })
            #expect(Set(sink.completions.map(\.token)).count == 200)
            bench.reactor.detach(id)
            bench.reactor.closeDisk(disk)
        }
    }

    @Test func readingBeyondTheEndIsAnError() async throws {
        try await withReactor { [bytes] bench in
            let disk = try bench.reactor.openDisk(bench.directory + "/disk", .create(bytes: bytes))
            let memory = bench.memory(8192)
            defer { memory.deallocate() }
            await #expect(throws: Failure.self) { try await bench.operations.read(disk, at: bytes - 4096, into: memory) }
            bench.reactor.closeDisk(disk)
        }
    }

    @Test func punchedRangesReadAsZeros() async throws {
        try await withReactor { [bytes] bench in
            let disk = try bench.reactor.openDisk(bench.directory + "/disk", .create(bytes: bytes))
            let memory = bench.memory(4096)
            defer { memory.deallocate() }
            memory.initializeMemory(as: UInt8.self, repeating: 7)
            try await bench.operations.write(disk, at: 0, from: memory)
            let sink = Recorder()
            let id = bench.reactor.attach(sink)
            await withUnsafeContinuation { done in
                sink.onCompleted = { _, result in
                    #expect(result == 0)
                    done.resume()
                }
                bench.reactor.punch(disk, at: 0, bytes: 65536, Ticket(id, 0))
            }
            bench.reactor.detach(id)
            try await bench.operations.read(disk, at: 0, into: memory)
            #expect(memory.allSatisfy { $0 == 0 })
            #expect(bench.reactor.traits(of: disk).bytes == bytes)
            bench.reactor.closeDisk(disk)
        }
    }

    @Test func diskThatIsOpenIsRefusedAndFreeAfterClose() async throws {
        try await withReactor { [bytes] bench in
            let path = bench.directory + "/disk"
            let disk = try bench.reactor.openDisk(path, .create(bytes: bytes))
            for mode in [DiskMode.readWrite, .readOnly] {
                let refusal = failure { () throws(Failure) in _ = try bench.reactor.openDisk(path, mode) }
                #expect(refusal?.status == .busy && refusal?.detail.contains(path) == true)
            }
            bench.reactor.closeDisk(disk)
            bench.reactor.closeDisk(try bench.reactor.openDisk(path, .readOnly))
        }
    }

    @Test func creatingRefusesWhatIsNotEmptyAndKeepsIt() async throws {
        try await withReactor { [bytes] bench in
            let path = bench.directory + "/disk"
            bench.reactor.closeDisk(try bench.reactor.openDisk(path, .create(bytes: bytes)))
            #expect(failure { () throws(Failure) in _ = try bench.reactor.openDisk(path, .create(bytes: bytes)) }?.status == .alreadyExists)
            bench.reactor.closeDisk(try bench.reactor.openDisk(path, .readWrite))
        }
    }

    @Test func creatingTakesAnEmptyFile() async throws {
        try await withReactor { [bytes] bench in
            let path = bench.directory + "/disk"
            Glibc.close(open(path, O_CREAT | O_WRONLY, 0o600))
            let disk = try bench.reactor.openDisk(path, .create(bytes: bytes))
            #expect(bench.reactor.traits(of: disk).bytes == bytes)
            bench.reactor.closeDisk(disk)
        }
    }

    @Test func failedCreationLeavesNothingBehind() async throws {
        try await withReactor { bench in
            let path = bench.directory + "/disk"
            #expect(failure { () throws(Failure) in _ = try bench.reactor.openDisk(path, .create(bytes: 1 << 60)) } != nil)
            #expect(access(path, F_OK) != 0)
            #expect(failure { () throws(Failure) in _ = try bench.reactor.openDisk(path, .readWrite) }?.status == .notFound)
            #expect(
                failure { () throws(Failure) in _ = try bench.reactor.openDisk(bench.directory, .readWrite) }?.status == .invalidArgument)
        }
    }
}
