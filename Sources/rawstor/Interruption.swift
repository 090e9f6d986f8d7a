import Arguments
import Base
import CSystem
import Environment
import Reactor

/// SIGINT and SIGTERM while a command runs that would leave something behind: cleans up, says a sentence, and ends the process. It does
/// not wait for anything, since what was interrupted may hang.
final class Interruption: CompletionSink {
    private let cleanUp: () -> String

    /// `cleanUp` returns the sentence.
    init(_ reactor: Reactor, cleanUp: @escaping () -> String) throws(Failure) {
        self.cleanUp = cleanUp
        try reactor.onSignal([2, 15], Ticket(reactor.attach(self), 0))
    }

    func completed(_ token: UInt32, result: Int32) {
        guard result > 0 else { return }
        syntax.complain(cleanUp())
        rs_exit(ExitStatus.signal + result)
    }

    func batchEnded() {}
}
