import Base
import Client
import Environment
import Metadata
import Simulation

/// The end of a run: all faults heal, everything that was asked for has ended within a minute, the volume is read and becomes healthy, its
/// members are equal, and nothing is left.
extension ReplicatedRun {
    func end() {
        isHealed = true
        universe.heal()
        contents.faults = .init()
        // One that was asked to stop may still be away for as long as it was meant to.
        healedAt = .never
        bringBack()
        healedAt = universe.now
        if !hasProblems { endRequests() }
        if !hasProblems { becomeWriter() }
        if !hasProblems { learnSize() }
        if !hasProblems { readBack() }
        if !hasProblems { becomeHealthy() }
        if !hasProblems { compare() }
        if !hasProblems { crashOnceMore() }
        if !hasProblems { closeClients() }
        if !hasProblems { stopServers() }
    }

    private func bringBack() {
        startMDT()
        for machine in machines where machine.newest != nil { comeBackWithNewest(machine) }
        for machine in machines { start(machine) }
        // One that is on its way down is started again by what stopped it.
        wait("not every server serves") {
            mdt?.server == nil
                || machines.contains { $0.process?.isServing != true || $0.hasFailed || $0.process?.server?.engine.hasFailed != false }
        }
    }

    private func endRequests() {
        for client in clients { client.stopWorking() }
        reader?.stopWorking()
        wait("operations have not ended") {
            clients.contains { $0.world.isAlive && !$0.isIdle } || reader?.isDone == false || resizer != nil
        }
        if let text = reader?.leftovers { report(text) }
    }

    private func learnSize() {
        wait("the writer does not learn the size") { owner?.volume?.object.bytes != volume()?.object.bytes }
    }

    private func becomeHealthy() {
        wait("members are not in sync, or not where they should be", .seconds(240)) { volume().map(isHealthy) != true }
    }

    /// All in sync where somebody is, nothing moves, and nobody has the object who keeps nothing of it. What is to be emptied is empty, as
    /// far as the catalogue knows.
    private func isHealthy(_ volume: VolumeRecord) -> Bool {
        let there = Set(machines.compactMap(\.store))
        let leaving = Set(machines.indices.filter { isDrained(machines[$0]) }.compactMap { machines[$0].store })
        return volume.moves.isEmpty && volume.unresized.isEmpty && volume.entries.allSatisfy { $0.state == .inSync }
            && volume.stores.allSatisfy { there.contains($0) && !leaving.contains($0) }
            && !volume.strays.contains { there.contains($0.store) }
    }

    func isDrained(_ machine: Machine) -> Bool {
        guard let store = machine.store else { return false }
        do throws(Failure) { return try contents.ost(store)?.isDrained == true } catch {
            report("the catalogue: \(error.detail)")
            return false
        }
    }

    /// Once more where a member is excluded meanwhile: one that was restarted, and that the writer finds too late.
    private func compare(attempts: Int = 5) {
        guard let volume = volume(), let incarnation = mdt?.server?.catalogue.incarnation else { return }
        let world = auditHost.start("audit")
        let auditor = Auditor(world, volume, machines.compactMap(\.process), mayBeLost: damages > 0, incarnation: incarnation)
        var isOutdated = false
        perform("members are compared", in: world) { [unowned self] () throws(Failure) in
            do throws(Failure) {
                for problem in try await auditor.maps() { report(problem) }
                for difference in try await auditor.differences() { report("members differ: \(difference)") }
            } catch {
                isOutdated = error.status == .staleMap && attempts > 1 && self.volume() != volume
                if !isOutdated { throw error }
            }
        }
        world.exit()
        guard isOutdated, !hasProblems else { return }
        becomeHealthy()
        if !hasProblems { compare(attempts: attempts - 1) }
    }

    /// What was flushed last survives whatever comes.
    private func crashOnceMore() {
        guard damages == 0, universe.choices.coin() else { return }
        harvest()
        if universe.choices.coin() { owner?.kill() }
        if universe.choices.coin() {
            blackOut { .milliseconds(100) }
        } else {
            for machine in machines where !machine.hasFailed { machine.process?.world.kill() }
        }
        universe.run(for: .milliseconds(200))
        bringBack()
        if !hasProblems { becomeWriter() }
        if !hasProblems { learnSize() }
        if !hasProblems { readBack() }
        if !hasProblems { becomeHealthy() }
        if !hasProblems { compare() }
    }

    private func stopServers() {
        isEnding = true
        // Connections of processes that were killed are closed when they have been idle for long enough.
        wait("the OSTs do not come to rest", Limits.idleTimeout + .seconds(30)) {
            machines.contains { $0.process?.server?.engine.isAtRest != true }
        }
        for machine in machines { machine.process?.stop() }
        // What is left of the heartbeats ends by itself.
        universe.run(for: .seconds(10))
        for machine in machines where !hasProblems { if let process = machine.process { stop(process) } }
        if let mdt, !hasProblems {
            mdt.stop()
            wait("the metadata server does not stop") { !mdt.isStopped }
            mdt.world.exit()
            mdt.ended()
        }
        // What is damaged on one disk may be noted as lost on another.
        for machine in machines where !hasProblems { verifyDisk(of: machine.host, path: machine.path, mayBeDamaged: damages > 0) }
    }
}
