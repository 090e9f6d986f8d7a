import Base
import ControlServer
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
        var text = PrometheusText(prefix: "rawstor_mdt")
        text.put(traffic, connections: connectionCount) { $0.isOfMetadata }
        text.single(
            "work_finished_total", "counter", "Unfinished changes of volumes that were ended in the background.", counters.workFinished)
        text.single("work_failed_total", "counter", "Attempts at that which did not succeed.", counters.workFailed)
        text.single("writers", "gauge", "Volumes with a writer's session.", UInt64(writers.count))
        text.single("osts_alive", "gauge", "OSTs heard of lately.", UInt64(heard.keys.count { isAlive($0) }))
        text.single("store_up", "gauge", "1 while the catalogue can be read and written.", trouble == nil && catalogue.isReachable ? 1 : 0)
        return text.text
    }
}
