import Base

/// Plain values at stable indexes, in segments, so that growth moves nothing and costs no copy. Freed places are used again.
struct Slab<Element: BitwiseCopyable>: ~Copyable {
    private static var segmentBits: Int { 10 }
    private static var segmentCount: Int { 1 << segmentBits }

    private var segments: UnsafeMutablePointer<UnsafeMutablePointer<Element>>
    private var segmentCapacity = 16
    private var used = 0
    private var freeList: ContiguousArray<UInt32> = []

    init() { segments = .allocate(capacity: 16) }

    deinit {
        for index in 0..<roundUp(used, to: Self.segmentCount) >> Self.segmentBits { segments[index].deallocate() }
        segments.deallocate()
    }

    /// Indexes given out so far are below it.
    var endIndex: UInt32 { UInt32(used) }
    var count: Int { used - freeList.count }
    /// Of what is in use: the rest is used again before there is more.
    var bytesInUse: UInt64 { UInt64(count * MemoryLayout<Element>.stride) }

    @inline(__always)
    func pointer(_ index: UInt32) -> UnsafeMutablePointer<Element> {
        segments[Int(index) >> Self.segmentBits] + (Int(index) & (Self.segmentCount - 1))
    }

    mutating func take(_ value: Element) -> UInt32 {
        if let index = freeList.popLast() {
            pointer(index).pointee = value
            return index
        }
        if used & (Self.segmentCount - 1) == 0 { addSegment() }
        let index = UInt32(used)
        used += 1
        pointer(index).initialize(to: value)
        return index
    }

    mutating func give(_ index: UInt32) { freeList.append(index) }

    private mutating func addSegment() {
        let count = used >> Self.segmentBits
        if count == segmentCapacity {
            let larger = UnsafeMutablePointer<UnsafeMutablePointer<Element>>.allocate(capacity: 2 * segmentCapacity)
            larger.moveInitialize(from: segments, count: segmentCapacity)
            segments.deallocate()
            segments = larger
            segmentCapacity *= 2
        }
        segments[count] = .allocate(capacity: Self.segmentCount)
    }
}

/// No entry, in every list of indexes.
let noIndex = UInt32.max
