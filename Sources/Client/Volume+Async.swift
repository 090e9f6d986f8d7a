import Base
import VolumeEngine

// Operations one at a time in straight-line code: for tools and tests. The data plane submits and gets callbacks.

extension Volume {
    /// First word of the tags of these operations; not for others.
    static let waiterTag = UInt.max

    public func read(
        at offset: UInt64, into memory: UnsafeMutableRawBufferPointer, deadline: Interval = Limits.requestDeadlineDefault
    ) async throws(Failure) {
        try await run(.read, offset, UInt64(memory.count), memory, false, deadline)
    }

    public func write(
        at offset: UInt64, from memory: UnsafeMutableRawBufferPointer, isDurable: Bool = false,
        deadline: Interval = Limits.requestDeadlineDefault
    ) async throws(Failure) {
        try await run(.write, offset, UInt64(memory.count), memory, isDurable, deadline)
    }

    public func flush(deadline: Interval = Limits.requestDeadlineDefault) async throws(Failure) {
        try await run(.flush, 0, 0, nil, false, deadline)
    }

    public func discard(
        at offset: UInt64, bytes: UInt64, deadline: Interval = Limits.requestDeadlineDefault
    ) async throws(Failure) {
        try await run(.discard, offset, bytes, nil, false, deadline)
    }

    public func writeZeroes(
        at offset: UInt64, bytes: UInt64, isDurable: Bool = false, deadline: Interval = Limits.requestDeadlineDefault
    ) async throws(Failure) {
        try await run(.writeZeroes, offset, bytes, nil, isDurable, deadline)
    }

    /// Makes blocks equal on all members, with what one of them has.
    func rewrite(_ blocks: Range<UInt64>, from source: Int?, _ deadline: Instant) async throws(Failure) {
        let bytes = UInt64(Block.bytes)
        try await run(
            .rewrite, blocks.lowerBound * bytes, UInt64(blocks.count) * bytes, nil, false, deadline - world.now, source: source)
    }

    /// Gives members that are being filled what one in sync has; or says that nobody has it any more.
    func fill(_ blocks: Range<UInt64>, isLost: Bool = false) async throws(Failure) {
        let bytes = UInt64(Block.bytes)
        try await run(
            .rewrite, blocks.lowerBound * bytes, UInt64(blocks.count) * bytes, nil, false, Limits.requestDeadlineDefault, onlyFills: true,
            isLost: isLost)
    }

    /// Makes durable what members that are being filled have; says nothing of what the others may have lost.
    func flushUnheard() async throws(Failure) {
        try await run(.flush, 0, 0, nil, false, Limits.requestDeadlineDefault, isUnheard: true)
    }

    private func run(
        _ kind: Operation.Kind, _ offset: UInt64, _ bytes: UInt64, _ memory: UnsafeMutableRawBufferPointer?, _ isDurable: Bool,
        _ deadline: Interval, source: Int? = nil, onlyFills: Bool = false, isLost: Bool = false,
        isUnheard: Bool = false
    ) async throws(Failure) {
        let status = await withUnsafeContinuation { continuation in
            let waiter = freeWaiters.popLast() ?? waiters.count
            if waiter == waiters.count { waiters.append(continuation) } else { waiters[waiter] = continuation }
            var operation = Operation(
                kind, offset: offset, bytes: bytes, isDurable: isDurable, deadline: deadline, source: source,
                tag: Operation.Tag(Volume.waiterTag, UInt(waiter)))
            operation.onlyFills = onlyFills
            operation.isLost = isLost
            operation.isUnheard = isUnheard
            if let refusal = submit(operation, memory) { resume(waiter: waiter, refusal) }
        }
        if status != .ok {
            throw Failure(status, "\(address): \(kind) of \(bytes) bytes at \(offset): \(status.sentence)")
        }
    }

    private func submit(_ operation: Operation, _ memory: UnsafeMutableRawBufferPointer?) -> Status? {
        var refusal: Status?
        if let memory, let base = memory.baseAddress {
            var vector = IOVector(base, memory.count)
            refusal = withUnsafePointer(to: &vector) { submit(operation, UnsafeBufferPointer(start: $0, count: 1)) }
        } else {
            refusal = submit(operation, UnsafeBufferPointer(start: nil, count: 0))
        }
        kick()
        return refusal
    }

    func resume(waiter: Int, _ status: Status) {
        guard let continuation = waiters[waiter] else { unreachable("waiter \(waiter) resumed twice") }
        waiters[waiter] = nil
        freeWaiters.append(waiter)
        continuation.resume(returning: status)
    }
}
