import Base

/// JSON as etcd answers it: read whole, into values; what is none is an error. Of a name that comes twice the first counts.
///
/// Numbers stay text: etcd writes its 64-bit ones as strings, and of others only whole ones are asked for.
enum JSON: Hashable {
    case null
    case bool(Bool)
    case number(String)
    case string([UInt8])
    case array([JSON])
    case object([Member])

    struct Member: Hashable {
        var name: [UInt8]
        var value: JSON
    }

    init(_ bytes: [UInt8]) throws(Failure) {
        var reader = JSONReader(bytes)
        self = try reader.document()
    }

    subscript(_ name: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name.elementsEqual(name.utf8) }?.value
    }
}

private struct JSONReader {
    private let bytes: [UInt8]
    private var position = 0
    private var depth = 0
    /// Deeper than anything etcd says, and far from the end of a stack.
    private static let depthMax = 32

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func document() throws(Failure) -> JSON {
        let value = try value()
        skipBlanks()
        guard position == bytes.count else { throw wrong("there is something behind the end") }
        return value
    }

    private func wrong(_ what: String) -> Failure { Failure(.malformed, "\(what), at byte \(position)") }

    private mutating func skipBlanks() {
        while position < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[position]) { position += 1 }
    }

    private mutating func next() throws(Failure) -> UInt8 {
        guard position < bytes.count else { throw wrong("it ends too early") }
        position += 1
        return bytes[position - 1]
    }

    /// Behind blanks; does not go on.
    private mutating func peek() throws(Failure) -> UInt8 {
        skipBlanks()
        guard position < bytes.count else { throw wrong("it ends too early") }
        return bytes[position]
    }

    private mutating func value() throws(Failure) -> JSON {
        switch try peek() {
        case UInt8(ascii: "{"): return try nested { reader throws(Failure) in try reader.object() }
        case UInt8(ascii: "["): return try nested { reader throws(Failure) in try reader.array() }
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case _: return .number(try number())
        }
    }

    private mutating func nested(_ body: (inout JSONReader) throws(Failure) -> JSON) throws(Failure) -> JSON {
        guard depth < JSONReader.depthMax else { throw wrong("it is nested too deep") }
        depth += 1
        defer { depth -= 1 }
        position += 1
        return try body(&self)
    }

    private mutating func object() throws(Failure) -> JSON {
        var members: [JSON.Member] = []
        if try peek() == UInt8(ascii: "}") {
            position += 1
            return .object(members)
        }
        while true {
            guard try peek() == UInt8(ascii: "\"") else { throw wrong("a name is missing") }
            let name = try string()
            guard try peek() == UInt8(ascii: ":") else { throw wrong("a colon is missing") }
            position += 1
            members.append(JSON.Member(name: name, value: try value()))
            if try goesOn(until: UInt8(ascii: "}")) == false { return .object(members) }
        }
    }

    private mutating func array() throws(Failure) -> JSON {
        var values: [JSON] = []
        if try peek() == UInt8(ascii: "]") {
            position += 1
            return .array(values)
        }
        while true {
            values.append(try value())
            if try goesOn(until: UInt8(ascii: "]")) == false { return .array(values) }
        }
    }

    private mutating func goesOn(until end: UInt8) throws(Failure) -> Bool {
        switch try peek() {
        case UInt8(ascii: ","):
            position += 1
            return true
        case end:
            position += 1
            return false
        case _: throw wrong("a comma is missing")
        }
    }

    private mutating func word(_ text: String, _ value: JSON) throws(Failure) -> JSON {
        guard bytes[position...].starts(with: text.utf8) else { throw wrong("an unknown word") }
        position += text.utf8.count
        return value
    }

    private mutating func number() throws(Failure) -> String {
        let start = position
        while position < bytes.count, isOfNumber(bytes[position]) { position += 1 }
        guard position > start else { throw wrong("a value is missing") }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    private func isOfNumber(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "+-.eE".utf8.contains(byte)
    }

    private mutating func string() throws(Failure) -> [UInt8] {
        position += 1
        let start = position
        // Keys and values have no escapes, and are by far the longest.
        while position < bytes.count, bytes[position] != UInt8(ascii: "\""), bytes[position] != UInt8(ascii: "\\") { position += 1 }
        var text = Array(bytes[start..<position])
        while true {
            let byte = try next()
            switch byte {
            case UInt8(ascii: "\""): return text
            case UInt8(ascii: "\\"): try escape(into: &text)
            case _: text.append(byte)
            }
        }
    }

    private mutating func escape(into text: inout [UInt8]) throws(Failure) {
        switch try next() {
        case UInt8(ascii: "n"): text.append(0x0a)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "r"): text.append(0x0d)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0c)
        case let byte where "\"\\/".utf8.contains(byte): text.append(byte)
        case UInt8(ascii: "u"):
            guard bytes.count - position >= 4,
                let code = UInt32(String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16)
            else { throw wrong("an escape that is none") }
            position += 4
            // Half of a pair stands for nothing by itself; only messages have escapes at all.
            text.append(contentsOf: String(Character(Unicode.Scalar(code) ?? "\u{fffd}")).utf8)
        case _: throw wrong("an escape that is none")
        }
    }
}
