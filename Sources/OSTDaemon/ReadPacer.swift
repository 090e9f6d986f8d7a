import Base

/// Decides when reads go to the disk: at once, or in two waves that take turns.
///
/// Some disks, most virtual ones among them, serve one request after the other and report none before their queue has run empty. Whatever
/// comes meanwhile only makes the wave longer, and while daemon and clients work on its answers the disk does nothing. There it pays to let
/// half of the reads wait until the first of the other half has come back: the disk goes on at once, and the answers are worked on
/// meanwhile. A disk that serves many requests side by side may lose half of its speed by it, and with every wave comes the work of waking
/// each other up. What a disk is cannot be told from outside, so both ways are tried for a moment now and then, and reads are held back
/// where that gains much.
///
/// Invariants: reads are issued in their order, each once; none is held while none is under way and the owner has taken what is `due`.
/// It leaves to its owner to issue what `next` gives, and to say when a read has ended.
struct ReadPacer {
    struct Read {
        var token: UInt32
        var offset: UInt64
        var memory: UnsafeMutableRawPointer
        var bytes: Int
    }

    /// With less under way there is nothing to divide.
    static let depthMin = 8
    /// How long one way is tried at a time: some thousand reads, so that luck does not decide.
    static let trial = Interval.milliseconds(25)
    /// Both ways are tried in turns, each so often.
    static let trialsOfEach = 4
    /// For how many trials' time the better one is kept: ten seconds.
    static let kept = 400
    /// Waves of half the size take a quarter to two thirds more of the processors for each read.
    static let gainMinPercent = 10

    /// Whether reads wait for their wave now.
    private(set) var isPacing = false
    private var held = Queue()
    private(set) var underWay = 0
    /// Of those under way, how many belong to the wave before the newest one: disks answer in the order of requests, more or less.
    private var older = 0
    /// Reads at once of late.
    private var depth = 0

    private var trialBegan = Instant.zero
    private var trialReads = 0
    /// The most reads at once during the trial: between two waves there are few.
    private var trialDepth = 0
    /// Trials of this round that have ended, first of reads that go at once, then in turns.
    private var trialsDone = 0
    private var readsPaced = 0
    private var readsAtOnce = 0
    /// What the last round has shown, and for how long that still holds.
    private var pays = false
    private var kept = 0

    init(capacity: Int) { held.reserve(capacity) }

    /// A read that the store wants.
    mutating func add(_ read: Read) { held.append(read) }

    /// How many of those that were added are to be issued, by `next`, before the daemon turns to its connections.
    var due: Int {
        if !isPacing { return held.count }
        return underWay == 0 ? min(held.count, (max(depth, held.count) + 1) / 2) : 0
    }

    /// A read has ended; says how many are to be issued now, by `next`.
    mutating func ended(now: Instant) -> Int {
        underWay -= 1
        invariant(underWay >= 0, "more reads have ended than were issued")
        trialReads += 1
        if now >= trialBegan + ReadPacer.trial { endTrial(now) }
        guard isPacing else {
            older = 0
            return held.count
        }
        if older > 0 {
            older -= 1
            return 0
        }
        depth = max(underWay + 1 + held.count, depth - max(1, depth / 16))
        older = held.isEmpty ? 0 : underWay
        return min(held.count, (depth + 1) / 2)
    }

    /// The oldest that was added and is not issued; it counts as issued from now on.
    mutating func next() -> Read {
        trialDepth = max(trialDepth, underWay + held.count)
        underWay += 1
        return held.removeFirst()
    }

    private mutating func endTrial(_ now: Instant) {
        let isDeep = now < trialBegan + ReadPacer.trial + ReadPacer.trial && trialDepth >= ReadPacer.depthMin
        defer {
            trialReads = 0
            trialDepth = 0
            trialBegan = now
        }
        // With little to do, or after a time without anything, there is nothing to divide and nothing to learn.
        guard isDeep else {
            isPacing = false
            return
        }
        if kept > 0 {
            kept -= 1
            isPacing = kept > 0 && pays
            return
        }
        let isPacingTried = trialsDone % 2 == 1
        if isPacing == isPacingTried {
            if isPacing { readsPaced += trialReads } else { readsAtOnce += trialReads }
            trialsDone += 1
        }
        isPacing = trialsDone % 2 == 1
        if trialsDone == 2 * ReadPacer.trialsOfEach { endRound() }
    }

    private mutating func endRound() {
        pays = readsPaced * 100 >= readsAtOnce * (100 + ReadPacer.gainMinPercent)
        isPacing = pays
        kept = ReadPacer.kept
        trialsDone = 0
        // Luck evens out over the rounds.
        readsPaced /= 2
        readsAtOnce /= 2
    }
}

/// First in, first out; takes no memory while it stays within its capacity.
private struct Queue {
    private var reads: [ReadPacer.Read] = []
    private var head = 0

    mutating func reserve(_ capacity: Int) { reads.reserveCapacity(2 * capacity) }
    var count: Int { reads.count - head }
    var isEmpty: Bool { count == 0 }
    mutating func append(_ read: ReadPacer.Read) { reads.append(read) }

    mutating func removeFirst() -> ReadPacer.Read {
        let read = reads[head]
        head += 1
        if head == reads.count {
            reads.removeAll(keepingCapacity: true)
            head = 0
        } else if head * 2 > reads.capacity {
            reads.removeFirst(head)
            head = 0
        }
        return read
    }
}
