import Base
import Environment

/// A machine: an address, its disks, its power, and the processes that run on it.
public final class SimHost {
    public let name: String
    public internal(set) var disks: [SimDisk] = []
    public private(set) var isUp = true
    /// Changes with every loss of power.
    private(set) var boot = Identifier.zero
    /// By how much its calendar is off; decisions must not care.
    let wallClockSkewMilliseconds: UInt64
    let number: Int32
    var nextPort: UInt16 = 49152
    private unowned(unsafe) let universe: Universe

    init(_ universe: Universe, name: String, number: Int32) {
        self.universe = universe
        self.name = name
        self.number = number
        boot = Identifier(high: universe.random.next(), low: universe.random.next())
        wallClockSkewMilliseconds = universe.timing == .drawn ? universe.random.below(100_000 as UInt64) : 0
    }

    /// A file or block device of this size, empty. A file of 0 bytes gets its size when a process creates it.
    @discardableResult
    public func addDisk(_ path: String, bytes: UInt64 = 0, isVolatile: Bool = true, isBlockDevice: Bool = false) -> SimDisk {
        addDisk(path, media: Media(bytes: bytes, isVolatile: isVolatile), isBlockDevice: isBlockDevice)
    }

    /// A disk with contents, such as a cut of a history.
    @discardableResult
    public func addDisk(_ path: String, media: Media, isBlockDevice: Bool = false) -> SimDisk {
        invariant(disk(path) == nil, "host \(name) has a disk \(path) already")
        let disk = SimDisk(universe, number: Int32(universe.disks.count), path: path, media: media, isBlockDevice: isBlockDevice)
        universe.disks.append(disk)
        disks.append(disk)
        return disk
    }

    /// What `addDisk` or a process has made at this path.
    public func disk(_ path: String) -> SimDisk? { disks.first { $0.path == path } }

    /// A new process, with nothing attached.
    public func start(_ name: String) -> SimWorld { universe.start(name, on: self) }

    /// Running processes, oldest first.
    public var processes: [SimWorld] { universe.processes.filter { $0.host === self && $0.isAlive } }

    /// All processes end at once, nobody is told, and each disk loses of its unflushed writes what it likes. Stays off until
    /// `restorePower`.
    public func losePower() {
        guard isUp else { return }
        isUp = false
        universe.count(.powerLoss)
        universe.trace.fold(0x9000_0000_0000_0000 | UInt64(number))
        for process in processes { process.end(.silent) }
        for disk in disks { disk.losePower() }
        boot = Identifier(high: universe.random.next(), low: universe.random.next())
    }

    public func restorePower() {
        guard !isUp else { return }
        isUp = true
        universe.network.returned(self)
    }
}
