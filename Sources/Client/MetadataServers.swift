import Base
import Environment
import Wire

/// The metadata servers of a cluster, as one client knows them, and the way to one that answers.
///
/// An address names metadata servers, management servers, or some of each; the hello tells which it is. A management server is asked for
/// the metadata servers, whose addresses are kept: from then on it is asked again only when none of these answers. So losing it stops
/// nobody who has found his cluster, and a metadata server that has moved is found again where there is one.
///
/// It owns no connection. Calls may overlap.
final class MetadataServers {
    private let world: any World
    /// What this client calls itself.
    private let client: String
    /// As the address has them.
    private let named: [Endpoint]
    /// Metadata servers that have answered, or that a management server has listed; the one to begin with first.
    private(set) var known: [Endpoint] = []
    /// Those of `named` that turned out to list others.
    private var management: Set<Endpoint> = []
    private var lastAsked: Instant?
    /// Those that said nothing when they were asked last; tried when the others have been, the one that was asked first before the rest.
    private var silent: [Endpoint: UInt64] = [:]
    private var silences: UInt64 = 0
    private(set) var cluster: Identifier

    /// `cluster`: no other one is taken; zero: the first that answers says which it is.
    init(_ world: any World, _ named: [Endpoint], cluster: Identifier, client: String = OpenOptions.clientDefault) {
        invariant(!named.isEmpty, "a cluster has a server")
        self.world = world
        self.named = named
        self.cluster = cluster
        self.client = client
    }

    /// Beside the one that answered last: those that are known or named, and are no management servers.
    var others: [Endpoint] {
        Array(known.dropFirst()) + named.filter { !known.contains($0) && !management.contains($0) }
    }

    /// How many there are to try, as far as is known.
    var count: Int { max(known.count, named.count) }

    /// To the first metadata server that answers, beginning with the one that did so last. Where a management server knows of none it is
    /// asked again until the deadline: a cluster that is just being started has its servers in a moment.
    func connect(_ deadline: Instant) async throws(Failure) -> ControlConnection {
        while true {
            var search = Search()
            if let connection = try await attempt(&search, deadline) { return connection }
            guard search.isEmptyHanded, search.refusal == nil, world.now + MetadataServers.emptyDelay < deadline else {
                throw search.failure
            }
            let operations = Operations(world)
            await operations.sleep(MetadataServers.emptyDelay)
            operations.close()
        }
    }

    private static let knownMax = Limits.metadataServersMax * Limits.endpointsPerOSTMax
    private static let emptyDelay = Interval.milliseconds(200)
    /// For one behind which there are others.
    private static let silenceMax = Interval.seconds(1)

    /// The one that was connected to is silent, or not what it should be.
    func passOver() { if let first = known.first { noteSilence(first) } }

    private func noteSilence(_ endpoint: Endpoint) {
        silences += 1
        silent[endpoint] = silences
    }

    /// What was tried, and how it ended.
    private struct Search {
        var tried: Set<Endpoint> = []
        var reasons: [String] = []
        /// The first that is more than silence.
        var refusal: Failure?
        /// A management server answered, and knows of no metadata server.
        var isEmptyHanded = false

        var failure: Failure { refusal ?? Failure(.unreachable, reasons.joined(separator: "; ")) }

        mutating func note(_ failure: Failure) {
            reasons.append(failure.detail)
            if !failure.isSilence, refusal == nil { refusal = failure }
        }
    }

    private func attempt(_ search: inout Search, _ deadline: Instant) async throws(Failure) -> ControlConnection? {
        if mutated(.forgetsListedServers) { known = [] }
        // What is found on the way is tried as well.
        while world.now < deadline, let endpoint = candidate(search) {
            search.tried.insert(endpoint)
            // One that is silent leaves time for the next.
            let left = min(deadline - world.now, Limits.connectDeadline)
            let share = candidate(search) == nil ? left : min(Interval(nanoseconds: left.nanoseconds / 2), MetadataServers.silenceMax)
            do throws(Failure) {
                let hello = Hello(role: .client, cluster: cluster, software: client)
                let connection = try await ControlConnection.open(
                    world, endpoint, saying: hello, expecting: [.mdt, .mgs], deadline: world.now + share)
                if connection.peer.role == .mdt {
                    if cluster == .zero { cluster = connection.peer.cluster }
                    known.removeAll { $0 == endpoint }
                    known.insert(endpoint, at: 0)
                    return connection
                }
                defer { connection.close() }
                try await learn(from: connection, endpoint, &search, deadline)
            } catch {
                search.note(error)
                if error.isSilence { noteSilence(endpoint) }
            }
        }
        return nil
    }

    /// Those that are known, then those that are named; a management server only once in a while.
    private func candidate(_ search: Search) -> Endpoint? {
        let mayAsk = known.isEmpty || lastAsked.map { world.now - $0 >= Limits.directoryAskInterval } ?? true
        let all = known + named.filter { mayAsk || !management.contains($0) }
        let left = all.filter { !search.tried.contains($0) }
        return left.first { silent[$0] == nil } ?? left.min { silent[$0, default: 0] < silent[$1, default: 0] }
    }

    private func learn(
        from connection: ControlConnection, _ endpoint: Endpoint, _ search: inout Search, _ deadline: Instant
    ) async throws(Failure) {
        management.insert(endpoint)
        lastAsked = world.now
        let (_, body) = try await connection.exchange(
            FrameHeader(.mdtList), [], deadline: min(deadline, world.now + Limits.connectDeadline))
        let reply = try connection.decode(MDTListReply.self, body)
        guard cluster == .zero || reply.cluster == .zero || reply.cluster == cluster else {
            throw Failure(.wrongCluster, "\(endpoint) lists cluster \(reply.cluster), not \(cluster)")
        }
        if cluster == .zero { cluster = reply.cluster }
        var listed: [Endpoint] = []
        for server in reply.servers.prefix(Limits.metadataServersMax) {
            for text in server.registration.endpoints { listed.append(try Endpoint(advertised: text)) }
        }
        guard !listed.isEmpty else {
            search.isEmptyHanded = true
            throw Failure(
                .unreachable,
                "the management server \(endpoint) knows of no metadata server; is one running that was told of it: "
                    + "rawstor-mdt serve CATALOGUE --mgs \(endpoint)")
        }
        // What is listed no more was tried in vain just now; a management server that has just been started may not have heard of it yet.
        known = Array((listed + known.filter { !listed.contains($0) }).prefix(MetadataServers.knownMax))
    }
}

extension Failure {
    /// Nothing came back; of whoever did answer it says nothing.
    var isSilence: Bool { status == .unreachable || status == .deadlineExceeded || status == .closed }
}
