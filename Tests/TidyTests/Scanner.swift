/// Separates a Swift file into its code and its comments, so that a rule about code does not stumble over prose or over text in quotes.
///
/// Both views keep every line where it was. What stands in quotes is in neither, except interpolations, which are code.
struct Scanner {
    var code: String { String(decoding: codeBytes, as: UTF8.self) }
    var comments: String { String(decoding: commentBytes, as: UTF8.self) }

    /// As long as the text, byte for byte.
    private(set) var codeBytes: [UInt8] = []
    private(set) var commentBytes: [UInt8] = []

    private let bytes: [UInt8]
    private var position = 0

    init(_ text: String) {
        bytes = Array(text.utf8)
        scanCode(untilParenthesis: false)
    }

    private func matches(_ word: String, at place: Int) -> Bool {
        var place = place
        for byte in word.utf8 {
            guard place < bytes.count, bytes[place] == byte else { return false }
            place += 1
        }
        return true
    }

    private var atNewline: Bool { bytes[position] == UInt8(ascii: "\n") }

    private mutating func take(code isCode: Bool, comment isComment: Bool) {
        let blank = UInt8(ascii: atNewline ? "\n" : " ")
        codeBytes.append(isCode ? bytes[position] : blank)
        commentBytes.append(isComment ? bytes[position] : blank)
        position += 1
    }

    private mutating func scanCode(untilParenthesis: Bool) {
        var depth = 0
        while position < bytes.count {
            if matches("//", at: position) {
                while position < bytes.count, !atNewline { take(code: false, comment: true) }
            } else if matches("/*", at: position) {
                scanBlockComment()
            } else if let hashes = openingQuote() {
                scanString(hashes: hashes)
            } else {
                if bytes[position] == UInt8(ascii: "(") { depth += 1 }
                if bytes[position] == UInt8(ascii: ")") {
                    if untilParenthesis, depth == 0 { return }
                    depth -= 1
                }
                take(code: true, comment: false)
            }
        }
    }

    private mutating func scanBlockComment() {
        var depth = 0
        repeat {
            let opens = matches("/*", at: position)
            let closes = matches("*/", at: position)
            if opens { depth += 1 }
            if closes { depth -= 1 }
            take(code: false, comment: true)
            if opens || closes { take(code: false, comment: true) }
        } while depth > 0 && position < bytes.count
    }

    /// The number of `#` in front of a quote that begins here.
    private func openingQuote() -> Int? {
        var place = position
        while place < bytes.count, bytes[place] == UInt8(ascii: "#") { place += 1 }
        return place < bytes.count && bytes[place] == UInt8(ascii: "\"") ? place - position : nil
    }

    private mutating func scanString(hashes: Int) {
        let marks = String(repeating: "#", count: hashes)
        for _ in 0..<hashes { take(code: false, comment: false) }
        let quote = matches("\"\"\"", at: position) ? "\"\"\"" : "\""
        for _ in quote { take(code: false, comment: false) }
        let end = quote + marks
        let escape = "\\" + marks
        while position < bytes.count, !matches(end, at: position) {
            if quote.count == 1, atNewline { return }
            if matches(escape + "(", at: position) {
                for _ in 0..<escape.count + 1 { take(code: false, comment: false) }
                scanCode(untilParenthesis: true)
            } else if matches(escape, at: position) {
                for _ in 0..<escape.count { take(code: false, comment: false) }
            }
            if position < bytes.count { take(code: false, comment: false) }
        }
        for _ in end where position < bytes.count { take(code: false, comment: false) }
    }
}
