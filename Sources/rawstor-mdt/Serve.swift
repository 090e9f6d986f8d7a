import Arguments
import Base
import Daemon
import Environment
import MDTDaemon
import MetaStore
import Metadata
import Reactor
import Registrar
import Wire

/// What the command line asks `serve` for, checked before anything is opened.
private struct ServeOptions {
    var store: Store
    var endpoints: [Endpoint] = []
    var metrics: Endpoint?
    var logLevel = LogLevel.info
    var spareAfter = Limits.spareAfterDefault
    /// The management servers that are told of this one, and where they tell others that it is.
    var mgss: [Endpoint]
    var advertisement: Advertisement?

    init(_ command: ParsedCommand) throws(Failure) {
        store = try Store(command)
        let allowsNetwork = command.has("insecure-network")
        for text in command.values("listen") { endpoints.append(try ListenAddress.parse(text)) }
        if endpoints.isEmpty { endpoints = [.tcp(host: "127.0.0.1", port: 7700)] }
        if let text = command.value("metrics") { metrics = try ListenAddress.parse(text) }
        for endpoint in endpoints + [metrics].compactMap({ $0 }) { try ListenAddress.check(endpoint, allowsNetwork: allowsNetwork) }
        if let text = command.value("spare-after") {
            guard let seconds = UInt64(text), seconds == 0 || (10...31_536_000).contains(seconds) else {
                throw Failure(
                    .invalidArgument, "--spare-after is a number of seconds from 10 to 31536000, or 0 for never, not '\(text)'")
            }
            spareAfter = .seconds(seconds)
        }
        logLevel = try LogLevel(command.value("log-level") ?? "info")
        mgss = try Advertisement.servers(command.values("mgs"), option: "--mgs")
        guard mgss.count == Set(mgss).count else { throw Failure(.invalidArgument, "a management server is named twice with --mgs") }
        if !mgss.isEmpty {
            advertisement = try Advertisement(command.values("advertise"), listening: endpoints, noun: "metadata server")
        } else if command.has("advertise") {
            throw Failure(.invalidArgument, "--advertise is told to a management server; name one with --mgs HOST:PORT")
        }
    }

    /// Tells the management servers of `server`, that listens on `endpoints`, from now on; nil without any.
    func register(_ server: MDTServer, in world: any World, listening endpoints: [Endpoint]) -> Registrar? {
        guard let advertisement else { return nil }
        let catalogue = server.catalogue
        let request = MDTRegisterRequest(
            server: server.identity, endpoints: advertisement.addresses(listening: endpoints), host: Reactor.hostName,
            incarnation: catalogue.incarnation)
        let registrar = Registrar(world, .mdt(of: catalogue.cluster), servers: mgss) { request.encoded }
        registrar.start()
        return registrar
    }
}

func serve(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let options = try ServeOptions(command)
    var reactorOptions = ReactorOptions()
    reactorOptions.logLevel = options.logLevel
    reactorOptions.name = "rawstor-mdt"
    // Nobody waits for microseconds here.
    reactorOptions.spin = Interval(nanoseconds: 0)
    return try Reactor.run(reactorOptions) { reactor throws(Failure) in try await serve(reactor, options) }
}

private func serve(_ reactor: Reactor, _ options: ServeOptions) async throws(Failure) -> Int32 {
    // First of all: signals that come while the catalogue is opened wait for their turn.
    let signal = try StopSignal(reactor)
    let operations = Operations(reactor)
    guard let (store, catalogue) = try await open(options.store, reactor, operations, unless: signal) else { return ExitStatus.well }
    reactor.log(.info, "serving", [LogField("catalogue", options.store), LogField("cluster", catalogue.cluster)])
    var serverOptions = MDTServer.Options()
    serverOptions.software = "rawstor-mdt \(softwareVersion)"
    serverOptions.spareAfter = options.spareAfter
    let server = MDTServer(world: reactor, catalogue: catalogue, options: serverOptions)
    server.onTrouble = { signal.give() }
    var endpoints: [Endpoint] = []
    for endpoint in options.endpoints {
        endpoints.append(try await operations.patiently { () throws(Failure) in try server.listen(on: endpoint) })
    }
    let registrar = options.register(server, in: reactor, listening: endpoints)
    var answers = server.metricsAnswers
    if let registrar { answers.metrics = { server.metricsAnswers.metrics() + registrar.metricsText } }
    let metrics = MetricsServer(world: reactor, answers: answers)
    if let endpoint = options.metrics {
        _ = try await operations.patiently { () throws(Failure) in try metrics.listen(on: endpoint) }
    }
    let number = await signal.wait()
    if let trouble = server.trouble {
        reactor.log(.error, "the catalogue cannot be served any more", [LogField("reason", trouble)])
    } else {
        reactor.log(.info, "asked to stop", [LogField("signal", number)])
    }
    metrics.stop()
    registrar?.stop()
    await server.stop()
    await store.close()
    return server.trouble == nil ? ExitStatus.well : ExitStatus.failure
}

/// Waits for etcd, as the server would if it had been there already: after a loss of power everywhere it comes when most of it has come.
/// Nil when a signal comes before.
private func open(
    _ place: Store, _ reactor: Reactor, _ operations: Operations, unless signal: StopSignal
) async throws(Failure) -> (any MetaStore, ClusterCatalogue)? {
    while !signal.hasCome {
        do throws(Failure) {
            let store = try await operations.patiently { () throws(Failure) in try await place.open(in: reactor) }
            do throws(Failure) {
                return (store, try await ClusterCatalogue.open(store, reactor))
            } catch {
                await store.close()
                throw error
            }
        } catch {
            guard error.status == .unreachable else { throw error }
        }
        let next = reactor.now + .seconds(2)
        while !signal.hasCome, reactor.now < next { await operations.sleep(.milliseconds(50)) }
    }
    return nil
}
