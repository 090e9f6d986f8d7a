import Arguments

/// What `rawstor-mgs` takes.
let syntax = CommandSyntax(
    program: "rawstor-mgs", summary: "is the one address of a cluster: it lists its metadata servers and OSTs.",
    verbs: [
        CommandSyntax.Verb(
            "serve", "Serves until SIGTERM or SIGINT. There is nothing to make before: it keeps nothing on a disk.",
            options: [
                .value("listen", "HOST:PORT", "Listens there; 127.0.0.1:7706 if nothing else is said.", isRepeatable: true),
                .value("metrics", "HOST:PORT", "Serves /metrics for Prometheus and /healthz there."),
                .value(
                    "cluster", "UUID", "The cluster that it lists; by default that of the first metadata server that registers."),
                .value("log-level", "LEVEL", "What is logged to standard error: debug, info (default), warning or error."),
                .flag("insecure-network", "Allows addresses that other machines can reach, without authentication or encryption."),
            ],
            examples: [
                .init("rawstor-mgs serve --listen 127.0.0.1:7706 --metrics 127.0.0.1:7707", "On this machine only"),
                .init(
                    "rawstor-mgs serve --listen 10.0.0.5:7700 --insecure-network --cluster 01997c1e-6a1b-7c3d-8e4f-5a6b7c8d9e0f",
                    "On a machine of its own: clients need no port, rawstor://10.0.0.5/vm1"),
            ],
            notes: [
                "Metadata servers and OSTs are told of it with --mgs. Clients begin at it, and remember the metadata servers that it "
                    + "lists: volumes that are open do not notice when it is away. Started anew it knows the cluster again within 5 s.",
                "Several may run, each for itself: name all of them with --mgs and in the URL.",
            ])
    ],
    exitCodes: [
        .init(ExitStatus.well, "it went well"),
        .init(ExitStatus.failure, "it failed; the reason is on standard error"),
        .init(ExitStatus.usage, "the command line is wrong"),
    ])
