import Base
import CSystem
import Environment

// Listeners and streams of the reactor.

extension Reactor {
    // Listeners

    public func listen(on endpoint: Endpoint) throws(Failure) -> ListenerID {
        // Whoever listens is a daemon, and many may come: a shell allows 1,024 files, and all that it could is more.
        rs_raise_open_files_limit()
        let listener = try Listener.open(endpoint)
        if let index = listeners.firstIndex(where: { $0 == nil }) {
            listeners[index] = listener
            return ListenerID(Int32(index))
        }
        listeners.append(listener)
        return ListenerID(Int32(listeners.count - 1))
    }

    private func listener(_ id: ListenerID) -> Listener {
        guard listeners.indices.contains(Int(id.index)), let listener = listeners[Int(id.index)], !listener.isClosing else {
            unreachable("listener \(id.index) is not open")
        }
        return listener
    }

    public func endpoint(of listener: ListenerID) -> Endpoint { self.listener(listener).endpoint }

    public func accept(_ id: ListenerID, _ ticket: Ticket) {
        let listener = listener(id)
        invariant(listener.accept == nil, "two accepts under way of listener \(id.index)")
        guard let index = begin(.accept, ticket) else { return }
        listeners[Int(id.index)]?.accept = index
        operations.slots[Int(index)].descriptor = listener.descriptor
        operations.slots[Int(index)].object = id.index
        queue(index)
    }

    func acceptEnded(_ index: UInt32, _ result: Int32) {
        let operation = operations.slots[Int(index)]
        let isClosing = operation.isCancelling
        listeners[Int(operation.object)]?.accept = nil
        if isClosing {
            listeners[Int(operation.object)]?.close()
            listeners[Int(operation.object)] = nil
        }
        let isWanted = !isClosing && sinks.isAttached(operation.sink, operation.sinkGeneration)
        if result < 0 || !isWanted {
            if result >= 0 { rs_close(result) }
            return finish(index, isClosing ? -ErrorCode.cancelled : result)
        }
        rs_stream_prepare(result)
        finish(index, streams.add(result).index)
    }

    public func closeListener(_ id: ListenerID) {
        let listener = listener(id)
        guard let accept = listener.accept else {
            listener.close()
            listeners[Int(id.index)] = nil
            return
        }
        // The descriptor stays ours until the accept has ended: its number must not become another's while the kernel has yet to look.
        listener.stop()
        listeners[Int(id.index)]?.isClosing = true
        requestCancel(accept)
    }

    // Streams

    public func connect(to endpoint: Endpoint, deadline: Instant, _ ticket: Ticket) {
        guard let connector else { unreachable("the reactor is closed") }
        connector.connect(to: endpoint, deadline: deadline, ticket)
    }

    public func receive(_ stream: StreamID, into vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        guard let index = begin(.receive, ticket) else { return }
        let slot = operations.slots + Int(index)
        let (descriptor, hasMore) = streams.receiveBegan(stream)
        slot.pointee.descriptor = descriptor
        slot.pointee.object = stream.index
        // Nothing there: wait at once instead of after a vain attempt.
        slot.pointee.buffer = hasMore ? -1 : 0
        slot.pointee.setVectors(vectors)
        queue(index)
    }

    public func send(_ stream: StreamID, from vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        guard let index = begin(.send, ticket) else { return }
        let slot = operations.slots + Int(index)
        slot.pointee.descriptor = streams.sendBegan(stream)
        slot.pointee.object = stream.index
        slot.pointee.setVectors(vectors)
        queue(index)
    }

    public func shutdown(_ stream: StreamID) { streams.shutdown(stream) }
    public func close(_ stream: StreamID) { streams.close(stream) }
}
