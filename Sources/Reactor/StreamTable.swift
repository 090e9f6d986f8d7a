import Base
import CSystem
import Environment

/// The streams of a reactor. An identifier names the slot and how often it was used before, so that a stream which was closed is not taken
/// for the one that came after it.
struct StreamTable: ~Copyable {
    private struct Entry {
        var descriptor: Int32 = -1
        var use: Int32 = 0
        var isReceiving = false
        var isSending = false
        /// The last receive left something in the socket.
        var hasMore = false
    }

    private var entries: UnsafeMutablePointer<Entry>
    private var capacity = 64
    private var count = 0
    private var free: [Int32] = []

    init() { entries = .allocate(capacity: capacity) }
    deinit { entries.deallocate() }

    /// Takes over the descriptor.
    mutating func add(_ descriptor: Int32) -> StreamID {
        if let index = free.popLast() {
            let use = entries[Int(index)].use
            entries[Int(index)] = Entry(descriptor: descriptor, use: use)
            return StreamID(use << indexBits | index)
        }
        if count == capacity { grow() }
        (entries + count).initialize(to: Entry(descriptor: descriptor))
        count += 1
        return StreamID(Int32(count - 1))
    }

    private mutating func grow() {
        invariant(capacity < 1 << indexBits, "\(capacity) streams are open")
        let larger = UnsafeMutablePointer<Entry>.allocate(capacity: capacity * 2)
        larger.moveInitialize(from: entries, count: count)
        entries.deallocate()
        entries = larger
        capacity *= 2
    }

    @inline(__always)
    private func entry(_ id: Int32) -> UnsafeMutablePointer<Entry> {
        let index = Int(id & (1 << indexBits - 1))
        let entry = entries + index
        invariant(index < count && entry.pointee.use == id >> indexBits && entry.pointee.descriptor >= 0, "stream \(id) is not open")
        return entry
    }

    /// The descriptor, and whether there is something to receive already.
    @inline(__always)
    func receiveBegan(_ stream: StreamID) -> (descriptor: Int32, hasMore: Bool) {
        let entry = entry(stream.index)
        invariant(!entry.pointee.isReceiving, "two receives under way of stream \(stream.index)")
        entry.pointee.isReceiving = true
        return (entry.pointee.descriptor, entry.pointee.hasMore)
    }

    @inline(__always)
    func receiveEnded(_ id: Int32, hasMore: Bool) {
        let entry = entry(id)
        entry.pointee.isReceiving = false
        entry.pointee.hasMore = hasMore
    }

    @inline(__always)
    func sendBegan(_ stream: StreamID) -> Int32 {
        let entry = entry(stream.index)
        invariant(!entry.pointee.isSending, "two sends under way of stream \(stream.index)")
        entry.pointee.isSending = true
        return entry.pointee.descriptor
    }

    @inline(__always)
    func sendEnded(_ id: Int32) { entry(id).pointee.isSending = false }

    func shutdown(_ stream: StreamID) { rs_shutdown(entry(stream.index).pointee.descriptor) }

    func shutdownAll() {
        for index in 0..<count where entries[index].descriptor >= 0 { rs_shutdown(entries[index].descriptor) }
    }

    mutating func close(_ stream: StreamID) {
        let entry = entry(stream.index)
        invariant(!entry.pointee.isReceiving && !entry.pointee.isSending, "stream \(stream.index) is closed while it is in use")
        rs_close(entry.pointee.descriptor)
        entry.pointee.descriptor = -1
        entry.pointee.use = (entry.pointee.use + 1) & (1 << useBits - 1)
        free.append(stream.index & (1 << indexBits - 1))
    }

    func closeAll() {
        for index in 0..<count where entries[index].descriptor >= 0 {
            rs_close(entries[index].descriptor)
            entries[index].descriptor = -1
        }
    }
}

private let indexBits: Int32 = 20
private let useBits: Int32 = 11
