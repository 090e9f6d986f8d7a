import Arguments
import Base
import CSystem
import Cluster
import Environment
import Simulation

/// The seeds of one call, and what came of them together.
struct Batch {
    var first: UInt64 = 1
    var count: UInt64 = 100
    var isVerbose = false
    private var watched: Int?
    private(set) var failed: [UInt64] = []
    private(set) var faults = FaultCounts()
    private(set) var marks = MarkTable()
    private(set) var traceHash: UInt64 = 0
    private(set) var seconds = 0.0
    private(set) var virtualSeconds: UInt64 = 0
    private(set) var operations = 0

    init(_ command: ParsedCommand) throws(Failure) {
        isVerbose = command.has("verbose")
        if let text = command.value("watch") {
            watched = Int(try Batch.number(text, "watch"))
            isVerbose = true
        }
        if let text = command.value("seed") {
            guard command.value("seeds") == nil, command.value("from") == nil else {
                throw Failure(.invalidArgument, "--seed is one seed; --seeds and --from are for many")
            }
            first = try Batch.number(text, "seed")
            count = 1
        } else {
            if let text = command.value("seeds") { count = try Batch.number(text, "seeds") }
            if let text = command.value("from") { first = try Batch.number(text, "from") }
        }
    }

    private static func number(_ text: String, _ option: String) throws(Failure) -> UInt64 {
        guard let number = UInt64(text), number < UInt64.max / 2 else {
            throw Failure(.invalidArgument, "--\(option) is a number, '\(text)' is none")
        }
        return number
    }

    mutating func perform() {
        let began = rs_monotonic_nanoseconds()
        let shows = count > 1 && rs_file_is_terminal(2)
        for seed in first..<first + count {
            if shows { say("\rseed \(seed - first + 1) of \(count) (\(seed)), \(failed.count) failed ") }
            invariantContext = "seed \(seed): "
            perform(seed)
        }
        if shows { say("\n") }
        seconds = Double(rs_monotonic_nanoseconds() - began) / 1e9
    }

    private mutating func perform(_ seed: UInt64) {
        let run = ClusterRun(seed: seed)
        if isVerbose {
            run.onLog = { [unowned run] process, level, text in print("\(run.universe.now) \(process) \(level): \(text)") }
        }
        if let watched { run.watch(sector: watched) }
        run.perform()
        if !run.problems.isEmpty {
            failed.append(seed)
            for problem in run.problems { print("VIOLATION \(problem)") }
        }
        let universe = run.universe
        faults.add(universe.counts)
        marks.formUnion(run.marks)
        // Depends on the order of the seeds, as it should.
        traceHash = (traceHash ^ universe.trace.hash) &* 0x0000_0100_0000_01b3
        virtualSeconds += universe.now.nanoseconds / 1_000_000_000
        operations += run.writesBegun
        if count == 1 {
            traceHash = universe.trace.hash
            print(
                "seed \(seed): \(run.problems.isEmpty ? "well" : "violated"), trace \(hexadecimal(traceHash, digits: 16)), "
                    + "\(universe.events) events in \(universe.now) virtual seconds")
        }
        universe.end()
    }

    var json: String {
        let names = Fault.allCases.map { "\"\($0)\":\(faults[$0])" }.joined(separator: ",")
        let reached = marks.all.map { "\"\($0.name)\":\($0.isReached)" }.joined(separator: ",")
        let seeds = failed.map { "\($0)" }.joined(separator: ",")
        let milliseconds = UInt64(seconds * 1000)
        let fraction = String(milliseconds % 1000)
        let time = "\(milliseconds / 1000)." + String(repeating: "0", count: 3 - fraction.count) + fraction
        return "{\"seeds\":\(count),\"violations\":\(failed.count),\"faults\":{\(names)},\"marks\":{\(reached)},\"seconds\":\(time),"
            + "\"trace_hash\":\"\(hexadecimal(traceHash, digits: 16))\",\"failed_seeds\":[\(seeds)]}\n"
    }

    var summary: String {
        let names = Fault.allCases.map { "\($0) \(faults[$0])" }.joined(separator: ", ")
        return "\(count) seeds, \(failed.count) failed, \(operations) writes, \(virtualSeconds) virtual seconds in \(UInt64(seconds)) s, "
            + "trace \(hexadecimal(traceHash, digits: 16))\nfaults: \(names)\n"
            + "marks: \(marks.all.count - marks.missing.count) of \(marks.all.count) reached\n"
    }
}

/// To standard error, at once.
func say(_ text: String) {
    var text = text
    text.withUTF8 { rs_write_all(2, $0.baseAddress, $0.count) }
}

func write(_ text: String, to path: String) throws(Failure) {
    var text = text
    let result = text.withUTF8 { rs_file_write(path, $0.baseAddress, $0.count) }
    guard result == 0 else { throw Failure(.invalidArgument, "\(path) cannot be written: errno \(-result)") }
}
