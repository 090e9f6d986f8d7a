import Base
import Placement
import Wire

/// Where the members of a new volume go.
extension ClusterCatalogue {
    /// A volume as it is asked for, placed on the OSTs that take parts: those of the cluster that are alive and have room, as the server
    /// knows, and not drained. Nothing is put yet.
    public func place(
        _ request: VolumeCreateRequest, maker: Identifier, isFull: (Identifier) -> Bool = { _ in false }, isAlive: (Identifier) -> Bool
    ) async throws(Failure) -> VolumeRecord {
        try ObjectRecord.check(name: request.name)
        try request.layout.check()
        try VolumeRecord.check(bytes: request.bytes, layout: request.layout)
        let layout = request.layout
        let members = Int(layout.dataMembers) + Int(layout.parityMembers)
        if layout.kind == .replicas, layout.parityMembers != 0 {
            throw Failure(
                .invalidArgument, "replicas have no parity; a layout with \(layout.parityMembers) parity members is of kind erasure")
        }
        if layout.kind == .erasure { throw Failure(.unsupported, "erasure coding is not supported yet; use replicas") }
        let floor = try VolumeRecord.check(floor: request.floor == 0 ? 1 : request.floor, members: members)
        let candidates = try await osts().map { record throws(Failure) in
            try record.candidate(
                weight: record.registration.capacityBytes, isFull: isFull(record.store), isAlive: isAlive(record.store))
        }
        let now = world.wallClockMilliseconds
        let object = ObjectRecord(
            id: Identifier(wallClockMilliseconds: now, random: (world.random(), world.random())), name: request.name,
            bytes: request.bytes, layout: layout, createdMilliseconds: now)
        let choice = try PlacementChoice(
            volume: object.id, kind: layout.kind, members: members, level: request.level.domainLevel)
        let usable = candidates.count { $0.takesParts && $0.weight > 0 }
        let most = ClusterCatalogue.placementsMax(osts: usable, members: members)
        guard request.placements <= most else {
            throw Failure(
                .invalidArgument,
                "\(request.placements) placements of \(members) members on \(usable) OSTs make a map too large for one message; "
                    + "at most \(most) fit")
        }
        let count = request.placements > 0 ? request.placements : min(most, PlacementChoice.count(chunks: object.chunkCount, osts: usable))
        let table = try choice.table(of: candidates, placements: count)
        return VolumeRecord(
            object: object, level: request.level, floor: floor, belowFloor: request.belowFloor, maker: maker, placements: table)
    }

    /// So that a map fits one volume record whatever its OSTs call themselves, also while members move to others.
    static func placementsMax(osts: Int, members: Int) -> Int {
        var count = Limits.placementsMax
        // So many that none can move need no room for it.
        let canMove = VolumeRecord.canMove(members: members)
        func bytes() -> Int {
            if !canMove { return VolumeMap.bytesMax(osts: min(osts, count * members), entries: count * members) }
            return VolumeMap.bytesMax(
                osts: min(osts, count * members) + Limits.movesStoresMax, entries: count * members, moves: min(count, Limits.movesMax))
        }
        while count > 1, bytes() > Limits.volumeRecordBytesMax { count -= 1 }
        return count
    }
}

extension OSTRecord {
    /// As it is looked at when parts are placed.
    public func candidate(weight: UInt64, isFull: Bool = false, isAlive: Bool) throws(Failure) -> Candidate {
        var obstacle: Candidate.Obstacle?
        if isFull { obstacle = .full }
        if isDrained { obstacle = .drained }
        if !isAlive { obstacle = .away }
        return Candidate(store: store, weight: weight, domain: try FailureDomain(registration.domain), obstacle: obstacle)
    }
}

extension SpreadLevel {
    var domainLevel: FailureDomain.Level {
        switch self {
        case .ost: .ost
        case .host: .host
        case .rack: .rack
        case .room: .room
        }
    }
}
