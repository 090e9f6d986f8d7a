import Base
import PartStore
import Wire

/// What a handle is for.
enum HandleKind {
    case reads, writes, recovers
}

/// Which objects are open, by whom: handles of connections, and what the engine knows of each object.
extension OSTEngine {
    mutating func isHandleOpen(_ connection: Int, _ index: Int, _ object: ObjectNumber) -> Bool {
        let handle = connections[connection].handles + index
        return handle.pointee.state == .open && handle.pointee.object == object
    }

    func hasFreeHandle(_ index: Int) -> Bool {
        (0..<Limits.handlesPerConnectionMax).contains { connections[index].handles[$0].state == .free }
    }

    /// Nil when the connection has too many open.
    mutating func makeHandle(_ index: Int, _ object: ObjectNumber, _ kind: HandleKind, session: UInt64) -> HandleReference? {
        let connection = connections + index
        for position in 0..<Limits.handlesPerConnectionMax where connection.pointee.handles[position].state == .free {
            let record = store.record(of: object)
            connection.pointee.handleSerial = (connection.pointee.handleSerial + 1) & 0xff_ffff
            var handle = Handle()
            handle.state = .open
            handle.writes = kind == .writes
            handle.recovers = kind == .recovers
            // Never 0, which stands for no handle, and a long time different from what was open in this place before.
            handle.number = (connection.pointee.handleSerial + 1) * UInt32(Limits.handlesPerConnectionMax) + UInt32(position)
            handle.object = object
            handle.generation = record.generation
            handle.session = session
            handle.map = record.map
            handle.bytes = record.bytes
            handle.chunkBlocks = record.layout.chunkBytes / UInt64(Block.bytes)
            handle.members = record.layout.dataMembers + record.layout.parityMembers
            handle.isReplicated = record.layout.kind == .replicas
            connection.pointee.handles[position] = handle
            let reference = HandleReference(connection: index, index: position)
            objects[object, default: OpenObject()].handles += 1
            switch kind {
            case .reads: break
            case .writes:
                invariant(objects[object]?.writer == nil, "object \(object.raw) gets a second writer")
                objects[object]?.writer = reference
            case .recovers:
                invariant(objects[object]?.recoverer == nil, "object \(object.raw) gets a second recovery")
                objects[object]?.recoverer = reference
            }
            return reference
        }
        return nil
    }

    mutating func closeHandle(_ reference: HandleReference) {
        setHandle(reference, .free)
        connections[reference.connection].handles[reference.index] = Handle()
    }

    mutating func closeHandles(_ index: Int) {
        for position in 0..<Limits.handlesPerConnectionMax where connections[index].handles[position].state != .free {
            closeHandle(HandleReference(connection: index, index: position))
        }
    }

    /// An open handle is closed, fenced or replaced: it no longer counts as one that has the object open.
    mutating func setHandle(_ reference: HandleReference, _ state: Handle.State) {
        let handle = connections[reference.connection].handles + reference.index
        defer { handle.pointee.state = state }
        guard handle.pointee.state == .open else { return }
        let number = handle.pointee.object
        guard var object = objects[number] else { unreachable("object \(number.raw) is open and unknown") }
        object.handles -= 1
        invariant(object.handles >= 0, "object \(number.raw) is open fewer than no times")
        if object.writer == reference { object.writer = nil }
        if object.recoverer == reference { object.recoverer = nil }
        // What is left may be worth remembering: the nonce of the last raise, and the session that may return.
        let isForgotten = object.handles == 0 && !object.isChanging && object.nonce == .zero && object.session == 0
        objects[number] = isForgotten ? nil : object
    }

    /// Every open handle of an object. A walk over all connections: for rare requests only.
    mutating func openHandles(of object: ObjectNumber) -> [HandleReference] {
        var found: [HandleReference] = []
        for index in 0..<connectionsMade where connections[index].takesFrames || connections[index].state == .closing {
            for position in 0..<Limits.handlesPerConnectionMax where isHandleOpen(index, position, object) {
                found.append(HandleReference(connection: index, index: position))
            }
        }
        return found
    }

    /// Every open handle of an object refuses maps below the object's from here on.
    mutating func raiseMaps(_ object: ObjectNumber) {
        let map = store.record(of: object).map
        for reference in openHandles(of: object) { connections[reference.connection].handles[reference.index].map = map }
    }

    /// Requests of a connection that the store does not have yet and that address this handle end with `status`.
    mutating func refuseUnsubmitted(_ reference: HandleReference, _ status: Status) {
        let connection = connections + reference.connection
        let number = connection.pointee.handles[reference.index].number
        let receiving = connection.pointee.receivingSlot
        if receiving != Connection.noSlot, requests[receiving].pointee.header.handle == number {
            // The world may be writing into its buffer; it is answered when the next bytes have come.
            requests[receiving].pointee.refusal = status
        }
        let waiting = connection.pointee.stalledSlot
        if waiting != Connection.noSlot, requests[waiting].pointee.header.handle == number {
            giveUpStalled(reference.connection, Failure(status))
        }
    }
}
