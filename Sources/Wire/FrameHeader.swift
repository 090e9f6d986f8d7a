import Base

/// The first 128 bytes of every frame, the same in both directions.
///
///     offset bytes field
///          0     4 magic "RSW1"
///          4     2 protocol version
///          6     1 opcode
///          7     1 flags
///          8     8 request id: chosen by the asker, returned with the reply
///         16     8 generation of the writer
///         24     8 map number
///         32     8 session
///         40     8 sequence of the write
///         48     8 mark: in a request, the writer's completion mark; in a reply, the highest sequence known durable
///         56     4 request: deadline, milliseconds from now; reply: status
///         60     4 handle
///         64     4 chunk
///         68     2 member
///         70     2 snapshot level
///         72     4 first block
///         76     4 block count
///         80     4 meta bytes
///         84     4 payload bytes
///         88     8 incarnation of the part
///         96     8 touched members, a bit each
///        104     8 argument: meaning by opcode
///        112     4 CRC32C of the meta section
///        116     8 reserved, zero
///        124     4 CRC32C of bytes 0 to 123
///
/// Meta section and payload follow. In this order a receiver has everything that it must decide before the first payload byte arrives,
/// and a sender puts header and meta directly before an aligned payload, so that a reply is one piece of memory.
public struct FrameHeader: Hashable, Sendable {
    public static let bytes = 128
    public static let magic: UInt32 = 0x3157_5352
    public static let protocolVersion: UInt16 = 1

    public struct Flags: OptionSet, Hashable, Sendable {
        public var rawValue: UInt8
        @inlinable
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let reply = Flags(rawValue: 1)
        /// Of a write: on stable media when acknowledged.
        public static let durable = Flags(rawValue: 2)
        /// Of a write: brought by a recovery, not by the writer. The argument is the fill's number.
        public static let fill = Flags(rawValue: 4)
        /// Of such a write: in doubt at its source.
        public static let inDoubt = Flags(rawValue: 8)
        /// Of write zeroes: the contents are lost on every other member too. Reads are `damaged` until the blocks are overwritten.
        public static let lost = Flags(rawValue: 16)
        /// Of a write: makes members equal, and the mark waits for it, so it may use room that is kept for such.
        public static let rewrite = Flags(rawValue: 32)
        static let known: UInt8 = 63
    }

    public var opcode: Opcode
    public var flags: Flags = []
    public var requestID: UInt64 = 0
    public var generation: UInt64 = 0
    public var map: UInt64 = 0
    public var session: UInt64 = 0
    public var sequence: UInt64 = 0
    public var mark: UInt64 = 0
    /// The deadline of a request in milliseconds from its arrival (0: the server's default), or the raw status of a reply.
    public var deadlineOrStatus: UInt32 = 0
    public var handle: UInt32 = 0
    public var part = PartAddress(chunk: 0)
    public var snapshot: UInt16 = 0
    public var firstBlock: UInt32 = 0
    public var blockCount: UInt32 = 0
    public var metaBytes: UInt32 = 0
    public var payloadBytes: UInt32 = 0
    public var touched: UInt64 = 0
    public var argument: UInt64 = 0
    public var metaCheck: UInt32 = 0

    @inlinable
    public init(_ opcode: Opcode) { self.opcode = opcode }

    /// The header of the answer to this request.
    @inlinable
    public func reply(_ status: Status) -> FrameHeader {
        var reply = FrameHeader(opcode)
        reply.flags = .reply
        reply.requestID = requestID
        reply.deadlineOrStatus = UInt32(status.rawValue)
        return reply
    }

    /// Of a reply. A status of a newer peer reads as `.unsupported`.
    public var status: Status { Status(rawValue: UInt16(truncatingIfNeeded: deadlineOrStatus)) ?? .unsupported }

    /// Meta section and payload.
    public var bodyBytes: Int { Int(metaBytes) + Int(payloadBytes) }

    /// Writes the header to 128 bytes.
    public func encode(to target: UnsafeMutableRawPointer) {
        target.store(FrameHeader.magic, at: 0)
        target.store(FrameHeader.protocolVersion, at: 4)
        target.store(opcode.rawValue, at: 6)
        target.store(flags.rawValue, at: 7)
        target.store(requestID, at: 8)
        target.store(generation, at: 16)
        target.store(map, at: 24)
        target.store(session, at: 32)
        target.store(sequence, at: 40)
        target.store(mark, at: 48)
        target.store(deadlineOrStatus, at: 56)
        target.store(handle, at: 60)
        target.store(part.chunk, at: 64)
        target.store(part.member, at: 68)
        target.store(snapshot, at: 70)
        target.store(firstBlock, at: 72)
        target.store(blockCount, at: 76)
        target.store(metaBytes, at: 80)
        target.store(payloadBytes, at: 84)
        target.store(part.incarnation, at: 88)
        target.store(touched, at: 96)
        target.store(argument, at: 104)
        target.store(metaCheck, at: 112)
        target.store(UInt64(0), at: 116)
        target.store(Checksum.of(UnsafeRawBufferPointer(start: target, count: 124)), at: 124)
    }

    /// Reads 128 bytes of an untrusted peer. What comes back keeps every limit and agrees with itself; only then may a length in it be
    /// believed.
    public static func decode(_ source: UnsafeRawPointer) throws(Failure) -> FrameHeader {
        let magic = source.load(UInt32.self, at: 0)
        guard magic == FrameHeader.magic else {
            throw Failure(.malformed, "no rawstor frame: it begins with 0x\(hexadecimal(UInt64(magic), digits: 8))")
        }
        guard source.load(UInt32.self, at: 124) == Checksum.of(UnsafeRawBufferPointer(start: source, count: 124)) else {
            throw Failure(.malformed, "the check of the frame header does not match")
        }
        let version = source.load(UInt16.self, at: 4)
        guard version == protocolVersion else {
            throw Failure(.wrongVersion, "the peer speaks protocol version \(version), this side speaks \(protocolVersion)")
        }
        guard let opcode = Opcode(rawValue: source.load(UInt8.self, at: 6)) else {
            throw Failure(.unsupported, "opcode \(source.load(UInt8.self, at: 6)) is unknown")
        }
        let flags = source.load(UInt8.self, at: 7)
        guard flags & ~Flags.known == 0, source.load(UInt64.self, at: 116) == 0 else {
            throw Failure(.malformed, "reserved bits of the frame header are set")
        }
        var header = FrameHeader(opcode)
        header.flags = Flags(rawValue: flags)
        header.requestID = source.load(UInt64.self, at: 8)
        header.generation = source.load(UInt64.self, at: 16)
        header.map = source.load(UInt64.self, at: 24)
        header.session = source.load(UInt64.self, at: 32)
        header.sequence = source.load(UInt64.self, at: 40)
        header.mark = source.load(UInt64.self, at: 48)
        header.deadlineOrStatus = source.load(UInt32.self, at: 56)
        header.handle = source.load(UInt32.self, at: 60)
        header.part = PartAddress(
            chunk: source.load(UInt32.self, at: 64), member: source.load(UInt16.self, at: 68),
            incarnation: source.load(UInt64.self, at: 88))
        header.snapshot = source.load(UInt16.self, at: 70)
        header.firstBlock = source.load(UInt32.self, at: 72)
        header.blockCount = source.load(UInt32.self, at: 76)
        header.metaBytes = source.load(UInt32.self, at: 80)
        header.payloadBytes = source.load(UInt32.self, at: 84)
        header.touched = source.load(UInt64.self, at: 96)
        header.argument = source.load(UInt64.self, at: 104)
        header.metaCheck = source.load(UInt32.self, at: 112)
        try header.checkShape()
        return header
    }

    /// The lengths keep the limits and fit the opcode.
    private func checkShape() throws(Failure) {
        guard Int(metaBytes) <= Limits.metaBytesMax, Int(payloadBytes) <= Limits.frameBytesMax else {
            throw Failure(
                .malformed,
                "a frame of \(metaBytes) + \(payloadBytes) bytes; at most \(Limits.metaBytesMax) + \(Limits.frameBytesMax) are taken")
        }
        let carriesBlocks: Bool
        switch opcode {
        case .write: carriesBlocks = !flags.contains(.reply)
        case .read: carriesBlocks = flags.contains(.reply) && deadlineOrStatus == 0
        default: carriesBlocks = false
        }
        if carriesBlocks {
            guard blockCount >= 1, Int(blockCount) <= Limits.frameBlocksMax, payloadBytes == blockCount * UInt32(Block.bytes),
                metaBytes == blockCount * 4
            else {
                throw Failure(
                    .malformed, "\(blockCount) blocks with \(metaBytes) bytes of checks and \(payloadBytes) bytes of payload do not agree")
            }
        } else if payloadBytes != 0 {
            throw Failure(.malformed, "opcode \(opcode) carries no payload, \(payloadBytes) bytes came")
        }
        if opcode == .read, !flags.contains(.reply) {
            guard blockCount >= 1, Int(blockCount) <= Limits.frameBlocksMax else {
                throw Failure(.malformed, "a read of \(blockCount) blocks; 1 to \(Limits.frameBlocksMax) are possible")
            }
        }
    }

    /// The meta section that came with this header is the one that was sent.
    public func checkMeta(_ meta: UnsafeRawBufferPointer) throws(Failure) {
        guard meta.count == Int(metaBytes), Checksum.of(meta) == metaCheck else {
            throw Failure(.malformed, "the check of the meta section does not match")
        }
    }
}
