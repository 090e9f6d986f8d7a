/// The rules about single files. Pure: a path, relative to the top of the tree, and a text go in, findings come out, so that
/// `RulesTests` can show each rule firing before `TreeTests` applies them to the tree.

struct Finding: Equatable, CustomStringConvertible {
    var path: String
    var line: Int
    var rule: String
    /// What to do instead.
    var advice: String

    var description: String { "\(path):\(line): \(rule): \(advice)" }
}

private let linesMax = 800
private let columnsMax = 140

/// Something that may not stand in code, and what takes its place.
private struct Ban: Sendable {
    var rule: String
    var pattern: String
    var advice: String
    var applies: @Sendable (FileKind) -> Bool
}

private let bans: [Ban] = [
    Ban(rule: "try!", pattern: #"\btry!"#, advice: "handle the error, or let the function throw", applies: { _ in true }),
    Ban(rule: "try?", pattern: #"\btry\?"#, advice: "catch the error and say what happens to it", applies: { _ in true }),
    Ban(rule: "as!", pattern: #"\bas!"#, advice: "use as? with a guard, or a type that needs no cast", applies: { _ in true }),
    Ban(
        rule: "task outside the world", pattern: #"\bTask\.detached\b|\bTask(\.init)?\s*\{|\bTask\s*\(\s*(priority:.*)?\)\s*\{"#,
        advice: "use World.spawn: a task on the global executor leaves the world's thread and cannot be replayed",
        applies: { $0.isShipped }),
    Ban(
        rule: "wall clock", pattern: #"\bDate\s*\(|\bDate\.now\b|\b(Continuous|Suspending)Clock\b"#,
        advice: "take time from the World", applies: { _ in true }),
    Ban(
        rule: "randomness",
        pattern: #"\.random\s*\(\s*in:|\bBool\.random\b|\.randomElement\s*\(|\.shuffled?\s*\(|\bSystemRandomNumberGenerator\b"#,
        advice: "take randomness from the World, or a seeded generator in a test", applies: { _ in true }),
    Ban(
        rule: "DispatchQueue", pattern: #"\bDispatch(Queue|Semaphore|Group)\b|\bThread\s*[.(]"#,
        advice: "a world has one thread; use World.spawn or a sink", applies: { $0.isShipped }),
    Ban(
        rule: "print in a library", pattern: #"(^|[^.\w])(debugPrint|print|dump)\s*\("#,
        advice: "log through the World, or return the text to the executable", applies: { $0.isLibrary }),
    Ban(
        rule: "bare assertion", pattern: #"(^|[^.\w])(precondition|preconditionFailure|assert|assertionFailure|fatalError)\s*\("#,
        advice: "use invariant or unreachable from Base: their text survives a release build",
        applies: { $0.isShipped && $0.path != "Sources/Base/Invariant.swift" }),
    Ban(
        rule: "Foundation", pattern: #"\bimport\s+(\w+\s+)?Foundation"#,
        advice: "write the few lines it would save: nothing shipped carries Foundation", applies: { $0.isShipped }),
    Ban(
        rule: "sleep in a test",
        pattern: #"\busleep\s*\(|\bnanosleep\s*\(|\bTask\.sleep\b|\bThread\.sleep\b|(^|[^.\w])sleep\s*\("#,
        advice: "wait for the event itself, with a deadline", applies: { $0.isTest }),
    Ban(rule: "XCTest", pattern: #"\bimport\s+XCTest\b"#, advice: "use Testing: ./dev test runs nothing else", applies: { _ in true }),
]

struct FileKind {
    var path: String
    var isSwift: Bool { path.hasSuffix(".swift") }
    var isShipped: Bool { path.hasPrefix("Sources/") }
    /// The probe does on purpose what no test may: its runs must die of it.
    var isTest: Bool { path.hasPrefix("Tests/") && !path.hasPrefix("Tests/SimulationProbe/") }
    /// Modules are written in capitals, executables as they are called.
    var isLibrary: Bool { isShipped && path.dropFirst("Sources/".count).first?.isUppercase == true }
    /// Patches carry the style of the tree that they patch, and make wants tabs.
    var mayHaveTabs: Bool { path.hasPrefix("patches/") || path.hasSuffix("Makefile") }
    var mayHaveTrailingBlanks: Bool { path.hasSuffix(".patch") }
    /// Prose is not folded, nor messages and help in scripts, nor what belongs into other trees.
    var mayHaveLongLines: Bool {
        path.hasSuffix(".md") || path.hasPrefix("patches/") || path.hasPrefix("dev") || path.hasPrefix(".dev.d/") || path == "LICENSE"
    }
    var mayHaveManyLines: Bool { path.hasPrefix("patches/") || path.hasSuffix(".md") }
}

/// What is wrong with a file, in the order of its lines.
func findings(path: String, text: String) -> [Finding] {
    let kind = FileKind(path: path)
    var found = findingsInLines(kind, text)
    if kind.isSwift { found += findingsInSwift(kind, text) }
    return found.sorted { $0.line < $1.line }
}

private func findingsInLines(_ kind: FileKind, _ text: String) -> [Finding] {
    var found: [Finding] = []
    func report(_ line: Int, _ rule: String, _ advice: String) {
        found.append(Finding(path: kind.path, line: line, rule: rule, advice: advice))
    }
    let lines = lines(of: text)
    for (index, line) in lines.enumerated() {
        let number = index + 1
        if line.utf8.count > columnsMax, line.count > columnsMax, !kind.mayHaveLongLines {
            report(number, "long line", "fold it at \(columnsMax) columns")
        }
        if line.utf8.contains(UInt8(ascii: "\t")), !kind.mayHaveTabs { report(number, "tab", "indent with spaces") }
        if line.last?.isWhitespace == true, !kind.mayHaveTrailingBlanks { report(number, "trailing blank", "remove it") }
    }
    if lines.count > linesMax, !kind.mayHaveManyLines {
        report(lines.count, "long file", "split it below \(linesMax) lines, one noun each")
    }
    if !text.isEmpty, !text.hasSuffix("\n") { report(lines.count, "no newline at the end", "add one") }
    if text.hasSuffix("\n\n") { report(lines.count, "blank line at the end", "remove it") }
    if text.allSatisfy(\.isWhitespace) { report(1, "empty file", "remove it") }
    return found
}

private func findingsInSwift(_ kind: FileKind, _ text: String) -> [Finding] {
    var found: [Finding] = []
    func report(_ line: Int, _ rule: String, _ advice: String) {
        found.append(Finding(path: kind.path, line: line, rule: rule, advice: advice))
    }
    let scanned = Scanner(text)
    let code = scanned.code
    for ban in bans where ban.applies(kind) {
        let banned = expression(ban.pattern)
        // Nearly always there is none in the whole file, which is quick to see.
        guard code.contains(banned) else { continue }
        for (index, line) in lines(of: code).enumerated() where line.contains(banned) { report(index + 1, ban.rule, ban.advice) }
    }
    let leftover = expression(#"\b(TODO|FIXME|XXX|HACK)\b"#)
    for (index, line) in lines(of: scanned.comments).enumerated() where line.contains(leftover) {
        report(index + 1, "leftover", "do it now, or open an issue")
    }
    if kind.isShipped, let line = lineWithoutOpening(scanned) {
        report(line, "no opening comment", "say at the top, behind the imports, what the file owns and what it leaves to others")
    }
    return found
}

/// The line of the first declaration, when no comment stands before it.
private func lineWithoutOpening(_ scanned: Scanner) -> Int? {
    let preamble = expression(#"^\s*((@\w+(\(.*\))?\s+)*((public|package|internal|private|fileprivate)\s+)?import\s|#(if|else|endif))"#)
    for (index, pair) in zip(lines(of: scanned.code), lines(of: scanned.comments)).enumerated() {
        if pair.1.contains(where: { !$0.isWhitespace }) { return nil }
        if pair.0.contains(where: { !$0.isWhitespace }), !pair.0.contains(preamble) { return index + 1 }
    }
    return nil
}

func lines(of text: String) -> [Substring] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    if lines.last?.isEmpty == true { lines.removeLast() }
    return lines
}

/// The patterns are constants of these tests; one that cannot be read is a bug in them.
func expression(_ pattern: String) -> Regex<AnyRegexOutput> {
    // Words end where programmers think they do, at a dot too; scalars are all that code consists of, and quicker.
    do { return try Regex(pattern).wordBoundaryKind(.simple).matchingSemantics(.unicodeScalar) } catch {
        fatalError("the pattern \(pattern) cannot be read: \(error)")
    }
}
