import Base

// Bodies of what the members of a cluster's volume are asked beyond data: when a writer opens it, and when a member is brought up to date.

extension DoubtRange: Message {
    public static let encodedBytes = 38

    public func encode(to body: inout BodyWriter) {
        body.put(part.chunk)
        body.put(part.member)
        body.put(part.incarnation)
        body.put(firstBlock)
        body.put(blockCount)
        body.put(version.generation)
        body.put(version.sequence)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        let part = PartAddress(
            chunk: try body.get(UInt32.self), member: try body.get(UInt16.self), incarnation: try body.get(UInt64.self))
        self.init(
            part: part, firstBlock: try body.get(UInt32.self), blockCount: try body.get(UInt32.self),
            version: Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self)))
    }
}

/// Blocks in doubt of generations before the asker's, oldest versions first. Where to go on is the argument of the reply's header.
public struct DoubtsReply: Message {
    /// So many fit a small buffer of the OST.
    public static let rangesMax = 200
    public var ranges: [DoubtRange]

    public init(ranges: [DoubtRange]) { self.ranges = ranges }

    public func encode(to body: inout BodyWriter) {
        body.put(UInt16(ranges.count))
        for range in ranges { range.encode(to: &body) }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        let count = Int(try body.get(UInt16.self))
        ranges = []
        for _ in 0..<count { ranges.append(try DoubtRange(from: &body)) }
    }
}

/// Which pages of the object were written since this version.
public struct ChangedRequest: Message {
    public var above: Version

    public init(above: Version) { self.above = above }

    public func encode(to body: inout BodyWriter) {
        body.put(above.generation)
        body.put(above.sequence)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        above = Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self))
    }
}

extension ChangedPage: Message {
    public static let encodedBytes = 34

    public func encode(to body: inout BodyWriter) {
        body.put(part.chunk)
        body.put(part.member)
        body.put(part.incarnation)
        body.put(page)
        body.put(highest.generation)
        body.put(highest.sequence)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        let part = PartAddress(
            chunk: try body.get(UInt32.self), member: try body.get(UInt16.self), incarnation: try body.get(UInt64.self))
        self.init(
            part: part, page: try body.get(UInt32.self),
            highest: Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self)))
    }
}

/// In no order that means anything. Where to go on is the argument of the reply's header.
public struct ChangedReply: Message {
    /// So many fit a small buffer of the OST.
    public static let pagesMax = 200
    public var pages: [ChangedPage]

    public init(pages: [ChangedPage]) { self.pages = pages }

    public func encode(to body: inout BodyWriter) {
        body.put(UInt16(pages.count))
        for page in pages { page.encode(to: &body) }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        let count = Int(try body.get(UInt16.self))
        pages = []
        for _ in 0..<count { pages.append(try ChangedPage(from: &body)) }
    }
}

extension BlockCheck: Message {
    private static let inDoubt: UInt8 = 0x80

    public func encode(to body: inout BodyWriter) {
        body.put(state.rawValue | (doubt == nil ? 0 : BlockCheck.inDoubt))
        body.put(check)
        if let doubt {
            body.put(doubt.generation)
            body.put(doubt.sequence)
        }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        let raw = try body.get(UInt8.self)
        guard let state = State(rawValue: raw & ~BlockCheck.inDoubt) else { throw Failure(.malformed, "block state \(raw) is unknown") }
        self.init(state, check: try body.get(UInt32.self))
        if raw & BlockCheck.inDoubt != 0 { doubt = Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self)) }
    }
}

/// What a member holds of a range within one page.
public struct ChecksReply: Message {
    /// Highest version ever written to the page.
    public var highest: Version
    /// The mark of the current generation: what is not in doubt has at most this version.
    public var mark: Version
    public var blocks: [BlockCheck]

    public init(highest: Version, mark: Version, blocks: [BlockCheck]) {
        self.highest = highest
        self.mark = mark
        self.blocks = blocks
    }

    public func encode(to body: inout BodyWriter) {
        body.put(highest.generation)
        body.put(highest.sequence)
        body.put(mark.generation)
        body.put(mark.sequence)
        body.put(UInt16(blocks.count))
        for block in blocks { block.encode(to: &body) }
    }

    public init(from body: inout BodyReader) throws(Failure) {
        highest = Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self))
        mark = Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self))
        let count = Int(try body.get(UInt16.self))
        blocks = []
        for _ in 0..<count { blocks.append(try BlockCheck(from: &body)) }
    }
}

/// The version up to which the member was complete before it was filled: what was written since, there or at the source, must be compared.
public struct FillReply: Message {
    public var base: Version

    public init(base: Version) { self.base = base }

    public func encode(to body: inout BodyWriter) {
        body.put(base.generation)
        body.put(base.sequence)
    }

    public init(from body: inout BodyReader) throws(Failure) {
        base = Version(generation: try body.get(UInt64.self), sequence: try body.get(UInt64.self))
    }
}
