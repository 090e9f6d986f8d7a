import Base
import PartStore
import Wire

/// From bytes to requests: takes the frames that have come and starts what each asks for.
extension OSTEngine {
    mutating func takeFrames(_ index: Int) {
        let connection = connections + index
        while connection.pointee.takesFrames, connection.pointee.stall == .none {
            // Every frame needs a slot, if only for its error; a payload that is being received has one already.
            guard connection.pointee.receivingSlot != Connection.noSlot || hasRoom(index) else { return stall(index, .room) }
            let step: FrameReceiver.Step
            do throws(Failure) {
                step = try connection.pointee.receiver.next()
            } catch {
                return refuseConnection(index, error)
            }
            switch step {
            case .needsMore: return wantReceive(index)
            case .frame(let header, let meta): begin(index, header, meta)
            case .payloadFollows(let header, let meta): begin(index, header, meta)
            case .payloadComplete: finishPayload(index)
            }
        }
    }

    private mutating func begin(_ index: Int, _ header: FrameHeader, _ meta: UnsafeRawBufferPointer) {
        counters.count(request: header.opcode)
        connections[index].lastFrame = now
        let slot = takeSlot(index, header)
        guard !header.flags.contains(.reply), header.opcode != .event else {
            return refuseConnection(index, Failure(.malformed, "a client sends requests, this frame is a reply or an event"), slot: slot)
        }
        if connections[index].state == .helloPending || header.opcode == .hello { return hello(index, slot, meta) }
        switch header.opcode {
        case .write: write(slot, meta)
        case .read: read(slot)
        case .flush: flush(slot)
        case .writeZeroes, .discard: zero(slot)
        case .mark: mark(slot)
        case .doubts: doubts(slot)
        case .stamp: stamp(slot, meta)
        case .changed: changed(slot, meta)
        case .checks: checks(slot)
        case .fillBegin: fillBegin(slot)
        case .fillEnd: fillEnd(slot)
        case .fillPage: fillPage(slot)
        case .ping: answer(slot, .ok)
        case .hello, .create, .open, .close, .stat, .list, .remove, .resize, .statistics, .volumeRecord, .adopt: control(slot, meta)
        case .volumeCreate, .volumeOpen, .volumeExclude, .volumeMap, .volumeList, .volumeRemove, .volumeResize, .volumeClose, .volumeFill,
            .volumeInSync, .volumeSet, .volumeHealth, .volumeReplace, .volumeSettle,
            .ostRegister,
            .ostList, .ostRemove, .ostDrain, .mdtRegister, .mdtList:
            answer(slot, Failure(.unsupported, "this is an OST; '\(header.opcode)' is asked of a metadata server"))
        case .event: unreachable("an event was taken for a request")
        }
    }

    private mutating func hello(_ index: Int, _ slot: UInt32, _ meta: UnsafeRawBufferPointer) {
        let failure: Failure
        do throws(Failure) {
            guard requests[slot].pointee.opcode == .hello, connections[index].state == .helloPending else {
                throw Failure(.malformed, "a connection begins with one hello")
            }
            let hello = try Hello(decoding: meta)
            guard hello.role != .ost else { throw Failure(.unsupported, "an OST serves clients, the peer says that it is an OST") }
            guard hello.cluster == .zero || hello.cluster == store.cluster else {
                throw Failure(.wrongCluster, "this OST belongs to cluster \(store.cluster), the client to \(hello.cluster)")
            }
            guard hello.incarnation == 0 || hello.incarnation >= store.incarnation else {
                hit(.incarnationRefused)
                throw Failure(.staleMap, "\(OSTEngine.rebuilt(store.incarnation)) \(hello.incarnation)")
            }
            connections[index].incarnation = hello.incarnation
            connections[index].state = .ready
            if !hello.software.isEmpty { connections[index].peer = "\(printable(hello.software)) (\(connections[index].peer))" }
            let reply = Hello(
                role: .ost, cluster: store.cluster, store: store.store, mountCounter: store.mountCounter, boot: store.boot,
                software: configuration.software, incarnation: store.incarnation, nearby: configuration.nearby)
            return answer(slot, .ok, body: reply.encoded)
        } catch {
            failure = error
        }
        hit(.helloRefused)
        refuseConnection(index, failure, slot: slot)
    }

    /// The rest of the payload of a request that will not be carried out is passed over, and its buffer is free again.
    mutating func giveUpRefusedPayload(_ index: Int) {
        let slot = connections[index].receivingSlot
        guard slot != Connection.noSlot, requests[slot].pointee.refusal != .ok else { return }
        connections[index].receiver.abandonPayload()
        connections[index].receivingSlot = Connection.noSlot
        answer(slot, requests[slot].pointee.refusal)
    }
}

/// A name that a peer gave itself, fit for a log line.
private func printable(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.filter { $0.value >= 32 && $0.value != 127 }))
}
