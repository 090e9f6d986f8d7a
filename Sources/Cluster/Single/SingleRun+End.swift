import Base
import Client
import Environment
import PartStore
import Simulation

/// The end of a run: all faults heal, everything that was asked for has ended within a minute, the volume is read, and nothing is left.
extension SingleRun {
    func end() {
        isHealed = true
        universe.heal()
        applyFaults()
        bringBack()
        if !hasProblems { endRequests() }
        if !hasProblems { becomeWriter() }
        if !hasProblems { readBack() }
        if !hasProblems { crashOnceMore() }
        if !hasProblems { closeAll() }
        isEnding = true
        if !hasProblems, let ost { stop(ost) }
        if !hasProblems { verifyDisk(of: ostHost, mayBeDamaged: damages > 0) }
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
        closeClients()
        keeper?.close()
        stranger?.close()
        // Connections of processes that were killed are closed when they have been idle for long enough.
        wait("the OST does not come to rest", Limits.idleTimeout + .seconds(30)) { ost?.server?.engine.isAtRest != true }
    }
}
