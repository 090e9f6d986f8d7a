import Base
import Environment
import OSTEngine
import PartStore

/// The rare events of a server's life: listening, a store that fails, the end.
extension OSTServer {
    static let reloadDelayMin = Interval.milliseconds(100)
    static let reloadDelayMax = Interval.seconds(10)

    /// Where it listens: the port chosen, if port 0 was asked for.
    @discardableResult
    public func listen(on endpoint: Endpoint) throws(Failure) -> Endpoint {
        let id = try world.listen(on: endpoint)
        let chosen = world.endpoint(of: id)
        listeners.append(Listener(id: id))
        world.log(.info, "listening", [LogField("address", chosen)])
        accept(listeners.count - 1)
        return chosen
    }

    func accept(_ index: Int) { world.accept(listeners[index].id, ticket(.accept, index)) }

    func accepted(_ index: Int, _ result: Int32) {
        guard listeners[index].isOpen else {
            if result >= 0 { world.close(StreamID(result)) }
            return
        }
        guard result >= 0 else {
            // Out of descriptors, most likely: trying again at once would only burn the processor.
            world.log(.warning, "accepting a connection failed", [LogField("errno", -result)])
            _ = world.wake(at: world.now + OSTServer.acceptRetryDelay, ticket(.acceptAgain, index))
            return
        }
        if let id = engine.accept(on: world.endpoint(of: listeners[index].id).description) {
            peers[Int(id.index)] = Peer(stream: StreamID(result))
        } else {
            world.close(StreamID(result))
        }
        accept(index)
    }

    // A store that failed

    func startReload() {
        isReloading = true
        // Kept alive by its own task until the store is back.
        world.spawn { await self.reload() }
    }

    private func reload() async {
        var delay = OSTServer.reloadDelayMin
        while !isStopped {
            do throws(Failure) {
                let store = try await load()
                beginBatch()
                engine.replaceStore(store)
                isReloading = false
                reloadReason = nil
                return batchEnded()
            } catch {
                world.log(
                    .error, "the store cannot be loaded; trying again",
                    [LogField("reason", error.detail), LogField("ms", delay.milliseconds)])
            }
            await operations.sleep(delay)
            delay = min(Interval(nanoseconds: delay.nanoseconds * 2), OSTServer.reloadDelayMax)
        }
        isReloading = false
        if isDrained { resumeDrainWaiter() }
    }

    // The end

    /// Stops accepting, tells clients, lets requests that are under way end (within `Limits.stopDeadline`), and makes all of it durable.
    public func stop() async {
        invariant(!isStopped, "a server is stopped once")
        isStopped = true
        world.log(.info, "stopping", [LogField("connections", engine.connectionCount)])
        for index in listeners.indices {
            listeners[index].isOpen = false
            world.closeListener(listeners[index].id)
        }
        beginBatch()
        engine.stop()
        batchEnded()
        if !isDrained {
            // The engine itself gives up connections at the deadline; what then is still in the store hangs in the disk.
            let deadline = world.wake(at: world.now + Limits.stopDeadline + .seconds(1), ticket(.stopDeadline, 0))
            await suspend(while: { !isDrained }) { drainWaiter = $0 }
            world.cancel(deadline)
        }
        do throws(Failure) {
            if !engine.hasFailed { try await operations.flush(disk) }
            world.log(.info, "stopped", [LogField("requests", engine.requestsInFlight)])
        } catch {
            world.log(.error, "the last flush failed", [LogField("reason", error.detail)])
        }
        detach()
    }

    func resumeDrainWaiter() {
        let waiter = drainWaiter
        drainWaiter = nil
        waiter?.resume()
    }
}
