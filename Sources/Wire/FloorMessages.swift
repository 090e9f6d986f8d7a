import Base

/// What writes of a placement do while it has fewer members in sync than the volume's floor. Reads go on in any case.
public enum BelowFloor: Hashable, Sendable {
    /// They wait, until their deadline.
    case wait
    /// One that has waited for so long ends with `unavailable`.
    case fail(after: Interval)

    /// How long; nil: for ever.
    public var patience: Interval? {
        switch self {
        case .wait: nil
        case .fail(let patience): patience
        }
    }

    public func check() throws(Failure) {
        guard case .fail(let patience) = self else { return }
        guard patience >= .milliseconds(1), patience <= Limits.floorPatienceMax else {
            throw Failure(
                .invalidArgument,
                "writes below the floor fail after 1 ms to \(Limits.floorPatienceMax.milliseconds / 1000) s, not after "
                    + "\(patience.milliseconds) ms")
        }
    }
}

/// Changes what a volume asks for before it writes. What is nil stays as it is.
public struct VolumeSetRequest: Message {
    public var name: String
    public var floor: Int?
    public var belowFloor: BelowFloor?

    public init(name: String, floor: Int? = nil, belowFloor: BelowFloor? = nil) {
        self.name = name
        self.floor = floor
        self.belowFloor = belowFloor
    }

    /// The floor is never 0, so that says nothing; what is done below it has a byte in front that says whether it is there.
    public func encode(to body: inout BodyWriter) {
        body.put(name)
        body.put(UInt16(floor ?? 0))
        body.put(UInt8(belowFloor == nil ? 0 : 1))
        body.put(belowFloor ?? .wait)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        name = try body.getString()
        let floor = Int(try body.get(UInt16.self))
        self.floor = floor == 0 ? nil : floor
        let isSaid = try body.get(UInt8.self) != 0
        let belowFloor = try body.getBelowFloor()
        self.belowFloor = isSaid ? belowFloor : nil
    }
}

extension BodyWriter {
    /// In milliseconds; 0: they wait.
    public mutating func put(_ belowFloor: BelowFloor) {
        switch belowFloor {
        case .wait: put(UInt32(0))
        case .fail(let patience): put(UInt32(clamping: max(patience.milliseconds, 1)))
        }
    }
}

extension BodyReader {
    public mutating func getBelowFloor() throws(Failure) -> BelowFloor {
        let milliseconds = try get(UInt32.self)
        let belowFloor: BelowFloor = milliseconds == 0 ? .wait : .fail(after: .milliseconds(UInt64(milliseconds)))
        do throws(Failure) { try belowFloor.check() } catch { throw Failure(.malformed, error.detail) }
        return belowFloor
    }
}
