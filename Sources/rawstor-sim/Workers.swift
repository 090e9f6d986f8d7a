import Arguments
import CSimulation
import CSystem
import Cluster
import Simulation

/// Processes that perform tasks and write their outcomes into one pipe: a line each, written at once, so that lines never mix.
struct Workers {
    private var pipe: (read: Int32, write: Int32) = (-1, -1)
    private static let lineMax = 4096

    init() {
        guard rs_pipe(&pipe.read, &pipe.write) == 0 else {
            syntax.complain("no pipe can be made")
            rs_exit(ExitStatus.usage)
        }
    }

    /// Returns twice: true in the new process.
    func fork() -> Bool {
        let id = rs_fork()
        if id < 0 {
            syntax.complain("no process can be made; raise the limit of processes (ulimit -u), or use fewer --jobs")
            rs_exit(ExitStatus.failure)
        }
        return id == 0
    }

    func send(_ index: Int, _ outcome: Outcome) {
        let numbers =
            [UInt64(index), outcome.traceHash, UInt64(outcome.events), outcome.virtualSeconds, UInt64(outcome.writes)]
            + outcome.marks.words + outcome.faults.all.map { UInt64($0) }
        var line = numbers.map { "\($0)" }.joined(separator: " ")
        for problem in outcome.problems {
            let room = Workers.lineMax - line.utf8.count - 2
            line +=
                "\t" + problem.replacing("\n", with: " ").utf8.prefix(max(0, room)).reduce(into: "") { $0.unicodeScalars.append(.init($1)) }
        }
        line += "\n"
        Arguments.write(line, to: pipe.write)
    }

    /// Until all workers have ended.
    func receive(_ body: (Int, Outcome) -> Void) {
        rs_close(pipe.write)
        var rest: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = buffer.withUnsafeMutableBytes { rs_read(pipe.read, $0.baseAddress, $0.count) }
            guard count > 0 else { break }
            rest += buffer[..<Int(count)]
            while let end = rest.firstIndex(of: 10) {
                take(String(decoding: rest[..<end], as: UTF8.self), body)
                rest.removeSubrange(...end)
            }
        }
        rs_close(pipe.read)
        rs_wait_for_all()
    }

    private func take(_ line: String, _ body: (Int, Outcome) -> Void) {
        let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
        let numbers = fields[0].split(separator: " ").compactMap { UInt64($0) }
        guard numbers.count == 8 + Fault.allCases.count else { return }
        body(
            Int(numbers[0]),
            Outcome(
                problems: fields.dropFirst().map { String($0) }, traceHash: numbers[1], events: Int(numbers[2]), virtualSeconds: numbers[3],
                writes: Int(numbers[4]), faults: FaultCounts(all: numbers[8...].map { Int($0) }),
                marks: MarkTable(words: Array(numbers[5..<8]))))
    }
}
