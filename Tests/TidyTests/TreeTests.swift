import Foundation
import Testing

/// The rules, applied to the tree that these tests are part of.
@Suite struct TreeTests {
    private let tree = Tree(
        top: URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent())

    @Test func everyFileKeepsTheRules() throws {
        let files = try tree.files()
        #expect(files.count > 20, "the tree is not being looked at: \(files.count) files found in \(tree.top.path)")
        for path in files {
            for finding in findings(path: path, text: try tree.text(of: path)) { Issue.record("\(finding)") }
        }
    }

    @Test func layersAgree() throws {
        for problem in layerProblems(
            table: LayerTable(try tree.text(of: "docs/layers.txt")),
            targets: PackageTarget.all(inManifest: try tree.text(of: "Package.swift")), sources: try tree.modules())
        {
            Issue.record("\(problem)")
        }
    }

    @Test func everyTestFolderIsRun() throws {
        let targets = PackageTarget.all(inManifest: try tree.text(of: "Package.swift")).filter { $0.kind == .test }.map(\.name)
        for folder in try tree.folders(in: "Tests") {
            let program = tree.top.appendingPathComponent("Tests/\(folder)/run").path
            #expect(
                targets.contains(folder) != FileManager.default.isExecutableFile(atPath: program),
                "Tests/\(folder) must be either a test target of Package.swift or have a program `run`, else it is not run, or twice"
            )
        }
        for target in targets { #expect(try tree.folders(in: "Tests").contains(target), "Tests/\(target) is missing") }
    }

    /// A file beside the folders of the targets is compiled by nobody.
    @Test func everySwiftFileBelongsToATarget() throws {
        for path in try tree.files() where path.hasSuffix(".swift") && path != "Package.swift" {
            let parts = path.split(separator: "/")
            #expect(parts.count >= 3 && ["Sources", "Tests"].contains(parts[0]), "\(path) is in no target; remove it or move it to one")
        }
    }

    @Test func topLevelIsWhatNewcomersAreTold() throws {
        let known: Set<String> = [
            "Package.swift", "Sources", "Tests", "docs", "bench", "patches", "README.md", "dev", ".dev.d", ".ci", "CHANGELOG.md", "LICENSE",
            ".gitignore", ".swift-format",
        ]
        let found = Set(try tree.files().compactMap { $0.split(separator: "/").first.map(String.init) })
        #expect(found.subtracting(known).isEmpty, "the top level holds what docs/ARCHITECTURE.md does not speak of")
    }
}

/// Only here do the tests touch the disk.
private struct Tree {
    var top: URL

    /// Text files, relative to the top, in order; without what builds, editors and running daemons leave behind.
    func files() throws -> [String] {
        var files: [String] = []
        for name in try FileManager.default.contentsOfDirectory(atPath: top.path) {
            if name.hasPrefix("."), ![".ci", ".dev.d", ".gitignore", ".swift-format"].contains(name) { continue }
            try collect(name, into: &files)
        }
        return files.sorted()
    }

    private func collect(_ path: String, into files: inout [String]) throws {
        let ignored = [".o", ".so", ".png", ".svg", ".bin", ".gz", "/__pycache__", "/.DS_Store"]
        if ignored.contains(where: path.hasSuffix) { return }
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: top.path + "/" + path, isDirectory: &isFolder) else { return }
        guard isFolder.boolValue else { return files.append(path) }
        for name in try FileManager.default.contentsOfDirectory(atPath: top.path + "/" + path) {
            try collect(path + "/" + name, into: &files)
        }
    }

    func text(of path: String) throws -> String { String(decoding: try Data(contentsOf: top.appendingPathComponent(path)), as: UTF8.self) }

    func folders(in folder: String) throws -> [String] {
        Set(
            try files().filter { $0.hasPrefix(folder + "/") && $0.split(separator: "/").count > 2 }.compactMap {
                $0.split(separator: "/").dropFirst().first.map(String.init)
            }
        )
        .sorted()
    }

    func modules() throws -> [ModuleSources] {
        let files = try files().filter { $0.hasPrefix("Sources/") }
        return try folders(in: "Sources").map { folder in
            let swift = files.filter { $0.hasPrefix("Sources/\(folder)/") && $0.hasSuffix(".swift") }
            return ModuleSources(
                name: folder, importsByFile: Dictionary(uniqueKeysWithValues: try swift.map { ($0, imports(of: try text(of: $0))) }))
        }
    }
}
