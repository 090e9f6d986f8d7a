import Base
import CSystem

/// A program between its command line and its exit code, the same in all of them. What its commands do, and which other codes they end
/// with, is theirs.
extension CommandSyntax {
    /// Runs what the command line asks for and ends the process with the code that `body` returns; or prints the help that is asked for, or
    /// says what is wrong with the command line, and `misuse` as well.
    public func runProgram(_ body: (ParsedCommand) -> Int32, misuse: (Failure) -> Void = { _ in }) -> Never {
        do throws(Failure) {
            switch try ParsedCommand.parse(Array(CommandLine.arguments.dropFirst()), as: self) {
            case .help(let text): leave(ExitStatus.well, output: write(text, to: 1))
            case .run(let command): leave(body(command), output: rs_flush_output())
            }
        } catch {
            complain(error.detail)
            misuse(error)
            leave(ExitStatus.usage, output: rs_flush_output())
        }
    }

    /// An output that reaches nobody makes a failure of what went well.
    private func leave(_ code: Int32, output result: Int32) -> Never {
        if result < 0 { complain("standard output: \(errorText(-result))") }
        rs_exit(result < 0 && code == ExitStatus.well ? ExitStatus.failure : code)
    }

    /// To standard error, for people: which program says it, and a sentence.
    public func complain(_ sentence: String) { write("\(program): \(sentence)\n", to: 2) }
}

/// The exit codes that mean the same in every program; each adds its own.
public enum ExitStatus {
    public static let well: Int32 = 0
    public static let failure: Int32 = 1
    public static let usage: Int32 = 2
}

/// At once, and not when a buffer is full. Returns 0, or a negative errno.
@discardableResult
public func write(_ text: String, to descriptor: Int32) -> Int32 {
    var text = text
    return text.withUTF8 { rs_write_all(descriptor, $0.baseAddress, $0.count) }
}

/// The system's words for a positive errno.
public func errorText(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard let base = buffer.baseAddress, let text = rs_error_text(code, base, buffer.count) else { return "errno \(code)" }
        return String(cString: text)
    }
}
