import Testing

@Suite struct LayersTests {
    private let manifest = """
        // module("Comment", ["Base"]),
        func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target { .target(name: name, dependencies: dependencies) }
        let package = Package(
            name: "rawstor",
            products: [.executable(name: "tool", targets: ["tool"])],
            targets: [
                .systemLibrary(name: "CISAL"),
                module("Base", ["CISAL"]),
                module("Store", [
                    "Base",  // "Wire" no longer
                    .product(name: "Wire", package: "x"),
                ]),
                .executableTarget(name: "tool", dependencies: ["Base"], linkerSettings: [.unsafeFlags(["-a", "b"])]),
                tests("BaseTests", ["Base"]),
            ]
        )
        """

    private func problems(
        table: String = "CISAL:\nBase: CISAL\nStore: Base\n",
        targets: [(String, PackageTarget.Kind, [String])] = [
            ("CISAL", .system, []), ("Base", .library, ["CISAL"]), ("Store", .library, ["Base"]),
        ],
        sources: [(String, Set<String>)] = [("Base", ["CISAL"]), ("Store", ["Base"])]
    ) -> [String] {
        layerProblems(
            table: LayerTable(table),
            targets: targets.map { PackageTarget(name: $0.0, kind: $0.1, dependencies: Set($0.2)) },
            sources: sources.map { ModuleSources(name: $0.0, importsByFile: ["Sources/\($0.0)/X.swift": $0.1]) })
    }

    @Test func manifestIsRead() {
        #expect(
            PackageTarget.all(inManifest: manifest) == [
                PackageTarget(name: "CISAL", kind: .system, dependencies: []),
                PackageTarget(name: "Base", kind: .library, dependencies: ["CISAL"]),
                PackageTarget(name: "Store", kind: .library, dependencies: ["Base", "Wire", "x"]),
                PackageTarget(name: "tool", kind: .executable, dependencies: ["Base"]),
                PackageTarget(name: "BaseTests", kind: .test, dependencies: ["Base"]),
            ])
    }

    @Test func importsAreRead() {
        let text = """
            import Base
            @testable import Wire
            @_spi(Inner) public import Store
            import struct Catalogue.Entry
            // import Comment
            let text = "import Quoted"
            let important = 1
            """
        #expect(imports(of: text) == ["Base", "Wire", "Store", "Catalogue"])
    }

    @Test func agreementIsSilent() { #expect(problems() == []) }

    @Test func missingLineIsFound() {
        #expect(problems(table: "CISAL:\nBase: CISAL\n") == ["docs/layers.txt: add a line for Store, a target of Package.swift"])
    }

    @Test func lineWithoutTargetIsFound() {
        #expect(
            problems(table: "CISAL:\nBase: CISAL\nStore: Base\nGone:\n") == [
                "docs/layers.txt: remove the line of Gone, which is no target of Package.swift"
            ])
    }

    @Test func undeclaredImportIsFound() {
        #expect(
            problems(sources: [("Base", ["CISAL"]), ("Store", ["Base", "CISAL"])]) == [
                "Sources/Store/X.swift: imports CISAL, which docs/layers.txt does not allow to Store"
            ])
    }

    @Test func toolchainModulesAreNamedToo() {
        #expect(problems(sources: [("Base", ["CISAL", "Glibc"]), ("Store", ["Base"])]).count == 1)
        #expect(
            problems(
                table: "toolchain: Glibc\nCISAL:\nBase: CISAL\nStore: Base\n",
                sources: [("Base", ["CISAL", "Glibc"]), ("Store", ["Base"])]
            ).isEmpty)
    }

    @Test func unusedImportIsFound() {
        #expect(
            problems(sources: [("Base", ["CISAL"]), ("Store", [])]) == [
                "docs/layers.txt: Store does not import Base in any file; remove it there and in Package.swift"
            ])
    }

    @Test func dependencyTooManyIsFound() {
        #expect(
            problems(targets: [("CISAL", .system, []), ("Base", .library, ["CISAL"]), ("Store", .library, ["Base", "CISAL"])]) == [
                "Package.swift: Store depends on CISAL, which docs/layers.txt does not allow"
            ])
    }

    @Test func missingDependencyIsFound() {
        #expect(
            problems(targets: [("CISAL", .system, []), ("Base", .library, []), ("Store", .library, ["Base"])]) == [
                "Package.swift: Base does not depend on CISAL, as docs/layers.txt says; add it there or remove it here"
            ])
    }

    @Test func wrongOrderIsFound() {
        #expect(
            problems(table: "CISAL:\nStore: Base\nBase: CISAL\n") == ["docs/layers.txt: Store imports Base, which does not stand above it"])
    }

    @Test func cycleIsFound() {
        #expect(
            problems(
                table: "Base: Store\nStore: Base\n", targets: [("Base", .library, ["Store"]), ("Store", .library, ["Base"])],
                sources: [("Base", ["Store"]), ("Store", ["Base"])])
                == ["docs/layers.txt: Base imports Store, which does not stand above it"])
    }

    @Test func folderWithoutTargetIsFound() {
        #expect(
            problems(sources: [("Base", ["CISAL"]), ("Store", ["Base"]), ("Dead", [])]) == [
                "Sources/Dead: belongs to no target of Package.swift; remove it or add the target"
            ])
    }

    @Test func targetWithoutFolderIsFound() {
        #expect(problems(sources: [("Base", ["CISAL"])]) == ["Package.swift: Store has no folder in Sources"])
    }

    @Test(arguments: [
        (
            "Reactor:\nStore: Reactor\n",
            "docs/layers.txt: Store may not import Reactor; only executables and LibRawstor choose the real world"
        ),
        ("Wire:\nPartStore: Wire\n", "docs/layers.txt: PartStore may not import Wire, not even through another module"),
        ("Wire:\nHelp: Wire\nPartStore: Help\n", "docs/layers.txt: PartStore may not import Wire, not even through another module"),
        (
            "PartStore:\nVolumeEngine: PartStore\n",
            "docs/layers.txt: VolumeEngine may not import PartStore, not even through another module"
        ),
        ("Foundation:\nBase: Foundation\n", "docs/layers.txt: Base may not import Foundation"),
    ])
    func forbiddenImportIsFoundWhateverTheTableSays(table: String, problem: String) {
        let table = LayerTable(table)
        let targets = table.rows.map { PackageTarget(name: $0.module, kind: .library, dependencies: $0.imports) }
        let sources = table.rows.map { ModuleSources(name: $0.module, importsByFile: ["X.swift": $0.imports]) }
        #expect(layerProblems(table: table, targets: targets, sources: sources) == [problem])
    }

    @Test func executablesMayChooseTheReactor() {
        let table = LayerTable("Reactor:\nrawstor: Reactor\nLibRawstor: Reactor\n")
        let targets = table.rows.map {
            PackageTarget(name: $0.module, kind: $0.module == "rawstor" ? .executable : .library, dependencies: $0.imports)
        }
        let sources = table.rows.map { ModuleSources(name: $0.module, importsByFile: ["X.swift": $0.imports]) }
        #expect(layerProblems(table: table, targets: targets, sources: sources).isEmpty)
    }
}
