import Base
import Client
import Environment
import Simulation
import Testing
import VolumeEngine
import Wire

@Suite struct VolumeTests {
    @Test func whatIsWrittenIsReadAndNothingIsLeftBehindAfterClose() throws {
        for seed in UInt64(1)...10 {
            let bench = try Bench(seed: seed)
            let before = bench.client.outstanding
            try bench.run {
                let volume = try await bench.open()
                #expect(volume.object.bytes == 16 << 20)
                let data = memory(3 << 20)
                for index in data.indices { data[index] = UInt8(truncatingIfNeeded: index &* 2_654_435_761 >> 9) }
                try await volume.write(at: 1536, from: data)
                let back = memory(3 << 20)
                try await volume.read(at: 1536, into: back)
                #expect(Array(back) == Array(data))
                try await volume.discard(at: 4096, bytes: 1 << 20)
                try await volume.writeZeroes(at: 0, bytes: 512, isDurable: true)
                try await volume.flush()
                let zeros = memory(1 << 20, 7)
                try await volume.read(at: 4096, into: zeros)
                #expect(zeros.allSatisfy { $0 == 0 })
                await volume.close()
            }
            #expect(bench.client.outstanding == before)
            #expect(bench.store.opcodes.last == .close)
        }
    }

    @Test func aDaemonThatDiesAndComesBackCostsOnlyTime() throws {
        for seed in UInt64(1)...10 {
            let bench = try Bench(seed: seed)
            bench.universe.after(.milliseconds(20)) { bench.killDaemon() }
            bench.universe.after(.seconds(3)) { #expect(throws: Never.self) { try bench.restartDaemon() } }
            try bench.run {
                let volume = try await bench.open()
                let data = memory(8192)
                for round in 0..<200 {
                    data.initializeMemory(as: UInt8.self, repeating: UInt8(round))
                    try await volume.write(at: UInt64(round) * 8192, from: data)
                }
                try await volume.flush()
                for round in 0..<200 {
                    try await volume.read(at: UInt64(round) * 8192, into: data)
                    #expect(data.allSatisfy { $0 == UInt8(round) })
                }
                volume.checkInvariants()
                await volume.close()
            }
            #expect(bench.store.session > 1)
            #expect(bench.notices.contains(.disconnected(0)) && bench.notices.contains(.connected(0)))
        }
    }

    @Test func manyOperationsAtOnceSurviveResetsAndPartitions() throws {
        for seed in UInt64(1)...10 {
            var faults = FaultPlan()
            faults.reset = 2_000
            faults.clog = 2_000
            faults.partition = 100
            let bench = try Bench(seed: seed, faults: faults)
            let before = bench.client.outstanding
            bench.universe.after(.seconds(30)) { bench.universe.heal() }
            try bench.run(.seconds(600)) {
                let volume = try await open(bench)
                var ended = 0
                var failed = 0
                var waiter: UnsafeContinuation<Void, Never>?
                let buffers = (0..<64).map { memory(4096, UInt8($0)) }
                var submitted = 0
                func submit(_ index: Int) {
                    guard submitted < 3000 else { return }
                    submitted += 1
                    let buffer = buffers[index]
                    let isRead = submitted % 3 == 0
                    let operation = Operation(
                        isRead ? .read : .write, offset: UInt64(index) * 4096, bytes: 4096, deadline: .seconds(300),
                        tag: Operation.Tag(UInt(index), 0))
                    let refusal = [IOVector(buffer.baseAddress!, 4096)].withUnsafeBufferPointer { volume.submit(operation, $0) }
                    #expect(refusal == nil)
                }
                volume.onCompletion = { tag, status in
                    ended += 1
                    if status != .ok { failed += 1 }
                    let buffer = buffers[Int(tag.first)]
                    if !buffer.allSatisfy({ $0 == UInt8(tag.first) }) && !buffer.allSatisfy({ $0 == 0 }) { failed += 1 }
                    submit(Int(tag.first))
                    volume.checkInvariants()
                    if ended == 3000 { waiter?.resume() }
                }
                for index in 0..<64 { submit(index) }
                volume.kick()
                await withUnsafeContinuation { waiter = $0 }
                #expect(ended == 3000 && failed == 0)
                volume.onCompletion = nil
                await volume.close()
            }
            #expect(bench.client.outstanding == before)
        }
    }

    /// The first open has no retry of its own.
    private func open(_ bench: Bench) async throws -> Volume {
        for _ in 0..<100 {
            do { return try await bench.open() } catch {}
        }
        return try await bench.open()
    }

    @Test func aFlushAfterTheDaemonsMachineLostPowerFailsOnce() throws {
        let bench = try Bench()
        try bench.run {
            let volume = try await bench.open()
            try await volume.write(at: 0, from: memory(4096, 1))
            bench.killDaemon()
            bench.store.losesPower = true
            try bench.restartDaemon()
            var statuses: [Status] = []
            for _ in 0..<2 {
                do throws(Failure) {
                    try await volume.flush()
                    statuses.append(.ok)
                } catch {
                    statuses.append(error.status)
                }
            }
            #expect(statuses == [.powerLost, .ok])
            #expect(bench.notices.contains(.powerLost))
            await volume.close()
        }
    }

    @Test func anotherWriterFencesThisOne() throws {
        let bench = try Bench()
        let before = bench.client.outstanding
        try bench.run {
            let volume = try await bench.open()
            var force = OpenOptions()
            force.force = true
            let other = try await bench.open(force)
            await #expect(throws: Failure.self) { try await volume.write(at: 0, from: memory(4096, 1)) }
            #expect(volume.isDead && bench.notices.contains(.fenced))
            await volume.close()
            try await other.write(at: 0, from: memory(4096, 1))
            await other.close()
        }
        #expect(bench.client.outstanding == before)
    }

    @Test func anOSTThatDoesNotAnswerEndsInAnErrorAndCloseEnds() throws {
        let bench = try Bench()
        let before = bench.client.outstanding
        try bench.run {
            let volume = try await bench.open()
            bench.daemon.isMute = true
            for kind in 0..<2 {
                do throws(Failure) {
                    if kind == 0 {
                        try await volume.read(at: 0, into: memory(4096), deadline: .seconds(2))
                    } else {
                        try await volume.write(at: 0, from: memory(4096), deadline: .seconds(2))
                    }
                    Issue.record("a mute OST answered")
                } catch {
                    #expect(error.status == .deadlineExceeded)
                }
            }
            bench.daemon.isMute = false
            try await volume.write(at: 0, from: memory(4096))
            bench.killDaemon()
            await volume.close()
        }
        #expect(bench.client.outstanding == before)
    }

    @Test func aReconnectThatIsRefusedForGoodEndsTheVolume() throws {
        let bench = try Bench()
        try bench.run {
            let volume = try await bench.open()
            bench.killDaemon()
            try bench.restartDaemon()
            bench.daemon.refusesOpens = .notFound
            do throws(Failure) {
                try await volume.write(at: 0, from: memory(4096))
                Issue.record("the volume is gone")
            } catch {
                #expect(error.status == .notFound)
            }
            #expect(bench.notices.last == .failed(.notFound))
            await volume.close()
        }
    }

    @Test func openingSaysWhatIsWrong() throws {
        let bench = try Bench()
        let before = bench.client.outstanding
        func fails(_ address: Address, _ options: OpenOptions = OpenOptions()) throws -> Failure? {
            var failure: Failure?
            try bench.run {
                do throws(Failure) { _ = try await Volume.open(bench.client, address, options) } catch { failure = error }
            }
            return failure
        }
        #expect(try fails(Address(FakeDaemon.endpoint, name: "nobody")) == Failure(.notFound, "there is no volume 'nobody'"))
        #expect(try fails(Address(FakeDaemon.endpoint))?.status == .invalidArgument)
        let refused = try fails(Address(.tcp(host: "oss", port: 1), name: "a"))
        #expect(refused == Failure(.unreachable, "oss:1 cannot be reached: connection refused; is the daemon running there?"))
        var options = OpenOptions()
        options.cluster = Identifier(high: 1, low: 1)
        #expect(try fails(bench.address, options)?.status == .wrongCluster)
        bench.daemon.refusesOpens = .busy
        #expect(try fails(bench.address) == Failure(.busy, "not today"))
        #expect(bench.client.outstanding == before)
    }
}
