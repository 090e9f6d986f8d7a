import Arguments
import Base
import CSystem
import Environment

/// How far a copy is, on standard error: one line that changes on a terminal, a line every few seconds elsewhere.
final class Progress {
    private static let terminalInterval = Interval.milliseconds(200)
    private static let lineInterval = Interval.seconds(5)

    private let world: any World
    private let verb: String
    private let total: UInt64?
    private let isQuiet: Bool
    private let isTerminal = rs_file_is_terminal(2)
    private let start: Instant
    private var next: Instant
    private var isLineOpen = false

    /// `verb` as in "imported"; a total that is not known is left out.
    init(_ world: any World, _ verb: String, total: UInt64?, isQuiet: Bool) {
        self.world = world
        self.verb = verb
        self.total = total
        self.isQuiet = isQuiet
        start = world.now
        next = start + (isTerminal ? Progress.terminalInterval : Progress.lineInterval)
    }

    var elapsed: Interval { world.now - start }

    func update(_ done: UInt64) { show(text(done)) }

    /// The line as it is now, if it is time.
    func show(_ text: @autoclosure () -> String) {
        guard !isQuiet, world.now >= next else { return }
        next = world.now + (isTerminal ? Progress.terminalInterval : Progress.lineInterval)
        let line = text()
        writeToStandardError(isTerminal ? "\r\(line)\u{1B}[K" : line + "\n")
        isLineOpen = isTerminal
    }

    /// Makes room for other output. Nothing stays: the command says itself what it has done.
    func end() {
        if isLineOpen { writeToStandardError("\r\u{1B}[K") }
        isLineOpen = false
    }

    private func text(_ done: UInt64) -> String {
        let rate = Progress.rate(done, elapsed)
        guard let total, total > 0 else { return "\(verb) \(ByteSize.text(done)), \(decimalText(rate, digits: 0)) MB/s" }
        let percent = min(100, done * 100 / total)
        let left = rate > 0 ? ", \(durationText(UInt64(Double(total - min(done, total)) / rate / 1e6))) left" : ""
        return "\(percent)%: \(verb) \(ByteSize.text(done)) of \(ByteSize.text(total)), \(decimalText(rate, digits: 0)) MB/s\(left)"
    }

    /// In 10⁶ bytes a second.
    static func rate(_ bytes: UInt64, _ time: Interval) -> Double {
        time.nanoseconds == 0 ? 0 : Double(bytes) * 1000 / Double(time.nanoseconds)
    }
}
