import Base

/// What one connection still has to send, in order, without sending anything itself.
///
/// Pieces of memory are queued; a piece may carry a token, which is handed back when its last byte was sent: only then may that memory
/// be used again. Bounded: the owner asks `room` first.
public struct FrameSender: ~Copyable {
    public static let noToken = UInt32.max

    private struct Piece {
        var base: UnsafeMutableRawPointer
        var count: Int
        var token: UInt32
    }

    private let pieces: UnsafeMutablePointer<Piece>
    private let mask: Int
    private var head = 0
    private var tail = 0
    /// Bytes of the first piece that are sent.
    private var offset = 0
    public private(set) var queuedBytes = 0

    /// `capacity` is a power of two.
    public init(capacity: Int) {
        invariant(capacity.nonzeroBitCount == 1, "the capacity is a power of two, not \(capacity)")
        pieces = .allocate(capacity: capacity)
        mask = capacity - 1
    }

    deinit { pieces.deallocate() }

    public var isEmpty: Bool { head == tail }
    /// Some of the first piece was sent.
    public var isWithinPiece: Bool { offset > 0 }
    public var room: Int { mask + 1 - (tail - head) }

    public mutating func append(_ base: UnsafeMutableRawPointer, _ count: Int, token: UInt32 = noToken) {
        invariant(room > 0 && count > 0, "no room in the send queue, or nothing to send (\(count) bytes)")
        pieces[tail & mask] = Piece(base: base, count: count, token: token)
        tail += 1
        queuedBytes += count
    }

    /// What to send now, at most `capacity` vectors; returns how many.
    public func vectors(into list: UnsafeMutablePointer<IOVector>, capacity: Int) -> Int {
        var count = 0
        var index = head
        while index < tail, count < capacity {
            let piece = pieces[index & mask]
            let skip = index == head ? offset : 0
            list[count] = IOVector(piece.base + skip, piece.count - skip)
            count += 1
            index += 1
        }
        return count
    }

    /// `count` bytes of those vectors were sent. Tokens of finished pieces come out of `popSent`.
    public mutating func sent(_ count: Int) {
        offset += count
        queuedBytes -= count
        invariant(queuedBytes >= 0, "more sent than queued")
    }

    /// The next finished piece: its token, which may be `noToken`; nil when there is none.
    public mutating func popSent() -> UInt32? {
        guard head < tail else { return nil }
        let piece = pieces[head & mask]
        guard offset >= piece.count else { return nil }
        offset -= piece.count
        head += 1
        return piece.token
    }

    /// The connection is gone: hands back every token, sent or not. Only while no send is under way.
    public mutating func popAny() -> UInt32? {
        guard head < tail else {
            offset = 0
            queuedBytes = 0
            return nil
        }
        defer { head += 1 }
        return pieces[head & mask].token
    }
}
