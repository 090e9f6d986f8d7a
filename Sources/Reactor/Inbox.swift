import Base
import CSystem
import Synchronization

/// What other threads hand to a reactor: closures, and jobs of its executor. The only place where threads meet.
///
/// Writing to `descriptor`, which the ring reads, wakes the reactor; it is written once for everything that gathers until the reactor
/// looks. After `close` whatever arrives is dropped.
final class Inbox: Sendable {
    enum Message {
        case work(@Sendable () -> Void)
        case job(UnownedJob)
    }

    private struct State {
        var messages: [Message] = []
        var isClosed = false
    }

    let descriptor: Int32
    private let state = Mutex(State())

    /// Owns `descriptor` from now on.
    init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { rs_close(descriptor) }

    func post(_ message: Message) {
        state.withLock { state in
            if state.isClosed { return }
            state.messages.append(message)
            // Under the lock, so that nobody writes after `close`.
            if state.messages.count == 1 { rs_eventfd_signal(descriptor) }
        }
    }

    /// Moves everything that has gathered into `messages`, which is empty; its memory is what gathers next.
    func take(into messages: inout [Message]) {
        state.withLock { swap(&$0.messages, &messages) }
    }

    func close() {
        state.withLock { state in
            state.isClosed = true
            state.messages = []
        }
    }
}
