import Base
import Environment
import Wire

/// Who of a cluster has been heard of lately: all that a management server knows. Pure: who asks hands the time in.
///
/// Invariants: at most `Limits.metadataServersMax` metadata servers and `Limits.ostsMax` OSTs; no two metadata servers have an address in
/// common; from the moment on in which the cluster is known, everybody listed is of it, and it never becomes another one.
///
/// It decides nothing about volumes: whether an OST is the right one, and gets parts, is for the metadata servers to say.
public struct Directory {
    /// One that has registered.
    struct Entry<Registration> {
        var registration: Registration
        var cluster: Identifier
        var heard: Instant
        /// By which it came, while that lives.
        var connection: UInt64?

        func isAlive(at now: Instant) -> Bool { now - heard < Limits.heartbeatTimeout }

        /// Whether another one that says it is the same must be a second one, and not this one started anew: this is still connected, and
        /// has missed no three heartbeats.
        func isHeld(at now: Instant, against other: UInt64) -> Bool {
            connection != nil && connection != other && now - heard < Directory.identityHeld
        }
    }

    /// Three heartbeats.
    static let identityHeld = Interval(nanoseconds: Limits.heartbeatInterval.nanoseconds * 3)

    /// Zero until it is known: from the start if an operator has named it, else from the first metadata server.
    public private(set) var cluster: Identifier
    private var metadata: [Entry<MDTRegisterRequest>] = []
    private var osts: [Identifier: Entry<OSTRegisterRequest>] = [:]

    public init(cluster: Identifier = .zero) { self.cluster = cluster }

    public var mdtCount: Int { metadata.count }
    public var ostCount: Int { osts.count }
    public func mdtsAlive(at now: Instant) -> Int { metadata.count { $0.isAlive(at: now) } }
    public func ostsAlive(at now: Instant) -> Int { osts.values.count { $0.isAlive(at: now) } }

    /// Whether somebody of this cluster belongs here; `who` begins the sentence.
    public func check(_ other: Identifier, _ who: String) throws(Failure) {
        guard other != .zero else { throw Failure(.wrongCluster, "\(who) belongs to no cluster; only what is of one is listed here") }
        guard cluster == .zero || cluster == other else {
            throw Failure(
                .wrongCluster,
                "this management server lists cluster \(cluster), \(who) belongs to cluster \(other); name the management server of that "
                    + "one, or if this was told of the wrong one first, start it anew: rawstor-mgs serve --cluster \(other)")
        }
    }

    /// Whether it was not known like this, or was away.
    public mutating func register(
        _ request: MDTRegisterRequest, of cluster: Identifier, by connection: UInt64, at now: Instant
    ) throws(Failure) -> Bool {
        try check(cluster, "the metadata server")
        guard request.server != .zero else { throw Failure(.invalidArgument, "a metadata server registers without an id") }
        try Whereabouts.check("a metadata server", host: request.host, endpoints: request.endpoints)
        forget(at: now)
        let addresses = Set(request.endpoints)
        let before = metadata.first { $0.registration.server == request.server }
        for other in metadata where other.registration.server != request.server && other.isHeld(at: now, against: connection) {
            guard let taken = other.registration.endpoints.first(where: addresses.contains) else { continue }
            throw Failure(
                .busy,
                "\(taken) is the address of another metadata server, heard of \((now - other.heard).milliseconds) ms ago; correct the "
                    + "--advertise of one of them")
        }
        metadata.removeAll { $0.registration.server == request.server || !addresses.isDisjoint(with: $0.registration.endpoints) }
        if metadata.count >= Limits.metadataServersMax {
            let place = metadata.indices.min { metadata[$0].heard < metadata[$1].heard } ?? 0
            guard !metadata[place].isAlive(at: now) else {
                throw Failure(
                    .overloaded, "\(metadata.count) metadata servers are here, the most that a cluster can have; stop one of them")
            }
            metadata.remove(at: place)
        }
        metadata.append(Entry(registration: request, cluster: cluster, heard: now, connection: connection))
        if self.cluster == .zero {
            self.cluster = cluster
            osts = osts.filter { $0.value.cluster == cluster }
        }
        return before?.registration != request || before?.isAlive(at: now) != true
    }

    /// Whether it was not known like this, or was away.
    public mutating func register(
        _ request: OSTRegisterRequest, of cluster: Identifier, by connection: UInt64, at now: Instant
    ) throws(Failure) -> Bool {
        try check(cluster, "the OST's store")
        guard request.store != .zero else { throw Failure(.invalidArgument, "an OST registers without the id of its store") }
        try Whereabouts.check("an OST", host: request.host, endpoints: request.endpoints)
        forget(at: now)
        let before = osts[request.store]
        if let before, before.registration.endpoints != request.endpoints, before.isHeld(at: now, against: connection) {
            throw Failure(
                .wrongStore,
                "store \(request.store) is served at \(before.registration.endpoints.joined(separator: " ")) already, from where it was "
                    + "heard \((now - before.heard).milliseconds) ms ago: there are two disks of one identity; stop one of them")
        }
        if before == nil, osts.count >= Limits.ostsMax {
            let oldest = osts.min { ($0.value.heard, $0.key) < ($1.value.heard, $1.key) }
            guard let oldest, !oldest.value.isAlive(at: now) else {
                throw Failure(.overloaded, "\(osts.count) OSTs are here, the most that a cluster can have")
            }
            osts[oldest.key] = nil
        }
        osts[request.store] = Entry(registration: request, cluster: cluster, heard: now, connection: connection)
        return before?.registration.endpoints != request.endpoints || before?.registration.mountCounter != request.mountCounter
            || before?.isAlive(at: now) != true
    }

    /// Those first that were heard of last.
    public mutating func mdts(at now: Instant) -> [MDTStatus] {
        forget(at: now)
        return metadata.sorted { ($1.heard, $0.registration.server) < ($0.heard, $1.registration.server) }.map {
            MDTStatus(registration: $0.registration, isAlive: $0.isAlive(at: now), silence: now - $0.heard)
        }
    }

    /// A page of those behind a store, in the order of their stores. Whether one is drained is not known here.
    public mutating func osts(after store: Identifier, at now: Instant) -> [OSTStatus] {
        forget(at: now)
        return osts.filter { $0.key > store }.sorted { $0.key < $1.key }.prefix(OSTListReply.countMax).map { _, entry in
            OSTStatus(
                registration: entry.registration, isDrained: false, isAlive: entry.isAlive(at: now), silence: now - entry.heard,
                isConnected: entry.connection != nil)
        }
    }

    /// Who came by it may be gone: another one that says it is the same is believed at once.
    public mutating func ended(_ connection: UInt64) {
        for index in metadata.indices where metadata[index].connection == connection { metadata[index].connection = nil }
        for (store, entry) in osts where entry.connection == connection { osts[store]?.connection = nil }
    }

    private mutating func forget(at now: Instant) {
        metadata.removeAll { now - $0.heard >= Limits.directoryMemory }
        for (store, entry) in osts where now - entry.heard >= Limits.directoryMemory { osts[store] = nil }
    }

    public func checkInvariants() {
        invariant(metadata.count <= Limits.metadataServersMax && osts.count <= Limits.ostsMax, "the directory is larger than its limits")
        let addresses = metadata.flatMap { Set($0.registration.endpoints) }
        invariant(Set(addresses).count == addresses.count, "two metadata servers have one address: \(addresses)")
        if cluster == .zero {
            invariant(metadata.isEmpty, "a metadata server is listed and its cluster is not known")
        } else {
            invariant(metadata.allSatisfy { $0.cluster == cluster }, "a metadata server of another cluster is listed")
            invariant(osts.values.allSatisfy { $0.cluster == cluster }, "an OST of another cluster is listed")
        }
    }
}
