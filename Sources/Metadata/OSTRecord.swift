import Base
import Placement
import Wire

/// An OST as the catalogue keeps it. It changes when the OST starts anew or says something else of itself, not with every heartbeat.
///
/// Invariant: the mount counter never goes back, so that a copy of the disk from before is noticed.
public struct OSTRecord: CatalogueValue {
    static let noun = "OST"

    public var registration: OSTRegisterRequest
    /// Gets no new parts.
    public var isDrained = false
    public var firstMilliseconds: UInt64

    public init(_ registration: OSTRegisterRequest, firstMilliseconds: UInt64) {
        self.registration = registration
        self.firstMilliseconds = firstMilliseconds
    }

    public var store: Identifier { registration.store }

    /// What an OST says of itself, checked before anything is done with it.
    public static func check(_ registration: OSTRegisterRequest) throws(Failure) {
        guard registration.store != .zero else { throw Failure(.invalidArgument, "an OST registers without the id of its store") }
        _ = try FailureDomain(registration.domain)
        try Whereabouts.check("an OST", host: registration.host, endpoints: registration.endpoints)
        guard registration.freeBytes <= registration.capacityBytes else {
            throw Failure(
                .invalidArgument, "\(registration.freeBytes) bytes are free of \(registration.capacityBytes), which cannot be")
        }
    }

    /// Takes over what the OST says of itself now; returns whether that is worth a transaction. Free space is not: it changes all the time.
    mutating func renew(_ next: OSTRegisterRequest) throws(Failure) -> Bool {
        let last = registration
        guard next.mountCounter >= last.mountCounter else {
            throw Failure(
                .wrongStore,
                "store \(next.store) was mounted \(last.mountCounter) times when it was here last, and now \(next.mountCounter) times: it "
                    + "is an old copy of its disk; serve the newest one, or make an empty store in its place")
        }
        guard next.mountCounter > last.mountCounter || next.endpoints == last.endpoints else {
            throw Failure(
                .wrongStore,
                "store \(next.store), mounted \(next.mountCounter) times, is known at \(last.endpoints.joined(separator: " ")): there are "
                    + "two disks of one identity; stop one of them, and make an empty store in its place")
        }
        registration = next
        registration.freeBytes = last.freeBytes
        guard registration != last else { return false }
        registration.freeBytes = next.freeBytes
        return true
    }

    func encodeFields(to body: inout BodyWriter) {
        body.put(registration.store)
        body.put(registration.mountCounter)
        body.put(registration.boot)
        body.put(UInt8(registration.endpoints.count))
        for endpoint in registration.endpoints { body.put(endpoint) }
        body.put(registration.host)
        body.put(registration.domain)
        body.put(registration.capacityBytes)
        body.put(registration.freeBytes)
        body.put(registration.incarnation)
        body.put(UInt8(isDrained ? 1 : 0))
        body.put(firstMilliseconds)
    }

    init(fields body: inout BodyReader) throws(Failure) {
        let store = try body.getIdentifier()
        let mountCounter = try body.get(UInt64.self)
        let boot = try body.getIdentifier()
        var endpoints: [String] = []
        for _ in 0..<Int(try body.get(UInt8.self)) { endpoints.append(try body.getString(max: Limits.endpointsBytesMax)) }
        registration = OSTRegisterRequest(
            store: store, mountCounter: mountCounter, boot: boot, endpoints: endpoints, host: try body.getString(),
            domain: try body.getString(max: 256), capacityBytes: try body.get(UInt64.self), freeBytes: try body.get(UInt64.self),
            incarnation: try body.get(UInt64.self))
        isDrained = try body.get(UInt8.self) != 0
        firstMilliseconds = try body.get(UInt64.self)
        try OSTRecord.check(registration)
    }
}
