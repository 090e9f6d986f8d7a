import Arguments
import Base
import CSystem
import Client
import Environment
import Reactor

/// One call of the program: what all commands need of their command line, and how they answer.
struct Invocation {
    let command: ParsedCommand
    var isJSON: Bool { command.has("json") }

    /// Of each request.
    func timeout() throws(Failure) -> Interval {
        guard let text = command.value("timeout") else { return Limits.requestDeadlineDefault }
        return .seconds(try number(text, 1...86400, "--timeout is a number of seconds"))
    }

    func number(_ text: String, _ range: ClosedRange<UInt64>, _ what: String) throws(Failure) -> UInt64 {
        guard let number = UInt64(text), range.contains(number) else {
            throw Failure(.invalidArgument, "\(what) from \(range.lowerBound) to \(range.upperBound), not '\(text)'")
        }
        return number
    }

    func size(_ option: String) throws(Failure) -> UInt64? {
        guard let text = command.value(option) else { return nil }
        return try ByteSize.parse(text)
    }

    /// A size that a volume may have.
    func volumeSize(_ option: String) throws(Failure) -> UInt64? {
        guard let bytes = try size(option) else { return nil }
        do throws(Failure) { try ObjectRecord.check(bytes: bytes) } catch { throw Failure(error.status, "--\(option): \(error.detail)") }
        return bytes
    }

    func address(_ position: Int = 0) throws(Failure) -> Address { try Address(command.positionals[position]) }

    /// An address that names a volume.
    func volume(_ position: Int = 0) throws(Failure) -> (address: Address, name: String) {
        let address = try address(position)
        guard let name = address.name else {
            throw Failure(.invalidArgument, "'\(command.positionals[position])' names no volume; write its name behind the last slash")
        }
        return (address, name)
    }

    func answer(_ document: JSON, _ text: String) {
        print(isJSON ? document.text + "\n" : text, terminator: "")
    }
}

/// Runs a command to its end and returns the exit code.
func run(_ command: ParsedCommand) -> Int32 {
    let invocation = Invocation(command: command)
    do throws(Failure) {
        switch command.verb {
        case "volume create": try createVolume(invocation)
        case "volume ls", "ls": try listVolumes(invocation)
        case "volume info": try showVolume(invocation)
        case "volume resize": try resizeVolume(invocation)
        case "volume set": try setVolume(invocation)
        case "volume rm": try removeVolume(invocation)
        case "volume import": try importVolume(invocation)
        case "volume export": try exportVolume(invocation)
        case "volume bench": try benchVolume(invocation)
        case "df": try showSpace(invocation)
        case "mdt ls": try listServers(invocation)
        case "ost ls": try listOSTs(invocation)
        case "ost info": try showOST(invocation)
        case "ost drain": try drainOST(invocation)
        case "ost rm": try removeOST(invocation)
        case "status": return try showStatus(invocation)
        case "volume recover": try recoverVolume(invocation)
        case _: unreachable("verb '\(command.verb)' has a syntax and no command")
        }
        return ExitStatus.well
    } catch {
        syntax.complain(error.detail)
        let code = ExitStatus.of(error.status)
        if invocation.isJSON { print(json(error).text) }
        return code
    }
}

/// A command line that is wrong, and asks for JSON as far as can be seen.
func answer(misuse error: Failure) { if CommandLine.arguments.contains("--json") { print(json(error).text) } }

/// What stands for an answer where there is none.
func json(_ error: Failure) -> JSON {
    .object([
        (
            "error",
            .object([
                ("status", .string(snakeCase("\(error.status)"))), ("exit_code", .integer(UInt64(ExitStatus.of(error.status)))),
                ("message", .string(error.detail)),
            ])
        )
    ])
}

private func snakeCase(_ text: String) -> String {
    text.reduce(into: "") { $0 += $1.isUppercase ? "_" + $1.lowercased() : String($1) }
}

/// As it is, for what is no sentence of its own.
func writeToStandardError(_ text: String) { write(text, to: 2) }

/// Runs asynchronous code in a real world until it ends.
func inWorld<Value>(_ body: @escaping (Reactor) async throws(Failure) -> Value) throws(Failure) -> Value {
    var options = ReactorOptions()
    // What goes wrong and does not heal by itself ends in a sentence of ours; the log of the rest is for daemons.
    options.logLevel = .error
    return try Reactor.run(options, body)
}

/// Asks the catalogue at `address`, that of an OST or of a cluster.
func inCatalogue<Value>(
    _ invocation: Invocation, _ address: Address, _ body: @escaping (any Catalogue) async throws(Failure) -> Value
) throws(Failure) -> Value {
    let timeout = try invocation.timeout()
    return try inWorld { reactor throws(Failure) in
        let catalogue = address.catalogue(in: reactor, deadline: timeout)
        defer { catalogue.close() }
        return try await body(catalogue)
    }
}

extension Failure {
    /// There is nobody to say goodbye to: that would only be another wait.
    var isSilence: Bool { status == .unreachable || status == .deadlineExceeded }
}

/// Closes the volume and hands on the result. A daemon that is silent is not waited for; the end of the world breaks the connection.
func leave<Value>(_ volume: Volume, _ result: Result<Value, Failure>) async throws(Failure) -> Value {
    if case .failure(let failure) = result, failure.isSilence { throw failure }
    await volume.close()
    return try result.get()
}
