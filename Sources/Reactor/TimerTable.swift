import Base
import Environment

/// Instants at which sinks are woken: a binary heap, ordered by instant and then by when the timer was made.
///
/// Cancelling only marks the timer. A request's deadline is nearly always cancelled, long before it would reach the top; so when the
/// cancelled outnumber the others they are swept out at once, which keeps the heap bounded at constant cost per timer.
struct TimerTable {
    struct Due {
        var sink: SinkID
        var sinkGeneration: UInt32
        var token: UInt32
    }

    private struct Timer {
        var due: Due
        var generation: UInt32
        var isLive: Bool
    }

    private struct Entry {
        var instant: Instant
        var order: UInt64
        var timer: UInt32
    }

    private var timers: [Timer] = []
    private var free: [UInt32] = []
    private var heap: [Entry] = []
    private var cancelled = 0
    private var order: UInt64 = 0

    var isEmpty: Bool { heap.count == cancelled }
    var count: Int { heap.count }

    mutating func add(at instant: Instant, _ due: Due) -> TimerID {
        let index: UInt32
        if let reused = free.popLast() {
            index = reused
            timers[Int(index)].due = due
            timers[Int(index)].isLive = true
        } else {
            index = UInt32(timers.count)
            timers.append(Timer(due: due, generation: 0, isLive: true))
        }
        order += 1
        heap.append(Entry(instant: instant, order: order, timer: index))
        siftUp(heap.count - 1)
        return TimerID(UInt64(timers[Int(index)].generation) << 32 | UInt64(index))
    }

    mutating func cancel(_ id: TimerID) {
        let index = Int(id.raw & 0xffff_ffff)
        guard index < timers.count, UInt64(timers[index].generation) == id.raw >> 32, timers[index].isLive else { return }
        timers[index].isLive = false
        cancelled += 1
        if cancelled > 64 + heap.count / 2 { sweep() }
    }

    /// When the next timer is due; cancelled ones at the top are dropped on the way.
    mutating func next() -> Instant? {
        while let first = heap.first {
            if timers[Int(first.timer)].isLive { return first.instant }
            removeFirst()
            cancelled -= 1
            retire(first.timer)
        }
        return nil
    }

    mutating func popDue(_ now: Instant) -> Due? {
        guard let instant = next(), instant <= now else { return nil }
        let first = heap[0]
        removeFirst()
        let due = timers[Int(first.timer)].due
        retire(first.timer)
        return due
    }

    private mutating func retire(_ timer: UInt32) {
        timers[Int(timer)].isLive = false
        timers[Int(timer)].generation &+= 1
        free.append(timer)
    }

    private mutating func sweep() {
        var kept = 0
        for index in heap.indices {
            let entry = heap[index]
            if timers[Int(entry.timer)].isLive {
                heap[kept] = entry
                kept += 1
            } else {
                retire(entry.timer)
            }
        }
        heap.removeLast(heap.count - kept)
        cancelled = 0
        for index in stride(from: kept / 2 - 1, through: 0, by: -1) { siftDown(index) }
    }

    private func isBefore(_ left: Entry, _ right: Entry) -> Bool {
        left.instant != right.instant ? left.instant < right.instant : left.order < right.order
    }

    private mutating func removeFirst() {
        let last = heap.removeLast()
        if heap.isEmpty { return }
        heap[0] = last
        siftDown(0)
    }

    private mutating func siftUp(_ start: Int) {
        var index = start
        let entry = heap[index]
        while index > 0 {
            let parent = (index - 1) / 2
            if !isBefore(entry, heap[parent]) { break }
            heap[index] = heap[parent]
            index = parent
        }
        heap[index] = entry
    }

    private mutating func siftDown(_ start: Int) {
        var index = start
        let entry = heap[index]
        while true {
            var child = index * 2 + 1
            if child >= heap.count { break }
            if child + 1 < heap.count, isBefore(heap[child + 1], heap[child]) { child += 1 }
            if !isBefore(heap[child], entry) { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = entry
    }
}
