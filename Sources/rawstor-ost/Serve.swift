import Arguments
import Base
import CSystem
import Daemon
import Environment
import OSTDaemon
import OSTEngine
import PartStore
import Reactor
import Wire

/// What the command line asks `serve` for, checked before anything is opened.
private struct ServeOptions {
    var path: String
    var endpoints: [Endpoint] = []
    var metrics: Endpoint?
    var logLevel = LogLevel.info
    var spin: Interval?
    var isOverTCPOnly: Bool
    /// For the map.
    var memory: UInt64?
    var membership: Membership?

    init(_ command: ParsedCommand) throws(Failure) {
        path = command.positionals[0]
        let allowsNetwork = command.has("insecure-network")
        for text in command.values("listen") { endpoints.append(try ListenAddress.parse(text)) }
        for text in command.values("listen-unix") { endpoints.append(.unix(path: text)) }
        if endpoints.isEmpty { endpoints = [.tcp(host: "127.0.0.1", port: 7710)] }
        if let text = command.value("metrics") { metrics = try ListenAddress.parse(text) }
        for endpoint in endpoints + [metrics].compactMap({ $0 }) { try ListenAddress.check(endpoint, allowsNetwork: allowsNetwork) }
        isOverTCPOnly = command.has("tcp-only")
        if let text = command.value("spin") {
            guard let microseconds = UInt64(text), microseconds <= 10_000 else {
                throw Failure(.invalidArgument, "--spin is a number of microseconds, at most 10000; '\(text)' is not")
            }
            spin = Interval(nanoseconds: microseconds * 1000)
        }
        if let text = command.value("memory") { memory = try ByteSize.parse(text) }
        membership = try Membership(command, listening: endpoints)
        logLevel = try LogLevel(command.value("log-level") ?? "info")
    }
}

func serve(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let options = try ServeOptions(command)
    var reactorOptions = ReactorOptions()
    reactorOptions.logLevel = options.logLevel
    reactorOptions.name = "rawstor-ost"
    if let spin = options.spin { reactorOptions.spin = spin }
    return try Reactor.run(reactorOptions) { reactor throws(Failure) in try await serve(reactor, options) }
}

private func serve(_ reactor: Reactor, _ options: ServeOptions) async throws(Failure) -> Int32 {
    // First of all: signals that come while the store is loaded wait for their turn.
    let signal = try StopSignal(reactor)
    let operations = Operations(reactor)
    let disk = try await operations.patiently { () throws(Failure) in try reactor.openDisk(options.path, .readWrite) }
    let began = reactor.now
    let blocks = reactor.traits(of: disk).bytes / UInt64(Block.bytes)
    var storeOptions = PartStore.Options()
    if let memory = options.memory { storeOptions.mapBytesMax = memory } else { storeOptions.mapBytesMax = try mapBytesAvailable(blocks) }
    if storeOptions.mapBytesMax < .max / 2 { storeOptions.loadBytesMax = storeOptions.mapBytesMax / 8 * 9 + 256 << 20 }
    let store = try await StoreFile.load(operations, disk: disk, path: options.path, options: storeOptions)
    reactor.log(
        .info, "store loaded",
        [
            LogField("path", options.path), LogField("store", store.store), LogField("cluster", store.cluster),
            LogField("boot", store.boot),
            LogField("objects", store.objectCount), LogField("capacity", ByteSize.text(store.statistics.capacityBytes)),
            LogField("used", ByteSize.text(store.statistics.usedBytes)), LogField("ms", (reactor.now - began).milliseconds),
            LogField("memory", ByteSize.text(StoreMemory.fixedBytes(blocks: blocks) + store.statistics.mapBytes)),
            LogField("map_max", ByteSize.text(storeOptions.mapBytesMax)),
        ])
    if StoreMemory.mapBytesFull(blocks: blocks) > storeOptions.mapBytesMax {
        reactor.log(
            .warning, "there is not enough memory for a full disk: writes will be refused before",
            [
                LogField("needed", ByteSize.text(StoreMemory.mapBytesFull(blocks: blocks))),
                LogField("map_max", ByteSize.text(storeOptions.mapBytesMax)),
            ])
    }
    let cluster = store.cluster
    var configuration = OSTConfiguration()
    if !options.isOverTCPOnly, reactor.place != .zero {
        configuration.nearby = Nearby(place: reactor.place, name: Identifier(high: reactor.random(), low: reactor.random()))
    }
    let server = try OSTServer(world: reactor, disk: disk, store: store, configuration: configuration) { () throws(Failure) in
        try await StoreFile.load(operations, disk: disk, path: options.path, options: storeOptions, afterFailure: true)
    }
    // Few enough for the time until one ends to matter more than the processor. The reactor outlives the server.
    reactor.isInHaste = { [weak server] in server.map { $0.takeMostInFlight() <= 4 } ?? false }
    // Before anybody can hear of it.
    if let nearby = configuration.nearby {
        do throws(Failure) { try server.listen(on: .nearby(nearby.name)) } catch {
            throw Failure(
                error.status, "clients on this machine cannot be served through a Unix socket (\(error.detail)); --tcp-only does without")
        }
    }
    var endpoints: [Endpoint] = []
    for endpoint in options.endpoints {
        endpoints.append(try await operations.patiently { () throws(Failure) in try server.listen(on: endpoint) })
    }
    let membership = options.membership?.register(server, in: reactor, cluster: cluster, listening: endpoints)
    var answers = server.metricsAnswers
    if let membership { answers.metrics = { server.metricsAnswers.metrics() + membership.metricsText } }
    let metrics = MetricsServer(world: reactor, answers: answers)
    if let endpoint = options.metrics {
        _ = try await operations.patiently { () throws(Failure) in try metrics.listen(on: endpoint) }
    }
    let number = await signal.wait()
    reactor.log(.info, "asked to stop", [LogField("signal", number)])
    metrics.stop()
    membership?.stop()
    await server.stop()
    return ExitStatus.well
}

/// What the machine has left for the map. An eighth stays free: others grow, too.
private func mapBytesAvailable(_ blocks: UInt64) throws(Failure) -> UInt64 {
    let available = rs_memory_available()
    if available < 0 { return .max }
    let usable = UInt64(available) / 8 * 7
    let fixed = StoreMemory.fixedBytes(blocks: blocks)
    guard usable > fixed else {
        throw Failure(
            .outOfMemory,
            "serving this store takes \(ByteSize.text(fixed)) of memory before anything is written, and "
                + "\(ByteSize.text(UInt64(available))) are available; free some, or say with --memory how much the map of blocks may "
                + "take all the same")
    }
    return usable - fixed
}
