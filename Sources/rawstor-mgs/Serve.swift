import Arguments
import Base
import Daemon
import Environment
import MGSDaemon
import Reactor

/// What the command line asks `serve` for, checked before anything is opened.
private struct ServeOptions {
    var endpoints: [Endpoint] = []
    var metrics: Endpoint?
    var cluster = Identifier.zero
    var logLevel = LogLevel.info

    init(_ command: ParsedCommand) throws(Failure) {
        let allowsNetwork = command.has("insecure-network")
        for text in command.values("listen") { endpoints.append(try ListenAddress.parse(text)) }
        if endpoints.isEmpty { endpoints = [.tcp(host: "127.0.0.1", port: 7706)] }
        if let text = command.value("metrics") { metrics = try ListenAddress.parse(text) }
        for endpoint in endpoints + [metrics].compactMap({ $0 }) { try ListenAddress.check(endpoint, allowsNetwork: allowsNetwork) }
        if let text = command.value("cluster") {
            guard let id = Identifier(text: text), id != .zero else {
                throw Failure(.invalidArgument, "'\(text)' is no UUID; 'rawstor-mdt info' tells that of a cluster")
            }
            cluster = id
        }
        logLevel = try LogLevel(command.value("log-level") ?? "info")
    }
}

/// Runs a command to its end and returns the exit code.
func run(_ command: ParsedCommand) -> Int32 {
    do throws(Failure) {
        switch command.verb {
        case "serve": return try serve(command)
        case _: unreachable("verb '\(command.verb)' has a syntax and no command")
        }
    } catch {
        syntax.complain(error.detail)
        return error.status == .invalidArgument ? ExitStatus.usage : ExitStatus.failure
    }
}

private func serve(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let options = try ServeOptions(command)
    var reactorOptions = ReactorOptions()
    reactorOptions.logLevel = options.logLevel
    reactorOptions.name = "rawstor-mgs"
    // Nobody waits for microseconds here.
    reactorOptions.spin = Interval(nanoseconds: 0)
    return try Reactor.run(reactorOptions) { reactor throws(Failure) in try await serve(reactor, options) }
}

private func serve(_ reactor: Reactor, _ options: ServeOptions) async throws(Failure) -> Int32 {
    let signal = try StopSignal(reactor)
    let operations = Operations(reactor)
    var serverOptions = MGSServer.Options()
    serverOptions.software = "rawstor-mgs \(softwareVersion)"
    serverOptions.cluster = options.cluster
    let server = MGSServer(world: reactor, options: serverOptions)
    for endpoint in options.endpoints {
        _ = try await operations.patiently { () throws(Failure) in try server.listen(on: endpoint) }
    }
    let metrics = MetricsServer(world: reactor, answers: server.metricsAnswers)
    if let endpoint = options.metrics {
        _ = try await operations.patiently { () throws(Failure) in try metrics.listen(on: endpoint) }
    }
    let number = await signal.wait()
    reactor.log(.info, "asked to stop", [LogField("signal", number)])
    metrics.stop()
    await server.stop()
    return ExitStatus.well
}
