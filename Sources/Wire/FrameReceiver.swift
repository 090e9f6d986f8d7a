import Base

/// Cuts the byte stream of one connection into frames, without reading anything itself.
///
/// Its owner asks `vectors` where the next bytes shall go, receives there, and says `received`; then calls `next` until it wants more.
/// Headers and meta sections pass through a staging buffer. A payload goes where the owner says as soon as its header is known: what
/// came with the header is copied, the rest is received in place, so that a large payload is copied by the kernel only.
///
/// Invariant: bytes are consumed exactly once and in order, however the stream splits them.
public struct FrameReceiver: ~Copyable {
    public enum Step {
        case needsMore
        /// A frame without payload, whole. The meta section is valid until the next call.
        case frame(FrameHeader, meta: UnsafeRawBufferPointer)
        /// A frame with payload, of which header and meta are here. The owner must call `takePayload` or `skipPayload` next.
        case payloadFollows(FrameHeader, meta: UnsafeRawBufferPointer)
        /// The payload that was taken is complete.
        case payloadComplete
    }

    private enum Phase {
        case head
        case payloadUnclaimed
        case payload
    }

    /// Room for the largest head, and as much again to take in what follows it.
    public static let stagingBytes = 2 * roundUp(FrameHeader.bytes + Limits.metaBytesMax, to: Block.bytes)

    private let staging: UnsafeMutableRawPointer
    private var start = 0
    private var end = 0
    private var phase = Phase.head
    private var payloadRemaining = 0
    /// Where the rest of the payload goes; nil while it is skipped. Belongs to the owner until `payloadComplete`.
    private var targets: UnsafePointer<IOVector>?
    private var targetIndex = 0
    private var targetOffset = 0

    public init() {
        staging = .allocate(byteCount: FrameReceiver.stagingBytes, alignment: 64)
    }

    deinit { staging.deallocate() }

    /// A new connection: everything before is forgotten.
    public mutating func reset() {
        start = 0
        end = 0
        phase = .head
        payloadRemaining = 0
        targets = nil
    }

    /// Whether a payload is being received into memory of the owner.
    public var receivesIntoOwnerMemory: Bool { targets != nil && payloadRemaining > 0 }

    /// Where the next bytes go, at most `capacity` vectors; returns how many. Call after `next` said `needsMore`.
    public mutating func vectors(into list: UnsafeMutablePointer<IOVector>, capacity: Int) -> Int {
        invariant(capacity >= 2 && phase != .payloadUnclaimed, "a payload must be claimed before more is received")
        if start == end {
            start = 0
            end = 0
        } else if start > 0 {
            let base = staging
            base.copyMemory(from: base + start, byteCount: end - start)
            end -= start
            start = 0
        }
        var count = 0
        if phase == .payload, let targets {
            var remaining = payloadRemaining
            var index = targetIndex
            var offset = targetOffset
            while remaining > 0, count < capacity - 1 {
                let length = min(targets[index].count - offset, remaining)
                if length > 0 {
                    list[count] = IOVector(targets[index].base + offset, length)
                    count += 1
                    remaining -= length
                }
                index += 1
                offset = 0
            }
            if remaining > 0 { return count }
        }
        list[count] = IOVector(staging + end, FrameReceiver.stagingBytes - end)
        return count + 1
    }

    /// `count` bytes came into the vectors handed out last.
    public mutating func received(_ count: Int) {
        var count = count
        if phase == .payload, targets != nil {
            let direct = min(count, payloadRemaining)
            advanceTargets(by: direct)
            count -= direct
        }
        end += count
        invariant(end <= FrameReceiver.stagingBytes, "received beyond the staging buffer: \(end)")
    }

    /// What can be done with what has come. A failure closes the connection.
    public mutating func next() throws(Failure) -> Step {
        switch phase {
        case .payloadUnclaimed: unreachable("a payload must be claimed first")
        case .payload:
            if payloadRemaining > 0 { drainStaging() }
            guard payloadRemaining == 0 else { return .needsMore }
            phase = .head
            if targets != nil {
                targets = nil
                return .payloadComplete
            }
            return try next()
        case .head:
            guard end - start >= FrameHeader.bytes else { return .needsMore }
            let base = UnsafeRawPointer(staging) + start
            let header = try FrameHeader.decode(base)
            let headBytes = FrameHeader.bytes + Int(header.metaBytes)
            guard end - start >= headBytes else { return .needsMore }
            let meta = UnsafeRawBufferPointer(start: base + FrameHeader.bytes, count: Int(header.metaBytes))
            try header.checkMeta(meta)
            start += headBytes
            guard header.payloadBytes > 0 else { return .frame(header, meta: meta) }
            phase = .payloadUnclaimed
            payloadRemaining = Int(header.payloadBytes)
            return .payloadFollows(header, meta: meta)
        }
    }

    /// After `next` refused a head: the id its request asked under, so that the refusal can be answered; 0 when the header's own check
    /// does not match and nothing in it can be believed.
    public var refusedRequestID: UInt64 {
        guard phase == .head, end - start >= FrameHeader.bytes else { return 0 }
        let head = UnsafeRawPointer(staging) + start
        guard head.load(UInt32.self, at: 124) == Checksum.of(UnsafeRawBufferPointer(start: head, count: 124)) else { return 0 }
        return head.load(UInt64.self, at: 8)
    }

    /// The payload goes to these vectors, which hold at least as many bytes. List and memory stay until `payloadComplete`.
    public mutating func takePayload(into vectors: UnsafePointer<IOVector>) {
        invariant(phase == .payloadUnclaimed, "there is no payload to take")
        phase = .payload
        targets = vectors
        targetIndex = 0
        targetOffset = 0
    }

    /// The payload is of no use; its bytes are passed over.
    public mutating func skipPayload() {
        invariant(phase == .payloadUnclaimed, "there is no payload to skip")
        phase = .payload
        targets = nil
    }

    /// The owner needs its memory back: the rest of the payload is passed over. Only while no receive is under way.
    public mutating func abandonPayload() {
        targets = nil
    }

    private mutating func drainStaging() {
        let available = min(end - start, payloadRemaining)
        guard targets != nil else {
            start += available
            payloadRemaining -= available
            return
        }
        var remaining = available
        while remaining > 0, let targets {
            let room = targets[targetIndex].count - targetOffset
            let length = min(room, remaining)
            if length > 0 {
                (targets[targetIndex].base + targetOffset).copyMemory(from: staging + start, byteCount: length)
                start += length
            }
            advanceTargets(by: length)
            remaining -= length
        }
    }

    private mutating func advanceTargets(by count: Int) {
        guard let targets else { return }
        var count = count
        payloadRemaining -= count
        while true {
            let room = targets[targetIndex].count - targetOffset
            if count < room {
                targetOffset += count
                return
            }
            count -= room
            if count == 0 && payloadRemaining == 0 { return }
            targetIndex += 1
            targetOffset = 0
        }
    }
}
