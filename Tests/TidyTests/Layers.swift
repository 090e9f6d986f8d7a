/// The table of modules in docs/layers.txt, the targets in Package.swift and the imports in Sources, and what is different between them.
/// Pure, like the other rules: texts go in, sentences come out.

/// docs/layers.txt: modules from bottom to top, and what each may import.
struct LayerTable {
    struct Row: Equatable {
        var module: String
        var imports: Set<String>
    }

    var rows: [Row] = []
    /// Modules of the toolchain that everybody may import.
    var toolchain: Set<String> = ["Swift"]

    init(_ text: String) {
        for line in lines(of: text) where !line.hasPrefix("#") {
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { continue }
            let names = Set(parts[1].split(separator: " ").map(String.init))
            if parts[0] == "toolchain" { toolchain.formUnion(names) } else { rows.append(Row(module: String(parts[0]), imports: names)) }
        }
    }

    subscript(_ module: String) -> Set<String>? { rows.first { $0.module == module }?.imports }
}

/// What Package.swift says about one target, read from its text: asking the package manager would wait for itself inside `swift test`.
struct PackageTarget: Equatable {
    enum Kind: Equatable { case system, executable, library, test }
    var name: String
    var kind: Kind
    var dependencies: Set<String>

    /// The elements of the `targets:` list. Each is a call with the name first and the dependencies as `dependencies:` or second.
    static func all(inManifest text: String) -> [PackageTarget] {
        let code = withoutComments(text)
        guard let list = code.rest(behind: "let package")?.rest(behind: "\n    targets: [") else { return [] }
        return elements(of: list).compactMap { element in
            guard let open = element.firstIndex(of: "(") else { return nil }
            let callee = element[..<open].lowercased()
            let arguments = elements(of: element[element.index(after: open)...])
            guard let name = arguments.first.flatMap({ strings(in: $0).first }) else { return nil }
            let labelled = arguments.first { $0.hasPrefix("dependencies:") }
            let second = arguments.dropFirst().first.flatMap { $0.hasPrefix("[") ? $0 : nil }
            // What lives in Tests is a test or a part of one, whatever it is built as.
            let isTest = callee.contains("test") || arguments.contains { $0.hasPrefix("path: \"Tests/") }
            let kind: Kind =
                if isTest { .test } else if callee.contains("systemlibrary") {
                    .system
                } else if callee.contains("exec") || callee.contains("program") { .executable } else { .library }
            return PackageTarget(name: name, kind: kind, dependencies: Set((labelled ?? second).map(strings) ?? []))
        }
    }

    /// Comments go, text in quotes stays.
    private static func withoutComments(_ text: String) -> Substring {
        let comments = Scanner(text).commentBytes
        let blank = UInt8(ascii: " ")
        let kept = zip(text.utf8, comments).map { $1 == blank || $1 == UInt8(ascii: "\n") ? $0 : blank }
        return Substring(String(decoding: kept, as: UTF8.self))
    }

    /// The pieces between commas, up to the bracket that closes the list.
    private static func elements(of text: Substring) -> [String] {
        var elements: [String] = []
        var current = ""
        var depth = 0
        var quoted = false
        loop: for character in text {
            if character == "\"" { quoted.toggle() }
            if !quoted {
                switch character {
                case "(", "[": depth += 1
                case ")", "]":
                    if depth == 0 { break loop }
                    depth -= 1
                case "," where depth == 0:
                    elements.append(current.trimmed)
                    current = ""
                    continue
                default: break
                }
            }
            current.append(character)
        }
        elements.append(current.trimmed)
        return elements.filter { !$0.isEmpty }
    }

    private static func strings(in text: String) -> [String] {
        text.split(separator: "\"", omittingEmptySubsequences: false).enumerated().filter { $0.offset % 2 == 1 }.map { String($0.element) }
    }
}

/// The modules that a Swift file imports.
func imports(of text: String) -> Set<String> {
    let attributes = #"(?:@\w+(?:\([^)]*\))?\s+)*"#
    let access = #"(?:(?:public|package|internal|private|fileprivate)\s+)?"#
    let kind = #"(?:(?:struct|class|enum|protocol|func|var|let|typealias|actor)\s+)?"#
    let pattern = expression("^\\s*\(attributes)\(access)import\\s+\(kind)(\\w+)")
    return Set(lines(of: Scanner(text).code).compactMap { $0.firstMatch(of: pattern)?[1].substring.map(String.init) })
}

/// Swift files of one folder of Sources, with what they import.
struct ModuleSources {
    var name: String
    var importsByFile: [String: Set<String>]
}

/// Everything in which the three disagree, or the table breaks a rule. Empty when all is well.
func layerProblems(table: LayerTable, targets: [PackageTarget], sources: [ModuleSources]) -> [String] {
    var problems: [String] = []
    let modules = targets.filter { $0.kind != .test }
    if modules.isEmpty { problems.append("Package.swift: no targets found; the list must stand in `Package(… targets: [ … ])`") }

    var below: Set<String> = []
    for row in table.rows {
        if below.contains(row.module) { problems.append("docs/layers.txt: \(row.module) has two lines") }
        for name in row.imports.sorted() where !below.contains(name) {
            problems.append("docs/layers.txt: \(row.module) imports \(name), which does not stand above it")
        }
        below.insert(row.module)
    }
    for module in modules {
        guard let allowed = table[module.name] else {
            problems.append("docs/layers.txt: add a line for \(module.name), a target of Package.swift")
            continue
        }
        for name in allowed.subtracting(module.dependencies).sorted() {
            problems.append(
                "Package.swift: \(module.name) does not depend on \(name), as docs/layers.txt says; add it there or remove it here")
        }
        for name in module.dependencies.subtracting(allowed).sorted() {
            problems.append("Package.swift: \(module.name) depends on \(name), which docs/layers.txt does not allow")
        }
    }
    for row in table.rows where !modules.contains(where: { $0.name == row.module }) {
        problems.append("docs/layers.txt: remove the line of \(row.module), which is no target of Package.swift")
    }
    for source in sources {
        guard modules.contains(where: { $0.name == source.name }) else {
            problems.append("Sources/\(source.name): belongs to no target of Package.swift; remove it or add the target")
            continue
        }
        guard let allowed = table[source.name] else { continue }
        for (file, imports) in source.importsByFile.sorted(by: { $0.key < $1.key }) {
            for name in imports.subtracting(allowed).subtracting(table.toolchain).sorted() {
                problems.append("\(file): imports \(name), which docs/layers.txt does not allow to \(source.name)")
            }
        }
        // A module of C has no imports to look at.
        if source.importsByFile.isEmpty { continue }
        let used = source.importsByFile.values.reduce(into: Set()) { $0.formUnion($1) }
        for name in allowed.subtracting(used).sorted() {
            problems.append("docs/layers.txt: \(source.name) does not import \(name) in any file; remove it there and in Package.swift")
        }
    }
    for module in modules where module.kind != .system && !sources.contains(where: { $0.name == module.name }) {
        problems.append("Package.swift: \(module.name) has no folder in Sources")
    }
    return problems + forbiddenImports(table, modules)
}

/// The rules that hold whatever the table says.
private func forbiddenImports(_ table: LayerTable, _ modules: [PackageTarget]) -> [String] {
    var problems: [String] = []
    for row in table.rows {
        let isExecutable = modules.contains { $0.name == row.module && $0.kind == .executable } || row.module == "LibRawstor"
        if row.imports.contains("Reactor"), !isExecutable {
            problems.append("docs/layers.txt: \(row.module) may not import Reactor; only executables and LibRawstor choose the real world")
        }
        for (module, other) in [("PartStore", "Wire"), ("VolumeEngine", "PartStore")] where row.module == module {
            if reachable(from: module, in: table).contains(other) {
                problems.append("docs/layers.txt: \(module) may not import \(other), not even through another module")
            }
        }
        if row.imports.union(table.toolchain).contains(where: { $0.hasPrefix("Foundation") }) {
            problems.append("docs/layers.txt: \(row.module) may not import Foundation")
        }
    }
    return problems
}

private func reachable(from module: String, in table: LayerTable) -> Set<String> {
    var seen: Set<String> = []
    var waiting = table[module].map(Array.init) ?? []
    while let next = waiting.popLast() {
        if seen.insert(next).inserted, let imports = table[next] { waiting += imports }
    }
    return seen
}

extension String {
    fileprivate var trimmed: String {
        let kept = drop { $0.isWhitespace }
        return String(kept.prefix(kept.count - kept.reversed().prefix { $0.isWhitespace }.count))
    }
}

extension Substring {
    fileprivate func rest(behind needle: String) -> Substring? { firstRange(of: needle).map { self[$0.upperBound...] } }
}
