import Base

/// What the engine wants done. Plain data, compared with `==` in tests; bytes to move are asked for with `nextSend` and `nextReceive`.
public enum Effect: Hashable, Sendable {
    /// The operation has ended and nothing refers to its memory any more.
    case completed(Operation.Tag, Status)
    /// Break the connection of this peer, wait until nothing is under way on it, call `detached`, and connect again.
    case resetConnection(Int, ResetReason)
    /// The peer does not answer, or may have lost what it acknowledged: have it excluded at the MDT, and call `mapChanged`.
    case exclude(Int)
    /// A peer knows a newer map than this writer: find it out, and call `mapChanged`.
    case mapWanted
    case notice(VolumeNotice)
    /// Call `tick` at this time. Replaces a later wish; an earlier one that is overtaken does no harm.
    case wakeAt(Instant)
    /// After `close`: everything has ended and the other side knows.
    case closed
}

public enum ResetReason: Hashable, Sendable {
    /// A deadline passed for something whose memory is in use, or whose outcome only a new session makes definite.
    case deadline
    /// Not even a keep-alive was answered.
    case silence
    /// Too many requests that nobody waits for any more are still unanswered.
    case backlog
    /// The peer broke the protocol; the engine's `lastFault` says how. (Text in here would make every effect cost a retain.)
    case malformed
    /// The store cannot go on with the present session: it stops, or reloads after its disk failed.
    case refused(Status)
    /// The volume has failed for good.
    case dead(Status)
    /// It is no member any more.
    case excluded
    /// It lacks what it had acknowledged, and its boot identity says that it lost nothing.
    case rolledBack
}

/// What a user of the volume may want to know besides the results of operations.
public enum VolumeNotice: Hashable, Sendable {
    case sizeChanged(UInt64)
    /// Acknowledged and unflushed writes may be gone; the next flush says so too.
    case powerLost
    /// Another writer has opened the volume. Nothing works any more.
    case fenced
    /// The volume has failed for good, for this reason.
    case failed(Status)
    /// With the peer.
    case connected(Int)
    case disconnected(Int)
    /// Writes go on without this peer.
    case excluded(Int)
    /// Another map holds: who is in sync may have changed.
    case membersChanged
    /// Writes fail, since a placement has fewer members in sync than the volume's floor.
    case belowFloor
}

/// Effects in the order in which they arose. Its memory is reused.
///
/// Growth: an operation has one completion, and the owner drains after every event; what a misbehaving peer can cause beyond that is
/// bounded by the bytes of one receive.
struct EffectBuffer: ~Copyable {
    private var memory: UnsafeMutablePointer<Effect>
    private var capacity: Int
    private var head = 0
    private var tail = 0

    init(capacity: Int) {
        memory = .allocate(capacity: capacity)
        self.capacity = capacity
    }

    deinit {
        (memory + head).deinitialize(count: tail - head)
        memory.deallocate()
    }

    var isEmpty: Bool { head == tail }

    mutating func append(_ effect: Effect) {
        if tail == capacity { makeRoom() }
        (memory + tail).initialize(to: effect)
        tail += 1
    }

    mutating func pop() -> Effect? {
        guard head < tail else { return nil }
        let effect = (memory + head).move()
        head += 1
        if head == tail {
            head = 0
            tail = 0
        }
        return effect
    }

    private mutating func makeRoom() {
        if head == 0 {
            let larger = UnsafeMutablePointer<Effect>.allocate(capacity: capacity * 2)
            larger.moveInitialize(from: memory, count: tail)
            memory.deallocate()
            memory = larger
            capacity *= 2
        } else {
            memory.moveInitialize(from: memory + head, count: tail - head)
            tail -= head
            head = 0
        }
    }
}
