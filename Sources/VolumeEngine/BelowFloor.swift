import Base

// The floor (P1): a placement with fewer members in sync takes no writes of the user. They wait for as long as their deadline lets them;
// where the volume says so, one that has waited for a time ends with `unavailable`. A write that was under way when a member was excluded
// is not acknowledged by too few either: it goes out once more when there are enough.
//
// Reads go on, behind and beside writes that wait. So does whatever makes members equal or fills them, since that is how the floor is
// reached again.

extension VolumeEngine {
    private static let floorRecheck = Interval.milliseconds(100)

    /// Whether the next part of a write must wait for more members.
    mutating func waitsForFloor(_ index: Int) -> Bool {
        guard rows.isAnyBelowFloor, let end = floorPatienceEnd(index) else { return false }
        marks.hit(.belowFloor)
        floorCheckAt = min(floorCheckAt, end)
        return true
    }

    /// When the next part of a write has waited for too long; nil while its placement has enough members.
    private func floorPatienceEnd(_ index: Int) -> Instant? {
        let operation = operations.at(index)
        let since = rows.belowFloorSince(ofChunk: operation.pointee.cursorBlock >> chunkShift)
        if since == .never { return nil }
        guard let patience = rows.floorPatience else { return .never }
        return max(since, operation.pointee.began) + patience
    }

    /// Whether an operation of the user that has been done everywhere has been done by too few.
    func isBelowFloor(_ index: Int) -> Bool {
        let operation = operations.at(index)
        guard rows.isAnyBelowFloor, operation.pointee.kind.changesBlocks, operation.pointee.phase == .parts else { return false }
        let first = operation.pointee.firstBlock >> chunkShift
        let last = (operation.pointee.endBlock - 1) >> chunkShift
        // Neighbours lie in different placements, until they are all through.
        let end = min(last, first + UInt64(rows.placementCount) - 1)
        for chunk in first...end where rows.belowFloorSince(ofChunk: chunk) != .never { return true }
        return false
    }

    /// Ends the writes whose time is over.
    mutating func checkFloor(isLate: Bool) {
        guard now >= floorCheckAt else { return }
        floorCheckAt = .never
        // News of a member that is back may lie unread.
        if isLate {
            floorCheckAt = now + VolumeEngine.lateClock
            return
        }
        var index = operations.active.first
        while index != SlotList.none {
            let next = operations.active.next(after: index)
            let slot = operations.at(index)
            if slot.pointee.status == .ok, slot.pointee.kind.changesBlocks, slot.pointee.phase == .parts, ready.contains(index),
                let end = floorPatienceEnd(index)
            {
                if now < end {
                    floorCheckAt = min(floorCheckAt, end)
                } else if slot.pointee.parts > 0 {
                    // What is on its way ends soon, and needs no connection broken.
                    floorCheckAt = min(floorCheckAt, now + VolumeEngine.floorRecheck)
                } else {
                    tellBelowFloor()
                    fail(operation: index, .unavailable)
                }
            }
            index = next
        }
    }

    /// Once for each map.
    private mutating func tellBelowFloor() {
        if isBelowFloorTold { return }
        isBelowFloorTold = true
        effects.append(.notice(.belowFloor))
    }

    /// Members have changed, or what the volume asks for.
    mutating func floorChanged() {
        isBelowFloorTold = false
        floorCheckAt = rows.isAnyBelowFloor && rows.floorPatience != nil ? now : .never
    }
}
