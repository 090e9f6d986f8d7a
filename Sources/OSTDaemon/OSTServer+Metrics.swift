import Daemon

/// What an OST says to those who watch it.
extension OSTServer {
    /// The server must outlive them.
    public var metricsAnswers: MetricsServer.Answers {
        MetricsServer.Answers(
            metrics: { [unowned self] in MetricsText(engine).text },
            trouble: { [unowned self] in engine.hasFailed ? "the store is loaded anew after a disk failure" : nil })
    }
}
