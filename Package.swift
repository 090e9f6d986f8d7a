// swift-tools-version: 6.2
import PackageDescription

// Which module may import which is a rule of its own: docs/layers.txt, held equal to this file and to the code by `./dev check`.

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    // Deliberate bugs that tests switch on to prove that the checks fire; a release build contains none.
    .define("MUTANTS", .when(configuration: .debug)),
    // Engines live in the stored property of one shell object and are touched by one thread. The dynamic exclusivity check costs
    // more than the engine itself (docs/decisions/0003); debug builds, where the tests run, keep it.
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
    // A test is mostly simulation, which takes twenty times as long where nothing is optimised.
    .unsafeFlags(["-O"], .when(configuration: .debug)),
]

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: strict)
}

let package = Package(
    name: "rawstor",
    products: [
        // Installed as librawstor.so.1. The name differs because the executable `rawstor` has taken the other one.
        .library(name: "LibRawstor", type: .dynamic, targets: ["LibRawstor"])
    ],
    targets: [
        // C libraries, one thin target each.
        .systemLibrary(name: "CISAL"),
        .target(name: "CURing", linkerSettings: [.linkedLibrary("uring")]),
        .target(name: "CSystem"),
        .target(name: "CSQLite", linkerSettings: [.linkedLibrary("sqlite3")]),
        .target(name: "CCurl", linkerSettings: [.linkedLibrary("curl")]),

        module("Base", ["CISAL"]),
        module("Environment", ["Base"]),
        module("Blocking", ["Base", "CSystem"]),
        module("Wire", ["Base"]),
        module("Placement", ["Base"]),

        // The server side.
        module("PartStore", ["Base", "Environment"]),
        module("OSTEngine", ["Base", "Wire", "PartStore"]),
        module("Daemon", ["Base", "Environment"]),
        module("OSTDaemon", ["Base", "Daemon", "Environment", "Wire", "PartStore", "OSTEngine"]),

        // Where a metadata server keeps its catalogue.
        module("MetaStore", ["Base", "Environment"]),
        module("Metadata", ["Base", "Environment", "MetaStore", "Placement", "Wire"]),
        module("SQLiteStore", ["Base", "Blocking", "CSQLite", "Environment", "MetaStore"]),
        module("EtcdStore", ["Base", "Blocking", "CCurl", "CSystem", "Environment", "MetaStore"]),

        // The client side.
        module("VolumeEngine", ["Base", "Wire"]),
        module("Client", ["Base", "Environment", "Wire", "VolumeEngine"]),

        // An OST's end of the registry.
        module("Registrar", ["Base", "Client", "Environment", "Wire"]),

        // The daemons' end of control connections; the metadata server, which is a client of the OSTs; the management server.
        module("ControlServer", ["Base", "Daemon", "Environment", "Wire"]),
        module("MDTDaemon", ["Base", "Client", "ControlServer", "Daemon", "Environment", "MetaStore", "Metadata", "Wire"]),
        module("MGSDaemon", ["Base", "ControlServer", "Daemon", "Environment", "Wire"]),

        // The two worlds. C sources of the simulator are never shipped: the hook that catches stray tasks, and lazily zeroed memory.
        module("Reactor", ["Base", "Environment", "CURing", "CSystem"]),
        .target(name: "CSimulation"),
        module("Simulation", ["Base", "Environment", "CSimulation"]),

        // What users get.
        module("Arguments", ["Base", "CSystem"]),
        .executableTarget(
            name: "rawstor-ost",
            dependencies: [
                "Arguments", "Base", "CSystem", "Daemon", "Environment", "OSTDaemon", "OSTEngine", "PartStore", "Placement",
                "Reactor", "Registrar", "Wire",
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "rawstor-mdt",
            dependencies: [
                "Arguments", "Base", "Client", "CSystem", "Daemon", "Environment", "EtcdStore", "MDTDaemon", "MetaStore", "Metadata",
                "Reactor", "Registrar", "SQLiteStore", "Wire",
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "rawstor-mgs",
            dependencies: ["Arguments", "Base", "Daemon", "Environment", "MGSDaemon", "Reactor"],
            swiftSettings: strict),
        .executableTarget(
            name: "rawstor",
            dependencies: ["Arguments", "Base", "Environment", "Wire", "VolumeEngine", "Client", "Reactor", "CSystem"],
            swiftSettings: strict),
        .target(name: "CRawstor", exclude: ["rawstor.map", "rawstor.pc.in"]),
        .target(
            name: "LibRawstor", dependencies: ["CRawstor", "Base", "Environment", "Wire", "Reactor", "VolumeEngine", "Client"],
            swiftSettings: strict,
            // A user of the library has no Swift, and sees no symbol but those of the header: Sources/CRawstor/rawstor.map. It stays
            // mapped after dlclose, since the Swift runtime leaves destructors behind that run when a thread ends.
            linkerSettings: [
                .unsafeFlags([
                    "-static-stdlib", "-Xlinker", "-soname=librawstor.so.1", "-Xlinker",
                    "--version-script=\(Context.packageDirectory)/Sources/CRawstor/rawstor.map", "-Xlinker", "--exclude-libs=ALL",
                    "-Xlinker", "-z", "-Xlinker", "nodelete",
                ])
            ]),

        // The whole in the simulator, with a checker.
        module(
            "Cluster",
            [
                "Base", "Environment", "Wire", "PartStore", "OSTEngine", "OSTDaemon", "MetaStore", "Metadata", "MDTDaemon", "VolumeEngine",
                "Client", "Registrar", "Simulation",
            ]),
        .executableTarget(
            name: "rawstor-sim", dependencies: ["Arguments", "Base", "Cluster", "CSimulation", "CSystem", "Environment", "Simulation"],
            swiftSettings: strict),

        // What the simulator's tests start as a process of its own: a run that must die, a run to compare across processes and builds.
        .executableTarget(
            name: "SimulationProbe", dependencies: ["Base", "Environment", "Simulation"], path: "Tests/SimulationProbe",
            swiftSettings: strict),
        // Programs whose instructions, bytes and seconds are counted: Tests/Cost/run and bench/.
        .executableTarget(
            name: "CostProbe",
            dependencies: [
                "Base", "Environment", "PartStore", "OSTEngine", "OSTDaemon", "VolumeEngine", "Client", "Reactor", "Simulation",
            ],
            path: "Tests/CostProbe", swiftSettings: strict),
        // What Tests/Fuzz/run feeds with arbitrary bytes, and a test with some.
        .target(
            name: "Fuzzing", dependencies: ["Base", "Environment", "Wire", "PartStore", "Simulation"], path: "Tests/Fuzzing",
            swiftSettings: strict),
        tests("ArgumentsTests", ["Arguments", "Base"]),
        tests("BaseTests", ["Base"]),
        tests("ClusterTests", ["Base", "Cluster", "PartStore", "Simulation"]),
        tests(
            "ClientTests", ["Base", "Environment", "Wire", "PartStore", "OSTEngine", "OSTDaemon", "VolumeEngine", "Client", "Simulation"]),
        tests(
            "MDTDaemonTests",
            [
                "Base", "Client", "ControlServer", "Daemon", "Environment", "MDTDaemon", "MetaStore", "Metadata", "MGSDaemon", "OSTDaemon",
                "OSTEngine", "PartStore", "Registrar", "Simulation", "VolumeEngine", "Wire",
            ]),
        tests("MetadataTests", ["Base", "Environment", "MetaStore", "Metadata", "Placement", "Simulation", "Wire"]),
        tests("MetaStoreTests", ["Base", "Blocking", "Environment", "EtcdStore", "MetaStore", "Reactor", "Simulation", "SQLiteStore"]),
        tests("OSTDaemonTests", ["Base", "Daemon", "Environment", "Wire", "PartStore", "OSTEngine", "OSTDaemon", "Simulation"]),
        tests("OSTEngineTests", ["Base", "Environment", "Wire", "PartStore", "OSTEngine", "Simulation"]),
        tests("PartStoreTests", ["Base", "Environment", "PartStore", "Simulation"]),
        tests("PlacementTests", ["Base", "Placement"]),
        tests("ReactorTests", ["Base", "Environment", "Reactor"]),
        tests("SimulationTests", ["Base", "Environment", "Simulation", "SimulationProbe"]),
        tests("TidyTests", []),
        tests("VolumeEngineTests", ["VolumeEngine", "Wire", "Base"]),
        tests("WireTests", ["Wire", "Base"]),
    ]
)
