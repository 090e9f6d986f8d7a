/// The records of a log's tail while a store is loaded, in their order and numbered without gaps.
///
/// In pieces that do not move: a tail may be hundreds of MiB, and an array of it would be copied again and again while it grows.
struct TailRecords: ~Copyable {
    private static let chunkBytes = 4 << 20

    /// Number of the first one.
    let first: UInt64
    private var chunks: [UnsafeMutableRawPointer] = []
    private var used = TailRecords.chunkBytes
    private var places = Slab<UnsafeRawPointer>()

    init(first: UInt64) { self.first = first }

    deinit { for chunk in chunks { chunk.deallocate() } }

    var count: Int { places.count }
    /// Behind the last one.
    var end: UInt64 { first + UInt64(count) }

    var bytesInUse: UInt64 { UInt64(chunks.count * TailRecords.chunkBytes) + places.bytesInUse }

    var hasRoom: Bool { count < Int(noIndex) }

    /// Those behind this one, whatever number that is: it may be what a damaged disk says.
    func after(_ number: UInt64) -> Range<UInt64> { number < first ? first..<end : min(number, end - 1) + 1..<end }

    mutating func append(_ source: UnsafeRawPointer, _ bytes: Int) {
        if used + bytes > TailRecords.chunkBytes {
            chunks.append(.allocate(byteCount: TailRecords.chunkBytes, alignment: 64))
            used = 0
        }
        let place = chunks[chunks.count - 1] + used
        place.copyMemory(from: source, byteCount: bytes)
        used += bytes
        _ = places.take(UnsafeRawPointer(place))
    }

    /// What `append` was given for the record with this number.
    @inline(__always)
    func source(_ number: UInt64) -> UnsafeRawPointer { places.pointer(UInt32(number - first)).pointee }
}
