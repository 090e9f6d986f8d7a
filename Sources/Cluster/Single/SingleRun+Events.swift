import Base
import Environment
import Simulation

/// What happens to processes and machines while the load is on.
extension SingleRun {
    private enum Happening {
        case kill, powerLoss, stop, clientKill, takeOver, breakConnections
    }

    static let clientsMax = 6

    func planEvents() {
        let events = options.events
        var kinds: [Happening] = []
        if events.kill { kinds.append(.kill) }
        if events.powerLoss { kinds.append(.powerLoss) }
        if events.stop { kinds.append(.stop) }
        if events.clientKill { kinds.append(.clientKill) }
        if events.takeOver { kinds.append(.takeOver) }
        if events.breakConnections { kinds.append(.breakConnections) }
        planRelease()
        if !kinds.isEmpty { plan(kinds) }
    }

    private func plan(_ kinds: [Happening]) {
        universe.after(Interval(nanoseconds: universe.choices.between(1_000_000, options.eventPause.nanoseconds))) { [unowned self] in
            guard isWorking, !hasProblems else { return }
            happen(kinds[universe.choices.below(kinds.count)])
            plan(kinds)
        }
    }

    private func happen(_ kind: Happening) {
        switch kind {
        case .kill: whenClean { [unowned self] in killOST() }
        case .powerLoss: whenClean { [unowned self] in losePower() }
        case .stop: whenClean { [unowned self] in stopOST() }
        case .clientKill: killClient()
        case .takeOver: takeOver()
        case .breakConnections:
            let host = clientHosts[universe.choices.below(clientHosts.count)]
            universe.breakConnections(ostHost, host)
            universe.breakConnections(host, ostHost)
        }
    }

    /// A disk that got stuck gets going again some time.
    private func planRelease() {
        universe.after(.milliseconds(500)) { [unowned self] in
            guard isWorking else { return }
            if disk.isStuck {
                universe.after(.milliseconds(universe.choices.between(10, 12_000))) { [unowned self] in disk.heal() }
            }
            planRelease()
        }
    }

    // The OST

    /// Runs `body` when a restart cannot take damage for loss: at once where nothing rots. Otherwise damage pauses, the load goes on for
    /// three seconds, and then the store is made to note what is durable; if that does not succeed in time nothing happens.
    private func whenClean(_ body: @escaping () -> Void) {
        guard ost?.isServing == true, !isDamagePaused else { return }
        guard damages > 0 else { return body() }
        isDamagePaused = true
        applyFaults()
        var isOver = false
        universe.after(.seconds(3)) { [unowned self] in
            guard isWorking else { return }
            owner?.makeClean { [unowned self] in
                guard isWorking, !isOver else { return }
                isOver = true
                // Not from within the client's turn.
                universe.after(.microseconds(1)) { [unowned self] in
                    if isWorking, ost?.isServing == true { body() }
                    isDamagePaused = false
                    applyFaults()
                }
            }
        }
        universe.after(.seconds(12)) { [unowned self] in
            if !isOver { isDamagePaused = false }
            isOver = true
            applyFaults()
        }
    }

    private func killOST() {
        guard let ost, ost.isServing, isDiskSound else { return }
        note("the OST is killed")
        harvest()
        ost.world.kill()
        applyFaults()
        restart(after: .milliseconds(universe.choices.between(0, 3_000)))
    }

    /// The log moves seldom and quickly: left to chance, a crash would hardly ever meet it.
    func killWhileLogMoves(_ process: OSTProcess) {
        guard isWorking, options.events.kill, damages == 0, process.server?.engine.isMovingLog == true else { return }
        guard universe.choices.below(16 as UInt64) == 0 else { return }
        // Not from within its turn.
        universe.after(.microseconds(1)) { [unowned self] in if isWorking { killOST() } }
    }

    private func losePower() {
        guard ostHost.isUp else { return }
        note("the OST's host loses power")
        harvest()
        ostHost.losePower()
        history.losePower()
        applyFaults()
        let isLong = universe.choices.below(options.longOutage) == 0
        restart(after: .milliseconds(isLong ? universe.choices.between(20_000, 50_000) : universe.choices.between(50, 4_000)))
    }

    private func stopOST() {
        guard let ost, ost.isServing, isDiskSound else { return }
        note("the OST is asked to stop")
        ost.stop()
        applyFaults()
        waitForStop(ost, seconds: 0)
    }

    private func waitForStop(_ process: OSTProcess, seconds: Int) {
        universe.after(.seconds(1)) { [unowned self] in
            guard process.world.isAlive, process === ost else { return }
            guard process.isStopped || seconds > 12 else { return waitForStop(process, seconds: seconds + 1) }
            note(process.isStopped ? "the OST has stopped" : "the OST is killed, it does not stop")
            harvest()
            process.world.kill()
            restart(after: .milliseconds(universe.choices.between(0, 1_000)))
        }
    }

    private func restart(after interval: Interval) {
        universe.after(interval) { [unowned self] in if !isEnding { startOST() } }
    }

    /// Unless it runs.
    func startOST() {
        if !ostHost.isUp { ostHost.restorePower() }
        if let ost, ost.world.isAlive { return }
        let process = OSTProcess(self, ostHost, SingleRun.endpoint)
        ost = process
        process.start(format: false)
    }

    // Clients

    private func killClient() {
        guard let victim = owner, victim.world.isAlive, clients.count < SingleRun.clientsMax else { return }
        note("client \(victim.number) is killed")
        harvest()
        victim.kill()
        universe.after(.milliseconds(universe.choices.between(0, 2_000))) { [unowned self] in
            if isWorking { startClient(force: universe.choices.coin()) }
        }
    }

    /// Another one takes the volume away while this one does not run, or does.
    private func takeOver() {
        guard let old = owner, old.isOpen, clients.count < SingleRun.clientsMax else { return }
        note("client \(old.number) is to lose the volume")
        if universe.choices.coin() { old.world.stall(for: .milliseconds(universe.choices.between(100, 6_000))) }
        universe.after(.milliseconds(universe.choices.between(0, 1_000))) { [unowned self] in
            if isWorking { startClient(force: true) }
        }
    }
}
