import Arguments
import Base
import CSystem

// Parses the command line and runs the seeds. Everything else is in module Cluster.

Limits.check()
do throws(Failure) {
    switch try ParsedCommand.parse(withoutVerb: Array(CommandLine.arguments.dropFirst()), as: syntax) {
    case .help(let text): print(text, terminator: "")
    case .run(let command):
        var batch = try Batch(command)
        batch.perform()
        print(batch.report, terminator: "")
        if batch.tasks.count > 2 { print(batch.summary, terminator: "") }
        if command.has("marks") { for name in batch.marks.missing { print("not reached: \(name)") } }
        if let path = command.value("json") { try write(batch.json, to: path) }
        rs_exit(batch.failed.isEmpty ? ExitStatus.well : ExitStatus.violated)
    }
} catch {
    say("rawstor-sim: \(error.detail)\n")
    rs_exit(ExitStatus.usage)
}
