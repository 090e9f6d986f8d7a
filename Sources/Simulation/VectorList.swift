import Base

/// The memory of one operation: a copy of the caller's vector list, whose own memory is kept for the next operation.
struct VectorList {
    private var memory: UnsafeMutablePointer<IOVector>?
    private var capacity = 0
    private(set) var count = 0
    /// Of all vectors together.
    private(set) var bytes = 0

    mutating func set(_ vectors: UnsafeBufferPointer<IOVector>) {
        if vectors.count > capacity {
            memory?.deallocate()
            capacity = max(4, vectors.count)
            memory = .allocate(capacity: capacity)
        }
        count = vectors.count
        bytes = 0
        guard let memory else { return }
        for index in 0..<count {
            memory[index] = vectors[index]
            bytes += vectors[index].count
        }
    }

    mutating func clear() {
        count = 0
        bytes = 0
    }

    mutating func free() {
        memory?.deallocate()
        memory = nil
        capacity = 0
        clear()
    }

    /// Pieces that cover the first `limit` bytes, in order.
    @inline(__always)
    func forEach(limit: Int, _ body: (_ memory: UnsafeMutableRawPointer, _ at: Int, _ count: Int) -> Void) {
        guard let memory else { return }
        var at = 0
        for index in 0..<count where at < limit {
            let piece = min(memory[index].count, limit - at)
            if piece > 0 { body(memory[index].base, at, piece) }
            at += piece
        }
    }
}
