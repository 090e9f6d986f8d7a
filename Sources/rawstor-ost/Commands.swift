import Arguments
import Base
import Environment
import PartStore
import Reactor

/// Runs a command to its end and returns the exit code.
func run(_ command: ParsedCommand) -> Int32 {
    do throws(Failure) {
        switch command.verb {
        case "init": return try initialize(command)
        case "serve": return try serve(command)
        case "verify": return try verify(command)
        case "info": return try info(command)
        case "dump": return try dump(command)
        case _: unreachable("verb '\(command.verb)' has a syntax and no command")
        }
    } catch {
        syntax.complain(error.detail)
        return error.status == .invalidArgument ? ExitStatus.usage : ExitStatus.failure
    }
}

private func initialize(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let path = command.positionals[0]
    let bytes = try command.value("size").map { text throws(Failure) in try ByteSize.parse(text) } ?? 0
    var cluster: Identifier?
    if let text = command.value("cluster") {
        cluster = Identifier(text: text)
        guard cluster != nil else { throw Failure(.invalidArgument, "'\(text)' is no UUID; leave --cluster out for a new cluster") }
    }
    return try Reactor.run { reactor throws(Failure) in
        // Before anything is made: a file of an impossible size would be left behind.
        if bytes > 0 { _ = try Geometry(diskBytes: bytes) }
        let disk = try reactor.openDisk(path, .create(bytes: bytes))
        let chosen =
            cluster ?? Identifier(wallClockMilliseconds: reactor.wallClockMilliseconds, random: (reactor.random(), reactor.random()))
        defer { reactor.closeDisk(disk) }
        try await StoreFile.initialize(Operations(reactor), disk: disk, path: path, cluster: chosen)
        print("made a store of \(ByteSize.text(reactor.traits(of: disk).bytes)) on \(path), cluster \(chosen)")
        return ExitStatus.well
    }
}
