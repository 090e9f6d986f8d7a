import Base
import CRawstor
import Environment
import Reactor

/// One caller's event loop: a reactor without a thread, the volumes opened in it, and the callbacks that are due.
///
/// Invariants: every operation that was started is counted in `underWay` until its callback begins; callbacks are made by `run` and
/// `destroy` only, outside of the reactor's turns, so that whatever a callback calls finds no engine in the middle of an event.
///
/// One thread at a time, which the C caller sees to.
final class Context: @unchecked Sendable {
    let reactor: Reactor
    let message = Message()
    private(set) var isCalling = false
    private(set) var underWay = 0
    private var ended = EndedQueue()
    /// `destroy` has begun: nothing is started any more.
    private(set) var isEnding = false
    private var volumes: [VolumeHandle] = []
    /// Something was begun that the kernel has not been told of.
    private var isUnsent = false
    /// Volumes with operations that were submitted since the last turn.
    private var unkicked: [VolumeHandle] = []

    init(_ options: rawstor_context_options) throws(Failure) {
        var reactorOptions = ReactorOptions()
        reactorOptions.callerDriven = true
        reactorOptions.queueDepth = 256
        reactorOptions.name = "librawstor"
        guard options.flags & ~noSpin == 0 else {
            throw Failure(.invalidArgument, "the options have flags that this library does not know")
        }
        if options.flags & noSpin != 0 { reactorOptions.spin = Interval(nanoseconds: 0) }
        let log = try LogTarget(options)
        reactorOptions.logLevel = log.level
        reactorOptions.logWriter = { line in log.write(line) }
        reactor = try Reactor(reactorOptions)
        reactor.isInHaste = { [unowned self] in underWay <= 4 }
    }

    func descriptor() throws(Failure) -> Int32 {
        try reactor.descriptor()
    }

    // Operations

    func starting() {
        underWay += 1
        isUnsent = true
    }

    /// Many operations travel together: they are sent at the next turn.
    func kickLater(_ volume: VolumeHandle) { unkicked.append(volume) }

    /// Lets everything that was begun since go out.
    private func kick() {
        isUnsent = false
        if unkicked.isEmpty { return }
        reactor.perform {
            for volume in unkicked { volume.kick() }
        }
        unkicked.removeAll(keepingCapacity: true)
    }

    /// The operation is over; its callback comes with the next `run`.
    func ended(_ entry: Ended) { ended.append(entry) }

    /// Starts asynchronous code that ends in a callback. The body writes to the caller's memory before it returns.
    ///
    /// Refused while the context is destroyed: a callback that starts again what it has seen end would keep that from ever ending.
    func start(
        _ callback: rawstor_callback, _ argument: UnsafeMutableRawPointer?, of volume: VolumeHandle? = nil,
        _ body: @escaping (Context) async throws(Failure) -> Void
    ) throws(Failure) {
        if isEnding { throw Failure(.closed, "the context is being destroyed") }
        begin(callback, argument, of: volume, body)
    }

    func begin(
        _ callback: rawstor_callback, _ argument: UnsafeMutableRawPointer?, of volume: VolumeHandle?,
        _ body: @escaping (Context) async throws(Failure) -> Void
    ) {
        starting()
        volume?.began()
        reactor.perform {
            reactor.spawn { [self] in
                var result = Ended.operation(callback, argument)
                do throws(Failure) { try await body(self) } catch {
                    let errno = isEnding ? cancelled : error.status.errno
                    result = .failure(callback, argument, errno: errno, error.detail, volume)
                }
                ended(result)
                // Now its callback is due, and that of a close comes behind it.
                volume?.ended()
            }
        }
    }

    func add(_ volume: VolumeHandle) { volumes.append(volume) }
    func remove(_ volume: VolumeHandle) { volumes.removeAll { $0 === volume } }
    var hasRoomForVolume: Bool { volumes.count < Limits.volumesPerContextMax }

    // Turns

    /// Turns until `minimum` callbacks were made, nothing is under way, or the deadline (`nil`: one turn that does not wait). The number
    /// of callbacks made.
    func run(minimum: Int, until deadline: Instant?) -> Int {
        var made = 0
        while true {
            kick()
            let waits = deadline != nil && made < minimum && underWay > 0 && ended.isEmpty
            reactor.process(wait: waits ? deadline : nil)
            made += call()
            guard let deadline, made < minimum, underWay > 0, reactor.now < deadline else { break }
        }
        // What callbacks have begun must not wait for the next call: the caller may sleep on the descriptor now.
        if isUnsent || !ended.isEmpty {
            kick()
            if !ended.isEmpty { reactor.post {} }
            reactor.perform { reactor.submit() }
        }
        return made
    }

    /// Makes the callbacks that are due now; those that arise meanwhile are for the next turn, or a callback that always starts
    /// something which ends at once would never let the caller go on.
    private func call() -> Int {
        let count = ended.count
        if count == 0 { return 0 }
        var made = 0
        isCalling = true
        for _ in 0..<count {
            switch ended.removeFirst() {
            case .operation(let callback, let argument):
                made += 1
                underWay -= 1
                callback(argument, 0)
            case .failure(let callback, let argument, let errno, let sentence, let volume):
                made += 1
                underWay -= 1
                message.set(sentence)
                volume?.message.set(sentence)
                callback(argument, -errno)
            case .event(let volume, let event):
                volume.tell(event)
            case .entries(let entry, let argument, let list):
                for each in list where withUnsafePointer(to: rawstor_volume_info(each), { entry(argument, $0) }) != 0 { break }
            }
        }
        isCalling = false
        return made
    }

    // The end

    /// A volume's close gives its operations this long to end.
    static let closeDeadline = Interval.seconds(5)

    /// Closes the volumes, then ends everything.
    func destroy() {
        let deadline = reactor.now + Context.closeDeadline + .seconds(1)
        for volume in volumes { volume.startClose(nil, nil) }
        isEnding = true
        // An open or a catalogue call under way has nothing to lose; operations of volumes have.
        while !volumes.isEmpty, reactor.now < deadline { _ = run(minimum: 1, until: deadline) }
        reactor.sever()
        // To the last one, which is soon: a task that is left suspended keeps the context.
        _ = run(minimum: .max, until: reactor.now + Context.closeDeadline)
        while !ended.isEmpty { _ = call() }
        reactor.close()
    }
}

/// ECANCELED. No status: it never travels.
let cancelled: Int32 = 125
/// EDEADLK, likewise.
let wouldDeadlock: Int32 = 35
