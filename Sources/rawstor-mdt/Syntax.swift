import Arguments

/// What `rawstor-mdt` takes.
extension ExitStatus {
    static let damaged: Int32 = 3
}

private let store = CommandSyntax.Positional(
    "CATALOGUE",
    "The path of a file of SQLite, with PATH-wal beside it; or for several metadata servers etcd://HOST:PORT[,HOST:PORT…][/NAME], and "
        + "etcd+tls:// where etcd wants encryption.")

private let trust: [CommandSyntax.Option] = [
    .value("store-ca", "FILE", "For etcd+tls://: who has signed etcd's certificates; by default whom the system trusts."),
    .value("store-cert", "FILE", "For etcd+tls://: the certificate that etcd is shown."),
    .value("store-key", "FILE", "For etcd+tls://: the key of that certificate."),
]
private let servers = "etcd://mds1:2379,mds2:2379,mds3:2379"

private let rebuilding =
    "rawstor-mdt rebuild /var/lib/rawstor/new --cluster 01997c1e-6a1b-7c3d-8e4f-5a6b7c8d9e0f --ost oss1:7710,oss2:7710"

let syntax = CommandSyntax(
    program: "rawstor-mdt", summary: "keeps the catalogue of a cluster, volumes and OSTs, and serves it.",
    verbs: [
        CommandSyntax.Verb(
            "init", "Makes an empty catalogue and prints the cluster's id.",
            positionals: [store],
            options: [.value("cluster", "UUID", "The cluster that it is of; by default a new one.")] + trust,
            examples: [
                .init("rawstor-mdt init /var/lib/rawstor/mdt", "A new cluster"),
                .init(
                    "rawstor-mdt init /var/lib/rawstor/mdt --cluster 01997c1e-6a1b-7c3d-8e4f-5a6b7c8d9e0f",
                    "For stores that belong to this cluster already"),
                .init("rawstor-mdt init \(servers)", "A new cluster with several metadata servers"),
            ],
            notes: ["The stores of a cluster are made with its id: rawstor-ost init PATH --cluster UUID."]),
        CommandSyntax.Verb(
            "serve", "Serves a catalogue until SIGTERM or SIGINT.",
            positionals: [store],
            options: [
                .value("listen", "HOST:PORT", "Listens there; 127.0.0.1:7700 if nothing else is said.", isRepeatable: true),
                .value(
                    "spare-after", "SECONDS",
                    "Members that are out of date on an OST that was away for so long move to others; 600 if nothing else is said, "
                        + "at least 10; 0: never by themselves."),
                .value("metrics", "HOST:PORT", "Serves /metrics for Prometheus and /healthz there."),
                .value(
                    "mgs", "HOST:PORT[,HOST:PORT]", "Tells these management servers that it is there: clients and OSTs find it by them.",
                    isRepeatable: true),
                .value(
                    "advertise", "HOST:PORT", "With --mgs: where others find this server, if that is not where it listens.",
                    isRepeatable: true),
                .value("log-level", "LEVEL", "What is logged to standard error: debug, info (default), warning or error."),
                .flag("insecure-network", "Allows addresses that other machines can reach, without authentication or encryption."),
            ] + trust,
            examples: [
                .init("rawstor-mdt serve /var/lib/rawstor/mdt --listen 127.0.0.1:7700 --metrics 127.0.0.1:7701", "On this machine only"),
                .init("rawstor-mdt serve /var/lib/rawstor/mdt --mgs 127.0.0.1:7706", "Listed by a management server"),
                .init("rawstor-mdt serve \(servers) --listen 127.0.0.1:7700", "One of several"),
                .init(
                    "rawstor-mdt serve etcd+tls://mds1,mds2,mds3/prod --store-ca ca.pem --store-cert mdt.pem --store-key mdt.key",
                    "The catalogue 'prod' of an etcd with certificates"),
            ],
            notes: [
                "Volumes that are open and healthy do not need it; opening, creating, and going on after an OST has failed do. Killed, it "
                    + "loses nothing that was answered. It ends with an error when the catalogue cannot be written, to be started anew. "
                    + "While etcd does not answer it waits for it."
            ]),
        CommandSyntax.Verb(
            "info", "Tells which cluster a catalogue is of, and what it holds.",
            positionals: [store], options: [.flag("json", "As one line of JSON.")] + trust,
            examples: [.init("rawstor-mdt info /var/lib/rawstor/mdt", "Which cluster is this?")],
            notes: ["A file is not being served meanwhile; of one that is, 'rawstor status' tells."]),
        CommandSyntax.Verb(
            "rebuild", "Makes a lost catalogue anew, from what the OSTs of its cluster keep.",
            positionals: [CommandSyntax.Positional("PATH", "Where the new catalogue goes; nothing is there yet.")],
            options: [
                .value("cluster", "UUID", "The cluster; 'rawstor-ost info' tells it of any of the stores.", isRequired: true),
                .value(
                    "ost", "HOST:PORT[,HOST:PORT]", "An OST that is served, where it can be reached from here. All that can be found.",
                    isRepeatable: true, isRequired: true),
                .value("without", "NAME", "Leaves this volume out, by its name or its id.", isRepeatable: true),
                .value(
                    "lost", "STORE",
                    "The disk of this store is gone for good: what only it knew is given up, acknowledged writes included.",
                    isRepeatable: true),
                .flag("yes", "Does it. Without this it is only told what would be done."),
                .flag("json", "As one line of JSON."),
            ],
            examples: [
                .init(rebuilding, "What would come out?"), .init(rebuilding + " --yes", "Rebuilds it"),
            ],
            notes: [
                "It refuses, and says what is missing, rather than guess: each member that counts must be asked. Nothing that was out of "
                    + "date becomes up to date. From '--yes' on the OSTs refuse whatever comes from the old catalogue; volumes that are "
                    + "open go on as soon as the new one is served at the old address. Nothing is changed on the OSTs besides.",
                "Not known to the disks, and lost: which OSTs are drained, and volumes that were removed while one of their OSTs was away "
                    + "may turn up again.",
            ]),
    ],
    exitCodes: [
        .init(ExitStatus.well, "it went well"),
        .init(ExitStatus.failure, "it failed; the reason is on standard error"),
        .init(ExitStatus.usage, "the command line is wrong"),
        .init(ExitStatus.damaged, "the catalogue is damaged"),
    ])
