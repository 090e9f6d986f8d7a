import Base
import Wire

// Members that move to other OSTs. The map gives the member that moves a second seat, where it is filled; when it has everything there
// another map gives it that seat's peer in its old one. For the engine that is a change of the table like an exclusion: told to all that
// remain before it counts, with new writes waiting meanwhile. What is under way then was sent to both seats, and goes on.

extension VolumeEngine {
    /// The table that was told to all holds from now on. What is remembered by seats goes with who sits there.
    mutating func changeSeats(to new: MemberTable) {
        let old = table
        table = new
        rows = rows.followed(by: new, at: now)
        for part in 0..<parts.capacity where parts.at(part).pointee.state != .free && parts.at(part).pointee.opcode != .flush {
            let slot = parts.at(part)
            let placement = Int((slot.pointee.block >> chunkShift) % UInt64(new.placementCount))
            slot.pointee.sent = moved(slot.pointee.sent, placement, from: old)
            slot.pointee.taken = moved(slot.pointee.taken, placement, from: old)
            slot.pointee.tried = moved(slot.pointee.tried, placement, from: old)
            slot.pointee.damaged = moved(slot.pointee.damaged, placement, from: old)
        }
        var index = operations.active.first
        while index != SlotList.none {
            let slot = operations.at(index)
            if slot.pointee.avoided != 0 {
                // All its blocks that this may be about lie in the chunk that it is at.
                let placement = Int((slot.pointee.cursorBlock >> chunkShift) % UInt64(new.placementCount))
                slot.pointee.avoided = moved(slot.pointee.avoided, placement, from: old)
            }
            index = operations.active.next(after: index)
        }
        for peer in 0..<peers.count { moveRequests(of: peer) }
    }

    /// Bits of seats, as the new table has them. Those of a peer that has left are gone.
    private func moved(_ bits: UInt64, _ placement: Int, from old: MemberTable) -> UInt64 {
        guard bits != 0 else { return 0 }
        var moved: UInt64 = 0
        for seat in 0..<old.membersPerPlacement where bits & 1 << UInt64(seat) != 0 {
            let member = old.members[placement * old.membersPerPlacement + seat]
            if let place = self.seat(of: member.peer, number: member.number, placement) { moved |= 1 << UInt64(place) }
        }
        return moved
    }

    private func seat(of peer: Int, number: UInt16, _ placement: Int) -> Int? {
        (0..<table.membersPerPlacement).first { seat in
            let member = table.members[placement * table.membersPerPlacement + seat]
            return member.peer == peer && member.number == number
        }
    }

    /// Answers are put down to the seat that the peer has now; one without any, to none that there is.
    private mutating func moveRequests(of peer: Int) {
        for index in 0..<peers.at(peer).pointee.requests.capacity {
            let request = peers.at(peer).pointee.requests.at(index)
            guard request.pointee.state != .free, request.pointee.part != SlotList.none, request.pointee.opcode != .flush else { continue }
            let placement = Int((parts.at(request.pointee.part).pointee.block >> chunkShift) % UInt64(table.placementCount))
            request.pointee.member = UInt16(seat(of: peer, number: request.pointee.number, placement) ?? VolumeEngine.noSeat)
        }
    }

    /// Above all that rows have: a bit there is never looked at.
    static let noSeat = 63
}
