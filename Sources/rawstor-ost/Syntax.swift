import Arguments

/// What `rawstor-ost` takes.
extension ExitStatus {
    static let damaged: Int32 = 3
}

private let path = CommandSyntax.Positional("PATH", "The store: a file or a block device.")
private let logLevel = CommandSyntax.Option.value(
    "log-level", "LEVEL", "What is logged to standard error: debug, info (default), warning or error.")

let syntax = CommandSyntax(
    program: "rawstor-ost", summary: "keeps parts of volumes on one disk and serves them to clients.",
    verbs: [
        CommandSyntax.Verb(
            "init", "Makes an empty store on a file or block device.",
            positionals: [path],
            options: [
                .value("size", "SIZE", "Size of the file that is made, as 512M, 4G or 1T. A block device is taken whole."),
                .value("cluster", "UUID", "The cluster that the store belongs to; by default a new one."),
            ],
            examples: [
                .init("rawstor-ost init /var/lib/rawstor/ost0 --size 100G", "A store of 100 GiB in a file"),
                .init("rawstor-ost init /dev/nvme1n1", "A store on a whole device, which must be empty"),
            ],
            notes: ["A file or device that is not empty is refused."]),
        CommandSyntax.Verb(
            "serve", "Serves a store until SIGTERM or SIGINT.",
            positionals: [path],
            options: [
                .value("listen", "HOST:PORT", "Listens there for clients; 127.0.0.1:7710 if nothing else is said.", isRepeatable: true),
                .value("listen-unix", "SOCKET", "Listens on a Unix socket; @NAME is one without a file.", isRepeatable: true),
                .flag("tcp-only", "Clients on this machine stay on TCP as well, instead of going on through a Unix socket."),
                .value("metrics", "HOST:PORT", "Serves /metrics for Prometheus and /healthz there."),
                .value(
                    "mdt", "HOST:PORT[,HOST:PORT]", "Registers at these metadata servers of its cluster, and tells them that it is there.",
                    isRepeatable: true),
                .value(
                    "mgs", "HOST:PORT[,HOST:PORT]",
                    "Registers at these management servers, and at the metadata servers that they list, also when those change.",
                    isRepeatable: true),
                .value(
                    "advertise", "HOST:PORT", "With --mdt or --mgs: where clients find this OST, if that is not where it listens.",
                    isRepeatable: true),
                .value(
                    "domain", "ROOM/RACK/HOST",
                    "With --mdt or --mgs: what it fails together with; RACK/HOST or HOST where there is one room or rack. By default this "
                        + "machine's name."),
                .value(
                    "spin", "US",
                    "With little under way, looks this many microseconds for what comes next before it sleeps; 500 by default, 0 never."),
                .value(
                    "memory", "SIZE",
                    "Memory for the map of blocks: what would need more is refused as if the disk were full. By default what is available, "
                        + "less an eighth."),
                logLevel,
                .flag("insecure-network", "Allows addresses that other machines can reach, without authentication or encryption."),
            ],
            examples: [
                .init("rawstor-ost serve /var/lib/rawstor/ost0 --listen 127.0.0.1:7710 --metrics 127.0.0.1:7711", "On this machine only"),
                .init("rawstor-ost serve /dev/nvme1n1 --listen-unix /run/rawstor/ost0", "For clients on this machine, without TCP"),
                .init(
                    "rawstor-ost serve /dev/nvme1n1 --listen 10.0.0.7:7710 --insecure-network --mdt mds1:7700 --domain r1/oss7",
                    "As a part of a cluster"),
                .init(
                    "rawstor-ost serve /dev/nvme1n1 --listen 10.0.0.7:7710 --insecure-network --mgs mgs1:7700 --domain r1/oss7",
                    "The same, by the address of its management server"),
            ],
            notes: [
                "Asked to stop, it takes no new requests, ends those under way within 5 seconds, and makes everything durable. Killed, it "
                    + "loses nothing that was acknowledged.",
                "A metadata server that is away, or refuses the store (the log says why), is asked again; clients are served meanwhile. "
                    + "The store must have been made for its cluster: rawstor-ost init PATH --cluster UUID.",
            ]),
        CommandSyntax.Verb(
            "verify", "Reads every block of a store that is not being served, and names the damaged ones.",
            positionals: [path],
            options: [
                .value("json", "FILE", "Writes the result there as JSON; '-' is standard output."),
                .flag("list", "Also prints each block that has data, with its checksum, in no order: equal copies have equal lines."),
            ],
            examples: [
                .init("rawstor-ost verify /var/lib/rawstor/ost0 --json report.json", "Checks a store and keeps the result"),
                .init("rawstor-ost verify /var/lib/rawstor/ost0 --list | sort", "What exactly is on this disk?"),
            ],
            notes: ["Changes nothing. A damaged block stays an error for whoever reads it, until it is overwritten."]),
        CommandSyntax.Verb(
            "info", "Tells what a store is, how full, and which volumes it has.",
            positionals: [path], options: [.flag("json", "As one line of JSON.")],
            examples: [.init("rawstor-ost info /var/lib/rawstor/ost0", "What is on this disk?")],
            notes: ["The store is not being served meanwhile; of one that is, 'rawstor df' tells."]),
        CommandSyntax.Verb(
            "dump", "Prints the log of a store, a record a line: for developers.",
            positionals: [path],
            examples: [.init("rawstor-ost dump /var/lib/rawstor/ost0", "The records since the last snapshot")]),
    ],
    exitCodes: [
        .init(ExitStatus.well, "it went well"),
        .init(ExitStatus.failure, "it failed; the reason is on standard error"),
        .init(ExitStatus.usage, "the command line is wrong"),
        .init(ExitStatus.damaged, "the store has damaged blocks"),
    ])
