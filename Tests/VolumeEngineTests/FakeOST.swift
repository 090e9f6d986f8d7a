import Base
import Wire

/// Enough of an OST to stand at the other end of the engine: blocks in a dictionary, requests executed in any order, answers as told.
final class FakeOST {
    var blocks: [UInt64: [UInt8]] = [:]
    var versions: [UInt64: UInt64] = [:]
    /// Requests that have come and are not executed.
    var pending: [(header: FrameHeader, payload: [UInt8])] = []
    /// Bytes on their way to the client.
    var output: [UInt8] = []
    var durable: UInt64 = 0
    var highest: UInt64 = 0
    var marksSeen: [UInt64] = []
    var seen: [FrameHeader] = []
    /// Statuses for the next requests of an opcode, instead of executing them.
    var refusals: [Opcode: [Status]] = [:]
    /// Reads to be answered with a flipped bit.
    var readsToDamage = 0
    var answersDurable = true
    private var input: [UInt8] = []
    let chunkBlocks: UInt64

    init(chunkBytes: UInt64) { chunkBlocks = chunkBytes / UInt64(Block.bytes) }

    func receive(_ bytes: UnsafeRawBufferPointer) throws {
        input += bytes
        while input.count >= FrameHeader.bytes {
            let header = try input.withUnsafeBytes { try FrameHeader.decode($0.baseAddress!) }
            let total = FrameHeader.bytes + header.bodyBytes
            guard input.count >= total else { return }
            let meta = Array(input[FrameHeader.bytes..<FrameHeader.bytes + Int(header.metaBytes)])
            try meta.withUnsafeBytes { try header.checkMeta($0) }
            let payload = Array(input[(total - Int(header.payloadBytes))..<total])
            for block in 0..<payload.count / Block.bytes {
                let check = payload[block * Block.bytes..<(block + 1) * Block.bytes].withUnsafeBytes { Checksum.of($0) }
                let told = meta.withUnsafeBytes { $0.baseAddress!.load(UInt32.self, at: block * 4) }
                if check != told { throw Failure(.checksumMismatch, "block \(block) of the payload") }
            }
            input.removeFirst(total)
            seen.append(header)
            marksSeen.append(header.mark)
            pending.append((header, payload))
        }
    }

    /// Executes the request at this place of the queue, and answers.
    func execute(_ index: Int) {
        let (header, payload) = pending.remove(at: index)
        if let status = refusals[header.opcode]?.first {
            refusals[header.opcode]?.removeFirst()
            answer(header, status)
            return
        }
        apply(header, payload)
        switch header.opcode {
        case .read: answerRead(header)
        case .flush:
            durable = highest
            answer(header, .ok)
        case .mark:
            if answersDurable { durable = highest }
            answer(header, .ok)
        default: answer(header, .ok)
        }
    }

    private func apply(_ header: FrameHeader, _ payload: [UInt8]) {
        guard [.write, .writeZeroes, .discard].contains(header.opcode) else { return }
        let first = UInt64(header.part.chunk) * chunkBlocks + UInt64(header.firstBlock)
        precondition(UInt64(header.firstBlock) + UInt64(header.blockCount) <= chunkBlocks, "a request crosses its chunk")
        for index in 0..<UInt64(header.blockCount) where (versions[first + index] ?? 0) < header.sequence {
            versions[first + index] = header.sequence
            let offset = Int(index) * Block.bytes
            blocks[first + index] = header.opcode == .write ? Array(payload[offset..<offset + Block.bytes]) : nil
        }
        highest = max(highest, header.sequence)
        if header.flags.contains(.durable) { durable = max(durable, header.sequence) }
    }

    private func answerRead(_ request: FrameHeader) {
        let first = UInt64(request.part.chunk) * chunkBlocks + UInt64(request.firstBlock)
        var payload: [UInt8] = []
        var checks: [UInt8] = []
        for index in 0..<UInt64(request.blockCount) {
            let block = blocks[first + index] ?? [UInt8](repeating: 0, count: Block.bytes)
            payload += block
            withUnsafeBytes(of: block.withUnsafeBytes { Checksum.of($0) }.littleEndian) { checks += $0 }
        }
        if readsToDamage > 0 {
            readsToDamage -= 1
            payload[payload.count / 2] ^= 1
        }
        var reply = request.reply(.ok)
        reply.blockCount = request.blockCount
        reply.mark = durable
        append(reply, checks, payload)
    }

    func answer(_ request: FrameHeader, _ status: Status) {
        var reply = request.reply(status)
        reply.mark = durable
        append(reply, [], [])
    }

    func append(_ header: FrameHeader, _ meta: [UInt8], _ payload: [UInt8]) {
        var header = header
        header.metaBytes = UInt32(meta.count)
        header.payloadBytes = UInt32(payload.count)
        header.metaCheck = meta.withUnsafeBytes { Checksum.of($0) }
        var bytes = [UInt8](repeating: 0, count: FrameHeader.bytes)
        bytes.withUnsafeMutableBytes { header.encode(to: $0.baseAddress!) }
        output += bytes + meta + payload
    }

    /// The connection breaks: of what has come, any part is still executed, the rest never; no answer arrives.
    func disconnect(keeping isKept: () -> Bool) {
        for (header, payload) in pending where isKept() { apply(header, payload) }
        pending = []
        input = []
        output = []
    }

    /// Loses what is not durable. (Whether the blocks go back does not matter to the engine.)
    func losePower() { highest = durable }
}
