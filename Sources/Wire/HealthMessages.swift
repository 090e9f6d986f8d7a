import Base

/// What is told of a volume's copies: by its writer to a metadata server, and by that to whoever asks how the volume is.

/// How the writer is at bringing one OST up to date.
public struct ResyncProgress: Message {
    public enum State: UInt8, Sendable, Hashable, CaseIterable {
        /// The last attempt has failed, for the reason in `trouble`; there is another one soon.
        case waiting = 1
        /// It is found out what the OST may lack.
        case listing = 2
        case copying = 3
    }

    public static let troubleBytesMax = 120

    public var store: Identifier
    public var state: State
    /// What there is to compare, and how much of it has been. What turned out to differ was copied.
    public var totalBytes: UInt64
    public var doneBytes: UInt64
    public var copiedBytes: UInt64
    /// Since this attempt began, or the last one failed.
    public var elapsed: Interval
    /// For people, not longer than `troubleBytesMax`.
    public var trouble: String

    public init(
        store: Identifier, state: State, totalBytes: UInt64 = 0, doneBytes: UInt64 = 0, copiedBytes: UInt64 = 0, elapsed: Interval,
        trouble: String = ""
    ) {
        self.store = store
        self.state = state
        self.totalBytes = totalBytes
        self.doneBytes = doneBytes
        self.copiedBytes = copiedBytes
        self.elapsed = elapsed
        self.trouble = ResyncProgress.shortened(trouble)
    }

    /// At the end of a character.
    private static func shortened(_ text: String) -> String {
        if text.utf8.count <= troubleBytesMax { return text }
        var short = ""
        var count = 0
        for character in text {
            count += character.utf8.count
            if count > troubleBytesMax - 3 { break }
            short.append(character)
        }
        return short + "…"
    }

    public func encode(to body: inout BodyWriter) {
        body.put(store)
        body.put(state.rawValue)
        body.put(totalBytes)
        body.put(doneBytes)
        body.put(copiedBytes)
        body.put(elapsed.nanoseconds)
        body.put(trouble)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        store = try body.getIdentifier()
        let raw = try body.get(UInt8.self)
        guard let state = State(rawValue: raw) else { throw Failure(.malformed, "state \(raw) of a resync is unknown") }
        self.state = state
        totalBytes = try body.get(UInt64.self)
        doneBytes = try body.get(UInt64.self)
        copiedBytes = try body.get(UInt64.self)
        elapsed = Interval(nanoseconds: try body.get(UInt64.self))
        trouble = try body.getString(max: ResyncProgress.troubleBytesMax)
    }
}

/// What a writer tells with its ping. It replaces what it has told before.
public struct WriterReport: Message {
    public var id: Identifier
    public var generation: UInt64
    /// Operations that hold blocks which cannot be made equal on all members: whoever needs these waits.
    public var stalled: Int
    /// One for each OST that it is at, or has failed with.
    public var resyncs: [ResyncProgress]

    public init(id: Identifier, generation: UInt64, stalled: Int = 0, resyncs: [ResyncProgress]) {
        self.id = id
        self.generation = generation
        self.stalled = stalled
        self.resyncs = resyncs
    }

    public func encode(to body: inout BodyWriter) {
        body.put(id)
        body.put(generation)
        body.put(UInt32(clamping: stalled))
        body.put(UInt16(resyncs.count))
        for resync in resyncs { resync.encode(to: &body) }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        id = try body.getIdentifier()
        generation = try body.get(UInt64.self)
        stalled = Int(try body.get(UInt32.self))
        resyncs = []
        let count = Int(try body.get(UInt16.self))
        guard count <= Limits.peersPerVolumeMax else { throw Failure(.malformed, "a writer is at \(count) OSTs at once") }
        for _ in 0..<count { resyncs.append(try ResyncProgress(from: &body)) }
    }
}

/// How a volume is, with all that is known of why, since when, and what is being done.
public struct VolumeHealthReply: Message {
    /// Whether there is a writer, and where its session is.
    public enum Writer: UInt8, Sendable, Hashable, CaseIterable {
        case nobody = 0
        case here = 1
        /// At another metadata server: that one knows how far it is.
        case elsewhere = 2
    }

    /// One of the volume's OSTs.
    public struct Member: Hashable, Sendable {
        public var store: Identifier
        /// Members there, of all placements.
        public var inSync: Int
        public var stale: Int
        public var filling: Int
        /// Of those in sync: the only ones of their placements.
        public var last: Int
        /// Since when some are not in sync; 0: all are, or it is not known.
        public var sinceMilliseconds: UInt64
        /// Of the writer, as of `VolumeHealthReply.silence` ago.
        public var resync: ResyncProgress?

        public init(
            store: Identifier, inSync: Int, stale: Int, filling: Int, last: Int, sinceMilliseconds: UInt64, resync: ResyncProgress? = nil
        ) {
            self.store = store
            self.inSync = inSync
            self.stale = stale
            self.filling = filling
            self.last = last
            self.sinceMilliseconds = sinceMilliseconds
            self.resync = resync
        }
    }

    public var summary: VolumeSummary
    public var writer: Writer
    /// What the writer calls itself.
    public var client: String
    /// Since it was heard of last, if it is here.
    public var silence: Interval
    /// Of the server that answers, since 1970.
    public var nowMilliseconds: UInt64
    /// In the order of the map.
    public var members: [Member]

    public init(
        summary: VolumeSummary, writer: Writer, client: String, silence: Interval, nowMilliseconds: UInt64, members: [Member]
    ) {
        self.summary = summary
        self.writer = writer
        self.client = client
        self.silence = silence
        self.nowMilliseconds = nowMilliseconds
        self.members = members
    }

    public func encode(to body: inout BodyWriter) {
        summary.encode(to: &body)
        body.put(writer.rawValue)
        body.put(client)
        body.put(silence.nanoseconds)
        body.put(nowMilliseconds)
        body.put(UInt16(members.count))
        for member in members {
            body.put(member.store)
            body.put(UInt16(member.inSync))
            body.put(UInt16(member.stale))
            body.put(UInt16(member.filling))
            body.put(UInt16(member.last))
            body.put(member.sinceMilliseconds)
            body.put(UInt8(member.resync == nil ? 0 : 1))
            member.resync?.encode(to: &body)
        }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        summary = try VolumeSummary(from: &body)
        let raw = try body.get(UInt8.self)
        guard let writer = Writer(rawValue: raw) else { throw Failure(.malformed, "place \(raw) of a writer is unknown") }
        self.writer = writer
        client = try body.getString(max: VolumeHealthReply.clientBytesMax)
        silence = Interval(nanoseconds: try body.get(UInt64.self))
        nowMilliseconds = try body.get(UInt64.self)
        members = []
        for _ in 0..<Int(try body.get(UInt16.self)) {
            var member = Member(
                store: try body.getIdentifier(), inSync: Int(try body.get(UInt16.self)), stale: Int(try body.get(UInt16.self)),
                filling: Int(try body.get(UInt16.self)), last: Int(try body.get(UInt16.self)),
                sinceMilliseconds: try body.get(UInt64.self))
            if try body.get(UInt8.self) != 0 { member.resync = try ResyncProgress(from: &body) }
            members.append(member)
        }
    }

    /// What a client may call itself, and what a server says around it.
    public static let clientBytesMax = 512
}
