import Arguments

/// What `rawstor-mdt` takes.
enum ExitStatus {
    static let well: Int32 = 0
    static let failure: Int32 = 1
    static let usage: Int32 = 2
    static let damaged: Int32 = 3
}

private let path = CommandSyntax.Positional("PATH", "The catalogue: a file of SQLite, with PATH-wal beside it.")

let syntax = CommandSyntax(
    program: "rawstor-mdt", summary: "keeps the catalogue of a cluster, volumes and OSTs, and serves it.",
    verbs: [
        CommandSyntax.Verb(
            "init", "Makes an empty catalogue and prints the cluster's id.",
            positionals: [path],
            options: [.value("cluster", "UUID", "The cluster that it is of; by default a new one.")],
            examples: [
                .init("rawstor-mdt init /var/lib/rawstor/mdt", "A new cluster"),
                .init(
                    "rawstor-mdt init /var/lib/rawstor/mdt --cluster 01997c1e-6a1b-7c3d-8e4f-5a6b7c8d9e0f",
                    "For stores that belong to this cluster already"),
            ],
            notes: ["The stores of a cluster are made with its id: rawstor-ost init PATH --cluster UUID."]),
        CommandSyntax.Verb(
            "serve", "Serves a catalogue until SIGTERM or SIGINT.",
            positionals: [path],
            options: [
                .value("listen", "HOST:PORT", "Listens there; 127.0.0.1:7700 if nothing else is said.", isRepeatable: true),
                .value("metrics", "HOST:PORT", "Serves /metrics for Prometheus and /healthz there."),
                .value("log-level", "LEVEL", "What is logged to standard error: debug, info (default), warning or error."),
                .flag("insecure-network", "Allows addresses that other machines can reach, without authentication or encryption."),
            ],
            examples: [
                .init("rawstor-mdt serve /var/lib/rawstor/mdt --listen 127.0.0.1:7700 --metrics 127.0.0.1:7701", "On this machine only")
            ],
            notes: [
                "Volumes that are open and healthy do not need it; opening, creating, and going on after an OST has failed do. Killed, it "
                    + "loses nothing that was answered. It ends with an error when the catalogue cannot be written, to be started anew."
            ]),
        CommandSyntax.Verb(
            "info", "Tells which cluster a catalogue is of, and what it holds.",
            positionals: [path], options: [.flag("json", "As one line of JSON.")],
            examples: [.init("rawstor-mdt info /var/lib/rawstor/mdt", "Which cluster is this?")],
            notes: ["The catalogue is not being served meanwhile; of one that is, 'rawstor status' tells."]),
    ],
    exitCodes: [
        .init(ExitStatus.well, "it went well"),
        .init(ExitStatus.failure, "it failed; the reason is on standard error"),
        .init(ExitStatus.usage, "the command line is wrong"),
        .init(ExitStatus.damaged, "the catalogue is damaged"),
    ])
