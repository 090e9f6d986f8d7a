import Base
import Wire

// What must hold between events: slots accounted for, the overlap rule, marks, and no memory given back that is pinned. Changes nothing.

extension VolumeEngine {
    /// Everything that must hold between events. Slow; the simulator and the tests call it after each one.
    public func checkInvariants() {
        order.checkInvariants()
        overlaps.checkInvariants()
        checkOperations()
        checkRequests()
    }

    private func checkOperations() {
        invariant(
            operations.freeCount + operations.active.count == operations.capacity,
            "\(operations.freeCount) free and \(operations.active.count) active of \(operations.capacity) operations")
        var index = operations.active.first
        while index != SlotList.none {
            let slot = operations.at(index)
            invariant(slot.pointee.phase != .free, "operation \(index) is active and free")
            let isWaiting = overlaps.contains(index) && !overlaps.mayStart(index) && !overlaps.isDisabled
            invariant(!isWaiting || slot.pointee.requests == 0, "operation \(index) has requests and waits for an earlier one")
            invariant(!isWaiting || !ready.contains(index), "operation \(index) is ready and waits for an earlier one")
            invariant(
                isWaiting || ready.contains(index) || slot.pointee.requests > 0, "operation \(index) waits for nothing and does nothing")
            invariant(
                slot.pointee.isReported ? slot.pointee.status != .ok : true, "operation \(index) succeeded and keeps its blocks")
            invariant(slot.pointee.status == .ok || !ready.contains(index), "operation \(index) has failed and goes on")
            index = operations.active.next(after: index)
        }
    }

    private func checkRequests() {
        var used = 0
        var outstanding = 0
        var abandoned = 0
        var unfinished = 0
        for index in 0..<requests.capacity {
            let request = requests.at(index)
            let state = request.pointee.state
            if state == .free { continue }
            used += 1
            if state == .inFlight || state == .abandoned { outstanding += 1 }
            if state == .abandoned { abandoned += 1 }
            if request.pointee.changesBlocks {
                unfinished += 1
                invariant(order.unfinished.contains(index), "write \(index) is missing in the order of writes")
            }
            let isOwned = state != .abandoned && request.pointee.hasOwner
            invariant(!isOwned || request.pointee.operation != SlotList.none, "request \(index) belongs to nobody")
            if isOwned, request.pointee.isPinned {
                invariant(!operations.at(request.pointee.operation).pointee.isReported, "request \(index) pins memory given back")
            }
            invariant(state != .delayed || delayed.contains(index), "request \(index) is delayed for ever")
            invariant(
                state != .unanswered || connection.phase != .attached || resends.contains(index), "request \(index) is never sent again")
        }
        invariant(used + requests.freeCount == requests.capacity, "\(used) used and \(requests.freeCount) free requests")
        invariant(unfinished == order.unfinished.count, "\(order.unfinished.count) unfinished writes, \(unfinished) requests of them")
        invariant(abandoned == connection.abandoned, "\(connection.abandoned) abandoned, counted \(abandoned)")
        invariant(
            connection.phase == .resetting || outstanding == connection.outstanding,
            "\(connection.outstanding) outstanding, counted \(outstanding)")
    }
}

extension RequestSlot {
    fileprivate var hasOwner: Bool {
        switch purpose {
        case .part, .headEdge, .tailEdge: true
        case .mark, .ping, .close: false
        }
    }
}
