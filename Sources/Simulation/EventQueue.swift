/// What happens when. Plain data: what an event refers to is found by number, and a number that has been freed makes the event stale.
struct Event {
    enum Kind: UInt8 {
        /// A process takes completions and runs its jobs.
        case turn
        case timer
        case disk
        case arrive, window, reset
        case connectArrive, connectAnswer, connectDeadline
        /// A clog or partition of a link may be over.
        case release
        /// A step of the test itself.
        case action

        /// Whether the world cannot be called quiet while such an event is to come.
        var isWork: Bool {
            switch self {
            case .turn, .disk, .arrive, .window, .reset, .connectArrive, .connectAnswer: true
            case .timer, .connectDeadline, .release, .action: false
            }
        }
    }

    var time: UInt64
    /// Decides between events of the same time: 32 drawn bits, then 32 bits of a counter.
    var order: UInt64
    var a: Int32
    var b: Int32
    var generation: UInt32
    var kind: Kind

    @inline(__always)
    func isBefore(_ other: Event) -> Bool { time != other.time ? time < other.time : order < other.order }
}

/// A binary heap of events.
struct EventQueue {
    private var heap: [Event] = []
    /// Events that are work, stale ones included.
    private(set) var work = 0

    init() { heap.reserveCapacity(1024) }

    var first: Event? { heap.first }
    var count: Int { heap.count }

    mutating func push(_ event: Event) {
        if event.kind.isWork { work += 1 }
        var index = heap.count
        heap.append(event)
        heap.withUnsafeMutableBufferPointer { heap in
            while index > 0 {
                let parent = (index - 1) / 2
                if !event.isBefore(heap[parent]) { break }
                heap[index] = heap[parent]
                index = parent
            }
            heap[index] = event
        }
    }

    mutating func pop() -> Event {
        let result = heap[0]
        if result.kind.isWork { work -= 1 }
        let last = heap.removeLast()
        if heap.isEmpty { return result }
        heap.withUnsafeMutableBufferPointer { heap in
            var index = 0
            while true {
                var child = 2 * index + 1
                if child >= heap.count { break }
                if child + 1 < heap.count, heap[child + 1].isBefore(heap[child]) { child += 1 }
                if !heap[child].isBefore(last) { break }
                heap[index] = heap[child]
                index = child
            }
            heap[index] = last
        }
        return result
    }
}
