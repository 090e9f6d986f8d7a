import Base
import Client
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

    /// A fill is over soon: left to chance, hardly one would end half way, or be followed by something before a second has passed and
    /// everything is on stable media by itself.
    func fillChanged(on store: Identifier, hasBegun: Bool) {
        if hasBegun, let machine = machines.first(where: { $0.store == store }), machine.newest != nil, !isRefused(machine),
            !losses.counts(store)
        {
            note("\(machine.host.name) keeps its old disk, which is brought up to date")
            keepDisk(of: machine)
        }
        guard isWorking, !plan.happenings.isEmpty, universe.choices.coin() else { return }
        let kind = plan.happenings[universe.choices.below(plan.happenings.count)]
        let isTarget = universe.choices.below(3 as UInt64) != 0
        universe.after(draw(0, hasBegun ? 100 : 900)) { [unowned self] in
            guard isWorking, !hasProblems else { return }
            happen(kind, on: isTarget ? machines.first { $0.store == store } : nil)
        }
    }

    private func happen(_ kind: ReplicatedPlan.Happening, on chosen: Machine? = nil) {
        let machine = chosen ?? machines[universe.choices.below(machines.count)]
        let client = clientHosts[universe.choices.below(clientHosts.count)]
        // An old copy that is mounted often enough is not told from the newest disk any more.
        if machine.newest != nil { return }
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
        case .loseDisk: if !loseDisk(machine), mayRestart(machine), !machine.hasFailed { killOST(machine) }
        case .oldDisk: if mayRestart(machine), !machine.hasFailed { killForCopy(machine) }
        case .drain: drain(universe.choices.below(machines.count))
        case .cut: cut(universe.choices.below(plan.serverCuts) == 0 ? mds : machine.host, client)
        case .split: split(machine)
        case .resize: resize()
        }
    }

    /// See `ReplicatedPlan.rotting`.
    private func mayRestart(_ machine: Machine) -> Bool {
        machine.process?.isServing == true && (damages == 0 || plan.rotting.map { machines[$0] === machine } != true)
    }

    private func outage() -> Interval {
        universe.choices.below(plan.longOutage) == 0 ? draw(400, plan.outageMax.milliseconds) : draw(0, 600)
    }

    // OSTs

    func killOST(_ machine: Machine) {
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

    /// Its process dies. Some seconds later, when whatever was under way has come to an end, the disk is gone as well, unless somebody else
    /// would be missed then: two that are lost are more than two copies stand. False when that is so already.
    func loseDisk(_ machine: Machine) -> Bool {
        guard disksLost < plan.disksLostMax, mayRestart(machine), !machine.hasFailed, canLose(machine) else { return false }
        note("\(machine.host.name) is killed, and may lose its disk")
        harvest()
        machine.process?.world.kill()
        // What is on its way by then was decided before.
        var underWay = Interval.seconds(5).nanoseconds
        if options.faults.streamStall > 0 { underWay += options.faults.streamStallMax.nanoseconds }
        if plan.meta.before + plan.meta.after + plan.meta.late > 0 { underWay += Interval.seconds(10).nanoseconds }
        universe.after(Interval(nanoseconds: underWay)) { [unowned self] in
            guard isWorking, machine.process?.world.isAlive == false else { return }
            if canLose(machine), universe.now - undisturbedSince > .seconds(4) {
                note("\(machine.host.name) has lost its disk")
                replaceDisk(of: machine)
            }
            insertNewest(into: machine)
            restart(machine, after: outage())
        }
        return true
    }

    private func canLose(_ machine: Machine) -> Bool {
        guard let store = machine.store, mdt?.server != nil, disturbances == 0 else { return false }
        let areThere = machines.allSatisfy { $0 === machine || ($0.process?.isServing == true && $0.host.isUp && !$0.hasFailed) }
        return areThere && losses.canSpare(store)
    }

    private func drain(_ number: Int) {
        guard let process = mdt, draining !== process, let server = process.server, let store = machines[number].store else { return }
        let isDrained = !drained.contains(number)
        // As many stay as there are copies, and as many as a disk that is lost needs. A server that was killed may not have noted yet, or
        // ever, that one stays.
        let leaving = machines.indices.count { drained.contains($0) || self.isDrained(machines[$0]) }
        if isDrained, machines.count - leaving <= plan.replicas { return }
        note("\(machines[number].host.name) is \(isDrained ? "to be emptied" : "not to be emptied any more")")
        if isDrained { drained.insert(number) } else { drained.remove(number) }
        draining = process
        process.world.spawn { [unowned self] in
            do throws(Failure) { try await server.catalogue.setDrained(store, isDrained) } catch {
                note("that is not noted: \(error.detail)")
            }
            if draining === process { draining = nil }
        }
    }

    func restart(_ machine: Machine, after interval: Interval) {
        universe.after(interval) { [unowned self] in if !isEnding { start(machine) } }
    }

    /// Everything that has a disk at once.
    func blackOut(for outages: (() -> Interval)? = nil) {
        guard machines.allSatisfy({ mayRestart($0) && $0.newest == nil }) else { return }
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

    // The size

    /// By somebody else than the writer. What is cut off nobody uses any more by then, but for writes now and then; what comes anew nobody
    /// uses before it is there.
    private func resize() {
        guard resizer == nil else { return }
        let before = usableBytes
        let isAbrupt = plan.abruptCuts > 0 && universe.choices.below(plan.abruptCuts) == 0
        let highest = Int(wasCutAbruptly ? usableBytes : options.volumeBytesMax) / Block.sectorBytes
        let lowest = isAbrupt ? 1 : max(1, history.unsettledEnd)
        guard lowest <= highest else { return }
        // In whole blocks.
        let sectors = min(roundUp(lowest + universe.choices.below(highest - lowest + 1), to: Block.bytes / Block.sectorBytes), highest)
        let bytes = UInt64(sectors * Block.sectorBytes)
        let world = toolHost.start("tool")
        resizer = world
        usableBytes = min(usableBytes, bytes)
        let end = universe.now + .seconds(2)
        world.spawn { [unowned self] in
            let operations = Operations(world)
            let catalogue = MDTCatalogue(world, [MDTProcess.endpoint])
            func isInUse(onlyReads: Bool) -> Bool { clients.contains { $0.uses(from: sectors, onlyReads: onlyReads) } }
            while isInUse(onlyReads: isAbrupt), universe.now < end { await operations.sleep(.milliseconds(5)) }
            let isSettled = !isInUse(onlyReads: false) && history.unsettledEnd <= sectors
            if isInUse(onlyReads: true) || !(isSettled || isAbrupt) {
                usableBytes = before
            } else {
                note("the volume is to have \(bytes) bytes\(isSettled ? "" : ", whatever is under way")")
                wasCutAbruptly = wasCutAbruptly || !isSettled
                let cut = history.beginCut(from: sectors)
                do throws(Failure) {
                    try await catalogue.resize("volume", bytes: bytes)
                    usableBytes = bytes
                    history.endWrite(cut, acknowledged: true)
                    note("the volume has \(bytes) bytes")
                } catch {
                    history.endWrite(cut, acknowledged: false)
                    note("it may have: \(error.detail)")
                    let isExpected = [.unreachable, .deadlineExceeded, .busy, .closed, .noSpace, .diskFailed, .wrongStore].contains(
                        error.status)
                    if !isExpected, universe.counts[.corruption] == 0 { report("a resize ends with \(error.status): \(error.detail)") }
                }
            }
            catalogue.close()
            operations.close()
            world.exit()
            resizer = nil
        }
    }

    // The network

    /// One way or both, until it is mended.
    private func cut(_ server: SimHost, _ client: SimHost) {
        let way = universe.choices.below(3)
        note("\(server.name) and \(client.name) are cut off from each other, \(["both ways", "there", "back"][way])")
        if way != 1 { universe.block(from: server, to: client) }
        if way != 2 { universe.block(from: client, to: server) }
        let time = outage()
        disturb(for: time)
        universe.after(time) { [unowned self] in universe.healPartition(server, client) }
    }

    /// The writer is left alone with one OST, and another client opens the volume with the others. Then they meet again.
    private func split(_ machine: Machine) {
        let next = clientHosts[clients.count % clientHosts.count]
        guard let old = owner, old.isOpen, clients.count < ReplicatedRun.clientsMax, old.world.host !== next else { return }
        note("client \(old.number) is left alone with \(machine.host.name)")
        var cuts = machines.filter { $0 !== machine }.map { ($0.host, old.world.host) }
        cuts += [(mds, old.world.host), (machine.host, next)]
        for (server, client) in cuts { universe.partition(server, client) }
        universe.after(draw(0, 500)) { [unowned self] in
            if isWorking { startClient(force: true) }
        }
        let time = draw(8_000, 16_000)
        disturb(for: time)
        universe.after(time) { [unowned self] in
            for (server, client) in cuts { universe.healPartition(server, client) }
        }
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
        if universe.choices.coin() {
            let time = draw(100, 12_000)
            disturb(for: time)
            old.world.stall(for: time)
        }
        universe.after(draw(0, 1_000)) { [unowned self] in
            if isWorking { startClient(force: universe.choices.below(4 as UInt64) != 0) }
        }
    }

    /// Somebody may decide late, on what was true before.
    private func disturb(for time: Interval) {
        disturbances += 1
        universe.after(time) { [unowned self] in
            disturbances -= 1
            undisturbedSince = universe.now
        }
    }
}
