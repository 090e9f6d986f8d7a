import Base

/// Appends the fields of a control body in order, little-endian.
public struct BodyWriter {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    public mutating func put<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    public mutating func put(_ value: Identifier) {
        put(value.high.byteSwapped)
        put(value.low.byteSwapped)
    }

    /// A 32-bit length, then the bytes.
    public mutating func put(record: [UInt8]) {
        put(UInt32(record.count))
        bytes.append(contentsOf: record)
    }

    /// A 16-bit length, then the bytes.
    public mutating func put(_ value: String) {
        let utf8 = Array(value.utf8.prefix(Int(UInt16.max)))
        put(UInt16(utf8.count))
        bytes.append(contentsOf: utf8)
    }
}

/// Takes the fields of a control body in order; every read is checked against the end.
public struct BodyReader {
    private let bytes: UnsafeRawBufferPointer
    private var offset = 0

    public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    private mutating func take(_ count: Int) throws(Failure) -> UnsafeRawPointer {
        guard count <= bytes.count - offset, let base = bytes.baseAddress else {
            throw Failure(.malformed, "a message body ends after \(bytes.count) bytes, in the middle of a field")
        }
        defer { offset += count }
        return base + offset
    }

    public mutating func get<T: FixedWidthInteger>(_ type: T.Type) throws(Failure) -> T {
        try take(MemoryLayout<T>.size).load(type, at: 0)
    }

    public mutating func getIdentifier() throws(Failure) -> Identifier { try take(16).loadIdentifier(at: 0) }

    /// A volume record, which nobody on the way looks into.
    public mutating func getRecord() throws(Failure) -> [UInt8] {
        let count = Int(try get(UInt32.self))
        guard count <= Limits.volumeRecordBytesMax else {
            throw Failure(.malformed, "a volume record of \(count) bytes, at most \(Limits.volumeRecordBytesMax) are taken")
        }
        return Array(UnsafeRawBufferPointer(start: try take(count), count: count))
    }

    public mutating func getString(max: Int = Limits.nameBytesMax) throws(Failure) -> String {
        let count = Int(try get(UInt16.self))
        guard count <= max else { throw Failure(.malformed, "a string of \(count) bytes, at most \(max) are taken") }
        let source = UnsafeRawBufferPointer(start: try take(count), count: count)
        guard let text = String(validating: source, as: UTF8.self) else { throw Failure(.malformed, "a string is not UTF-8") }
        return text
    }

    /// Newer peers may append fields; older ones are complete without them.
    public var isAtEnd: Bool { offset == bytes.count }
}
