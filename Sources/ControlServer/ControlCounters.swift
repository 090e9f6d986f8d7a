import Base
import Daemon
import Wire

/// What a control server has counted, and how its daemon's metrics say it.
public struct ControlCounters: Sendable {
    public internal(set) var requests = [UInt64](repeating: 0, count: 256)
    public internal(set) var replies: [Status: UInt64] = [:]
    public internal(set) var connectionsAccepted: UInt64 = 0
    public internal(set) var connectionsRefused: UInt64 = 0
    public internal(set) var malformedFrames: UInt64 = 0
}

extension PrometheusText {
    /// `opcodes` are those that the daemon knows.
    public mutating func put(_ counters: ControlCounters, connections: Int, opcodes: (Opcode) -> Bool) {
        head("requests_total", "counter", "Requests taken, by opcode.")
        for opcode in Opcode.allCases where opcodes(opcode) || opcode == .hello || opcode == .ping {
            line("requests_total", "opcode=\"\(opcode)\"", counters.requests[Int(opcode.rawValue)])
        }
        head("errors_total", "counter", "Requests that ended in an error, by status.")
        for status in Status.allCases where status != .ok {
            line("errors_total", "status=\"\(status)\"", counters.replies[status] ?? 0)
        }
        single("connections_accepted_total", "counter", "Connections accepted.", counters.connectionsAccepted)
        single("connections_refused_total", "counter", "Connections refused for a limit.", counters.connectionsRefused)
        single("malformed_frames_total", "counter", "Connections closed for what they sent.", counters.malformedFrames)
        single("connections", "gauge", "Connections now.", UInt64(connections))
    }
}
