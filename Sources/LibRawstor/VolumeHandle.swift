import Base
import CRawstor
import Client
import Environment
import VolumeEngine

/// A volume as the C caller has it: the client's volume, the callbacks of what is under way, and the last error.
///
/// Retained once for the caller from the open to the end of the close, and by whatever still has something to tell about it.
final class VolumeHandle {
    let context: Context
    let volume: Volume
    let message = Message()
    private let url: String
    private let options: rawstor_volume_options
    private var slots: OperationSlots
    private(set) var isClosing = false
    private var isKicked = false
    /// As the caller was told.
    private var isDegraded = false
    /// Resizes that have not ended.
    private var resizes = 0
    private var resizeWaiter: UnsafeContinuation<Void, Never>?

    init(_ context: Context, _ volume: Volume, url: String, _ options: rawstor_volume_options) {
        self.context = context
        self.volume = volume
        self.url = url
        self.options = options
        slots = OperationSlots(capacity: VolumeHandle.operationsMax(options))
        volume.onCompletion = { [unowned self] tag, status in completed(tag, status) }
        volume.onNotice = { [unowned self] notice in happened(notice) }
    }

    var operationsMax: Int { VolumeHandle.operationsMax(options) }

    static func operationsMax(_ options: rawstor_volume_options) -> Int {
        options.operations_max == 0 ? 256 : Int(options.operations_max)
    }

    static func requestTimeout(_ options: rawstor_volume_options) -> Interval {
        options.request_timeout_ms == 0 ? Limits.requestDeadlineDefault : .milliseconds(options.request_timeout_ms)
    }

    // Operations

    func start(
        _ kind: Operation.Kind, _ offset: UInt64, _ bytes: UInt64, _ flags: UInt32, _ vectors: UnsafeBufferPointer<IOVector>,
        _ callback: rawstor_callback?, _ argument: UnsafeMutableRawPointer?
    ) -> Int32 {
        guard let callback else { return refuse(.invalidArgument, "the callback is NULL") }
        guard !isClosing else { return refuse(.closed, "the volume is being closed") }
        let flagsKnown: UInt32 = kind.changesBlocks ? durableFlag : 0
        guard flags & ~flagsKnown == 0 else { return refuse(.invalidArgument, "the flags \(flags) are not known for this operation") }
        guard bytes <= VolumeHandle.bytesMax(kind) else {
            return refuse(.invalidArgument, "\(bytes) bytes are more than the \(VolumeHandle.bytesMax(kind)) of one operation")
        }
        guard let slot = slots.take(callback, argument) else { return refuse(.overloaded, "\(slots.count) operations are under way") }
        let operation = Operation(
            kind, offset: offset, bytes: bytes, isDurable: flags & durableFlag != 0,
            deadline: VolumeHandle.requestTimeout(options), tag: Operation.Tag(slot, 0))
        if let refusal = context.reactor.perform({ volume.submit(operation, vectors) }) {
            _ = slots.release(slot)
            return refuse(refusal, offset, bytes)
        }
        context.starting()
        if !isKicked {
            isKicked = true
            context.kickLater(self)
        }
        return 0
    }

    func kick() {
        isKicked = false
        if !isClosing { volume.kick() }
    }

    private func completed(_ tag: Operation.Tag, _ status: Status) {
        let (callback, argument) = slots.release(tag.first)
        switch status {
        case .ok: context.ended(.operation(callback, argument))
        case .closed where isClosing:
            context.ended(.failure(callback, argument, errno: cancelled, "\(url): closed before the operation had ended", self))
        case let status: context.ended(.failure(callback, argument, errno: status.errno, "\(url): \(status.sentence)", self))
        }
    }

    static func bytesMax(_ kind: Operation.Kind) -> UInt64 {
        switch kind {
        case .read, .write: 1 << 30
        case .discard, .writeZeroes, .flush, .rewrite: Limits.volumeBytesMax
        }
    }

    // Errors

    func refuse(_ status: Status, _ sentence: String) -> Int32 {
        let text = "\(url): \(sentence)"
        message.set(text)
        context.message.set(text)
        return -status.errno
    }

    /// The engine's own refusals, with the numbers that explain them.
    private func refuse(_ status: Status, _ offset: UInt64, _ bytes: UInt64) -> Int32 {
        switch status {
        case .invalidArgument:
            refuse(status, "offset \(offset) and length \(bytes) must be multiples of \(Block.sectorBytes), and the length not 0")
        case .outOfRange: refuse(status, "offset \(offset) and length \(bytes) reach beyond the end at \(volume.object.bytes)")
        // Out of slots: the caller has as many as it asked for, so the engine is still busy with those that have timed out.
        case .outOfMemory: refuse(.overloaded, "too many operations are under way")
        case let other: refuse(other, other.sentence)
        }
    }

    // Events

    private func happened(_ notice: VolumeNotice) {
        guard !isClosing, options.event != nil else { return }
        let kind: rawstor_event_kind
        switch notice {
        case .sizeChanged: kind = RAWSTOR_EVENT_SIZE_CHANGED
        case .fenced: kind = RAWSTOR_EVENT_FENCED
        case .failed: kind = RAWSTOR_EVENT_CLOSED
        case .disconnected, .connected, .excluded, .membersChanged: return tellWhetherDegraded()
        // Told by the next flush, and by the writes that fail.
        case .powerLost, .belowFloor: return
        }
        happened(kind)
    }

    /// Once when something begins to be missing, and once when nothing is any more: of several OSTs one that is back says little. The end
    /// of a volume that is lost is no news.
    func tellWhetherDegraded() {
        guard !isClosing, options.event != nil, !volume.isDead, volume.isDegraded != isDegraded else { return }
        isDegraded.toggle()
        happened(isDegraded ? RAWSTOR_EVENT_DEGRADED : RAWSTOR_EVENT_RESTORED)
    }

    private func happened(_ kind: rawstor_event_kind) {
        let event = rawstor_event(
            size: MemoryLayout<rawstor_event>.size, kind: UInt64(kind.rawValue), volume_bytes: volume.object.bytes)
        context.ended(.event(self, event))
    }

    func tell(_ event: rawstor_event) {
        guard !isClosing, let callback = options.event else { return }
        withUnsafePointer(to: event) { callback(options.event_argument, handle, $0) }
    }

    // Size

    func began() { resizes += 1 }

    func ended() {
        resizes -= 1
        guard resizes == 0 else { return }
        resizeWaiter?.resume()
        resizeWaiter = nil
    }

    /// The catalogue answers on one connection, and the volume is told on others. The caller's next write into the new space must not find
    /// the old size.
    func resize(to bytes: UInt64) async throws(Failure) {
        guard let name = volume.address.name else { unreachable("an open volume has a name") }
        let timeout = VolumeHandle.requestTimeout(options)
        let deadline = context.reactor.now + timeout
        let catalogue = volume.address.catalogue(in: context.reactor, deadline: timeout)
        defer { catalogue.close() }
        try await catalogue.resize(name, bytes: bytes, by: volume.generation)
        let operations = Operations(context.reactor)
        defer { operations.close() }
        var size = bytes
        var pause = Interval.milliseconds(1)
        while volume.object.bytes != size, !isClosing, !volume.isDead {
            guard context.reactor.now < deadline else {
                throw Failure(.deadlineExceeded, "\(url): it was resized, and no OST has told so in time")
            }
            await operations.sleep(pause)
            pause = min(Interval(nanoseconds: pause.nanoseconds * 2), VolumeHandle.askPause)
            guard pause == VolumeHandle.askPause else { continue }
            // Another resize may have come before this size was heard of here, and an OST tells only those that it reaches. Who does not
            // answer is asked again.
            do throws(Failure) { size = try await volume.askSize(deadline: min(deadline, context.reactor.now + .seconds(1))) } catch {}
        }
    }

    private static let askPause = Interval.milliseconds(128)

    // The end

    func startClose(_ callback: rawstor_callback?, _ argument: UnsafeMutableRawPointer?) {
        if isClosing { return }
        // What was submitted and not sent is under way all the same.
        if isKicked { context.reactor.perform { volume.kick() } }
        isClosing = true
        context.begin(callback ?? { _, _ in }, argument, of: nil) { [self] context throws(Failure) in
            await volume.close()
            await suspend(while: { resizes > 0 }) { resizeWaiter = $0 }
            context.remove(self)
            Unmanaged.passUnretained(self).release()
        }
    }
}

private let durableFlag: UInt32 = 1
