import Arguments
import Base
import CSystem
import Client
import Environment
import MDTDaemon
import Metadata
import Reactor
import SQLiteStore

/// `rebuild`: asks the OSTs, says what comes of it, and with `--yes` makes it.
func rebuild(_ command: ParsedCommand) throws(Failure) -> Int32 {
    guard case .file(let path) = try Store(command) else {
        throw Failure(.invalidArgument, "a catalogue is rebuilt into a file; name a path, not '\(command.positionals[0])'")
    }
    guard let cluster = Identifier(text: command.value("cluster") ?? ""), cluster != .zero else {
        throw Failure(.invalidArgument, "'\(command.value("cluster") ?? "")' is no UUID; 'rawstor-ost info PATH' tells a store's cluster")
    }
    var endpoints: [Endpoint] = []
    for text in command.values("ost").flatMap({ $0.split(separator: ",") }) { endpoints.append(try Address("ost://\(text)").endpoint) }
    var lost: Set<Identifier> = []
    for text in command.values("lost") {
        guard let store = Identifier(text: text) else { throw Failure(.invalidArgument, "'\(text)' is no id of a store") }
        lost.insert(store)
    }
    guard rs_file_kind(path) == rs_file_none else {
        throw Failure(.alreadyExists, "\(path) exists already; name another place, the old catalogue may be worth a look yet")
    }
    let (isWanted, isQuiet, without) = (command.has("yes"), command.has("json"), command.values("without"))
    return try Reactor.run(quietly) { [endpoints, lost] reactor throws(Failure) in
        let scan = CatalogueScan(reactor, endpoints, cluster: cluster)
        let found = await scan.ask { ost in
            if !isQuiet { syntax.complain("\(ost.endpoint): store \(ost.hello.store), \(ost.objects.count) objects") }
        }
        let plan = { (scans: [CatalogueRebuild.Scan]) in
            CatalogueRebuild(scans, without: without, lost: lost, wallClockMilliseconds: reactor.wallClockMilliseconds)
        }
        var outcome = plan(found.scans)
        let refusals = found.failures + outcome.refusals
        let isPossible = refusals.isEmpty
        if isPossible, isWanted {
            // First of all: where it cannot be written nothing else shall change.
            let store = try await SQLiteMetaStore.create(path, in: reactor)
            let result: Result<CatalogueRebuild, Failure>
            do throws(Failure) { result = .success(try await scan.rebuild(found.scans, in: store, plan)) } catch {
                result = .failure(error)
            }
            await store.close()
            outcome = try result.get()
        }
        print(isQuiet ? json(outcome, refusals, isWritten: isPossible && isWanted) : text(outcome))
        for refusal in isQuiet ? [] : refusals { syntax.complain(refusal) }
        guard isPossible else {
            throw Failure(.unavailable, "no catalogue can be made of this: \(refusals.count) reasons; nothing was changed")
        }
        if !isQuiet {
            print(
                isWanted
                    ? "made \(path); serve it where the old one was: rawstor-mdt serve \(path)"
                    : "nothing was changed; with --yes this becomes \(path)")
        }
        return ExitStatus.well
    }
}

private func text(_ outcome: CatalogueRebuild) -> String {
    var lines = ["\(outcome.volumes.count) volumes on \(outcome.osts.count) OSTs, incarnation \(outcome.incarnation)"]
    for volume in outcome.volumes {
        lines.append(
            "  \(volume.object.name)  \(ByteSize.text(volume.object.bytes))  \(volume.count(.inSync)) of \(volume.entries.count) members "
                + "in sync  generation \(volume.object.generation)  id \(volume.id)")
    }
    for note in outcome.notes { lines.append("note: \(note)") }
    return lines.joined(separator: "\n")
}

private func json(_ outcome: CatalogueRebuild, _ refusals: [String], isWritten: Bool) -> String {
    let volumes = outcome.volumes.map { volume in
        "{\"name\":\(Json.string(volume.object.name)),\"id\":\"\(volume.id)\",\"size_bytes\":\(volume.object.bytes),"
            + "\"generation\":\(volume.object.generation),\"map\":\(volume.object.map),\"in_sync\":\(volume.count(.inSync)),"
            + "\"stale\":\(volume.count(.stale)),\"unresized\":\(volume.unresized.count)}"
    }
    let osts = outcome.osts.map { ost in
        "{\"store\":\"\(ost.store)\",\"addresses\":\(Json.array(ost.registration.endpoints.map(Json.string)))}"
    }
    return
        "{\"written\":\(isWritten),\"incarnation\":\(outcome.incarnation),\"volumes\":\(Json.array(volumes)),\"osts\":\(Json.array(osts)),"
        + "\"notes\":\(Json.array(outcome.notes.map(Json.string))),\"refusals\":\(Json.array(refusals.map(Json.string)))}"
}
