import Base
import Environment
import VolumeEngine
import Wire

// Connections of an open volume: how one ends, and how the next is made. The engine hears of both and keeps what is unanswered.

extension Volume {
    func breakConnection() {
        guard let stream, !isBroken else { return }
        isBroken = true
        world.shutdown(stream)
    }

    func closeBrokenStream() {
        guard let stream, isBroken, !isSending, !isReceiving else { return }
        world.close(stream)
        self.stream = nil
        isBroken = false
        engine.now = world.now
        engine.detached()
        if isShutDown || engine.isDead || (isCloseCalled && engine.activeCount == 0) {
            resumeDrained()
        } else {
            isReconnecting = true
            world.spawn { await self.reconnect() }
        }
    }

    func adopt(_ session: Session) {
        stream = session.stream
        cluster = session.cluster
        object = session.object
        attachedAt = world.now
        engine.now = world.now
        engine.attached(session.attachment)
        progress()
    }

    /// Until a session is open again, or it is clear that there never will be one.
    private func reconnect() async {
        // A store that takes us in only to send us away again must not be asked without pause.
        let livedLong = world.now - attachedAt > Limits.reconnectDelayMax
        reconnectDelay = livedLong ? Interval(nanoseconds: 0) : longer(reconnectDelay)
        while !isShutDown, !engine.isDead {
            if reconnectDelay.nanoseconds > 0 {
                let half = reconnectDelay.nanoseconds / 2
                await operations.sleep(Interval(nanoseconds: half + world.random() % max(half, 1)))
            }
            if isShutDown || engine.isDead { break }
            session += 1
            let request = SessionRequest(
                endpoint: address.endpoint, name: object.name, flags: Volume.flags(options), nonce: nonce, cluster: cluster,
                session: session, generation: options.write ? engine.generation : 0)
            do throws(Failure) {
                let opened = try await Session.open(world, request, deadline: world.now + Limits.helloDeadline)
                if isShutDown || engine.isDead {
                    world.close(opened.stream)
                    break
                }
                if opened.object.id != object.id {
                    world.close(opened.stream)
                    engine.now = world.now
                    engine.fail(.notFound)
                    break
                }
                isReconnecting = false
                adopt(opened)
                return
            } catch {
                world.log(.info, "reconnect failed", [LogField("volume", "\(address)"), LogField("why", error.detail)])
                if let verdict = finalVerdict(error.status) {
                    engine.now = world.now
                    engine.fail(verdict)
                }
                reconnectDelay = longer(reconnectDelay)
            }
        }
        isReconnecting = false
        progress()
        resumeDrained()
    }

    private func longer(_ delay: Interval) -> Interval {
        min(max(Interval(nanoseconds: delay.nanoseconds * 2), Limits.reconnectDelayMin), Limits.reconnectDelayMax)
    }

    /// The status with which the volume has failed for good, if an open that is refused with `status` will never be granted.
    private func finalVerdict(_ status: Status) -> Status? {
        switch status {
        case .fenced, .staleSession: .fenced
        case .invalidArgument, .wrongVersion, .notFound, .unsupported, .wrongCluster, .readOnly, .permissionDenied,
            .wrongStore:
            status
        case .ok, .malformed, .alreadyExists, .busy, .outOfRange, .noSpace, .staleMap, .checksumMismatch, .damaged, .diskFailed,
            .overloaded, .deadlineExceeded, .unreachable, .closed, .powerLost, .outOfMemory, .unavailable:
            nil
        }
    }
}
