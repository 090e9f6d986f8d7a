import Base
import Wire

/// What must hold between any two events. The simulator calls it after each; it walks everything, so the daemon does not.
extension OSTEngine {
    public func checkInvariants() {
        store.checkInvariants()
        var held = [Int](repeating: 0, count: max(1, connectionsMade))
        var inStore = held
        var small = 0
        var large = 0
        for slot in 0..<UInt32(requests.capacity) {
            let request = requests[slot]
            guard request.pointee.state != .free else { continue }
            let index = request.pointee.connection
            held[index] += 1
            if request.pointee.state == .store { inStore[index] += 1 }
            if request.pointee.buffer != .none {
                if buffers.classOf(request.pointee.buffer) == .small { small += 1 } else { large += 1 }
            }
            let state = connections[index].state
            invariant(state != .free, "request slot \(slot) belongs to connection \(index), which is free")
            if request.pointee.state == .stalled {
                invariant(connections[index].stalledSlot == slot, "request slot \(slot) stalls and its connection does not know")
            }
        }
        invariant(held.reduce(0, +) == requestsInFlight, "\(held.reduce(0, +)) request slots are held, \(requestsInFlight) are not free")
        invariant(small + buffers.smallFree == buffers.smallCount, "\(small) small buffers are held, \(buffers.smallFree) are free")
        invariant(large + buffers.largeFree == buffers.largeCount, "\(large) large buffers are held, \(buffers.largeFree) are free")
        var used = 0
        for index in 0..<connectionsMade {
            let connection = connections + index
            invariant(
                connection.pointee.requests == held[index],
                "connection \(index) holds \(held[index]) slots, not \(connection.pointee.requests)")
            invariant(connection.pointee.inStore == inStore[index], "connection \(index) has \(inStore[index]) requests in the store")
            if connection.pointee.state != .free { used += 1 }
            checkHandles(index)
        }
        invariant(used == connectionCount, "\(used) connections are used, \(connectionCount) are counted")
    }

    private func checkHandles(_ index: Int) {
        for position in 0..<Limits.handlesPerConnectionMax {
            let handle = connections[index].handles + position
            guard handle.pointee.state == .open else { continue }
            guard let object = objects[handle.pointee.object] else {
                unreachable("connection \(index) has object \(handle.pointee.object.raw) open, which is unknown")
            }
            invariant(object.handles > 0, "object \(handle.pointee.object.raw) is open and counts no handle")
            if handle.pointee.recovers {
                invariant(
                    object.recoverer == HandleReference(connection: index, index: position),
                    "object \(handle.pointee.object.raw) has two recoveries")
            }
            guard handle.pointee.writes, !mutated(.ignoresFences) else { continue }
            invariant(
                object.writer == HandleReference(connection: index, index: position),
                "object \(handle.pointee.object.raw) has two handles that write")
            guard !object.isChanging else { continue }
            invariant(
                handle.pointee.generation == store.record(of: handle.pointee.object).generation,
                "the writer of object \(handle.pointee.object.raw) has generation \(handle.pointee.generation)")
        }
    }
}
