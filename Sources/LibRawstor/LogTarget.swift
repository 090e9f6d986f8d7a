import Base
import CRawstor
import Environment

/// Where log lines go: the C caller's function, or nowhere. A library does not write to standard error by itself.
struct LogTarget: @unchecked Sendable {
    let level: LogLevel
    private let callback: rawstor_log_callback?
    private let argument: UnsafeMutableRawPointer?

    init(_ options: rawstor_context_options) throws(Failure) {
        callback = options.log
        argument = options.log_argument
        switch options.log_level {
        case 1: level = .debug
        case 2: level = .info
        case 0, 3: level = .warning
        case 4: level = .error
        case let other: throw Failure(.invalidArgument, "log_level is \(other); it is one of 1 (debug) to 4 (error)")
        }
    }

    /// A line begins with its time and its level.
    func write(_ line: String) {
        guard let callback else { return }
        let line = line.hasSuffix("\n") ? line.dropLast() : line[...]
        let words = line.split(separator: " ", maxSplits: 2)
        let level = words.count > 1 ? LogTarget.levels.firstIndex(of: words[1]) : nil
        String(line).withCString { callback(argument, Int32(level ?? 2) + 1, $0) }
    }

    private static let levels: [Substring] = ["debug", "info", "warning", "error"]
}
