import Base

/// The payload memory of one OST: two classes of page-aligned buffers cut from one arena, which belongs to the world.
///
/// A buffer is a prefix page and a payload area. The payload is what the disk reads and writes; header and checks of a reply end
/// exactly where it begins, so that a reply is one piece of memory.
///
/// Invariants: a buffer is either free or held by one request; nothing is allocated after init.
struct BufferPool: ~Copyable {
    enum Class: Int {
        case small, large
        static let count = 2
        var payloadBytes: Int { self == .small ? Block.bytes : Limits.frameBytesMax }
        var bytes: Int { BufferPool.prefixBytes + payloadBytes }
    }

    /// Index over both classes, small ones first; `none` is no buffer.
    struct ID: Hashable {
        var raw: Int32
        static let none = ID(raw: -1)
    }

    static let prefixBytes = Block.bytes

    private let base: UnsafeMutableRawPointer
    let smallCount: Int
    let largeCount: Int
    private let free: UnsafeMutablePointer<Int32>
    private(set) var smallFree: Int
    private(set) var largeFree: Int

    init(memory: UnsafeMutableRawBufferPointer, smallCount: Int) {
        guard let base = memory.baseAddress else { unreachable("the arena has no memory") }
        let smallBytes = smallCount * Class.small.bytes
        self.base = base
        self.smallCount = smallCount
        largeCount = (memory.count - smallBytes) / Class.large.bytes
        invariant(smallCount > 0 && largeCount > 0, "\(memory.count) bytes hold no buffers of both classes")
        invariant(UInt(bitPattern: base) % UInt(Block.bytes) == 0, "the arena is page-aligned")
        smallFree = smallCount
        largeFree = largeCount
        free = .allocate(capacity: smallCount + largeCount)
        // The lowest index is given out first: a lightly loaded OST touches little memory.
        for index in 0..<smallCount { free[index] = Int32(smallCount - 1 - index) }
        for index in 0..<largeCount { free[smallCount + index] = Int32(smallCount + largeCount - 1 - index) }
    }

    deinit { free.deallocate() }

    static func classOf(payloadBytes: Int) -> Class { payloadBytes <= Class.small.payloadBytes ? .small : .large }

    func freeCount(_ kind: Class) -> Int { kind == .small ? smallFree : largeFree }

    mutating func take(_ kind: Class) -> ID {
        switch kind {
        case .small:
            invariant(smallFree > 0, "no small buffer is free")
            smallFree -= 1
            return ID(raw: free[smallFree])
        case .large:
            invariant(largeFree > 0, "no large buffer is free")
            largeFree -= 1
            return ID(raw: free[smallCount + largeFree])
        }
    }

    mutating func release(_ id: ID) {
        switch classOf(id) {
        case .small:
            invariant(smallFree < smallCount, "a small buffer is released twice")
            free[smallFree] = id.raw
            smallFree += 1
        case .large:
            invariant(largeFree < largeCount, "a large buffer is released twice")
            free[smallCount + largeFree] = id.raw
            largeFree += 1
        }
    }

    func classOf(_ id: ID) -> Class {
        invariant(id.raw >= 0 && Int(id.raw) < smallCount + largeCount, "buffer \(id.raw) does not exist")
        return Int(id.raw) < smallCount ? .small : .large
    }

    func payload(of id: ID) -> UnsafeMutableRawPointer {
        let index = Int(id.raw)
        let start =
            index < smallCount
            ? index * Class.small.bytes : smallCount * Class.small.bytes + (index - smallCount) * Class.large.bytes
        return base + start + BufferPool.prefixBytes
    }

    /// Where the checks of `blockCount` blocks go: directly before the payload.
    func checks(of id: ID, blockCount: UInt32) -> UnsafeMutableRawPointer { payload(of: id) - Int(blockCount) * 4 }
}
