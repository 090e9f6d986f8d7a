import Base
import Environment

// Listeners and streams of a simulated process: everything is passed on to the network.

extension SimWorld {
    public func listen(on endpoint: Endpoint) throws(Failure) -> ListenerID {
        guard isAlive else { throw Failure(.closed, "process \(name) has ended") }
        return try universe.network.listen(self, endpoint)
    }

    public func endpoint(of listener: ListenerID) -> Endpoint {
        isAlive ? universe.network.endpoint(self, listener) : .unix(path: "")
    }

    public func accept(_ listener: ListenerID, _ ticket: Ticket) {
        if isAlive { universe.network.accept(self, listener, ticket) }
    }

    public func closeListener(_ listener: ListenerID) {
        if isAlive { universe.network.closeListener(self, listener) }
    }

    public func connect(to endpoint: Endpoint, deadline: Instant, _ ticket: Ticket) {
        if isAlive { universe.network.connect(self, endpoint, deadline: onUniverse(deadline), ticket) }
    }

    public func receive(_ stream: StreamID, into vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        if isAlive { universe.network.receive(self, stream, vectors, ticket) }
    }

    public func send(_ stream: StreamID, from vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        if isAlive { universe.network.send(self, stream, vectors, ticket) }
    }

    public func shutdown(_ stream: StreamID) {
        if isAlive { universe.network.shutdown(self, stream) }
    }

    public func close(_ stream: StreamID) {
        if isAlive { universe.network.close(self, stream) }
    }
}
