import Base
import ControlServer
import Environment
import Metadata
import Wire

/// What is asked, one case each; and the registry of OSTs.
extension MDTServer {
    public func perform(
        _ header: FrameHeader, _ body: [UInt8], _ connection: ServedConnection
    ) async throws(Failure) -> ControlAnswer {
        let deadline = world.now + header.allowedTime
        switch header.opcode {
        case .ping:
            if !body.isEmpty { note(try WriterReport(decoding: body), connection) }
            return MDTAnswer(header)
        case .close: return MDTAnswer(header)
        case .volumeCreate: return MDTAnswer(header, try await create(try VolumeCreateRequest(decoding: body), deadline))
        case .volumeOpen:
            let request = try VolumeOpenRequest(decoding: body)
            let (map, isUnsettled) = try await open(request, generation: header.generation, connection)
            var answer = MDTAnswer(header, map)
            answer.header.argument = isUnsettled ? 1 : 0
            return answer
        case .volumeExclude:
            return MDTAnswer(header, try await exclude(try VolumeMembersRequest(decoding: body), fill: header.argument))
        case .volumeFill:
            let (map, base) = try await beginFill(try VolumeMembersRequest(decoding: body))
            var answer = MDTAnswer(header, map)
            answer.header.generation = base.generation
            answer.header.sequence = base.sequence
            return answer
        case .volumeInSync:
            return MDTAnswer(header, try await endFill(try VolumeMembersRequest(decoding: body), number: header.argument))
        case .volumeReplace: return MDTAnswer(header, try await replace(try VolumeMembersRequest(decoding: body), deadline))
        case .volumeMap:
            let (map, notes) = try await map(try VolumeMapRequest(decoding: body))
            var answer = MDTAnswer(header, map)
            answer.header.argument = notes.argument
            return answer
        case .volumeSet: return MDTAnswer(header, try await set(try VolumeSetRequest(decoding: body)))
        case .volumeHealth: return MDTAnswer(header, body: try await health(try NameRequest(decoding: body)).encoded)
        case .volumeList: return MDTAnswer(header, body: try await list(try NameRequest(decoding: body)).encoded)
        case .volumeRemove:
            try await remove(try NameRequest(decoding: body), connection, deadline)
            return MDTAnswer(header)
        case .volumeResize:
            let request = try NameRequest(decoding: body)
            return MDTAnswer(header, try await resize(request, bytes: header.argument, by: header.generation, deadline))
        case .volumeClose:
            let request = try VolumeCloseRequest(decoding: body)
            if let session = writers[request.id], session.connection === connection, session.generation == request.generation {
                writers[request.id] = nil
                await tellWriter(of: request.id)
            }
            return MDTAnswer(header)
        case .volumeSettle:
            let request = try VolumeCloseRequest(decoding: body)
            try await catalogue.settle(request.id, generation: request.generation, number: header.argument)
            return MDTAnswer(header)
        case .ostRegister:
            return MDTAnswer(header, body: try await register(try OSTRegisterRequest(decoding: body), connection).encoded)
        case .ostList: return MDTAnswer(header, body: try await listOSTs(try OSTListRequest(decoding: body)).encoded)
        case .ostRemove:
            try await remove(try OSTRemoveRequest(decoding: body), losesData: header.argument == 1, deadline)
            return MDTAnswer(header)
        case .ostDrain:
            try await drain(try OSTRemoveRequest(decoding: body).store, header.argument == 1)
            return MDTAnswer(header)
        case .hello, .create, .open, .stat, .list, .remove, .resize, .statistics, .volumeRecord, .adopt, .read, .write, .flush,
            .writeZeroes, .discard, .mark,
            .event, .doubts, .stamp, .changed, .checks, .fillBegin, .fillEnd, .fillPage:
            throw Failure(.unsupported, "this is a metadata server; '\(header.opcode)' is asked of an OST")
        case .mdtRegister, .mdtList:
            throw Failure(.unsupported, "this is a metadata server; '\(header.opcode)' is asked of a management server (MGS)")
        }
    }

    // OSTs

    private func register(_ request: OSTRegisterRequest, _ connection: MDTConnection) async throws(Failure) -> RegisterReply {
        guard connection.peer?.role == .ost else { throw Failure(.permissionDenied, "only an OST registers itself") }
        try checkIdentity(request, connection)
        let before = heard[request.store]
        try await adopt(request)
        try await catalogue.register(request)
        // Again, behind the wait: another may have come meanwhile.
        try checkIdentity(request, connection)
        heard[request.store] = Heard(at: world.now, connection: connection, registration: request)
        if before?.connection == nil || before?.registration.mountCounter != request.mountCounter {
            world.log(
                .info, "OST registered",
                [
                    LogField("store", request.store), LogField("address", request.endpoints.joined(separator: " ")),
                    LogField("domain", request.domain), LogField("mounts", request.mountCounter),
                    LogField("boot", request.boot),
                ])
            wakeWork()
        }
        return RegisterReply(cluster: catalogue.cluster, interval: Limits.heartbeatInterval)
    }

    /// Two daemons with disks of one identity: the one that is here already stays. A daemon that was started anew at the same address is
    /// the same one; at another address it waits until the connection of the first has ended, or is silent.
    private func checkIdentity(_ request: OSTRegisterRequest, _ connection: MDTConnection) throws(Failure) {
        guard let known = heard[request.store], let other = known.connection, other !== connection,
            known.registration.endpoints != request.endpoints, world.now - known.at < MDTServer.identityHeld
        else { return }
        throw Failure(
            .wrongStore,
            "store \(request.store) is served at \(known.registration.endpoints.joined(separator: " ")) already, from where it was heard "
                + "\((world.now - known.at).milliseconds) ms ago: there are two disks of one identity; stop one of them")
    }

    /// Three heartbeats.
    static let identityHeld = Interval(nanoseconds: Limits.heartbeatInterval.nanoseconds * 3)

    /// Whether an OST shows that it is there: the connection by which it registered is, and two heartbeats in a row are not missing. Sooner
    /// than `isAlive` this says that one has died; nothing is decided by it.
    func isHeard(_ store: Identifier) -> Bool {
        guard let known = heard[store], known.connection != nil else { return false }
        return world.now - known.at < Interval(nanoseconds: Limits.heartbeatInterval.nanoseconds * 2)
    }

    /// Whether an OST has said that it takes no blocks that need space.
    func isFull(_ store: Identifier) -> Bool {
        guard let said = heard[store]?.registration else { return false }
        return said.freeBytes <= Limits.reserveBytes(ofCapacity: said.capacityBytes)
    }

    /// Whether an OST gets parts and requests.
    public func isAlive(_ store: Identifier) -> Bool {
        guard let known = heard[store] else { return false }
        return world.now - known.at < Limits.heartbeatTimeout
    }

    private func listOSTs(_ request: OSTListRequest) async throws(Failure) -> OSTListReply {
        let behind = try await catalogue.osts().filter { $0.store > request.after }.prefix(OSTListReply.countMax)
        return OSTListReply(
            osts: behind.map { record in
                let known = heard[record.store]
                // The catalogue's free space is that of the last change.
                return OSTStatus(
                    registration: known?.registration ?? record.registration, isDrained: record.isDrained, isAlive: isAlive(record.store),
                    silence: known.map { world.now - $0.at } ?? Interval(nanoseconds: .max), isConnected: isHeard(record.store))
            })
    }

    /// One that was heard of lately may be in a placement that is just being made.
    private func remove(_ request: OSTRemoveRequest, losesData: Bool, _ deadline: Instant) async throws(Failure) {
        let store = request.store
        guard try await catalogue.osts([store])[store] != nil else { throw Failure(.notFound, "there is no OST \(store) in this cluster") }
        try await waitForOSTs(deadline)
        let wait = Interval(nanoseconds: Limits.heartbeatTimeout.nanoseconds + Limits.requestDeadlineDefault.nanoseconds)
        if let known = heard[store], world.now - known.at < wait {
            throw Failure(
                .busy,
                "OST \(store) was heard of \((world.now - known.at).milliseconds / 1000) s ago; stop it, wait until that is "
                    + "\(wait.milliseconds / 1000) s ago, and ask again")
        }
        try await catalogue.remove(ost: store, losesData: losesData)
        heard[store] = nil
        world.log(.info, "OST removed", [LogField("store", store)])
    }

    private func drain(_ store: Identifier, _ isDrained: Bool) async throws(Failure) {
        try await catalogue.setDrained(store, isDrained)
        world.log(.info, isDrained ? "OST is to be emptied" : "OST is not to be emptied any more", [LogField("store", store)])
    }

    /// After a start the OSTs come back within a heartbeat. Until then nobody knows which of them are there.
    func waitForOSTs(_ deadline: Instant) async throws(Failure) {
        let end = min(deadline, started + Interval(nanoseconds: Limits.heartbeatInterval.nanoseconds * 2))
        while world.now < end {
            if try await catalogue.osts().allSatisfy({ heard[$0.store] != nil }) { return }
            await operations.sleep(.milliseconds(100))
        }
    }
}
