import Base
import Environment
import Simulation
import Wire

/// What a fake OST keeps when its process dies.
final class FakeStore {
    var objects: [String: ObjectRecord] = [:]
    var blocks: [UInt64: [UInt8]] = [:]
    var versions: [UInt64: UInt64] = [:]
    var highest: UInt64 = 0
    var durable: UInt64 = 0
    var generation: UInt64 = 0
    var session: UInt64 = 0
    var writer = Identifier.zero
    var boots: UInt64 = 0
    var losesPower = false
    var opcodes: [Opcode] = []
}

/// An OST in straight-line code over a simulated world: one request at a time, everything in memory.
final class FakeDaemon {
    static let endpoint = Endpoint.tcp(host: "oss", port: 7710)

    let world: SimWorld
    let store: FakeStore
    let operations: Operations
    /// Reply to opens with this.
    var refusesOpens: Status?
    /// Takes data requests and answers none.
    var isMute = false
    /// What its hello tells.
    var nearby: Nearby?
    /// How many frames came in where.
    private(set) var frames: [Endpoint: Int] = [:]
    private let boot: Identifier

    init(_ world: SimWorld, _ store: FakeStore) throws {
        self.world = world
        self.store = store
        operations = Operations(world)
        store.boots += 1
        boot = Identifier(high: 9, low: store.losesPower ? store.boots : 0)
        try listen(on: FakeDaemon.endpoint)
    }

    func listen(on endpoint: Endpoint) throws {
        let listener = try world.listen(on: endpoint)
        world.spawn {
            while case .success(let stream) = await self.operations.accept(listener) {
                self.world.spawn { await self.serve(stream, endpoint) }
            }
        }
    }

    private func serve(_ stream: StreamID, _ endpoint: Endpoint) async {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 << 20, alignment: 16)
        defer { memory.deallocate() }
        while await receive(stream, memory, FrameHeader.bytes) {
            guard let header = decode(memory) else { break }
            let body = UnsafeMutableRawBufferPointer(rebasing: memory[FrameHeader.bytes...])
            guard await receive(stream, body, header.bodyBytes) else { break }
            store.opcodes.append(header.opcode)
            frames[endpoint, default: 0] += 1
            if isMute, header.opcode == .read || header.opcode == .write { continue }
            let meta = Array(body[..<Int(header.metaBytes)])
            let payload = Array(body[Int(header.metaBytes)..<header.bodyBytes])
            let reply = answer(header, meta, payload)
            let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: reply.count, alignment: 16)
            frame.copyBytes(from: reply)
            let isSent = await operations.send(stream, frame)
            frame.deallocate()
            if !isSent { break }
        }
        world.close(stream)
    }

    private func receive(_ stream: StreamID, _ memory: UnsafeMutableRawBufferPointer, _ count: Int) async -> Bool {
        var done = 0
        while done < count {
            let got = await operations.receive(stream, into: UnsafeMutableRawBufferPointer(rebasing: memory[done..<count]))
            if got <= 0 { return false }
            done += got
        }
        return true
    }

    private func decode(_ memory: UnsafeMutableRawBufferPointer) -> FrameHeader? {
        do throws(Failure) { return try FrameHeader.decode(memory.baseAddress!) } catch { return nil }
    }

    private func answer(_ header: FrameHeader, _ meta: [UInt8], _ payload: [UInt8]) -> [UInt8] {
        do throws(Failure) {
            return try execute(header, meta, payload)
        } catch {
            return frame(header.reply(error.status), Array(error.detail.utf8))
        }
    }

    private func execute(_ header: FrameHeader, _ meta: [UInt8], _ payload: [UInt8]) throws(Failure) -> [UInt8] {
        var reply = header.reply(.ok)
        reply.mark = store.durable
        switch header.opcode {
        case .hello:
            let hello = Hello(role: .ost, cluster: Identifier(high: 5, low: 5), boot: boot, nearby: nearby)
            return frame(reply, hello.encoded)
        case .create:
            let object = try decode(ObjectRecord.self, meta)
            guard store.objects[object.name] == nil else {
                throw Failure(.alreadyExists, "there is a volume '\(object.name)' already")
            }
            store.objects[object.name] = object
        case .open: return try open(header, try decode(OpenRequest.self, meta))
        case .stat: return frame(reply, StatReply(object: try object(meta), mappedBlocks: 0, hasWriter: false).encoded)
        case .remove: store.objects[try object(meta).name] = nil
        case .resize: store.objects[try object(meta).name]?.bytes = header.argument
        case .list:
            let last = try decode(NameRequest.self, meta).name
            let next = store.objects.keys.sorted().first { $0 > last }
            let objects = next.flatMap { store.objects[$0] }.map { [StatReply(object: $0, mappedBlocks: 0, hasWriter: false)] }
            return frame(reply, ListReply(objects: objects ?? []).encoded)
        case .statistics:
            return frame(
                reply,
                StatisticsReply(
                    capacityBytes: 1 << 30, freeBytes: 0, usedBytes: 0, objects: UInt64(store.objects.count), diskReads: 0, diskWrites: 0,
                    diskWrittenBytes: 0, diskFlushes: 0, damagedReads: 0
                ).encoded)
        case .read, .write, .discard, .writeZeroes: return transfer(header, payload)
        case .flush, .mark:
            store.durable = store.highest
            reply.mark = store.durable
        case .close, .ping, .event: break
        case .doubts, .stamp, .changed, .checks, .fillBegin, .fillEnd, .fillPage, .volumeRecord, .adopt: throw Failure(.unsupported)
        case .volumeCreate, .volumeOpen, .volumeExclude, .volumeMap, .volumeList, .volumeRemove, .volumeResize, .volumeClose, .volumeFill,
            .volumeInSync, .volumeSet, .volumeHealth, .volumeReplace, .volumeSettle,
            .ostRegister,
            .ostList, .ostRemove, .ostDrain, .mdtRegister, .mdtList:
            throw Failure(.unsupported)
        }
        return frame(reply, [])
    }

    private func object(_ meta: [UInt8]) throws(Failure) -> ObjectRecord {
        let name = try decode(NameRequest.self, meta).name
        guard let object = store.objects[name] else { throw Failure(.notFound, "there is no volume '\(name)'") }
        return object
    }

    private func open(_ header: FrameHeader, _ request: OpenRequest) throws(Failure) -> [UInt8] {
        if let refusesOpens { throw Failure(refusesOpens, "not today") }
        guard var object = store.objects[request.name] else { throw Failure(.notFound, "there is no volume '\(request.name)'") }
        if request.flags.contains(.write) {
            if header.generation == 0 {
                object.generation += 1
                store.writer = request.nonce
                store.highest = 0
                store.durable = 0
                store.generation = object.generation
                store.versions = [:]
                store.session = 0
            } else if header.generation != object.generation {
                throw Failure(.fenced, "'\(request.name)' has another writer")
            }
            guard header.session > store.session else { throw Failure(.staleSession) }
            store.session = header.session
            store.objects[request.name] = object
        }
        var reply = header.reply(.ok)
        reply.handle = 4
        reply.generation = object.generation
        let highest = Version(generation: object.generation, sequence: store.highest)
        return frame(reply, OpenReply(object: object, highest: highest, doubts: 0).encoded)
    }

    private func transfer(_ header: FrameHeader, _ payload: [UInt8]) -> [UInt8] {
        if header.opcode != .read, header.generation != store.generation { return frame(header.reply(.fenced), []) }
        if header.opcode != .read, header.session != store.session { return frame(header.reply(.staleSession), []) }
        let first = UInt64(header.part.chunk) * 1024 + UInt64(header.firstBlock)
        var reply = header.reply(.ok)
        reply.mark = store.durable
        guard header.opcode == .read else {
            for index in 0..<UInt64(header.blockCount) where (store.versions[first + index] ?? 0) < header.sequence {
                let offset = Int(index) * Block.bytes
                store.versions[first + index] = header.sequence
                store.blocks[first + index] = payload.isEmpty ? nil : Array(payload[offset..<offset + Block.bytes])
            }
            store.highest = max(store.highest, header.sequence)
            if header.flags.contains(.durable) { store.durable = store.highest }
            reply.mark = store.durable
            return frame(reply, [])
        }
        var checks: [UInt8] = []
        var blocks: [UInt8] = []
        for index in 0..<UInt64(header.blockCount) {
            let block = store.blocks[first + index] ?? [UInt8](repeating: 0, count: Block.bytes)
            blocks += block
            withUnsafeBytes(of: block.withUnsafeBytes { Checksum.of($0) }.littleEndian) { checks += $0 }
        }
        reply.blockCount = header.blockCount
        return frame(reply, checks, blocks)
    }

    private func decode<Body: Message>(_ type: Body.Type, _ bytes: [UInt8]) throws(Failure) -> Body {
        let result: Result<Body, Failure> = bytes.withUnsafeBytes { memory in
            do throws(Failure) { return .success(try Body(decoding: memory)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    private func frame(_ header: FrameHeader, _ meta: [UInt8], _ payload: [UInt8] = []) -> [UInt8] {
        var header = header
        header.metaBytes = UInt32(meta.count)
        header.payloadBytes = UInt32(payload.count)
        header.metaCheck = meta.withUnsafeBytes { Checksum.of($0) }
        var bytes = [UInt8](repeating: 0, count: FrameHeader.bytes)
        bytes.withUnsafeMutableBytes { header.encode(to: $0.baseAddress!) }
        return bytes + meta + payload
    }
}
