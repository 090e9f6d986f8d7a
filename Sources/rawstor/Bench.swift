import Arguments
import Base
import CSystem
import Client
import Environment
import Reactor
import VolumeEngine

/// Measures a volume as the data plane uses it: callbacks, no task for each operation.

private enum Job: String, CaseIterable {
    case randread, randwrite, read, write

    var writes: Bool { self == .randwrite || self == .write }
    var isRandom: Bool { self == .randread || self == .randwrite }
}

private struct BenchPlan {
    var job = Job.randread
    var bytes = 4096
    var depth = 32
    var seconds: UInt64 = 10
    var flushEvery: UInt64 = 0

    private static let bytesMax: UInt64 = 64 << 20
    private static let memoryMax = 1 << 30

    init(_ invocation: Invocation) throws(Failure) {
        let command = invocation.command
        if let text = command.value("rw") {
            guard let job = Job(rawValue: text) else {
                throw Failure(.invalidArgument, "there is no job '\(text)'; use \(Job.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            self.job = job
        }
        if let size = try invocation.size("bs") {
            guard size > 0, size % UInt64(Block.sectorBytes) == 0, size <= BenchPlan.bytesMax else {
                throw Failure(.invalidArgument, "--bs is a multiple of \(Block.sectorBytes) of at most 64M, not \(size)")
            }
            bytes = Int(size)
        }
        if let text = command.value("depth") {
            depth = Int(try invocation.number(text, 1...UInt64(Limits.operationsPerVolumeMax), "--depth is a number"))
        }
        if let text = command.value("seconds") { seconds = try invocation.number(text, 1...86400, "--seconds is a number") }
        if let text = command.value("flush-every") {
            flushEvery = try invocation.number(text, 1...1_000_000_000, "--flush-every is a number")
            guard job.writes else { throw Failure(.invalidArgument, "--flush-every is for writes; say --rw randwrite or --rw write") }
        }
        guard bytes * depth <= BenchPlan.memoryMax else {
            throw Failure(.invalidArgument, "--bs times --depth is \(ByteSize.text(UInt64(bytes * depth))), at most 1 GiB is possible")
        }
        guard !job.writes || command.has("yes-destroy-data") else {
            throw Failure(
                .invalidArgument, "'\(job)' overwrites what the volume holds; if that may be lost, say --yes-destroy-data")
        }
    }
}

func benchVolume(_ invocation: Invocation) throws(Failure) {
    let (address, name) = try invocation.volume()
    let plan = try BenchPlan(invocation)
    let timeout = try invocation.timeout()
    let result = try inWorld { reactor throws(Failure) in
        if !plan.job.writes { try await warnOfHoles(reactor, address, name, timeout) }
        var options = OpenOptions(write: plan.job.writes)
        options.client = ProcessName.text
        options.deadline = min(timeout, options.deadline)
        let volume = try await Volume.open(reactor, address, options)
        let result: Result<BenchResult, Failure>
        do throws(Failure) {
            guard UInt64(plan.bytes) <= volume.object.bytes else {
                throw Failure(
                    .invalidArgument, "'\(name)' has \(ByteSize.text(volume.object.bytes)), less than one operation; use a smaller --bs")
            }
            result = .success(try await BenchRun(reactor, volume, plan, timeout).run())
        } catch { result = .failure(error) }
        volume.onCompletion = nil
        return try await leave(volume, result)
    }
    invocation.answer(result.json, result.text)
}

private func warnOfHoles(_ reactor: Reactor, _ address: Address, _ name: String, _ timeout: Interval) async throws(Failure) {
    let catalogue = address.catalogue(in: reactor, deadline: timeout)
    defer { catalogue.close() }
    let report = VolumeReport(address, try await catalogue.stat(name))
    if report.usedBytes < report.object.bytes / 2 {
        syntax.complain(
            "of \(ByteSize.text(report.object.bytes)) only \(ByteSize.text(report.usedBytes)) were ever written; reads of the rest do not "
                + "reach the disk")
    }
}

private struct BenchResult {
    var plan: BenchPlan
    var time: Interval
    var processorNanoseconds: UInt64
    var operations: LatencyHistogram
    var flushes: LatencyHistogram

    private var seconds: Double { Double(time.nanoseconds) / 1e9 }
    private var perSecond: Double { seconds > 0 ? Double(operations.count) / seconds : 0 }
    private var rate: Double { perSecond * Double(plan.bytes) / 1e6 }
    private var processorMicroseconds: Double {
        operations.count == 0 ? 0 : Double(processorNanoseconds) / Double(operations.count) / 1000
    }

    var json: JSON {
        .object([
            ("job", .string(plan.job.rawValue)), ("bs_bytes", .integer(UInt64(plan.bytes))), ("depth", .integer(UInt64(plan.depth))),
            ("flush_every", .integer(plan.flushEvery)), ("seconds", .decimal(seconds, 3)), ("operations", .integer(operations.count)),
            ("iops", .decimal(perSecond, 1)), ("mbs", .decimal(rate, 2)), ("mean_us", .decimal(operations.meanMicroseconds, 1)),
            ("p50_us", .decimal(operations.percentileMicroseconds(50), 1)), ("p99_us", .decimal(operations.percentileMicroseconds(99), 1)),
            ("max_us", .decimal(operations.maximumMicroseconds, 1)), ("client_cpu_us", .decimal(processorMicroseconds, 2)),
            ("flushes", .integer(flushes.count)), ("flush_mean_us", .decimal(flushes.meanMicroseconds, 1)),
        ])
    }

    var text: String {
        var rows = [
            ["job", "\(plan.job) of \(ByteSize.text(UInt64(plan.bytes))) at depth \(plan.depth) for \(decimalText(seconds, digits: 1)) s"],
            ["IOPS", decimalText(perSecond, digits: 0)], ["MB/s", decimalText(rate, digits: 1)],
            ["latency mean", decimalText(operations.meanMicroseconds, digits: 0) + " us"],
            ["latency p50", decimalText(operations.percentileMicroseconds(50), digits: 0) + " us"],
            ["latency p99", decimalText(operations.percentileMicroseconds(99), digits: 0) + " us"],
            ["latency max", decimalText(operations.maximumMicroseconds, digits: 0) + " us"],
            ["client CPU", decimalText(processorMicroseconds, digits: 1) + " us an operation"],
        ]
        if flushes.count > 0 {
            rows.append(["flushes", "\(flushes.count), mean \(decimalText(flushes.meanMicroseconds, digits: 0)) us"])
        }
        return table(rows)
    }
}

private final class BenchRun {
    /// First word of the tags.
    private static let tag: UInt = 1

    private let reactor: Reactor
    private let volume: Volume
    private let plan: BenchPlan
    private let timeout: Interval
    private let memory: UnsafeMutableRawBufferPointer
    private let positions: UInt64
    private var begun: [Instant]
    private var isFlush: [Bool]
    private var random: UInt64
    private var nextPosition: UInt64 = 0
    private var writesSinceFlush: UInt64 = 0
    private var end = Instant.never
    private var active = 0
    private var failure: Failure?
    private var waiter: UnsafeContinuation<Void, Never>?
    private var operations = LatencyHistogram()
    private var flushes = LatencyHistogram()

    init(_ reactor: Reactor, _ volume: Volume, _ plan: BenchPlan, _ timeout: Interval) throws(Failure) {
        self.reactor = reactor
        self.volume = volume
        self.plan = plan
        self.timeout = timeout
        memory = try reactor.allocate(bytes: plan.bytes * plan.depth)
        positions = volume.object.bytes / UInt64(plan.bytes)
        begun = Array(repeating: .zero, count: plan.depth)
        isFlush = Array(repeating: false, count: plan.depth)
        random = reactor.random() | 1
        // Not zeros, which a store could leave out.
        if plan.job.writes { rs_random_bytes(memory.baseAddress, memory.count) }
    }

    func run() async throws(Failure) -> BenchResult {
        volume.onCompletion = { [unowned self] tag, status in completed(Int(tag.second), status) }
        let start = reactor.now
        let processor = rs_processor_nanoseconds()
        end = start + .seconds(plan.seconds)
        for slot in 0..<plan.depth { submit(slot) }
        volume.kick()
        await suspend(while: { active > 0 }) { waiter = $0 }
        if let failure { throw failure }
        return BenchResult(
            plan: plan, time: reactor.now - start, processorNanoseconds: rs_processor_nanoseconds() - processor, operations: operations,
            flushes: flushes)
    }

    private func submit(_ slot: Int) {
        let kind: Operation.Kind
        isFlush[slot] = plan.flushEvery > 0 && writesSinceFlush >= plan.flushEvery
        if isFlush[slot] {
            kind = .flush
            writesSinceFlush = 0
        } else {
            kind = plan.job.writes ? .write : .read
            writesSinceFlush += 1
        }
        let operation = Operation(
            kind, offset: isFlush[slot] ? 0 : nextOffset(), bytes: isFlush[slot] ? 0 : UInt64(plan.bytes), deadline: timeout,
            tag: Operation.Tag(BenchRun.tag, UInt(slot)))
        begun[slot] = reactor.now
        var refusal: Status?
        if isFlush[slot] {
            refusal = volume.submit(operation, UnsafeBufferPointer(start: nil, count: 0))
        } else if let base = memory.baseAddress {
            var vector = IOVector(base + slot * plan.bytes, plan.bytes)
            refusal = withUnsafePointer(to: &vector) { volume.submit(operation, UnsafeBufferPointer(start: $0, count: 1)) }
        }
        if let refusal { fail(refusal) } else { active += 1 }
    }

    private func nextOffset() -> UInt64 {
        guard plan.job.isRandom else {
            defer { nextPosition = (nextPosition + 1) % positions }
            return nextPosition * UInt64(plan.bytes)
        }
        // xorshift64*: good enough to spread, and cheap enough not to be measured.
        random ^= random >> 12
        random ^= random << 25
        random ^= random >> 27
        return (random &* 0x2545_F491_4F6C_DD1D >> 11) % positions * UInt64(plan.bytes)
    }

    private func completed(_ slot: Int, _ status: Status) {
        active -= 1
        if status == .ok {
            let time = reactor.now - begun[slot]
            if isFlush[slot] { flushes.add(time) } else { operations.add(time) }
        } else {
            fail(status)
        }
        if failure == nil, reactor.now < end { submit(slot) }
        if active == 0 {
            waiter?.resume()
            waiter = nil
        }
    }

    private func fail(_ status: Status) {
        if failure == nil { failure = Failure(status, "\(volume.address): \(plan.job) failed: \(status.sentence)") }
    }
}
