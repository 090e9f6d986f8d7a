import Testing

/// Each rule is shown firing: a checker that cannot fail is a defect.
@Suite struct RulesTests {
    private func rules(_ path: String, _ text: String) -> [String] { findings(path: path, text: text).map(\.rule) }

    /// A line of code, made into a file that is otherwise in order.
    private func rules(in path: String = "Sources/Base/X.swift", code: String) -> [String] { rules(path, "/// Owns x.\n\(code)\n") }

    @Test(arguments: [
        ("let x = try! read()", "try!"),
        ("let x = try? read()", "try?"),
        ("let x = y as! Int", "as!"),
        ("Task.detached { await run() }", "task outside the world"),
        ("Task { await run() }", "task outside the world"),
        ("Task(priority: .high) { await run() }", "task outside the world"),
        ("let now = Date()", "wall clock"),
        ("let now = Date.now", "wall clock"),
        ("let now = ContinuousClock.now", "wall clock"),
        ("let x = Int.random(in: 0..<3)", "randomness"),
        ("let x = Bool.random()", "randomness"),
        ("let x = list.randomElement()", "randomness"),
        ("let x = list.shuffled()", "randomness"),
        ("DispatchQueue.main.async {}", "DispatchQueue"),
        ("Thread.detachNewThread {}", "DispatchQueue"),
        ("print(x)", "print in a library"),
        ("debugPrint(x)", "print in a library"),
        ("precondition(x)", "bare assertion"),
        ("preconditionFailure()", "bare assertion"),
        ("assert(x)", "bare assertion"),
        ("assertionFailure()", "bare assertion"),
        ("fatalError(\"no\")", "bare assertion"),
        ("import Foundation", "Foundation"),
        ("import FoundationEssentials", "Foundation"),
        ("import struct Foundation.Data", "Foundation"),
        ("let text = \"sum \\(try! sum()) of it\"", "try!"),
        ("x()  // TODO later", "leftover"),
        ("x()  // FIXME", "leftover"),
        ("/* XXX */ x()", "leftover"),
        ("x()  // HACK", "leftover"),
        ("x() ", "trailing blank"),
        ("\tx()", "tab"),
        ("let x = \"\(String(repeating: "x", count: 140))\"", "long line"),
    ])
    func fires(code: String, rule: String) {
        #expect(rules(in: "Sources/Base/X.swift", code: code) == [rule])
    }

    @Test(arguments: [
        ("usleep(10)", "sleep in a test"),
        ("try await Task.sleep(for: .seconds(1))", "sleep in a test"),
        ("Thread.sleep(forTimeInterval: 1)", "sleep in a test"),
        ("sleep(1)", "sleep in a test"),
        ("import XCTest", "XCTest"),
        ("let x = try? read()", "try?"),
    ])
    func firesInTests(code: String, rule: String) {
        #expect(rules(in: "Tests/BaseTests/X.swift", code: code) == [rule])
    }

    @Test(arguments: [
        "let x = world.random()",
        "await world.sleep(until: x)",
        "Task(executorPreference: executor) { await run() }",
        "let text = \"try! and print(x) and Date()\"",
        "let text = #\"a \" try! \\(x)\"#",
        "let text = \"a \\\" try! \\\"\"",
        "// never try! nor print(x)",
        "sink.print(x)",
        "func invariant(_ x: Bool) { hexprint(x) }",
        "let entry = update(x)",
        "let x = y as? Int",
    ])
    func staysSilent(code: String) {
        #expect(rules(in: "Sources/Base/X.swift", code: code).isEmpty)
    }

    @Test func textOverSeveralLinesIsNotCode() {
        #expect(rules(in: "Sources/Base/X.swift", code: "let x = \"\"\"\n    try! \"quoted\" print(x)\n    \"\"\"").isEmpty)
        #expect(rules(in: "Sources/Base/X.swift", code: "let x = \"\"\"\n    \\(try! y())\n    \"\"\"") == ["try!"])
        #expect(rules(in: "Sources/Base/X.swift", code: "/* try! /* nested */ try! */\nlet x = try! y()") == ["try!"])
    }

    @Test func executablesMayPrint() {
        #expect(rules(in: "Sources/rawstor/main.swift", code: "print(x)").isEmpty)
    }

    @Test func onlyTheInvariantStopsTheProcess() {
        #expect(rules(in: "Sources/Base/Invariant.swift", code: "fatalError(text)").isEmpty)
    }

    @Test func longFileIsFound() {
        let line = "let x = 1\n"
        #expect(rules("Tests/BaseTests/X.swift", String(repeating: line, count: 800)).isEmpty)
        #expect(rules("Tests/BaseTests/X.swift", String(repeating: line, count: 801)) == ["long file"])
    }

    @Test func fileEndsWithOneNewline() {
        #expect(rules("Tests/BaseTests/X.swift", "let x = 1") == ["no newline at the end"])
        #expect(rules("Tests/BaseTests/X.swift", "let x = 1\n\n") == ["blank line at the end"])
    }

    @Test func emptyFileIsFound() {
        #expect(rules("Tests/BaseTests/X.swift", "") == ["empty file"])
    }

    @Test func fileOpensWithAComment() {
        #expect(rules("Sources/Base/X.swift", "let x = 1\n// late\n") == ["no opening comment"])
        #expect(rules("Sources/Base/X.swift", "@preconcurrency import CISAL\nimport Base\n\nlet x = 1\n") == ["no opening comment"])
        #expect(rules("Sources/Base/X.swift", "public import CISAL\nimport Base\n\n/// One.\nlet x = 1\n").isEmpty)
        #expect(rules("Tests/BaseTests/X.swift", "let x = 1\n").isEmpty)
    }

    @Test func otherTreesKeepTheirStyle() {
        #expect(rules("patches/fio/rawstor.c", "\tint x;\n").isEmpty)
        #expect(rules("Sources/CISAL/shim.h", "\tint x;\n") == ["tab"])
    }

    @Test func findingNamesPlaceAndRemedy() {
        let found = findings(path: "Sources/Base/X.swift", text: "/// X.\n\nlet x = try! y()\n")
        #expect(found.first?.description == "Sources/Base/X.swift:3: try!: handle the error, or let the function throw")
    }
}
