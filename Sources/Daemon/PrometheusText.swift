/// A text in Prometheus' format 0.0.4, as it is written down. All names begin with that of the daemon.
public struct PrometheusText {
    public private(set) var text = ""
    private let prefix: String

    public init(prefix: String) { self.prefix = prefix }

    public mutating func head(_ name: String, _ kind: String, _ help: String) {
        text += "# HELP \(prefix)_\(name) \(help)\n# TYPE \(prefix)_\(name) \(kind)\n"
    }

    public mutating func line(_ name: String, _ labels: String, _ value: UInt64) { text += "\(prefix)_\(name){\(labels)} \(value)\n" }

    public mutating func single(_ name: String, _ kind: String, _ help: String, _ value: UInt64) {
        head(name, kind, help)
        text += "\(prefix)_\(name) \(value)\n"
    }
}
