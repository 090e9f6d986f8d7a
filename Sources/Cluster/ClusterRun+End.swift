import Base
import Client
import Environment
import PartStore
import Simulation

/// The end of a run: all faults heal, everything that was asked for has ended within a minute, the volume is read, and nothing is left.
extension ClusterRun {
    private static let patience = Interval.seconds(60)

    func finish() {
        isHealed = true
        universe.heal()
        applyFaults()
        bringBack()
        if !hasProblems { endRequests() }
        if !hasProblems { becomeWriter() }
        if !hasProblems { readBack() }
        if !hasProblems { crashOnceMore() }
        if !hasProblems { closeAll() }
        if !hasProblems { stopServer() }
        if !hasProblems { verifyDisk() }
    }

    @discardableResult
    private func wait(_ what: String, _ limit: Interval = ClusterRun.patience, while condition: () -> Bool) -> Bool {
        if universe.run(while: { condition() && !hasProblems }, limit: limit) { return true }
        if !hasProblems { report("\(limit.milliseconds / 1000) s after healing: \(what)") }
        return false
    }

    private func bringBack() {
        startOST()
        // One that is on its way down is started again by what stopped it.
        wait("the OST does not serve") { ost?.isServing != true || !isDiskSound }
    }

    private func endRequests() {
        for client in clients { client.stopWorking() }
        keeper?.stopWorking()
        stranger?.stopWorking()
        wait("operations have not ended") { clients.contains { $0.world.isAlive && !$0.isIdle } || keeper?.isBusy == true }
    }

    private func becomeWriter() {
        // Some may be about to open.
        for client in clients where client.world.isAlive && !client.isOpen { client.close() }
        wait("opening does not end") { clients.contains { $0.world.isAlive && !$0.isOpen && !$0.isDone } }
        for client in clients where client.world.isAlive && client !== owner { client.close() }
        if let owner, owner.isOpen, !owner.isFenced, owner.volume?.isDead == false { return }
        if let owner, owner.world.isAlive { owner.close() }
        startClient(force: true, works: false)
        guard let fresh = clients.last else { return }
        wait("the volume cannot be opened") { owner !== fresh }
    }

    /// Everything, with the checks of every read.
    private func readBack() {
        guard let owner, let volume = owner.volume else { return }
        let step = 512
        let sectors = Int(volume.object.bytes) / Block.sectorBytes
        var first = 0
        while first < sectors, !hasProblems {
            owner.read(volume, first, min(step, sectors - first))
            first += step
            if first % (4 * step) == 0 || first >= sectors {
                volume.kick()
                wait("reading everything does not end") { !owner.isIdle }
            }
        }
        for _ in 0..<2 where !hasProblems {
            owner.flush(volume)
            volume.kick()
            wait("a flush does not end") { !owner.isIdle }
        }
    }

    /// What was flushed last survives whatever comes.
    private func crashOnceMore() {
        guard damages == 0, universe.choices.coin() else { return }
        harvest()
        if universe.choices.coin() {
            ostHost.losePower()
            history.losePower()
        } else if isDiskSound {
            ost?.world.kill()
        }
        universe.run(for: .milliseconds(100))
        startOST()
        bringBack()
        if !hasProblems { readBack() }
    }

    private func closeAll() {
        for client in clients where client.world.isAlive && client.isOpen { client.close() }
        wait("volumes do not close") { clients.contains { $0.world.isAlive && !$0.isDone } }
        harvest()
        universe.run(for: .milliseconds(100))
        for client in clients where client.world.isAlive { if let text = client.leftovers { report(text) } }
        keeper?.close()
        stranger?.close()
        // Connections of processes that were killed are closed when they have been idle for long enough.
        wait("the OST does not come to rest", Limits.idleTimeout + .seconds(30)) { ost?.server?.engine.isAtRest != true }
    }

    private func stopServer() {
        guard let ost else { return }
        harvest()
        ost.stop()
        wait("the OST does not stop") { !ost.isStopped }
        let left = ost.world.outstanding
        if left.operations + left.openDisks + left.listeners + left.streams + left.timers > 0 { report("the OST leaves behind \(left)") }
        harvest()
        ost.world.kill()
    }

    private func verifyDisk() {
        let world = ostHost.start("verify")
        var isDone = false
        world.spawn { [unowned self] in
            do throws(Failure) {
                let opened = try world.openDisk(OSTProcess.path, .readOnly)
                let report = try await StoreVerifier.verify(Operations(world), disk: opened, path: OSTProcess.path)
                if damages == 0, !report.damaged.isEmpty { self.report("blocks are damaged on the disk: \(report.damaged)") }
            } catch { self.report("the store cannot be verified: \(error.detail)") }
            isDone = true
        }
        wait("verifying does not end") { !isDone }
        world.kill()
    }
}
