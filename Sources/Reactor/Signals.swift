import Base
import CSystem
import Environment

/// Signals of the process as completions, for daemons. Must be asked for before other threads are made: they inherit what is blocked.
struct SignalReader: ~Copyable {
    let descriptor: Int32
    let record: UnsafeMutableRawPointer
    var isReading = false

    init(descriptor: Int32) {
        self.descriptor = descriptor
        record = .allocate(byteCount: Int(rs_signal_record_bytes), alignment: 8)
    }

    deinit {
        rs_close(descriptor)
        record.deallocate()
    }
}

extension Reactor {
    /// Completes once, with the number of the signal, when one of them arrives. To be called again for the next.
    public func onSignal(_ numbers: [Int32], _ ticket: Ticket) throws(Failure) {
        let result = rs_signalfd(signals?.descriptor ?? -1, numbers, Int32(numbers.count))
        if result < 0 { throw Failure(.invalidArgument, "signals cannot be received: \(ErrorCode.text(-result))") }
        if signals == nil { signals = SignalReader(descriptor: result) }
        invariant(signals?.isReading == false, "one wait for signals is under way")
        guard let index = begin(.signal, ticket) else { return }
        signals?.isReading = true
        let slot = operations.slots + Int(index)
        slot.pointee.descriptor = result
        slot.pointee.address = UInt64(UInt(bitPattern: signals?.record))
        slot.pointee.bytes = UInt32(rs_signal_record_bytes)
        queue(index)
    }

    func signalEnded(_ index: UInt32, _ result: Int32) {
        signals?.isReading = false
        // The first word of a record is the number.
        let number = signals?.record.load(as: Int32.self) ?? 0
        finish(index, result < 0 ? result : number)
    }

    /// A write to a socket that was closed is an error code, not the end of the process. For executables only.
    public static func ignoreBrokenPipes() { rs_ignore_sigpipe() }
}
