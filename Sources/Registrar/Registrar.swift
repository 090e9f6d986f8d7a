import Base
import Client
import Environment
import Wire

/// A daemon's end of a registry: tells each of some servers at once, and then with every heartbeat, that it is there. An OST does so at
/// the metadata servers and the management servers of its cluster, a metadata server at the latter.
///
/// A server that is away, or refuses, is tried again for as long as the daemon runs; the log says why, once for each reason. What clients
/// do with the daemon meanwhile has nothing to do with it.
public final class Registrar {
    /// How it stands with one server.
    public enum Standing: Hashable, Sendable {
        case notYet
        case registered
        /// With the reason.
        case failed(Failure)
    }

    /// Who registers, and with whom.
    public struct Subject: Sendable {
        var hello: Hello
        var opcode: Opcode
        /// In sentences of the log.
        var noun: String
        var server: Hello.Role
        var serverNoun: String { server == .mdt ? "metadata" : "management" }
        /// Fields of the log, labels of metrics.
        var serverField: String { server == .mdt ? "mdt" : "mgs" }
        /// What its metric is called.
        var metric: String

        public static func ost(of cluster: Identifier, at server: Hello.Role) -> Subject {
            Subject(
                hello: Hello(role: .ost, cluster: cluster, software: "rawstor-ost \(softwareVersion)"), opcode: .ostRegister,
                noun: "this OST", server: server, metric: server == .mdt ? "rawstor_ost_registered" : "rawstor_ost_listed")
        }

        public static func mdt(of cluster: Identifier) -> Subject {
            Subject(
                hello: Hello(role: .mdt, cluster: cluster, software: "rawstor-mdt \(softwareVersion)"), opcode: .mdtRegister,
                noun: "this metadata server", server: .mgs, metric: "rawstor_mdt_listed")
        }
    }

    static let retryDelay = Interval.seconds(1)
    static let deadline = Interval.seconds(5)

    private let world: any World
    private let operations: Operations
    private let subject: Subject
    private let describe: () -> [UInt8]?
    private var places: [Place] = []
    /// Answers that came, of all servers.
    public private(set) var registrations = 0
    private var isStarted = false
    private var isStopped = false
    /// What else there is to ask of a server that has just been told; false when it is to be asked again soon.
    var onRegistered: ((ControlConnection, Instant) async throws(Failure) -> Bool)?

    /// `describe` makes the body of the registration, as the daemon is at the moment; nil while there is nothing to tell.
    public init(_ world: any World, _ subject: Subject, servers: [Endpoint], describe: @escaping () -> [UInt8]?) {
        self.world = world
        self.subject = subject
        self.describe = describe
        operations = Operations(world)
        places = servers.map { Place([$0], lastListed: nil) }
    }

    public func start() {
        isStarted = true
        for place in places { begin(place) }
    }

    /// Nothing more is said; what is under way ends by itself.
    public func stop() { isStopped = true }

    /// Of each server, where it is asked first.
    public var servers: [Endpoint] { places.map { $0.endpoints[0] } }
    public var standings: [Standing] { places.map(\.standing) }

    /// For Prometheus.
    public var metricsText: String {
        var text = "# HELP \(subject.metric) 1 while this \(subject.serverNoun) server knows the daemon.\n# TYPE \(subject.metric) gauge\n"
        for place in places {
            text += "\(subject.metric){\(subject.serverField)=\"\(place.endpoints[0])\"} \(place.standing == .registered ? 1 : 0)\n"
        }
        return text
    }

    /// These servers are there, each with its addresses: those that are new are told too. One that nobody has named and that is listed no
    /// more is given up, but not while it answers, and not because whoever lists them has just begun to: the daemon would be lost there.
    func follow(_ listed: [[Endpoint]]) {
        for endpoints in listed where !endpoints.isEmpty {
            if let known = places.first(where: { !Set($0.endpoints).isDisjoint(with: endpoints) }) {
                guard known.lastListed != nil else { continue }
                known.lastListed = world.now
                known.endpoints = endpoints
            } else if places.count < Limits.metadataServersMax {
                world.log(.info, "a \(subject.serverNoun) server is there", [LogField(subject.serverField, endpoints[0])])
                let place = Place(endpoints, lastListed: world.now)
                places.append(place)
                if isStarted { begin(place) }
            }
        }
        guard !listed.isEmpty else { return }
        for place in places {
            guard let last = place.lastListed, world.now - last >= Limits.heartbeatTimeout else { continue }
            guard place.standing != .registered || mutated(.leavesUnlistedServers) else { continue }
            world.log(.info, "a \(subject.serverNoun) server is gone", [LogField(subject.serverField, place.endpoints[0])])
            place.isGivenUp = true
        }
        places.removeAll { $0.isGivenUp }
    }

    private func begin(_ place: Place) { world.spawn { await self.keepRegistered(place) } }

    private func isOver(_ place: Place) -> Bool { isStopped || place.isGivenUp }

    private func keepRegistered(_ place: Place) async {
        while !isOver(place) {
            do throws(Failure) {
                try await sendHeartbeats(place)
            } catch {
                place.next += 1
                if !isOver(place) { note(place, .failed(error)) }
            }
            if !isOver(place) { await operations.sleep(Registrar.retryDelay) }
        }
    }

    /// Until something goes wrong.
    private func sendHeartbeats(_ place: Place) async throws(Failure) {
        let connection = try await ControlConnection.open(
            world, place.endpoints[place.next % place.endpoints.count], saying: subject.hello, expecting: [subject.server],
            deadline: world.now + Registrar.deadline)
        defer { connection.close() }
        while !isOver(place) {
            guard let registration = describe() else {
                await operations.sleep(Registrar.retryDelay)
                continue
            }
            let (_, body) = try await connection.exchange(
                FrameHeader(subject.opcode), registration, deadline: world.now + Registrar.deadline)
            let reply = try connection.decode(RegisterReply.self, body)
            registrations += 1
            note(place, .registered)
            var next = min(max(reply.interval, Registrar.retryDelay), Limits.heartbeatInterval)
            if let onRegistered, try await !onRegistered(connection, world.now + Registrar.deadline) { next = Registrar.retryDelay }
            await operations.sleep(next)
        }
    }

    private func note(_ place: Place, _ standing: Standing) {
        guard place.standing != standing else { return }
        let before = place.standing
        place.standing = standing
        let server = LogField(subject.serverField, place.endpoints[0])
        switch standing {
        case .notYet: break
        case .registered: world.log(.info, "registered", [server, LogField("cluster", subject.hello.cluster)])
        case .failed(let failure):
            let wasWell = before == .registered && failure.status == .unreachable
            let what = failure.isSilence ? "is away" : "refuses \(subject.noun)"
            world.log(
                wasWell ? .info : .warning, "the \(subject.serverNoun) server \(what)", [server, LogField("reason", failure.detail)])
        }
    }

    /// A server that is told.
    private final class Place {
        /// At least one; all of one server.
        var endpoints: [Endpoint]
        /// Into them.
        var next = 0
        var standing = Standing.notYet
        /// Nil of one that was named, which is never given up.
        var lastListed: Instant?
        var isGivenUp = false

        init(_ endpoints: [Endpoint], lastListed: Instant?) {
            self.endpoints = endpoints
            self.lastListed = lastListed
        }
    }
}

extension Failure {
    fileprivate var isSilence: Bool { status == .unreachable || status == .deadlineExceeded || status == .closed }
}
