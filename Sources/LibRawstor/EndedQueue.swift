import Base
import CRawstor
import Wire

/// Something a callback is due for.
enum Ended {
    case operation(rawstor_callback, UnsafeMutableRawPointer?)
    /// With its errno, its sentence, and the volume it is about, if any.
    case failure(rawstor_callback, UnsafeMutableRawPointer?, errno: Int32, String, VolumeHandle?)
    case event(VolumeHandle, rawstor_event)
    /// Of a list, whose end comes next.
    case entries(rawstor_list_callback, UnsafeMutableRawPointer?, [StatReply])
}

/// First in, first out; a ring that grows to the number of operations ever under way and then allocates no more.
struct EndedQueue {
    private var entries: [Ended?] = Array(repeating: nil, count: 64)
    private var head = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    mutating func append(_ entry: Ended) {
        if count == entries.count { grow() }
        entries[(head + count) & (entries.count - 1)] = entry
        count += 1
    }

    mutating func removeFirst() -> Ended {
        guard count > 0, let entry = entries[head] else { unreachable("taking from an empty queue") }
        entries[head] = nil
        head = (head + 1) & (entries.count - 1)
        count -= 1
        return entry
    }

    private mutating func grow() {
        var larger: [Ended?] = []
        larger.reserveCapacity(2 * entries.count)
        for index in 0..<count { larger.append(entries[(head + index) & (entries.count - 1)]) }
        larger.append(contentsOf: repeatElement(nil, count: 2 * entries.count - count))
        entries = larger
        head = 0
    }
}
