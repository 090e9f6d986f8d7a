import Arguments
import Base
import Environment
import Metadata
import Reactor

/// Runs a command to its end and returns the exit code.
func run(_ command: ParsedCommand) -> Int32 {
    do throws(Failure) {
        switch command.verb {
        case "init": return try initialize(command)
        case "serve": return try serve(command)
        case "info": return try info(command)
        case "rebuild": return try rebuild(command)
        case _: unreachable("verb '\(command.verb)' has a syntax and no command")
        }
    } catch {
        syntax.complain(error.detail)
        switch error.status {
        case .invalidArgument: return ExitStatus.usage
        case .damaged: return ExitStatus.damaged
        case _: return ExitStatus.failure
        }
    }
}

/// Of commands that say all that there is to say themselves.
var quietly: ReactorOptions {
    var options = ReactorOptions()
    options.logLevel = .warning
    options.name = "rawstor-mdt"
    return options
}

private func initialize(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let place = try Store(command)
    var wanted: Identifier?
    if let text = command.value("cluster") {
        guard let cluster = Identifier(text: text), cluster != .zero else {
            throw Failure(.invalidArgument, "'\(text)' is no UUID; leave --cluster out for a new cluster")
        }
        wanted = cluster
    }
    return try Reactor.run(quietly) { reactor throws(Failure) in
        let cluster =
            wanted ?? Identifier(wallClockMilliseconds: reactor.wallClockMilliseconds, random: (reactor.random(), reactor.random()))
        let store = try await place.create(in: reactor)
        _ = try await ClusterCatalogue.create(in: store, reactor, cluster: cluster)
        await store.close()
        print("made a catalogue on \(place), cluster \(cluster)")
        return ExitStatus.well
    }
}

private func info(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let place = try Store(command)
    let wantsJson = command.has("json")
    return try Reactor.run(quietly) { reactor throws(Failure) in
        let store = try await place.open(in: reactor)
        let catalogue = try await ClusterCatalogue.open(store, reactor)
        var (volumes, bytes, degraded) = (0, UInt64(0), 0)
        var last = ""
        while true {
            let page = try await catalogue.volumes(after: last, limit: 64)
            guard let end = page.last else { break }
            last = end.object.name
            volumes += page.count
            for volume in page {
                bytes &+= volume.object.bytes
                if volume.inSyncMin < volume.members { degraded += 1 }
            }
        }
        let osts = try await catalogue.osts()
        let unfinished = try await catalogue.unfinished().count
        await store.close()
        let capacity = osts.reduce(UInt64(0)) { $0 &+ $1.registration.capacityBytes }
        if wantsJson {
            print(
                "{\"cluster\":\"\(catalogue.cluster)\",\"volumes\":\(volumes),\"degraded\":\(degraded),\"provisioned_bytes\":\(bytes),"
                    + "\"unfinished\":\(unfinished),\"osts\":\(osts.count),\"capacity_bytes\":\(capacity)}")
        } else {
            print(
                """
                cluster     \(catalogue.cluster)
                volumes     \(volumes) of \(ByteSize.text(bytes)), \(degraded) of them not in sync everywhere
                unfinished  \(unfinished) changes of volumes
                OSTs        \(osts.count) of \(ByteSize.text(capacity))
                """)
        }
        return ExitStatus.well
    }
}
