import Base
import Environment
import PartStore

/// Drives one part store against a world, the way a daemon does, without anything on the wire.
final class StoreShell: CompletionSink {
    let world: any World
    private let operations: Operations
    private var sink = SinkID(0)
    private var disk: DiskID?
    private let path: String
    private let options: PartStore.Options
    /// A store at a place of its own: an optional one cannot be looked into without moving it.
    final class Mounted {
        var store: PartStore
        init(_ store: consuming PartStore) { self.store = store }
    }

    private(set) var mounted: Mounted?
    private var timer: (TimerID, Instant)?
    var onFinished: (UInt32, Status) -> Void = { _, _ in }
    var onFailed: (String) -> Void = { _ in }
    var onDamaged: (UInt32) -> Void = { _ in }

    private static let timerToken: UInt32 = 0

    init(_ world: any World, path: String, options: PartStore.Options) {
        self.world = world
        self.path = path
        self.options = options
        operations = Operations(world)
        sink = world.attach(self)
    }

    func format() async throws(Failure) {
        let disk = try world.openDisk(path, .readWrite)
        try await StoreFile.initialize(operations, disk: disk, path: path, cluster: Identifier(high: 1, low: 1))
        world.closeDisk(disk)
    }

    func mount(afterFailure: Bool = false) async throws(Failure) {
        let opened: DiskID
        if let disk { opened = disk } else { opened = try world.openDisk(path, .readWrite) }
        disk = opened
        mounted = nil
        mounted = Mounted(
            try await StoreFile.load(operations, disk: opened, path: path, options: options, afterFailure: afterFailure))
        settle()
    }

    /// Runs calls on the store, then performs what it wants.
    func use<Result>(_ body: (inout PartStore) -> Result) -> Result {
        guard let mounted else { unreachable("no store is mounted") }
        let result = body(&mounted.store)
        settle()
        return result
    }

    func completed(_ token: UInt32, result: Int32) {
        if token == StoreShell.timerToken {
            timer = nil
        } else {
            mounted?.store.diskDone(token, result: result)
        }
    }

    func batchEnded() { settle() }

    private func settle() {
        guard let mounted, let disk else { return }
        mounted.store.endBatch(now: world.now)
        // What a request's end makes a test do comes back here; one round at a time.
        let effects = mounted.store.effects
        for effect in effects {
            switch effect {
            case .diskRead(let token, let offset, let memory, let bytes):
                withUnsafeTemporaryAllocation(of: IOVector.self, capacity: 1) { list in
                    list[0] = IOVector(memory, bytes)
                    world.read(disk, at: offset, into: UnsafeBufferPointer(list), Ticket(sink, token))
                }
            case .diskWrite(let token, let offset, let first, let count):
                let list = UnsafeBufferPointer(start: mounted.store.vectors + first, count: count)
                world.write(disk, at: offset, from: list, Ticket(sink, token))
            case .diskFlush(let token): world.flush(disk, Ticket(sink, token))
            case .finished, .damaged, .failed: break
            }
        }
        mounted.store.clearEffects()
        mounted.store.checkInvariants()
        let wake = mounted.store.wakeAt
        if wake != timer?.1 ?? .never {
            if let timer { world.cancel(timer.0) }
            timer = wake == .never ? nil : (world.wake(at: wake, Ticket(sink, StoreShell.timerToken)), wake)
        }
        for effect in effects {
            switch effect {
            case .finished(let tag, let status): onFinished(tag, status)
            case .damaged(_, _, let block): onDamaged(block)
            case .failed(let reason): onFailed(reason)
            case .diskRead, .diskWrite, .diskFlush: break
            }
        }
    }
}
