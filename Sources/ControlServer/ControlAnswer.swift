import Base
import Wire

/// What goes back for a request: a reply without payload.
public struct ControlAnswer {
    public var header: FrameHeader
    public var body: [UInt8]
    public var endsConnection = false

    public init(_ request: FrameHeader, body: [UInt8] = []) {
        header = request.reply(.ok)
        self.body = body
    }

    /// A refusal with its sentence.
    init(_ request: FrameHeader, _ failure: Failure) {
        header = request.reply(failure.status)
        body = Array(failure.detail.utf8.prefix(Limits.metaBytesMax))
    }

    init(raw header: FrameHeader, body: [UInt8]) {
        self.header = header
        self.body = body
    }
}

extension FrameHeader {
    /// What a request says that it may take, as far as a server goes along.
    public var allowedTime: Interval {
        let asked = Interval.milliseconds(UInt64(deadlineOrStatus))
        return deadlineOrStatus == 0 ? Limits.requestDeadlineDefault : min(asked, Limits.requestDeadlineDefault)
    }
}
