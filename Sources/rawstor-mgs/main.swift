import Arguments
import Base
import CSystem
import Reactor

// Parses the command line and runs one command in a world of its own. Everything else is in the commands.

func complain(_ text: String) {
    var line = "rawstor-mgs: \(text)\n"
    line.withUTF8 { rs_write_all(2, $0.baseAddress, $0.count) }
}

Limits.check()
Reactor.ignoreBrokenPipes()
do throws(Failure) {
    switch try ParsedCommand.parse(Array(CommandLine.arguments.dropFirst()), as: syntax) {
    case .help(let text):
        print(text, terminator: "")
        rs_exit(ExitStatus.well)
    case .run(let command): rs_exit(run(command))
    }
} catch {
    complain(error.detail)
    rs_exit(ExitStatus.usage)
}
