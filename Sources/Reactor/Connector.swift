import Base
import CSystem
import Environment

/// Makes connections: finds the addresses of a name, tries them in order and gives up at the deadline.
///
/// Each attempt shares the time that is left among the addresses that are left, so that one which swallows packets does not use up
/// everything. Owned by the reactor, and its own sink: a token is the attempt's index, doubled, plus 1 for its timer.
final class Connector: CompletionSink {
    private final class Attempt {
        let ticket: Ticket
        let sinkGeneration: UInt32
        let deadline: Instant
        var addresses: [rs_address] = []
        /// Where the kernel reads the address of the connect under way.
        let address = UnsafeMutablePointer<rs_address>.allocate(capacity: 1)
        var next = 0
        var descriptor: Int32 = -1
        var operation: UInt32?
        var timer: TimerID?
        var lastError = -ErrorCode.hostUnreachable
        /// The user has the result; only a late end is waited for.
        var isAnswered = false

        init(_ ticket: Ticket, _ sinkGeneration: UInt32, _ deadline: Instant) {
            self.ticket = ticket
            self.sinkGeneration = sinkGeneration
            self.deadline = deadline
        }

        deinit { address.deallocate() }
    }

    private unowned let reactor: Reactor
    private var sink = SinkID(0)
    private var attempts: [Attempt?] = []
    /// No connection is made any more.
    var isSevered = false

    init(_ reactor: Reactor) {
        self.reactor = reactor
        sink = reactor.attach(self)
    }

    func connect(to endpoint: Endpoint, deadline: Instant, _ ticket: Ticket) {
        let attempt = Attempt(ticket, reactor.sinks.generation(ticket.sink), deadline)
        let index: Int
        if let unused = attempts.firstIndex(where: { $0 == nil }) {
            index = unused
            attempts[index] = attempt
        } else {
            index = attempts.count
            attempts.append(attempt)
        }
        if isSevered { return answerLater(index, attempt, -ErrorCode.cancelled) }
        switch endpoint {
        case .unix(let path):
            var address = rs_address()
            let result = rs_address_unix(path, &address)
            if result < 0 { return answerLater(index, attempt, result) }
            attempt.addresses = [address]
            tryNext(index, attempt)
        case .tcp(let host, let port):
            if let numeric = Resolver.numeric(host, port) {
                attempt.addresses = numeric
                tryNext(index, attempt)
            } else {
                arm(index, attempt, deadline)
                resolve(index, attempt, host, port)
            }
        }
    }

    private func resolve(_ index: Int, _ attempt: Attempt, _ host: String, _ port: UInt16) {
        let reactor = Weak(reactor)
        let error = Resolver.resolve(host, port, reactor.value?.inbox) { addresses in
            reactor.value?.connector?.resolved(index, addresses)
        }
        if error < 0 { answerLater(index, attempt, error) }
    }

    private func resolved(_ index: Int, _ addresses: [rs_address]) {
        guard let attempt = attempts[index] else { unreachable("attempt \(index) was resolved after its end") }
        if attempt.isAnswered { return forget(index, attempt) }
        disarm(attempt)
        attempt.addresses = addresses
        tryNext(index, attempt)
    }

    private func tryNext(_ index: Int, _ attempt: Attempt) {
        while attempt.next < attempt.addresses.count {
            attempt.address.initialize(to: attempt.addresses[attempt.next])
            attempt.next += 1
            let descriptor = rs_socket(attempt.address)
            if descriptor < 0 {
                attempt.lastError = descriptor
                continue
            }
            rs_stream_prepare(descriptor)
            let ticket = Ticket(sink, UInt32(index) * 2)
            guard let operation = reactor.begin(.connect, sink: sink.index, generation: reactor.sinks.generation(sink), token: ticket.token)
            else {
                rs_close(descriptor)
                return answerLater(index, attempt, -ErrorCode.noBuffers)
            }
            attempt.descriptor = descriptor
            attempt.operation = operation
            let slot = reactor.operations.slots + Int(operation)
            slot.pointee.descriptor = descriptor
            slot.pointee.address = UInt64(UInt(bitPattern: attempt.address))
            slot.pointee.offset = UInt64(attempt.address.pointee.length)
            arm(index, attempt, shareOfTime(attempt))
            return reactor.queue(operation)
        }
        answerLater(index, attempt, attempt.lastError)
    }

    /// `addresses[next - 1]` is being tried.
    private func shareOfTime(_ attempt: Attempt) -> Instant {
        if attempt.deadline == .never { return .never }
        let left = UInt64(attempt.addresses.count - attempt.next + 1)
        return reactor.now + Interval(nanoseconds: (attempt.deadline - reactor.now).nanoseconds / left)
    }

    private func arm(_ index: Int, _ attempt: Attempt, _ instant: Instant) {
        if instant != .never { attempt.timer = reactor.wake(at: instant, Ticket(sink, UInt32(index) * 2 + 1)) }
    }

    private func disarm(_ attempt: Attempt) {
        if let timer = attempt.timer { reactor.cancel(timer) }
        attempt.timer = nil
    }

    func completed(_ token: UInt32, result: Int32) {
        let index = Int(token / 2)
        guard let attempt = attempts[index] else { unreachable("attempt \(index) has ended") }
        if token % 2 == 1 { timedOut(index, attempt) } else { connected(index, attempt, result) }
    }

    func batchEnded() {}

    private func timedOut(_ index: Int, _ attempt: Attempt) {
        attempt.timer = nil
        attempt.lastError = -ErrorCode.timedOut
        if let operation = attempt.operation { return reactor.requestCancel(operation) }
        // Still resolving, which cannot be stopped: its end will find that nobody waits.
        attempt.isAnswered = true
        answer(attempt, -ErrorCode.timedOut)
    }

    private func connected(_ index: Int, _ attempt: Attempt, _ result: Int32) {
        let descriptor = attempt.descriptor
        let hasTimedOut = attempt.timer == nil && attempt.deadline != .never
        disarm(attempt)
        attempt.operation = nil
        attempt.descriptor = -1
        let isWanted = reactor.sinks.isAttached(attempt.ticket.sink.index, attempt.sinkGeneration)
        if result == 0, isWanted, !isSevered {
            forget(index, attempt)
            return answer(attempt, reactor.streams.add(descriptor).index)
        }
        rs_close(descriptor)
        if !isWanted { return forget(index, attempt) }
        if isSevered { return answerLater(index, attempt, -ErrorCode.cancelled) }
        if hasTimedOut {
            attempt.lastError = -ErrorCode.timedOut
        } else if result == -ErrorCode.cancelled || result == -ErrorCode.interrupted {
            // Not cancelled by us: the thread that began it has ended. The same address again.
            attempt.next -= 1
        } else {
            attempt.lastError = result
        }
        tryNext(index, attempt)
    }

    private func answer(_ attempt: Attempt, _ result: Int32) {
        reactor.deliver(attempt.ticket.sink.index, attempt.sinkGeneration, attempt.ticket.token, result)
    }

    /// Not from within the call that began it.
    private func answerLater(_ index: Int, _ attempt: Attempt, _ result: Int32) {
        forget(index, attempt)
        if reactor.sinks.isAttached(attempt.ticket.sink.index, attempt.sinkGeneration) { reactor.completeLater(attempt.ticket, result) }
    }

    private func forget(_ index: Int, _ attempt: Attempt) {
        disarm(attempt)
        attempts[index] = nil
    }

    /// The ring is empty.
    func closeAll() {
        for attempt in attempts { if let attempt, attempt.descriptor >= 0 { rs_close(attempt.descriptor) } }
        attempts = []
    }
}

/// A reactor that may be gone when a name has been resolved; looked at on its own thread only.
private final class Weak: @unchecked Sendable {
    weak var value: Reactor?
    init(_ value: Reactor) { self.value = value }
}
