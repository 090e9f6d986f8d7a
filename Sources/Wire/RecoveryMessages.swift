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
