import Base
import Environment
import Wire

/// What an open volume asks of its metadata servers: one connection, which is also the writer's session there, kept alive by pings; when it
/// breaks another one is made, with any of the servers. `endpoints` may be those of management servers.
///
/// One call at a time; the next waits. Nothing here decides: answers go to whoever asked.
final class MDTSession {
    private let world: any World
    private let operations: Operations
    private let servers: MetadataServers
    var cluster: Identifier { servers.cluster }
    private var connection: ControlConnection?
    private var isBusy = false
    private var asking = 0
    private var isClosed = false
    private var isPinging = false
    private var waiters: [UnsafeContinuation<Void, Never>] = []
    private var closeWaiter: UnsafeContinuation<Void, Never>?
    /// Of the writer, once granted: a new connection begins with it.
    private var name = ""
    private var generation: UInt64 = 0
    private var id = Identifier.zero
    /// Called when a server says that another writer has the volume.
    var onFenced: (() -> Void)?
    /// What a ping tells of the writer.
    var report: () -> [UInt8] = { [] }

    init(_ world: any World, _ endpoints: [Endpoint], cluster: Identifier, client: String) {
        self.world = world
        servers = MetadataServers(world, endpoints, cluster: cluster, client: client)
        operations = Operations(world)
    }

    /// Opens the volume: for writing its generation is raised. Asked again with the same nonce when an answer was lost. Also says whether
    /// an earlier writer may still read on members that have left.
    func open(
        _ name: String, _ flags: VolumeOpenRequest.Flags, nonce: Identifier, deadline: Instant
    ) async throws(Failure) -> (map: VolumeMap, isUnsettled: Bool) {
        let request = VolumeOpenRequest(name: name, flags: flags, nonce: nonce)
        let (header, map) = try await ask(FrameHeader(.volumeOpen), request.encoded, VolumeMap.self, deadline)
        if flags.contains(.write) {
            self.name = name
            generation = map.object.generation
            id = map.object.id
            isPinging = true
            world.spawn { await self.keepAlive() }
        }
        return (map, header.argument != 0)
    }

    /// `base`: up to where the members on these stores certainly have everything. `fill`: only those that are being filled since that map
    /// number; 0: all. Without `hasPatience`, and with other servers, this one has little time, also for what it was asked before.
    func exclude(
        _ stores: [Identifier], base: Version, fill: UInt64 = 0, hasPatience: Bool = true, deadline: Instant
    ) async throws(Failure) -> VolumeMap {
        var deadline = deadline
        if !hasPatience, let connection, !servers.others.isEmpty {
            let soon = world.now + Limits.exclusionPatience
            if isBusy { connection.hurry(soon) } else if !connection.isBroken { deadline = min(deadline, soon) }
        }
        var header = FrameHeader(.volumeExclude)
        header.argument = fill
        let request = VolumeMembersRequest(id: id, generation: generation, stores: stores, base: base)
        return try await ask(header, request.encoded, VolumeMap.self, deadline).1
    }

    /// Makes the stale members on a store filling; also says from which version on it must be filled.
    func fill(_ store: Identifier, base: Version, deadline: Instant) async throws(Failure) -> (VolumeMap, base: Version) {
        let request = VolumeMembersRequest(id: id, generation: generation, stores: [store], base: base)
        let (header, map) = try await ask(FrameHeader(.volumeFill), request.encoded, VolumeMap.self, deadline)
        return (map, min(base, Version(generation: header.generation, sequence: header.sequence)))
    }

    func inSync(_ store: Identifier, number: UInt64, deadline: Instant) async throws(Failure) -> VolumeMap {
        var header = FrameHeader(.volumeInSync)
        header.argument = number
        let request = VolumeMembersRequest(id: id, generation: generation, stores: [store])
        return try await ask(header, request.encoded, VolumeMap.self, deadline).1
    }

    func map(of id: Identifier, deadline: Instant) async throws(Failure) -> VolumeMap {
        try await mapAndNotes(of: id, deadline: deadline).0
    }

    func mapAndNotes(of id: Identifier, deadline: Instant) async throws(Failure) -> (VolumeMap, VolumeMapNotes) {
        let (header, map) = try await ask(FrameHeader(.volumeMap), VolumeMapRequest(id: id).encoded, VolumeMap.self, deadline)
        return (map, try VolumeMapNotes(argument: header.argument))
    }

    /// No writer up to this one reads any more on members that have left with this map or before. If the server does not hear it, it is
    /// said again when the map is looked at, and else the next who opens waits once more.
    func settle(number: UInt64, deadline: Instant) async {
        var header = FrameHeader(.volumeSettle)
        header.argument = number
        await tell(header, VolumeCloseRequest(id: id, generation: generation).encoded, deadline)
    }

    /// Members that should be on other OSTs get a place there, but not on `refused`, where they cannot be filled. On a connection of its
    /// own: the server waits for OSTs, and an exclusion must not wait for that.
    func replace(refused: [Identifier], deadline: Instant) async throws(Failure) -> VolumeMap {
        let request = VolumeMembersRequest(id: id, generation: generation, stores: refused)
        if isClosed { throw Failure(.closed) }
        asking += 1
        defer {
            asking -= 1
            resumeCloser()
        }
        let own = try await servers.connect(deadline)
        defer { own.close() }
        do throws(Failure) {
            return try VolumeMap(decoding: try await own.exchange(FrameHeader(.volumeReplace), request.encoded, deadline: deadline).1)
        } catch {
            heed(error)
            throw error
        }
    }

    /// Ends the writer's session, if the server can be told within the time, and the connection. `isSettled`: no writer up to this one
    /// reads any more, whoever has left.
    func close(isSettled: Bool = false, deadline: Instant) async {
        // Whoever closes the volume is past hearing that another one has it.
        onFenced = nil
        if generation > 0, let connection, !connection.isBroken {
            if isSettled { await settle(number: .max, deadline: deadline) }
            let request = VolumeCloseRequest(id: id, generation: generation)
            await tell(FrameHeader(.volumeClose), request.encoded, deadline)
        }
        isClosed = true
        await suspend(while: { isPinging || isBusy || asking > 0 }) { closeWaiter = $0 }
        connection?.close()
        connection = nil
        operations.close()
    }

    // Calls

    private func ask<Body: Message>(
        _ header: FrameHeader, _ body: [UInt8], _ type: Body.Type, _ deadline: Instant
    ) async throws(Failure) -> (FrameHeader, Body) {
        asking += 1
        defer {
            asking -= 1
            resumeCloser()
        }
        while true {
            do throws(Failure) {
                let (reply, bytes) = try await exchange(header, body, deadline)
                return (reply, try Body(decoding: bytes))
            } catch {
                // Every call may be made again: an open by its nonce, the others because they ask for a state.
                let mayHelp = error.status == .unreachable || error.status == .overloaded || error.status == .closed
                guard mayHelp, !isClosed, world.now + .milliseconds(100) < deadline else { throw error }
            }
            await operations.sleep(.milliseconds(100))
        }
    }

    private func exchange(_ header: FrameHeader, _ body: [UInt8], _ deadline: Instant) async throws(Failure) -> (FrameHeader, [UInt8]) {
        while isBusy { await suspend(while: { isBusy }) { waiters.append($0) } }
        isBusy = true
        defer {
            isBusy = false
            if !waiters.isEmpty { waiters.removeFirst().resume() }
            resumeCloser()
        }
        if isClosed { throw Failure(.closed) }
        // That is nothing to blame a server for that was not asked.
        if world.now >= deadline { throw Failure(.deadlineExceeded, "other requests to the metadata server took all the time") }
        do throws(Failure) {
            return try await connected(deadline).exchange(header, body, deadline: deadline)
        } catch {
            // A server that is silent may be dead with its machine.
            if error.status == .deadlineExceeded { servers.passOver() }
            heed(error)
            throw error
        }
    }

    /// Whatever it has asked: a writer that hears that there is a newer one is none any more, also while no OST knows of that. Who has
    /// opened the volume may have died before it got to them, and this writer could go on, but never bring a member up to date again.
    private func heed(_ failure: Failure) {
        if failure.status == .fenced, generation > 0 { onFenced?() }
    }

    private func connected(_ deadline: Instant) async throws(Failure) -> ControlConnection {
        if let broken = connection, broken.isBroken {
            broken.close()
            connection = nil
        }
        if let connection { return connection }
        var last = Failure(.unreachable)
        for _ in 0..<servers.count {
            let new = try await servers.connect(deadline)
            connection = new
            do throws(Failure) {
                try await resume(on: new, deadline)
                return new
            } catch {
                servers.passOver()
                last = error
                connection = nil
                new.close()
                let mayHelp = error.status == .unreachable || error.status == .deadlineExceeded
                guard mayHelp, world.now < deadline else { throw error }
            }
        }
        throw last
    }

    /// A writer that comes back makes the connection its session again.
    private func resume(on connection: ControlConnection, _ deadline: Instant) async throws(Failure) {
        guard generation > 0 else { return }
        var header = FrameHeader(.volumeOpen)
        header.generation = generation
        let request = VolumeOpenRequest(name: name, flags: .write)
        _ = try await connection.exchange(header, request.encoded, deadline: deadline)
    }

    private func keepAlive() async {
        while !isClosed {
            let next = world.now + Limits.writerPingInterval
            while !isClosed, world.now < next { await operations.sleep(.milliseconds(200)) }
            if isClosed { break }
            await tell(FrameHeader(.ping), report(), world.now + .seconds(3))
        }
        isPinging = false
        resumeCloser()
    }

    /// What the server may hear or not: it learns the same from a connection that ends or is silent.
    private func tell(_ header: FrameHeader, _ body: [UInt8], _ deadline: Instant) async {
        do throws(Failure) {
            _ = try await exchange(header, body, deadline)
        } catch {
            world.log(.debug, "the metadata server does not hear", [LogField("what", "\(header.opcode)"), LogField("why", error.detail)])
        }
    }

    private func resumeCloser() {
        guard isClosed, !isPinging, !isBusy, asking == 0 else { return }
        closeWaiter?.resume()
        closeWaiter = nil
    }
}
