import Base
import Client
import Environment
import Simulation

/// Machines that come back with an earlier copy of their disk, as when somebody restores a snapshot of it.
///
/// A copy that was mounted so often less than the newest disk that the metadata server notices is refused: by that server, and by clients
/// that open the volume while it is there. One mount less is not noticed, for the copy makes up for it when it is mounted. That one is
/// known only to a writer who has had a session with the newest disk, so it is put back only while there is one, and the newest disk
/// returns before anybody else opens the volume.
///
/// In the end whoever runs the machine puts the newest disk back, or an empty one where a disk may be lost, unless the writer is bringing
/// the old one up to date: then that is the newest one from now on.
extension ReplicatedRun {
    /// Its process dies, and it comes back with the copy of its disk from an earlier time, if it may; the first time its disk is copied.
    func killForCopy(_ machine: Machine) {
        let mounts = machine.process?.server?.engine.identity?.mountCounter
        let goesBack = mayGoBack(machine)
        killOST(machine)
        if goesBack {
            insertCopy(of: machine)
            note("\(machine.host.name) has an old copy of its disk, which is \(isRefused(machine) ? "" : "not ")to be refused")
            universe.after(.milliseconds(universe.choices.between(1_000, 10_000))) { [unowned self] in endOldDisk(machine) }
        } else if machine.copy == nil, let mounts {
            machine.copy = (machine.disk.media.clone(), mounts, writtenBytes(machine))
        }
    }

    /// What its store was told to write, on the disk that it has now.
    private func writtenBytes(_ machine: Machine) -> UInt64 {
        daemons.filter { $0.endpoint == machine.endpoint && $0.path == machine.path }
            .reduce(0) { $0 + ($1.server?.engine.counters.writtenBytes ?? 0) }
    }

    /// The copy lacks something, which others have as well, and the one who writes knows the newest disk.
    private func mayGoBack(_ machine: Machine) -> Bool {
        guard let copy = machine.copy, writtenBytes(machine) > copy.writtenBytes, let store = machine.store else { return false }
        guard losses.isInSync(store), losses.canSpare(store) else { return false }
        guard let owner, owner.isOpen, !owner.isFenced else { return false }
        return clients.allSatisfy { $0 === owner || !$0.world.isAlive || $0.isDone || $0.isFenced }
    }

    /// Whether the catalogue knows of more mounts than the copy will have had when it serves.
    func isRefused(_ machine: Machine) -> Bool {
        guard let store = machine.store, let copy = machine.copy else { return false }
        do throws(Failure) {
            return try contents.ost(store).map { $0.registration.mountCounter > copy.mounts + 1 } == true
        } catch {
            report("the catalogue: \(error.detail)")
            return false
        }
    }

    private func endOldDisk(_ machine: Machine) {
        guard isWorking, machine.newest != nil else { return }
        if plan.happenings.contains(.loseDisk), universe.choices.coin(), loseDisk(machine) { return }
        comeBackWithNewest(machine)
    }

    func comeBackWithNewest(_ machine: Machine) {
        // All that was written since the copy may have been refused, or never have arrived: then the copy lacks nothing, and goes on.
        if !isRefused(machine), writtenBytes(machine) > 0 { return keepDisk(of: machine) }
        note("\(machine.host.name) gets its newest disk back")
        harvest()
        machine.process?.world.kill()
        insertNewest(into: machine)
        restart(machine, after: .milliseconds(universe.choices.between(0, 600)))
    }
}
