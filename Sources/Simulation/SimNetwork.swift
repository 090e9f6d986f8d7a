import Base
import Environment

/// Streams between simulated processes, as the sockets of a kernel give them: ordered bytes, cut anywhere.
///
/// - The bytes of one direction arrive in order, split and joined at drawn places; a window bounds what is unread, so that `send` takes a
///   part or waits.
/// - A link between two hosts may be blocked, one way or both: nothing is lost, everything waits. When it opens, connections resume or, if
///   the plan says so, are reset.
/// - Bytes before an orderly close arrive; a reset overtakes bytes on their way, and may throw away what has arrived unread.
final class SimNetwork {
    static let hostsMax = 32
    private static let backlogMax = 128

    private unowned(unsafe) let universe: Universe
    private var sockets: [Socket?] = []
    private var listeners: [Listener] = []
    private var attempts: [Attempt] = []
    private var attemptsUnderWay = 0
    private var links = [Link](repeating: Link(), count: hostsMax * hostsMax)
    private var sendsUnderWay = 0

    init(_ universe: Universe) { self.universe = universe }

    func end() {
        sockets.removeAll()
        listeners.removeAll()
        attempts.removeAll()
    }

    // Looking up

    func isSocket(_ number: Int32) -> Bool { sockets[Int(number)] != nil }
    func isAttempt(_ number: Int32) -> Bool { !attempts[Int(number)].isDone }

    /// No connect or send is under way, and nothing is held up.
    var isQuiet: Bool {
        if attemptsUnderWay > 0 || sendsUnderWay > 0 { return false }
        for link in links where link.sockets.contains(where: { sockets[Int($0)] != nil }) { return false }
        return true
    }

    func count(_ world: SimWorld, _ result: inout Outstanding) {
        for number in world.streams where number >= 0 {
            result.streams += 1
            guard let socket = sockets[Int(number)] else { continue }
            if socket.receiving != nil { result.receives += 1 }
            if socket.sending != nil { result.sends += 1 }
        }
        for number in world.listeners where number >= 0 {
            result.listeners += 1
            if listeners[Int(number)].accepting != nil { result.accepts += 1 }
        }
        for attempt in attempts where !attempt.isDone && attempt.world === world { result.connects += 1 }
    }

    private func find(_ world: SimWorld, _ stream: StreamID) -> Socket {
        let handle = Int(stream.index)
        guard handle >= 0, handle < world.streams.count, world.streams[handle] >= 0, let socket = sockets[Int(world.streams[handle])] else {
            unreachable("process \(world.name): stream \(stream.index) is not open")
        }
        return socket
    }

    private func latency() -> UInt64 {
        guard universe.timing == .drawn else { return 10_000 }
        let usual = universe.random.between(5_000, 60_000)
        return universe.random.below(64 as UInt64) == 0 ? usual + universe.random.below(3_000_000 as UInt64) : usual
    }

    // Links

    private func isBlocked(_ from: SimHost, _ to: SimHost) -> Bool {
        links[Int(from.number) * Self.hostsMax + Int(to.number)].isBlocked(universe.now.nanoseconds)
    }

    private func hold(_ socket: Socket, from: SimHost, to: SimHost) {
        let index = Int(from.number) * Self.hostsMax + Int(to.number)
        if !links[index].sockets.contains(socket.number) { links[index].sockets.append(socket.number) }
    }

    private func hold(_ attempt: Int32, from: SimHost, to: SimHost) {
        links[Int(from.number) * Self.hostsMax + Int(to.number)].attempts.append(attempt)
    }

    func partition(_ from: Int32, _ to: Int32, until: UInt64) {
        let index = Int(from) * Self.hostsMax + Int(to)
        links[index].cutUntil = max(links[index].cutUntil, until)
        if until != .max { universe.push(.release, at: until, a: from, b: to) }
    }

    private func clog(_ from: Int32, _ to: Int32, until: UInt64) {
        let index = Int(from) * Self.hostsMax + Int(to)
        links[index].cloggedUntil = max(links[index].cloggedUntil, until)
        universe.push(.release, at: until, a: from, b: to)
    }

    /// Whatever blocks the link ends.
    func open(_ from: Int32, _ to: Int32) {
        let index = Int(from) * Self.hostsMax + Int(to)
        links[index].cloggedUntil = 0
        if links[index].cutUntil > universe.now.nanoseconds { links[index].cutUntil = universe.now.nanoseconds }
        release(from, to)
    }

    func heal() {
        for socket in sockets { socket?.stalledUntil = 0 }
        for from in 0..<Int32(universe.hosts.count) {
            for to in 0..<Int32(universe.hosts.count) { open(from, to) }
        }
    }

    /// What waited goes on, unless the link is blocked again.
    func release(_ from: Int32, _ to: Int32) {
        let index = Int(from) * Self.hostsMax + Int(to)
        if links[index].isBlocked(universe.now.nanoseconds) { return }
        let wasCut = links[index].cutUntil > 0
        links[index].cutUntil = 0
        links[index].cloggedUntil = 0
        let held = links[index].sockets
        let heldAttempts = links[index].attempts
        links[index].sockets.removeAll(keepingCapacity: true)
        links[index].attempts.removeAll(keepingCapacity: true)
        for number in held {
            guard let socket = sockets[Int(number)] else { continue }
            let delay = latency()
            if wasCut, universe.strikes(universe.faults.resetAfterPartition, .resetAfterPartition) { breakDown(socket) }
            for _ in 0..<socket.heldArrivals { universe.push(.arrive, after: delay, a: number) }
            if socket.heldReset { universe.push(.reset, after: delay, a: number) }
            if socket.heldWindow { universe.push(.window, after: delay, a: number) }
            socket.heldArrivals = 0
            socket.heldReset = false
            socket.heldWindow = false
        }
        for number in heldAttempts where !attempts[Int(number)].isDone {
            let isAnswered = attempts[Int(number)].socket >= 0 || attempts[Int(number)].result != 0
            universe.push(isAnswered ? .connectAnswer : .connectArrive, after: latency(), a: number)
        }
    }

    private func drawFaults(_ socket: Socket) {
        let faults = universe.faults
        if faults.reset != 0, universe.strikes(faults.reset, .reset) { breakDown(socket) }
        if faults.streamStall != 0, universe.strikes(faults.streamStall, .streamStall) {
            let until = universe.now + Interval(nanoseconds: universe.random.between(1, max(1, faults.streamStallMax.nanoseconds)))
            socket.stalledUntil = max(socket.stalledUntil, until.nanoseconds)
        }
        let hosts = UInt64(universe.hosts.count)
        if faults.clog != 0, universe.strikes(faults.clog, .clog), let peer = sockets[Int(socket.peer)] {
            let until = universe.now + Interval(nanoseconds: universe.random.between(1, max(1, faults.clogMax.nanoseconds)))
            clog(peer.host.number, socket.host.number, until: until.nanoseconds)
        }
        if faults.partition != 0, hosts > 1, universe.strikes(faults.partition, .partition) {
            let from = Int32(universe.random.below(hosts))
            let to = (from + 1 + Int32(universe.random.below(hosts - 1))) % Int32(hosts)
            let until = universe.now + Interval(nanoseconds: universe.random.between(1, max(1, faults.partitionMax.nanoseconds)))
            partition(from, to, until: until.nanoseconds)
            if universe.random.below(3 as UInt64) != 0 { partition(to, from, until: until.nanoseconds) }
        }
    }

    // Listening

    func listen(_ world: SimWorld, _ wanted: Endpoint) throws(Failure) -> ListenerID {
        var endpoint = wanted
        if case .tcp(let host, var port) = wanted {
            guard isAddress(host, of: world.host) else { throw Failure(.invalidArgument, "\(host) is not an address of this machine") }
            while port == 0 {
                if find(.tcp(host: world.host.name, port: world.host.nextPort), on: world.host) == nil { port = world.host.nextPort }
                world.host.nextPort = world.host.nextPort == .max ? 49152 : world.host.nextPort + 1
            }
            endpoint = .tcp(host: host, port: port)
        }
        if find(endpoint, on: world.host) != nil { throw Failure(.busy, "something else listens on \(endpoint)") }
        let number = Int32(listeners.count)
        listeners.append(Listener(endpoint, world))
        world.listeners.append(number)
        return ListenerID(Int32(world.listeners.count - 1))
    }

    private func isAddress(_ address: String, of host: SimHost) -> Bool {
        address == host.name || isWildcard(address) || isLoopback(address)
    }
    private func isWildcard(_ address: String) -> Bool { address == "0.0.0.0" || address == "::" || address == "" }
    private func isLoopback(_ address: String) -> Bool { address == "127.0.0.1" || address == "::1" || address == "localhost" }

    /// The number of the open listener there.
    private func find(_ endpoint: Endpoint, on host: SimHost) -> Int32? {
        for (number, listener) in listeners.enumerated() where listener.isOpen && listener.world.host === host {
            switch (endpoint, listener.endpoint) {
            case (.tcp(let wanted, let port), .tcp(let address, let mine)):
                if port == mine, wanted == address || isWildcard(address) || isLoopback(wanted) && isLoopback(address) || isWildcard(wanted)
                {
                    return Int32(number)
                }
            case (.unix(let wanted), .unix(let path)): if wanted == path { return Int32(number) }
            case (.tcp, .unix), (.unix, .tcp): continue
            }
        }
        return nil
    }

    private func listener(_ world: SimWorld, _ id: ListenerID) -> Listener {
        let handle = Int(id.index)
        guard handle >= 0, handle < world.listeners.count, world.listeners[handle] >= 0 else {
            unreachable("process \(world.name): listener \(id.index) is not open")
        }
        return listeners[Int(world.listeners[handle])]
    }

    func endpoint(_ world: SimWorld, _ id: ListenerID) -> Endpoint { listener(world, id).endpoint }

    func accept(_ world: SimWorld, _ id: ListenerID, _ ticket: Ticket) {
        let found = listener(world, id)
        invariant(found.accepting == nil, "a second accept on \(found.endpoint)")
        world.begin(ticket)
        found.accepting = ticket
        proceed(found)
    }

    private func proceed(_ listener: Listener) {
        while let ticket = listener.accepting, !listener.backlog.isEmpty {
            guard let socket = sockets[Int(listener.backlog.removeFirst())] else { continue }
            listener.accepting = nil
            listener.world.finish(ticket, give(socket, to: listener.world))
        }
    }

    func closeListener(_ world: SimWorld, _ id: ListenerID) {
        let found = listener(world, id)
        world.listeners[Int(id.index)] = -1
        close(found)
        if let ticket = found.accepting {
            found.accepting = nil
            world.finish(ticket, -Code.cancelled)
        }
    }

    private func close(_ listener: Listener) {
        listener.isOpen = false
        for number in listener.backlog {
            guard let socket = sockets[Int(number)] else { continue }
            vanish(socket)
            planReset(of: socket.peer)
            free(socket)
        }
        listener.backlog.removeAll()
    }

    /// A handle in the process for its end.
    private func give(_ socket: Socket, to world: SimWorld) -> Int32 {
        if let handle = world.freeStreams.popLast() {
            world.streams[Int(handle)] = socket.number
            socket.stream = handle
        } else {
            socket.stream = Int32(world.streams.count)
            world.streams.append(socket.number)
        }
        return socket.stream
    }

    // Connecting

    func connect(_ world: SimWorld, _ endpoint: Endpoint, deadline: UInt64, _ ticket: Ticket) {
        world.begin(ticket)
        let target: Int32
        switch endpoint {
        case .unix: target = world.host.number
        case .tcp(let address, _):
            target =
                isLoopback(address) || isWildcard(address)
                ? world.host.number : Int32(universe.hosts.firstIndex { $0.name == address } ?? -1)
        }
        let number = Int32(attempts.count)
        attempts.append(Attempt(endpoint: endpoint, world: world, ticket: ticket, target: target))
        attemptsUnderWay += 1
        if deadline != .max { universe.push(.connectDeadline, at: max(deadline, universe.now.nanoseconds), a: number) }
        var delay = latency()
        if universe.strikes(universe.faults.connectLost, .connectLost) { delay += 1_000_000_000 }
        universe.push(.connectArrive, after: delay, a: number)
    }

    private func end(_ number: Int32, _ result: Int32) {
        attempts[Int(number)].isDone = true
        attemptsUnderWay -= 1
        attempts[Int(number)].world.finish(attempts[Int(number)].ticket, result)
    }

    func connectArrived(_ number: Int32) {
        let attempt = attempts[Int(number)]
        guard attempt.target >= 0 else { return end(number, -Code.noHost) }
        let host = universe.hosts[Int(attempt.target)]
        if isBlocked(attempt.world.host, host) { return hold(number, from: attempt.world.host, to: host) }
        // Nobody is there to refuse: asked again every second, until the deadline.
        guard host.isUp else { return universe.push(.connectArrive, after: 1_000_000_000, a: number) }
        if let found = find(attempt.endpoint, on: host), listeners[Int(found)].backlog.count < Self.backlogMax {
            let listener = listeners[Int(found)]
            let client = Int32(sockets.count)
            sockets.append(Socket(number: client, peer: client + 1, world: attempt.world, window: drawWindow()))
            sockets.append(Socket(number: client + 1, peer: client, world: listener.world, window: drawWindow()))
            attempts[Int(number)].socket = client
            listener.backlog.append(client + 1)
            proceed(listener)
        } else {
            attempts[Int(number)].result = -Code.refused
        }
        universe.push(.connectAnswer, after: latency(), a: number)
    }

    private func drawWindow() -> Int { universe.timing == .drawn ? 1 << Int(universe.random.between(14, 20)) : 1 << 20 }

    func connectAnswered(_ number: Int32) {
        let attempt = attempts[Int(number)]
        let host = universe.hosts[Int(attempt.target)]
        if isBlocked(host, attempt.world.host) { return hold(number, from: host, to: attempt.world.host) }
        guard attempt.result == 0, let socket = sockets[Int(attempt.socket)] else { return end(number, -Code.refused) }
        end(number, give(socket, to: attempt.world))
    }

    func connectTimedOut(_ number: Int32) {
        giveUp(number)
        end(number, -Code.timedOut)
    }

    private func giveUp(_ number: Int32) {
        guard attempts[Int(number)].socket >= 0, let socket = sockets[Int(attempts[Int(number)].socket)] else { return }
        vanish(socket)
        planReset(of: socket.peer)
        free(socket)
    }

    // Bytes

    func send(_ world: SimWorld, _ stream: StreamID, _ vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        let socket = find(world, stream)
        invariant(socket.sending == nil, "a second send on stream \(stream.index)")
        world.begin(ticket)
        socket.sendVectors.set(vectors)
        socket.sending = ticket
        sendsUnderWay += 1
        universe.trace.fold(UInt64(UInt32(bitPattern: socket.number)) << 32 | UInt64(socket.sendVectors.bytes))
        // The kernel takes the bytes now or a little later; until then the memory must stay as it is.
        if universe.timing == .drawn, universe.random.below(4 as UInt64) == 0 {
            universe.push(.window, after: universe.random.below(20_000 as UInt64), a: socket.number)
        } else {
            proceedSend(socket)
        }
    }

    private func endSend(_ socket: Socket, _ result: Int32) {
        guard let ticket = socket.sending else { return }
        socket.sending = nil
        socket.sendVectors.clear()
        sendsUnderWay -= 1
        socket.world.finish(ticket, result)
    }

    private func proceedSend(_ socket: Socket) {
        guard socket.sending != nil else { return }
        if socket.isShut { return endSend(socket, -Code.brokenPipe) }
        if socket.isReset { return endSend(socket, -Code.reset) }
        guard let peer = sockets[Int(socket.peer)] else { return endSend(socket, -Code.reset) }
        let wanted = socket.sendVectors.bytes
        if wanted == 0 { return endSend(socket, 0) }
        var count = min(wanted, peer.room)
        // Waits until the receiver reads.
        socket.isWaitingForRoom = count == 0
        if count == 0 { return }
        if universe.timing == .drawn, universe.random.below(8 as UInt64) == 0 { count = 1 + universe.random.below(count) }
        let from = peer.sent
        peer.take(count, from: socket.sendVectors)
        if universe.strikes(universe.faults.corruption, .corruption) { peer.corrupt(count, &universe.random) }
        transmit(to: peer, from: from)
        endSend(socket, Int32(count))
    }

    /// The bytes from there to `sent` get on their way in one or a few segments.
    private func transmit(to peer: Socket, from start: UInt64) {
        var position = start
        var pieces = universe.timing == .drawn && universe.random.below(4 as UInt64) == 0 ? universe.random.between(2, 3) : 1
        while position < peer.sent {
            var end = peer.sent
            if pieces > 1 {
                end = position + 1 + universe.random.below(peer.sent - position)
                pieces -= 1
            }
            transmit(Socket.Segment(end: end, isLast: false), to: peer)
            position = end
        }
    }

    private func transmit(_ segment: Socket.Segment, to peer: Socket) {
        peer.segments.append(segment)
        // Each arrival takes the oldest segment, whichever it was drawn for: bytes cannot overtake each other.
        universe.push(.arrive, after: latency(), a: peer.number)
    }

    func arrived(_ number: Int32) {
        guard let socket = sockets[Int(number)], let peer = sockets[Int(socket.peer)] else { return }
        drawFaults(socket)
        if isBlocked(peer.host, socket.host) {
            socket.heldArrivals += 1
            return hold(socket, from: peer.host, to: socket.host)
        }
        if socket.stalledUntil > universe.now.nanoseconds { return universe.push(.arrive, at: socket.stalledUntil, a: number) }
        guard let segment = socket.popSegment() else { return }
        if socket.isClosed {
            // A kernel that knows the port and not the connection, or no kernel at all.
            if socket.host.isUp { planReset(of: socket.peer) }
            return
        }
        if socket.isReset { return }
        socket.arrived = segment.end
        if segment.isLast { socket.isEnded = true }
        proceedReceive(socket)
    }

    func receive(_ world: SimWorld, _ stream: StreamID, _ vectors: UnsafeBufferPointer<IOVector>, _ ticket: Ticket) {
        let socket = find(world, stream)
        invariant(socket.receiving == nil, "a second receive on stream \(stream.index)")
        world.begin(ticket)
        socket.receiveVectors.set(vectors)
        socket.receiving = ticket
        proceedReceive(socket)
    }

    private func endReceive(_ socket: Socket, _ result: Int32) {
        guard let ticket = socket.receiving else { return }
        socket.receiving = nil
        socket.receiveVectors.clear()
        socket.world.finish(ticket, result)
    }

    private func proceedReceive(_ socket: Socket) {
        guard socket.receiving != nil else { return }
        if socket.isShut { return endReceive(socket, 0) }
        if socket.available == 0 {
            if socket.isReset { return endReceive(socket, -Code.reset) }
            if socket.isEnded { endReceive(socket, 0) }
            return
        }
        var count = min(socket.available, socket.receiveVectors.bytes)
        if count > 1, universe.timing == .drawn, universe.random.below(8 as UInt64) == 0 { count = 1 + universe.random.below(count) }
        socket.give(count)
        endReceive(socket, Int32(count))
        guard let peer = sockets[Int(socket.peer)], peer.sending != nil else { return }
        universe.push(.window, after: latency(), a: peer.number)
    }

    /// The receiver has made room, or the kernel gets to a send.
    func windowOpened(_ number: Int32) {
        guard let socket = sockets[Int(number)], socket.sending != nil, let peer = sockets[Int(socket.peer)] else { return }
        if socket.isWaitingForRoom, isBlocked(peer.host, socket.host) {
            socket.heldWindow = true
            return hold(socket, from: peer.host, to: socket.host)
        }
        proceedSend(socket)
    }

    // Ends

    func shutdown(_ world: SimWorld, _ stream: StreamID) {
        let socket = find(world, stream)
        guard !socket.isShut else { return }
        tellEnd(socket)
        proceedReceive(socket)
        proceedSend(socket)
    }

    /// Nothing more comes from this end.
    private func tellEnd(_ socket: Socket) {
        guard !socket.isShut else { return }
        socket.isShut = true
        guard !socket.isReset, let peer = sockets[Int(socket.peer)] else { return }
        transmit(Socket.Segment(end: peer.sent, isLast: true), to: peer)
    }

    func close(_ world: SimWorld, _ stream: StreamID) {
        let socket = find(world, stream)
        invariant(socket.receiving == nil && socket.sending == nil, "stream \(stream.index) is closed with operations under way")
        world.streams[Int(stream.index)] = -1
        world.freeStreams.append(stream.index)
        socket.stream = -1
        // As Linux does it: closing with unread bytes is a reset.
        if socket.available > 0 { planReset(of: socket.peer) } else { tellEnd(socket) }
        socket.isClosed = true
        free(socket)
    }

    /// This end is gone without a word.
    private func vanish(_ socket: Socket) {
        if socket.sending != nil { sendsUnderWay -= 1 }
        socket.receiving = nil
        socket.sending = nil
        socket.stream = -1
        socket.isClosed = true
    }

    /// Both ends learn that the connection is broken.
    private func breakDown(_ socket: Socket) {
        planReset(of: socket.number)
        planReset(of: socket.peer)
    }

    func breakConnections(_ left: SimHost, _ right: SimHost) {
        for socket in sockets {
            guard let socket, socket.host === left, let peer = sockets[Int(socket.peer)], peer.host === right else { continue }
            universe.count(.reset)
            breakDown(socket)
        }
    }

    private func planReset(of number: Int32) {
        guard let socket = sockets[Int(number)], !socket.isClosed, !socket.isReset, !socket.isResetPlanned else { return }
        socket.isResetPlanned = true
        universe.push(.reset, after: latency(), a: number)
    }

    func resetArrived(_ number: Int32) {
        guard let socket = sockets[Int(number)], !socket.isReset, !socket.isClosed, let peer = sockets[Int(socket.peer)] else { return }
        if isBlocked(peer.host, socket.host) {
            socket.heldReset = true
            return hold(socket, from: peer.host, to: socket.host)
        }
        // Comes the same way as the bytes, and behind them.
        if socket.stalledUntil > universe.now.nanoseconds { return universe.push(.reset, at: socket.stalledUntil + 1, a: number) }
        socket.isReset = true
        if universe.timing == .constant || universe.random.coin() { socket.arrived = socket.read }
        proceedReceive(socket)
        proceedSend(socket)
    }

    /// A pair is forgotten when both ends are closed; what is still on its way is stale then.
    private func free(_ socket: Socket) {
        guard let peer = sockets[Int(socket.peer)], socket.isClosed, peer.isClosed else { return }
        sockets[Int(socket.number)] = nil
        sockets[Int(peer.number)] = nil
    }

    func processEnded(_ world: SimWorld, _ end: SimWorld.End) {
        for number in attempts.indices where !attempts[number].isDone && attempts[number].world === world {
            attempts[number].isDone = true
            attemptsUnderWay -= 1
            giveUp(Int32(number))
        }
        for number in world.listeners where number >= 0 { close(listeners[Int(number)]) }
        for number in world.streams where number >= 0 {
            guard let socket = sockets[Int(number)] else { continue }
            vanish(socket)
            // Otherwise the peer finds out when it sends.
            if end == .killed, universe.random.below(4 as UInt64) != 0 {
                if socket.available == 0, universe.random.coin() { tellEnd(socket) } else { planReset(of: socket.peer) }
            }
            free(socket)
        }
        world.streams.removeAll()
        world.freeStreams.removeAll()
        world.listeners.removeAll()
    }

    /// A host has power again: its kernel answers what is sent to connections of the past with a reset.
    func returned(_ host: SimHost) {
        for socket in sockets {
            guard let socket, socket.host === host, socket.isClosed, socket.sent > socket.arrived else { continue }
            planReset(of: socket.peer)
        }
    }
}
