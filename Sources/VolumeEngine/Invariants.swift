import Base
import Wire

// What must hold between events: slots accounted for, the overlap rule, marks, and no memory given back that is pinned. Changes nothing.

extension VolumeEngine {
    /// Everything that must hold between events. Slow; the simulator and the tests call it after each one.
    public func checkInvariants() {
        order.checkInvariants()
        overlaps.checkInvariants()
        checkOperations()
        checkParts()
        for peer in 0..<peers.count { checkRequests(peer) }
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
            invariant(!isWaiting || slot.pointee.parts == 0, "operation \(index) has parts and waits for an earlier one")
            invariant(!isWaiting || !ready.contains(index), "operation \(index) is ready and waits for an earlier one")
            invariant(
                isWaiting || ready.contains(index) || slot.pointee.parts > 0 || stalled.contains(index),
                "operation \(index) waits for nothing and does nothing")
            invariant(
                slot.pointee.isReported ? slot.pointee.status != .ok : true, "operation \(index) succeeded and keeps its blocks")
            invariant(
                slot.pointee.status == .ok || slot.pointee.phase == .rewrite || !ready.contains(index),
                "operation \(index) has failed and goes on")
            index = operations.active.next(after: index)
        }
    }

    private func checkParts() {
        var used = 0
        var unfinished = 0
        var named = 0
        var requests = [Int](repeating: 0, count: parts.capacity)
        for peer in 0..<peers.count {
            for index in 0..<peers.at(peer).pointee.requests.capacity {
                let request = peers.at(peer).pointee.requests.at(index)
                if request.pointee.state != .free, request.pointee.part != SlotList.none { requests[request.pointee.part] += 1 }
            }
        }
        for index in 0..<parts.capacity where parts.at(index).pointee.state != .free {
            let part = parts.at(index)
            used += 1
            if part.pointee.state == .open { named += 1 }
            if part.pointee.changesBlocks, part.pointee.sequence > 0 {
                unfinished += 1
                invariant(order.unfinished.contains(index), "write \(index) is missing in the order of writes")
            }
            invariant(
                requests[index] == part.pointee.requests,
                "part \(index) counts \(part.pointee.requests) requests, has \(requests[index])")
            invariant(
                part.pointee.state == .held || requests[index] > 0 || retries.contains(index),
                "part \(index) waits for nothing and does nothing")
            invariant(
                part.pointee.state != .held || operations.at(part.pointee.operation).pointee.hasHeld, "part \(index) is held by nobody")
        }
        var owned = 0
        var operation = operations.active.first
        while operation != SlotList.none {
            owned += operations.at(operation).pointee.parts
            operation = operations.active.next(after: operation)
        }
        invariant(owned == named, "operations count \(owned) parts, there are \(named)")
        invariant(used + parts.freeCount == parts.capacity, "\(used) used and \(parts.freeCount) free parts")
        invariant(unfinished == order.unfinished.count, "\(order.unfinished.count) unfinished writes, \(unfinished) parts of them")
    }

    private func checkRequests(_ peer: Int) {
        let state = peers.at(peer)
        var used = 0
        var outstanding = 0
        var abandoned = 0
        for index in 0..<state.pointee.requests.capacity {
            let request = state.pointee.requests.at(index)
            if request.pointee.state == .free { continue }
            used += 1
            if request.pointee.state == .inFlight || request.pointee.state == .abandoned { outstanding += 1 }
            if request.pointee.state == .abandoned { abandoned += 1 }
            let isOwned = request.pointee.state != .abandoned && request.pointee.purpose == .part
            invariant(!isOwned || request.pointee.part != SlotList.none, "request \(index) belongs to nobody")
            if isOwned, request.pointee.isPinned, state.pointee.phase != .detached {
                let part = parts.at(request.pointee.part)
                let isOurs = part.pointee.purpose == .rewriteRead || part.pointee.purpose == .rewriteWrite || part.pointee.copy != nil
                invariant(
                    isOurs || !operations.at(part.pointee.operation).pointee.isReported, "request \(index) pins memory given back")
            }
            invariant(
                request.pointee.state != .delayed || state.pointee.delayed.contains(index), "request \(index) is delayed for ever")
            invariant(
                request.pointee.state != .unanswered || state.pointee.phase != .attached || state.pointee.resends.contains(index),
                "request \(index) is never sent again")
        }
        invariant(
            used + state.pointee.requests.freeCount == state.pointee.requests.capacity,
            "\(used) used and \(state.pointee.requests.freeCount) free requests")
        invariant(abandoned == state.pointee.abandoned, "\(state.pointee.abandoned) abandoned, counted \(abandoned)")
        invariant(
            state.pointee.phase == .resetting || outstanding == state.pointee.outstanding,
            "\(state.pointee.outstanding) outstanding, counted \(outstanding)")
        invariant(state.pointee.resends.isEmpty || resending.contains(peer), "peer \(peer) is never sent its requests again")
    }
}
