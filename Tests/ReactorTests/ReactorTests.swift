import Base
import Environment
import Glibc
import Synchronization
import Testing

@testable import Reactor

@Suite struct ReactorTests {
    @Test func timersFireInOrderAndNotWhenCancelled() async throws {
        try await withReactor { bench in
            let sink = Recorder()
            let id = bench.reactor.attach(sink)
            let start = bench.reactor.now
            await withUnsafeContinuation { done in
                sink.onCompleted = { token, _ in if token == 3 { done.resume() } }
                _ = bench.reactor.wake(at: start + .milliseconds(20), Ticket(id, 3))
                let cancelled = bench.reactor.wake(at: start + .milliseconds(10), Ticket(id, 2))
                _ = bench.reactor.wake(at: start + .milliseconds(5), Ticket(id, 1))
                _ = bench.reactor.wake(at: start, Ticket(id, 0))
                bench.reactor.cancel(cancelled)
                bench.reactor.cancel(cancelled)
            }
            #expect(sink.completions.map(\.token) == [0, 1, 3])
            #expect(bench.reactor.now >= start + .milliseconds(20))
            bench.reactor.detach(id)
        }
    }

    @Test func cancelledTimersDoNotGather() {
        var table = TimerTable()
        let due = TimerTable.Due(sink: SinkID(0), sinkGeneration: 0, token: 0)
        _ = table.add(at: .zero + .seconds(1), due)
        for count in 0..<100_000 { table.cancel(table.add(at: .zero + .seconds(30) + .microseconds(UInt64(count)), due)) }
        #expect(table.count < 200)
        #expect(table.next() == .zero + .seconds(1))
        #expect(table.popDue(.never) != nil)
        #expect(table.popDue(.never) == nil && table.isEmpty)
    }

    @Test func timersComeOutSorted() {
        var table = TimerTable()
        var random = RandomGenerator()
        var expected: [(UInt64, UInt32)] = []
        for token in 0..<2000 as Range<UInt32> {
            let instant = random.next() % 500
            let timer = table.add(at: Instant(nanoseconds: instant), .init(sink: SinkID(0), sinkGeneration: 0, token: token))
            if random.next() % 3 == 0 { table.cancel(timer) } else { expected.append((instant, token)) }
        }
        expected.sort { $0 < $1 }
        for (instant, token) in expected {
            #expect(table.next()?.nanoseconds == instant)
            #expect(table.popDue(.never)?.token == token)
        }
        #expect(table.next() == nil)
    }

    @Test func asyncCodeStaysOnTheReactorsThread() async throws {
        try await withReactor { bench in
            let here = thread()
            let member = Member(bench.reactor)
            #expect(await member.threadOfACall() == here)
            await Task.yield()
            #expect(thread() == here)
            await bench.operations.sleep(.milliseconds(1))
            #expect(thread() == here)
            async let child = threadOfAChild()
            #expect(await child == here)
            #expect(await member.threadOfATask() == here)
        }
    }

    @Test func workOfOtherThreadsRunsOnTheReactorsThread() async throws {
        let tally = Tally()
        try await withReactor { bench in
            let here = thread()
            let reactor = bench.reactor
            await withUnsafeContinuation { (done: UnsafeContinuation<Void, Never>) in
                for _ in 0..<4 {
                    Task.detached {
                        for _ in 0..<1000 {
                            reactor.post {
                                if thread() != here { tally.elsewhere += 1 }
                                tally.here += 1
                                if tally.here == 4000 { done.resume() }
                            }
                        }
                    }
                }
            }
        }
        #expect(tally.here == 4000 && tally.elsewhere == 0)
    }

    @Test func detachedSinkGetsNothing() async throws {
        try await withReactor { bench in
            let (first, second) = (Recorder(), Recorder())
            let id = bench.reactor.attach(first)
            _ = bench.reactor.wake(at: bench.reactor.now, Ticket(id, 1))
            bench.reactor.detach(id)
            // Its successor has the same index.
            #expect(bench.reactor.attach(second) == id)
            await bench.operations.sleep(.milliseconds(2))
            #expect(first.completions.isEmpty && second.completions.isEmpty && first.batches == 0 && second.batches == 0)
            bench.reactor.detach(id)
        }
    }

    @Test func batchEndsOnceForEachSinkWithCompletions() async throws {
        try await withReactor { bench in
            let (busy, idle) = (Recorder(), Recorder())
            let (id, other) = (bench.reactor.attach(busy), bench.reactor.attach(idle))
            for token in 0..<5 as Range<UInt32> { _ = bench.reactor.wake(at: bench.reactor.now, Ticket(id, token)) }
            await bench.operations.sleep(.milliseconds(1))
            #expect(busy.completions.count == 5 && busy.batches == 1 && idle.batches == 0)
            bench.reactor.detach(id)
            bench.reactor.detach(other)
        }
    }

    @Test func idleReactorSleeps() async throws {
        try await withReactor { bench in
            let before = threadTime()
            await bench.operations.sleep(.milliseconds(200))
            #expect(threadTime() - before < 5_000_000)
        }
    }

    /// One read after the other: once waits have been short the reactor looks instead of sleeping, and stops when there is nothing to see.
    @Test(arguments: [true, false]) func shortWaitsAreSpun(_ isInHaste: Bool) async throws {
        var options = ReactorOptions()
        options.spin = Interval(nanoseconds: 2_000_000)
        try await withReactor(options) { bench in
            bench.reactor.isInHaste = { isInHaste }
            let disk = try bench.reactor.openDisk(bench.directory + "/disk", .create(bytes: 1 << 20))
            let memory = bench.memory(4096)
            defer { memory.deallocate() }
            // What was never written is no disk operation.
            memory.initializeMemory(as: UInt8.self, repeating: 1)
            try await bench.operations.write(disk, at: 0, from: memory)
            // While others take the core nothing is spun for: again, until they leave it.
            let end = bench.reactor.now + .seconds(60)
            var before = 0
            repeat {
                before = bench.reactor.waitsSpun
                for _ in 0..<200 { try await bench.operations.read(disk, at: 0, into: memory) }
            } while isInHaste && bench.reactor.waitsSpun - before <= 50 && bench.reactor.now < end
            #expect((bench.reactor.waitsSpun - before > 50) == isInHaste)
            let spun = bench.reactor.waitsSpun
            let began = threadTime()
            for _ in 0..<20 { await bench.operations.sleep(.milliseconds(10)) }
            #expect(bench.reactor.waitsSpun == spun)
            #expect(threadTime() - began < 40_000_000)
            bench.reactor.closeDisk(disk)
        }
    }

    @Test func signalCompletesItsTicket() async throws {
        try await withReactor { bench in
            let sink = Recorder()
            let id = bench.reactor.attach(sink)
            try bench.reactor.onSignal([SIGUSR2], Ticket(id, 1))
            await withUnsafeContinuation { done in
                sink.onCompleted = { _, _ in done.resume() }
                pthread_kill(pthread_self(), SIGUSR2)
            }
            #expect(sink.completions.first?.result == SIGUSR2)
            bench.reactor.detach(id)
        }
    }

    @Test func callerMovesAReactorBetweenThreads() async throws {
        var options = ReactorOptions()
        options.callerDriven = true
        let reactor = try Reactor(options)
        let state = Moving(reactor)
        let (left, right) = try state.pair()
        // A receive begun on a thread that ends must survive it.
        await onThread { reactor.perform { state.receive(right) } }
        for round in 1...6 {
            await onThread {
                reactor.perform {
                    state.send(left, count: round)
                    _ = reactor.wake(at: reactor.now + .milliseconds(1), Ticket(state.id, 9))
                    reactor.submit()
                }
                state.poll { state.count(of: 1) == round && state.count(of: 9) == round }
                reactor.perform { state.receive(right) }
            }
        }
        let received = state.sink.completions.filter { $0.token == 1 }.map { Int($0.result) }
        #expect(received == [1, 2, 3, 4, 5, 6])
        reactor.perform { reactor.shutdown(left) }
        await onThread { state.poll { state.count(of: 1) == 7 } }
        reactor.close(left)
        reactor.close(right)
        reactor.detach(state.id)
        reactor.close()
    }

    @Test func whatIsUnderWayEndsSoonInAReactorThatIsSevered() async throws {
        var options = ReactorOptions()
        options.callerDriven = true
        let reactor = try Reactor(options)
        let state = Moving(reactor)
        let (left, right) = try state.pair()
        let listener = try reactor.listen(on: .tcp(host: "127.0.0.1", port: 0))
        let endpoint = reactor.endpoint(of: listener)
        let began = reactor.now
        reactor.perform {
            state.receive(right)
            _ = reactor.wake(at: began + .seconds(86_400), Ticket(state.id, 9))
            reactor.connect(to: endpoint, deadline: began + .seconds(60), Ticket(state.id, 5))
        }
        reactor.sever()
        reactor.perform { reactor.connect(to: endpoint, deadline: reactor.now + .seconds(60), Ticket(state.id, 6)) }
        let limit = reactor.now + .seconds(10)
        while state.sink.completions.count < 4, reactor.now < limit { reactor.process(wait: limit) }
        #expect(state.sink.completions.filter { $0.token == 1 || $0.token == 9 }.map(\.result) == [0, 0])
        #expect(state.sink.completions.filter { $0.token == 5 || $0.token == 6 }.map(\.result) == [-ECANCELED, -ECANCELED])
        reactor.closeListener(listener)
        reactor.close(left)
        reactor.close(right)
        reactor.detach(state.id)
        reactor.close()
    }

    @Test func postedWorkMakesTheDescriptorReadable() async throws {
        var options = ReactorOptions()
        options.callerDriven = true
        let reactor = try Reactor(options)
        let state = Moving(reactor)
        state.poll { true }
        let done = Flag()
        await onThread { reactor.post { done.value = true } }
        state.poll { done.value }
        let ran = Flag()
        reactor.spawn {
            await Task.yield(); ran.value = true
        }
        state.poll { ran.value }
        reactor.detach(state.id)
        reactor.close()
    }

    @Test func nothingIsLeftOpenByAReactorThatIsClosed() async throws {
        let directory = makeDirectory()
        defer { removeDirectory(directory) }
        let listenerPort = Mutex<Endpoint>(.tcp(host: "127.0.0.1", port: 0))
        await onThread {
            // The others' descriptors come and go, so only those of this kind are counted.
            for round in 0..<50 {
                var options = ReactorOptions()
                options.callerDriven = round % 2 == 0
                do {
                    let reactor = try Reactor(options)
                    let sink = Recorder()
                    let id = reactor.attach(sink)
                    let disk = try reactor.openDisk(directory + "/disk", round == 0 ? .create(bytes: 1 << 20) : .readWrite)
                    let memory = try reactor.allocate(bytes: 65536)
                    // The same port and the same file each time: neither is held by what was closed.
                    let listener = try reactor.listen(on: listenerPort.withLock { $0 })
                    listenerPort.withLock { $0 = reactor.endpoint(of: listener) }
                    reactor.accept(listener, Ticket(id, 1))
                    reactor.connect(to: reactor.endpoint(of: listener), deadline: .never, Ticket(id, 2))
                    while sink.completions.count < 2 { reactor.process(wait: .never) }
                    for completion in sink.completions {
                        #expect(completion.result >= 0)
                        let half = UnsafeMutableRawBufferPointer(rebasing: memory[(Int(completion.token) * 4096)...].prefix(4096))
                        withVector(half) { reactor.receive(StreamID(completion.result), into: $0, Ticket(id, 3)) }
                    }
                    reactor.accept(listener, Ticket(id, 1))
                    _ = try reactor.listen(on: .unix(path: directory + "/socket"))
                    withVector(UnsafeMutableRawBufferPointer(rebasing: memory[..<4096])) {
                        reactor.write(disk, at: 0, from: $0, Ticket(id, 4))
                    }
                    reactor.close()
                    #expect(access(directory + "/socket", F_OK) != 0)
                    if options.callerDriven { continue }
                } catch {
                    Issue.record("round \(round): \(error)")
                }
            }
        }
        #expect(descriptors(pointingTo: directory).isEmpty)
    }

    private func descriptors(pointingTo prefix: String) -> [String] {
        (0..<4096).compactMap { number in
            var buffer = [CChar](repeating: 0, count: 512)
            let count = readlink("/proc/self/fd/\(number)", &buffer, 511)
            if count <= 0 { return nil }
            let text = String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            return text.hasPrefix(prefix) ? text : nil
        }
    }

    @Test func logLinesAreLogfmt() {
        let fields = [LogField("address", "127.0.0.1:7710"), LogField("reason", "no \"room\"\n"), LogField("empty", "")]
        let line = LogLine.text(.info, "listening", fields, program: "ost", wallClockMilliseconds: 1_795_262_400_123)
        #expect(line == "2026-11-21T12:00:00.123Z info ost listening address=127.0.0.1:7710 reason=\"no \\\"room\\\"\\n\" empty=\"\"\n")
        #expect(LogLine.time(951_782_399_999) == "2000-02-28T23:59:59.999Z")
        #expect(LogLine.time(951_825_600_000) == "2000-02-29T12:00:00.000Z")
    }
}

private func thread() -> UInt { UInt(pthread_self()) }

/// Touched on the reactor's thread only.
private final class Tally: @unchecked Sendable {
    var here = 0
    var elsewhere = 0
}

@concurrent private func threadOfAChild() async -> UInt { thread() }

private actor Member {
    private let reactor: Reactor
    init(_ reactor: Reactor) { self.reactor = reactor }
    nonisolated var unownedExecutor: UnownedSerialExecutor { reactor.executor.asUnownedSerialExecutor() }
    func threadOfACall() -> UInt { thread() }
    func threadOfATask() async -> UInt { await Task { self.threadOfACall() }.value }
}

/// A caller-driven reactor with its poll loop, passed from thread to thread.
private final class Moving: @unchecked Sendable {
    let reactor: Reactor
    let sink = Recorder()
    let id: SinkID
    private let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)

    init(_ reactor: Reactor) {
        self.reactor = reactor
        id = reactor.attach(sink)
    }

    deinit { memory.deallocate() }

    func count(of token: UInt32) -> Int { sink.completions.count { $0.token == token } }

    /// Waits in poll() alone, so that a descriptor which fails to become readable fails the test.
    func poll(until condition: () -> Bool) {
        do {
            var entry = pollfd(fd: try reactor.descriptor(), events: Int16(POLLIN), revents: 0)
            reactor.process(wait: nil)
            while !condition() {
                guard Glibc.poll(&entry, 1, 5000) == 1 else {
                    Issue.record("the descriptor did not become readable")
                    return
                }
                reactor.process(wait: nil)
            }
        } catch {
            Issue.record("\(error)")
        }
    }

    func pair() throws -> (StreamID, StreamID) {
        let listener = try reactor.listen(on: .tcp(host: "127.0.0.1", port: 0))
        reactor.accept(listener, Ticket(id, 100))
        reactor.connect(to: reactor.endpoint(of: listener), deadline: .never, Ticket(id, 101))
        poll { sink.completions.count == 2 }
        reactor.closeListener(listener)
        sink.completions.sort { $0.token < $1.token }
        let result = (StreamID(sink.completions[1].result), StreamID(sink.completions[0].result))
        sink.completions = []
        return result
    }

    func receive(_ stream: StreamID) {
        withVector(memory) { reactor.receive(stream, into: $0, Ticket(id, 1)) }
        reactor.submit()
    }

    func send(_ stream: StreamID, count: Int) {
        withVector(UnsafeMutableRawBufferPointer(rebasing: memory[..<count])) { reactor.send(stream, from: $0, Ticket(id, 2)) }
    }
}
