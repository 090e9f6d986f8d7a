import Base
import Daemon
import Environment
import Wire

/// What this server says to those who watch it, in Prometheus' text format 0.0.4.
extension MDTServer {
    /// It must outlive them.
    public var metricsAnswers: MetricsServer.Answers {
        MetricsServer.Answers(metrics: { [unowned self] in metricsText }, trouble: { [unowned self] in trouble })
    }

    private var metricsText: String {
        var text = MDTMetricsText()
        text.head("requests_total", "counter", "Requests taken, by opcode.")
        for opcode in Opcode.allCases where opcode.isOfMetadata || opcode == .hello || opcode == .ping {
            text.line("requests_total", "opcode=\"\(opcode)\"", counters.requests[Int(opcode.rawValue)])
        }
        text.head("errors_total", "counter", "Requests that ended in an error, by status.")
        for status in Status.allCases where status != .ok {
            text.line("errors_total", "status=\"\(status)\"", counters.replies[status] ?? 0)
        }
        text.single("connections_accepted_total", "counter", "Connections accepted.", counters.connectionsAccepted)
        text.single("connections_refused_total", "counter", "Connections refused for a limit.", counters.connectionsRefused)
        text.single("malformed_frames_total", "counter", "Connections closed for what they sent.", counters.malformedFrames)
        text.single(
            "work_finished_total", "counter", "Unfinished changes of volumes that were ended in the background.", counters.workFinished)
        text.single("work_failed_total", "counter", "Attempts at that which did not succeed.", counters.workFailed)
        text.single("connections", "gauge", "Connections now.", UInt64(connectionCount))
        text.single("writers", "gauge", "Volumes with a writer's session.", UInt64(writers.count))
        text.single("osts_alive", "gauge", "OSTs heard of lately.", UInt64(heard.keys.count { isAlive($0) }))
        text.single("store_up", "gauge", "1 while the catalogue can be read and written.", trouble == nil && catalogue.isReachable ? 1 : 0)
        return text.text
    }
}

private struct MDTMetricsText {
    private(set) var text = ""

    mutating func head(_ name: String, _ kind: String, _ help: String) {
        text += "# HELP rawstor_mdt_\(name) \(help)\n# TYPE rawstor_mdt_\(name) \(kind)\n"
    }

    mutating func line(_ name: String, _ labels: String, _ value: UInt64) { text += "rawstor_mdt_\(name){\(labels)} \(value)\n" }

    mutating func single(_ name: String, _ kind: String, _ help: String, _ value: UInt64) {
        head(name, kind, help)
        text += "rawstor_mdt_\(name) \(value)\n"
    }
}
