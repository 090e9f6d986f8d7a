import Base
import CSystem

/// A program between its command line and its exit code, the same in all of them. What its commands do, and which other codes they end
/// with, is theirs.
extension CommandSyntax {
    /// Runs what the command line asks for and ends the process with the code that `body` returns; or prints the help that is asked for, or
    /// says what is wrong with the command line.
    public func runProgram(_ body: (ParsedCommand) -> Int32) -> Never {
        do throws(Failure) {
            switch try ParsedCommand.parse(Array(CommandLine.arguments.dropFirst()), as: self) {
            case .help(let text):
                write(text, to: 1)
                rs_exit(ExitStatus.well)
            case .run(let command): rs_exit(body(command))
            }
        } catch {
            complain(error.detail)
            rs_exit(ExitStatus.usage)
        }
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
