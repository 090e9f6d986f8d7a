import Base
import Environment

/// Where completions go. An index is used again after a detach; its generation tells an operation of the old sink from one of the new.
struct SinkTable: ~Copyable {
    struct Entry {
        var sink: (any CompletionSink)?
        var generation: UInt32 = 0
        /// Has got a completion in this batch.
        var isTouched = false
    }

    private(set) var entries: UnsafeMutablePointer<Entry>
    private var capacity = 16
    private var count = 0
    private var free: [UInt16] = []
    private var touched: [UInt16] = []
    private var nextToEnd = 0

    init() {
        entries = .allocate(capacity: capacity)
        touched.reserveCapacity(capacity)
    }

    deinit {
        entries.deinitialize(count: count)
        entries.deallocate()
    }

    mutating func attach(_ sink: any CompletionSink) -> SinkID {
        if let index = free.popLast() {
            entries[Int(index)].sink = sink
            return SinkID(index)
        }
        if count == capacity {
            invariant(count < Int(UInt16.max), "\(count) sinks are attached")
            let larger = UnsafeMutablePointer<Entry>.allocate(capacity: capacity * 2)
            larger.moveInitialize(from: entries, count: count)
            entries.deallocate()
            entries = larger
            capacity *= 2
            touched.reserveCapacity(capacity)
        }
        (entries + count).initialize(to: Entry(sink: sink))
        count += 1
        return SinkID(UInt16(count - 1))
    }

    mutating func detach(_ id: SinkID) {
        let index = Int(id.index)
        invariant(index < count && entries[index].sink != nil, "sink \(index) is not attached")
        entries[index].sink = nil
        entries[index].generation &+= 1
        entries[index].isTouched = false
        free.append(id.index)
    }

    mutating func detachAll() {
        for index in 0..<count where entries[index].sink != nil { detach(SinkID(UInt16(index))) }
    }

    @inline(__always)
    func generation(_ id: SinkID) -> UInt32 {
        invariant(Int(id.index) < count, "there is no sink \(id.index)")
        return entries[Int(id.index)].generation
    }

    /// The sink for which a completion is meant, noted for the end of the batch; `nil` when it has been detached.
    @inline(__always)
    mutating func receiver(_ index: UInt16, _ generation: UInt32) -> (any CompletionSink)? {
        let entry = entries + Int(index)
        guard entry.pointee.generation == generation, let sink = entry.pointee.sink else { return nil }
        if !entry.pointee.isTouched {
            entry.pointee.isTouched = true
            touched.append(index)
        }
        return sink
    }

    /// Whether a completion for it would be received.
    func isAttached(_ index: UInt16, _ generation: UInt32) -> Bool {
        entries[Int(index)].generation == generation && entries[Int(index)].sink != nil
    }

    /// The next sink whose batch has ended, in the order of first completions. One that was detached since has no batch any more.
    mutating func nextTouched() -> (any CompletionSink)? {
        while nextToEnd < touched.count {
            let entry = entries + Int(touched[nextToEnd])
            nextToEnd += 1
            guard entry.pointee.isTouched else { continue }
            entry.pointee.isTouched = false
            if let sink = entry.pointee.sink { return sink }
        }
        touched.removeAll(keepingCapacity: true)
        nextToEnd = 0
        return nil
    }
}
