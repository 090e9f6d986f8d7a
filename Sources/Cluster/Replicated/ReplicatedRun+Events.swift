import Base
import Environment
import Simulation

/// What happens to processes, machines and the network between them while the load is on.
extension ReplicatedRun {
    static let clientsMax = 8

    func planEvents() {
        planRelease()
        if !plan.happenings.isEmpty { planNext() }
    }

    private func draw(_ low: UInt64, _ high: UInt64) -> Interval { .milliseconds(universe.choices.between(low, high)) }

    private func planNext() {
        universe.after(Interval(nanoseconds: universe.choices.between(1_000_000, options.eventPause.nanoseconds))) { [unowned self] in
            guard isWorking, !hasProblems else { return }
            happen(plan.happenings[universe.choices.below(plan.happenings.count)])
            planNext()
        }
    }

    /// A disk that got stuck gets going again some time.
    private func planRelease() {
        universe.after(.milliseconds(500)) { [unowned self] in
            guard isWorking else { return }
            for machine in machines where machine.disk.isStuck {
                universe.after(draw(10, 12_000)) { machine.disk.heal() }
            }
            planRelease()
        }
    }

    private func happen(_ kind: ReplicatedPlan.Happening) {
        var machine = machines[universe.choices.below(machines.count)]
        // A fill is over soon: left to chance, hardly one would end half way.
        if let filling, universe.choices.coin() { machine = filling }
        let client = clientHosts[universe.choices.below(clientHosts.count)]
        switch kind {
        case .kill: if mayRestart(machine), !machine.hasFailed { killOST(machine) }
        case .powerLoss: if mayRestart(machine) { losePower(machine) }
        case .blackout: blackOut()
        case .stop: if mayRestart(machine), !machine.hasFailed { stopOST(machine) }
        case .mdtKill: killMDT()
        case .clientKill: killClient()
        case .takeOver: takeOver()
        case .breakConnections:
            universe.breakConnections(machine.host, client)
            universe.breakConnections(client, machine.host)
        case .cut: cut(universe.choices.below(6 as UInt64) == 0 ? mds : machine.host, client)
        }
    }

    private var filling: Machine? {
        guard let volume = volume(), let entry = volume.entries.first(where: { $0.state == .filling }) else { return nil }
        return machines.first { $0.store == volume.stores[entry.ost] }
    }

    /// See `ReplicatedPlan.rotting`.
    private func mayRestart(_ machine: Machine) -> Bool {
        machine.process?.isServing == true && (damages == 0 || plan.rotting.map { machines[$0] === machine } != true)
    }

    private func outage() -> Interval {
        universe.choices.below(plan.longOutage) == 0 ? draw(400, plan.outageMax.milliseconds) : draw(0, 600)
    }

    // OSTs

    private func killOST(_ machine: Machine) {
        note("\(machine.host.name) is killed")
        harvest()
        machine.process?.world.kill()
        restart(machine, after: outage())
    }

    private func losePower(_ machine: Machine) {
        note("\(machine.host.name) loses power")
        harvest()
        machine.host.losePower()
        lost(machine)
        restart(machine, after: outage())
    }

    private func stopOST(_ machine: Machine) {
        guard let process = machine.process else { return }
        note("\(machine.host.name) is asked to stop")
        process.stop()
        waitForStop(machine, process, seconds: 0)
    }

    private func waitForStop(_ machine: Machine, _ process: OSTProcess, seconds: Int) {
        universe.after(.seconds(1)) { [unowned self] in
            guard process.world.isAlive else { return }
            guard process.isStopped || seconds > 12 else { return waitForStop(machine, process, seconds: seconds + 1) }
            harvest()
            process.world.kill()
            restart(machine, after: outage())
        }
    }

    private func restart(_ machine: Machine, after interval: Interval) {
        universe.after(interval) { [unowned self] in if !isEnding { start(machine) } }
    }

    /// Everything that has a disk at once.
    func blackOut(for outages: (() -> Interval)? = nil) {
        guard machines.allSatisfy({ mayRestart($0) }) else { return }
        note("all servers lose power")
        harvest()
        for machine in machines {
            machine.host.losePower()
            lost(machine)
        }
        mds.losePower()
        mdt?.ended()
        for machine in machines { restart(machine, after: outages?() ?? outage()) }
        universe.after(outages?() ?? outage()) { [unowned self] in if !isEnding { startMDT() } }
    }

    private func killMDT() {
        guard let mdt, mdt.world.isAlive else { return }
        note("the metadata server is killed")
        mdt.kill()
        universe.after(outage()) { [unowned self] in if !isEnding { startMDT() } }
    }

    // The network

    /// One way or both, until it is mended.
    private func cut(_ server: SimHost, _ client: SimHost) {
        let way = universe.choices.below(3)
        note("\(server.name) and \(client.name) are cut off from each other, \(["both ways", "there", "back"][way])")
        if way != 1 { universe.block(from: server, to: client) }
        if way != 2 { universe.block(from: client, to: server) }
        universe.after(outage()) { [unowned self] in universe.healPartition(server, client) }
    }

    // Clients

    private func killClient() {
        guard let victim = owner, victim.world.isAlive, clients.count < ReplicatedRun.clientsMax else { return }
        note("client \(victim.number) is killed")
        harvest()
        victim.kill()
        universe.after(draw(0, 2_000)) { [unowned self] in
            if isWorking { startClient(force: universe.choices.coin()) }
        }
    }

    /// Another one takes the volume away while this one does not run, or does.
    private func takeOver() {
        guard let old = owner, old.isOpen, clients.count < ReplicatedRun.clientsMax else { return }
        note("client \(old.number) is to lose the volume")
        if universe.choices.coin() { old.world.stall(for: draw(100, 12_000)) }
        universe.after(draw(0, 1_000)) { [unowned self] in
            if isWorking { startClient(force: universe.choices.below(4 as UInt64) != 0) }
        }
    }
}
