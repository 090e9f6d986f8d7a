import Arguments
import Base
import CSimulation
import CSystem
import Cluster
import Environment
import Simulation

/// The seeds of one call, spread over worker processes, and what came of them together.
struct Batch {
    let tasks: [SeedRun]
    var isVerbose = false
    private var jobs = max(1, Int(rs_processors()))
    private var watched: Int?
    private var outcomes: [Outcome?]
    private(set) var seconds = 0.0

    init(_ command: ParsedCommand) throws(Failure) {
        var (first, count): (UInt64, UInt64) = (1, 100)
        isVerbose = command.has("verbose")
        if let text = command.value("watch") {
            watched = Int(try Batch.number(text, "watch"))
            isVerbose = true
        }
        if let text = command.value("seed") {
            guard command.value("seeds") == nil, command.value("from") == nil else {
                throw Failure(.invalidArgument, "--seed is one seed; --seeds and --from are for many")
            }
            (first, count) = (try Batch.number(text, "seed"), 1)
        } else {
            if let text = command.value("seeds") { count = try Batch.number(text, "seeds") }
            if let text = command.value("from") { first = try Batch.number(text, "from") }
        }
        if let text = command.value("jobs") { jobs = min(max(1, Int(try Batch.number(text, "jobs"))), 256) }
        let kinds: [Kind] =
            switch (command.has("single"), command.has("replicated")) {
            case (true, false): [.single]
            case (false, true): [.replicated]
            case _: Kind.allCases
            }
        tasks = (first..<first + count).flatMap { seed in kinds.map { SeedRun(seed: seed, kind: $0) } }
        outcomes = Array(repeating: nil, count: tasks.count)
    }

    /// Tasks of simulated processes that were killed are never freed, nor what they refer to; with their worker it goes.
    private static let runsPerWorker = 50

    private static func number(_ text: String, _ option: String) throws(Failure) -> UInt64 {
        guard let number = UInt64(text), number < UInt64(UInt32.max) else {
            throw Failure(.invalidArgument, "--\(option) is a number below \(UInt32.max), '\(text)' is none")
        }
        return number
    }

    mutating func perform() {
        let began = rs_monotonic_nanoseconds()
        if isVerbose || tasks.count <= 2 {
            for (index, task) in tasks.enumerated() { outcomes[index] = task.perform(isVerbose: isVerbose, watched: watched) }
        } else {
            // A worker that dies takes its task with it, and leaves those behind it to another one.
            while outcomes.contains(where: { $0 == nil }) { performInWorkers() }
            if rs_file_is_terminal(2) { say("\n") }
        }
        seconds = Double(rs_monotonic_nanoseconds() - began) / 1e9
    }

    private mutating func performInWorkers() {
        let open = outcomes.indices.filter { outcomes[$0] == nil }
        // Each job has its own row of workers, one after the other, and waits for no other job.
        let rows = (0..<min(jobs, open.count)).map { job in
            let mine = stride(from: job, to: open.count, by: jobs).map { open[$0] }
            return stride(from: 0, to: mine.count, by: Batch.runsPerWorker).map { mine[$0..<min($0 + Batch.runsPerWorker, mine.count)] }
        }
        let workers = Workers()
        for row in rows where workers.fork() {
            for indices in row {
                if workers.fork() {
                    for index in indices { workers.send(index, tasks[index].perform(isVerbose: false, watched: nil)) }
                    rs_exit(0)
                }
                rs_wait_for_all()
            }
            rs_exit(0)
        }
        let shows = rs_file_is_terminal(2)
        workers.receive { index, outcome in
            outcomes[index] = outcome
            guard shows else { return }
            let done = outcomes.count { $0 != nil }
            say("\r\(done) of \(tasks.count) runs, \(failed.count) failed ")
        }
        // The first that each had to do and has not.
        for indices in rows.joined() {
            let lost = indices.first { outcomes[$0] == nil }
            if let lost { outcomes[lost] = Outcome(problems: ["seed \(tasks[lost].seed): the process ended; what it said stands above"]) }
        }
    }

    var failed: [UInt64] {
        var seeds: [UInt64] = []
        for (task, outcome) in zip(tasks, outcomes) where outcome?.problems.isEmpty == false && seeds.last != task.seed {
            seeds.append(task.seed)
        }
        return seeds
    }

    var marks: MarkTable {
        var marks = MarkTable()
        for outcome in outcomes { if let outcome { marks.formUnion(outcome.marks) } }
        return marks
    }

    private var faults: FaultCounts {
        var faults = FaultCounts()
        for outcome in outcomes { if let outcome { faults.add(outcome.faults) } }
        return faults
    }

    /// Of one run its own. Depends on the order of the seeds, as it should, and on nothing else.
    private var traceHash: UInt64 {
        if tasks.count == 1 { return outcomes[0]?.traceHash ?? 0 }
        return outcomes.reduce(0) { ($0 ^ ($1?.traceHash ?? 0)) &* 0x0000_0100_0000_01b3 }
    }

    private var seedCount: Int { Set(tasks.map(\.seed)).count }

    /// What each run has found, in the order of the seeds.
    var report: String {
        var text = ""
        for (task, outcome) in zip(tasks, outcomes) {
            guard let outcome else { continue }
            for problem in outcome.problems { text += "VIOLATION \(task.kind) \(problem)\n" }
            guard seedCount == 1 else { continue }
            text +=
                "\(task.kind) seed \(task.seed): \(outcome.problems.isEmpty ? "well" : "violated"), "
                + "trace \(hexadecimal(outcome.traceHash, digits: 16)), \(outcome.events) events in \(outcome.virtualSeconds) virtual "
                + "seconds\n"
        }
        return text
    }

    var json: String {
        let names = Fault.allCases.map { "\"\($0)\":\(faults[$0])" }.joined(separator: ",")
        let reached = marks.all.map { "\"\($0.name)\":\($0.isReached)" }.joined(separator: ",")
        let seeds = failed.map { "\($0)" }.joined(separator: ",")
        let milliseconds = UInt64(seconds * 1000)
        let fraction = String(milliseconds % 1000)
        let time = "\(milliseconds / 1000)." + String(repeating: "0", count: 3 - fraction.count) + fraction
        return
            "{\"seeds\":\(seedCount),\"runs\":\(tasks.count),\"violations\":\(failed.count),\"faults\":{\(names)},\"marks\":{\(reached)},"
            + "\"seconds\":\(time),\"trace_hash\":\"\(hexadecimal(traceHash, digits: 16))\",\"failed_seeds\":[\(seeds)]}\n"
    }

    var summary: String {
        let names = Fault.allCases.map { "\($0) \(faults[$0])" }.joined(separator: ", ")
        let done = outcomes.compactMap { $0 }
        return "\(seedCount) seeds in \(tasks.count) runs, \(failed.count) failed, \(done.reduce(0) { $0 + $1.writes }) writes, "
            + "\(done.reduce(0) { $0 + $1.virtualSeconds }) virtual seconds in \(UInt64(seconds)) s, "
            + "trace \(hexadecimal(traceHash, digits: 16))\nfaults: \(faults.total): \(names)\n"
            + "marks: \(marks.all.count - marks.missing.count) of \(marks.all.count) reached\n"
            + marks.missing.map { "not reached: \($0)\n" }.joined()
    }
}

/// Runs the seeds that are asked for, prints what came of them, and returns the exit code.
func run(_ command: ParsedCommand) -> Int32 {
    do throws(Failure) {
        var batch = try Batch(command)
        batch.perform()
        print(batch.report, terminator: "")
        if batch.tasks.count > 2 { print(batch.summary, terminator: "") }
        if let path = command.value("json") { try write(batch.json, to: path) }
        return batch.failed.isEmpty ? ExitStatus.well : ExitStatus.violated
    } catch {
        syntax.complain(error.detail)
        return ExitStatus.usage
    }
}

private func say(_ text: String) { Arguments.write(text, to: 2) }

private func write(_ text: String, to path: String) throws(Failure) {
    var text = text
    let result = text.withUTF8 { rs_file_write(path, $0.baseAddress, $0.count) }
    guard result == 0 else { throw Failure(.invalidArgument, "\(path) cannot be written: errno \(-result)") }
}
