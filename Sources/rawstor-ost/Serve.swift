import Arguments
import Base
import Environment
import OSTDaemon
import OSTEngine
import PartStore
import Reactor

/// What the command line asks `serve` for, checked before anything is opened.
private struct ServeOptions {
    var path: String
    var endpoints: [Endpoint] = []
    var metrics: Endpoint?
    var logLevel = LogLevel.info
    var spin: Interval?

    init(_ command: ParsedCommand) throws(Failure) {
        path = command.positionals[0]
        let allowsNetwork = command.has("insecure-network")
        for text in command.values("listen") { endpoints.append(try ListenAddress.parse(text)) }
        for text in command.values("listen-unix") { endpoints.append(.unix(path: text)) }
        if endpoints.isEmpty { endpoints = [.tcp(host: "127.0.0.1", port: 7710)] }
        if let text = command.value("metrics") { metrics = try ListenAddress.parse(text) }
        for endpoint in endpoints + [metrics].compactMap({ $0 }) { try ListenAddress.check(endpoint, allowsNetwork: allowsNetwork) }
        if let text = command.value("spin") {
            guard let microseconds = UInt64(text), microseconds <= 10_000 else {
                throw Failure(.invalidArgument, "--spin is a number of microseconds, at most 10000; '\(text)' is not")
            }
            spin = Interval(nanoseconds: microseconds * 1000)
        }
        switch command.value("log-level") ?? "info" {
        case "debug": logLevel = .debug
        case "info": logLevel = .info
        case "warning": logLevel = .warning
        case "error": logLevel = .error
        case let other: throw Failure(.invalidArgument, "there is no log level '\(other)'; use debug, info, warning or error")
        }
    }
}

func serve(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let options = try ServeOptions(command)
    var reactorOptions = ReactorOptions()
    reactorOptions.logLevel = options.logLevel
    reactorOptions.name = "rawstor-ost"
    if let spin = options.spin { reactorOptions.spin = spin }
    return try inWorld(reactorOptions) { reactor throws(Failure) in try await serve(reactor, options) }
}

private func serve(_ reactor: Reactor, _ options: ServeOptions) async throws(Failure) -> Int32 {
    // First of all: signals that come while the store is loaded wait for their turn.
    let signal = try StopSignal(reactor)
    let operations = Operations(reactor)
    let disk = try await patiently(operations) { () throws(Failure) in try reactor.openDisk(options.path, .readWrite) }
    let began = reactor.now
    let store = try await StoreFile.load(operations, disk: disk, path: options.path)
    reactor.log(
        .info, "store loaded",
        [
            LogField("path", options.path), LogField("store", store.store), LogField("cluster", store.cluster),
            LogField("boot", store.boot),
            LogField("objects", store.objectCount), LogField("capacity", ByteSize.text(store.statistics.capacityBytes)),
            LogField("used", ByteSize.text(store.statistics.usedBytes)), LogField("ms", (reactor.now - began).milliseconds),
        ])
    let server = try OSTServer(world: reactor, disk: disk, store: store) { () throws(Failure) in
        try await StoreFile.load(operations, disk: disk, path: options.path, afterFailure: true)
    }
    reactor.isInHaste = { [unowned server] in server.engine.requestsInFlight <= 4 }
    for endpoint in options.endpoints {
        _ = try await patiently(operations) { () throws(Failure) in try server.listen(on: endpoint) }
    }
    let metrics = MetricsServer(world: reactor, server: server)
    if let endpoint = options.metrics {
        _ = try await patiently(operations) { () throws(Failure) in try metrics.listen(on: endpoint) }
    }
    let number = await signal.wait()
    reactor.log(.info, "asked to stop", [LogField("signal", number)])
    metrics.stop()
    await server.stop()
    return ExitStatus.well
}

/// Tries for a few seconds what another process has: one that was killed a moment ago keeps its lock and its port until the kernel has
/// ended its last operations.
private func patiently<Value>(
    _ operations: Operations, _ body: () throws(Failure) -> Value
) async throws(Failure) -> Value {
    let end = operations.world.now + .seconds(5)
    while true {
        do throws(Failure) {
            return try body()
        } catch {
            guard error.status == .busy, operations.world.now < end else { throw error }
        }
        await operations.sleep(.milliseconds(50))
    }
}

/// SIGTERM or SIGINT, as something to wait for.
private final class StopSignal: CompletionSink {
    private var number: Int32?
    private var waiter: UnsafeContinuation<Void, Never>?

    init(_ reactor: Reactor) throws(Failure) {
        try reactor.onSignal([2, 15], Ticket(reactor.attach(self), 0))
    }

    func completed(_ token: UInt32, result: Int32) {
        number = result
        waiter?.resume()
        waiter = nil
    }

    func batchEnded() {}

    func wait() async -> Int32 {
        await suspend(while: { number == nil }) { waiter = $0 }
        return number ?? 0
    }
}
