import Arguments

/// What `rawstor` takes: the verbs in the order of their help.

private let volumeURL = CommandSyntax.Positional(
    "URL", "The volume: rawstor://HOST:PORT[,HOST:PORT]/NAME, ost://HOST:PORT/NAME or ost+unix:///NAME?socket=PATH.")
private let daemonURL = CommandSyntax.Positional(
    "URL", "The cluster or OST: rawstor://HOST:PORT, ost://HOST:PORT or ost+unix:///?socket=PATH.")
private let clusterURL = CommandSyntax.Positional(
    "URL", "The cluster: rawstor://HOST:PORT[,HOST:PORT], its metadata or management servers.")
private let json = CommandSyntax.Option.flag(
    "json", "Prints one JSON document instead; after a failure {\"error\": {\"status\", \"exit_code\", \"message\"}}.")
private let timeout = CommandSyntax.Option.value(
    "timeout", "SECONDS", "Gives up on a request that has no answer after this long; 30 if nothing else is said.")
private let quiet = CommandSyntax.Option.flag("quiet", "Shows no progress.")
private let local = "ost://127.0.0.1:7710"
private let cluster = "rawstor://127.0.0.1:7700"

private let listSummary = "Lists volumes in the order of their names."
private let listURL = CommandSyntax.Positional(
    "URL",
    "The cluster or OST: rawstor://HOST:PORT, ost://HOST:PORT or ost+unix:///?socket=PATH. With a NAME: that volume, and those below NAME/."
)

private let createVerb = CommandSyntax.Verb(
    "volume create", "Makes an empty volume. It takes space as it is written.",
    positionals: [volumeURL],
    options: [
        .value("size", "SIZE", "How large: a multiple of 512 bytes, as 512M, 20G or 1T.", isRequired: true),
        .value("chunk", "SIZE", "Size of its chunks, a power of two from 64K to 1G; 4M if nothing else is said."),
        .value("replicas", "N", "In a cluster: how many copies, on different hosts; 2 if nothing else is said."),
        .value("domain", "LEVEL", "In a cluster: the copies lie on a different ost, host (default), rack or room each."),
        .value("floor", "N", "In a cluster: writes wait while fewer copies than this are up to date; 1 if nothing else is said."),
        .value("below-floor", "POLICY", "What they do then: wait (default), or fail:SECONDS, which ends one that has waited for so long."),
        .value("placements", "N", "In a cluster: rows of the table that says which OSTs keep what, 1 to 1024; by default what suits."),
        timeout, json,
    ],
    examples: [
        .init("rawstor volume create --size 20G \(local)/vm1", "A volume of 20 GiB"),
        .init("rawstor volume create --replicas 3 --domain rack --size 20G \(cluster)/vm1", "In a cluster, with copies in three racks"),
        .init("rawstor volume create --size 1T 'ost+unix:///prod/db?socket=/run/rawstor/ost0'", "Through a Unix socket"),
    ])

private let listVerb = CommandSyntax.Verb(
    "volume ls", listSummary, positionals: [listURL], options: [timeout, json],
    examples: [
        .init("rawstor volume ls \(local)", "All volumes of an OST"),
        .init("rawstor volume ls \(local)/prod", "'prod', and those whose names begin with 'prod/'"),
    ],
    notes: ["'rawstor ls' is the same."])

private let infoVerb = CommandSyntax.Verb(
    "volume info", "Tells about one volume. Exits 0 exactly when it exists, and 4 when it does not.",
    positionals: [volumeURL], options: [timeout, json],
    examples: [
        .init("rawstor volume info \(local)/vm1", "Size, space taken, and whether it is open for writing"),
        .init("rawstor volume info \(cluster)/vm1", "Also which OSTs keep it, and which of them are up to date"),
    ])

private let resizeVerb = CommandSyntax.Verb(
    "volume resize", "Changes the size of a volume, also while it is open.",
    positionals: [volumeURL],
    options: [
        .value("size", "SIZE", "The new size: a multiple of 512 bytes, as 512M, 20G or 1T.", isRequired: true),
        .flag("shrink", "Allows a smaller size, a multiple of 4096 bytes; everything behind the new end is lost."),
        timeout, json,
    ],
    examples: [
        .init("rawstor volume resize --size 40G \(local)/vm1", "Grows it to 40 GiB"),
        .init("rawstor volume resize --size 10G --shrink \(local)/vm1", "Cuts off what is behind 10 GiB"),
    ])

private let setVerb = CommandSyntax.Verb(
    "volume set", "Changes what a volume of a cluster asks for before it writes, also while it is open.",
    positionals: [volumeURL],
    options: [
        .value("floor", "N", "Writes wait while fewer copies than this are up to date."),
        .value("below-floor", "POLICY", "What they do then: wait, or fail:SECONDS, which ends one that has waited for so long."),
        timeout, json,
    ],
    examples: [
        .init("rawstor volume set --floor 2 --below-floor fail:10 \(cluster)/vm1", "Two copies of every write, or an error after 10 s")
    ],
    notes: ["A writer that has the volume open takes it over within seconds. Reads go on whatever is set."])

private let removeVerb = CommandSyntax.Verb(
    "volume rm", "Removes a volume and all its data, for good. Refused while it is open.",
    positionals: [volumeURL],
    options: [.flag("yes", "Does not ask. Needed where there is no terminal to ask at."), timeout, json],
    examples: [.init("rawstor volume rm --yes \(local)/vm1", "Without a question")])

private let importVerb = CommandSyntax.Verb(
    "volume import", "Copies a file, a block device or standard input into a volume.",
    positionals: [.init("FILE", "A raw image; - for standard input."), volumeURL],
    options: [
        .flag("create", "Makes the volume first. It is removed again if the import fails."),
        .value("size", "SIZE", "With --create: the volume's size, at least that of FILE, which it is by default."),
        .flag("force", "Allows a volume that holds data already; that data is lost."),
        quiet, timeout, json,
    ],
    examples: [
        .init("rawstor volume import debian.raw \(local)/vm1 --create --size 20G", "An image in a volume of 20 GiB"),
        .init("zstd -dc vm1.zst | rawstor volume import - \(local)/vm1 --create --size 20G", "From a pipe"),
    ],
    notes: [
        "Afterwards the volume holds FILE and zeros behind its end. Blocks of zeros take no space. Formats other than raw: convert "
            + "them first, with qemu-img convert -O raw."
    ])

private let exportVerb = CommandSyntax.Verb(
    "volume export", "Copies a volume into a file, a block device or to standard output.",
    positionals: [volumeURL, .init("FILE", "The raw image to make; - for standard output.")],
    options: [
        .flag("force", "Replaces FILE if it exists, or overwrites it if it is a block device."),
        quiet, timeout, json,
    ],
    examples: [
        .init("rawstor volume export \(local)/vm1 vm1.raw", "Into a sparse file"),
        .init("rawstor volume export \(local)/vm1 - | zstd > vm1.zst", "Into a pipe"),
    ],
    notes: [
        "Blocks of zeros become holes. The file has the name FILE.partial until it is complete and durable; it is removed on failure. "
            + "What is written to the volume meanwhile may be in the copy or not."
    ])

private let benchVerb = CommandSyntax.Verb(
    "volume bench", "Measures a volume: operations a second, latency, and processor time of this client.",
    positionals: [volumeURL],
    options: [
        .value("rw", "JOB", "randread (default), randwrite, read or write; the last two in sequence."),
        .value("bs", "SIZE", "Bytes of each operation, a multiple of 512; 4k if nothing else is said."),
        .value("depth", "N", "Operations under way at once, 1 to 1024; 32 if nothing else is said."),
        .value("seconds", "N", "How long; 10 if nothing else is said."),
        .value("flush-every", "N", "Flushes after every N writes."),
        .flag("yes-destroy-data", "Needed for writes: they overwrite what the volume holds."),
        timeout, json,
    ],
    examples: [
        .init("rawstor volume bench \(local)/vm1", "Random reads of 4 KiB at depth 32"),
        .init(
            "rawstor volume bench \(local)/scratch --rw randwrite --depth 1 --flush-every 1 --yes-destroy-data",
            "Durable writes, one at a time"),
    ],
    notes: ["Reads of blocks that were never written do not reach the disk: write the volume first."])

private let spaceVerb = CommandSyntax.Verb(
    "df", "Tells how much space an OST or a cluster has, and how much of it is taken.",
    positionals: [daemonURL], options: [timeout, json],
    examples: [.init("rawstor df \(local)", "Space of one OST")])

private let recoverVerb = CommandSyntax.Verb(
    "volume recover", "Brings copies up to date that were away, of a volume of a cluster that nobody has open.",
    positionals: [volumeURL],
    options: [.value("wait", "SECONDS", "Gives up after this long; 600 if nothing else is said."), timeout, json],
    examples: [.init("rawstor volume recover \(cluster)/vm1", "Until all copies are in sync")],
    notes: [
        "Whoever has a volume open for writing does this by itself, all the time; this opens the volume to do it.",
        "Only what changed is copied. An OST that cannot be reached is waited for.",
    ])

private let mdtListVerb = CommandSyntax.Verb(
    "mdt ls", "Lists the metadata and management servers of a cluster: where they are, and whether they are up.",
    positionals: [clusterURL], options: [timeout, json],
    examples: [.init("rawstor mdt ls \(cluster)", "Which servers are there?")],
    notes: [
        "Those that the URL names are asked, and management servers among them say which metadata servers they have heard of, and when. "
            + "Without a management server it is only what the URL names."
    ])

private let ostListVerb = CommandSyntax.Verb(
    "ost ls", "Lists the OSTs of a cluster: where they are, how full, and when they were heard of last.",
    positionals: [clusterURL], options: [timeout, json],
    examples: [.init("rawstor ost ls \(cluster)", "All OSTs")])

private let ost = CommandSyntax.Positional("OST", "Its address HOST:PORT, or the id of its store.")

private let ostInfoVerb = CommandSyntax.Verb(
    "ost info", "Tells about one OST, and which volumes have members there.",
    positionals: [clusterURL, ost], options: [timeout, json],
    examples: [.init("rawstor ost info \(cluster) oss7:7710", "What would be missing without it?")],
    notes: ["'Last copy of' counts the placements that have nobody else in sync: without this OST their data cannot be reached."])

private let ostDrainVerb = CommandSyntax.Verb(
    "ost drain", "Empties an OST: it gets no new members, and those that it has move to others.",
    positionals: [clusterURL, ost],
    options: [
        .value("wait", "SECONDS", "Waits until it is empty, at most this long, and moves members of volumes that nobody has open."),
        .flag("undo", "Ends it: members that have not moved stay, and new ones may come."),
        quiet, timeout, json,
    ],
    examples: [
        .init("rawstor ost drain \(cluster) oss7:7710 --wait 86400", "Until it can be taken away"),
        .init("rawstor ost drain \(cluster) oss7:7710 --undo", "It stays after all"),
    ],
    notes: [
        "Whoever has a volume open for writing moves its members, while it goes on. Each member counts where it is until it has everything "
            + "where it goes to: no volume has fewer copies for it.",
        "An OST that is gone for good is emptied in the same way, as far as there are other copies.",
    ])

private let ostRemoveVerb = CommandSyntax.Verb(
    "ost rm", "Forgets an OST that keeps nothing and has been stopped for a minute.",
    positionals: [clusterURL, ost],
    options: [
        .flag(
            "lose-data",
            "Forgets it whatever it keeps. What it has the last copy of is lost: those parts of the volumes cannot be read any more. It is "
                + "told which."),
        timeout, json,
    ],
    examples: [
        .init("rawstor ost rm \(cluster) oss7:7710", "After 'rawstor ost drain'"),
        .init("rawstor ost rm \(cluster) oss7:7710 --lose-data", "Its disk is gone, and with it the last copy of something"),
    ],
    notes: [
        "It is refused while a volume has members there, up to date or not; 'rawstor ost info' lists them, 'rawstor ost drain' moves them. "
            + "Started again the OST registers as a new one."
    ])

private let statusVerb = CommandSyntax.Verb(
    "status", "Tells how a cluster is: what is degraded, since when, what is being done about it, and how far that is.",
    positionals: [clusterURL],
    options: [
        .flag("watch", value: "SECONDS", "Tells it again every 2 seconds, or as often as is said, until it is interrupted."), timeout, json,
    ],
    examples: [
        .init("rawstor status \(cluster)", "Health on one screen"),
        .init("rawstor status --watch=5 \(cluster)", "How a copy gets on, every five seconds"),
        .init("rawstor status \(cluster) >/dev/null || echo degraded", "In a script: 0 is healthy, 8 degraded"),
    ],
    notes: [
        "It says healthy only when every OST is known to the metadata server, answers here and has room, and all copies of all volumes are "
            + "up to date. It asks each OST itself. A metadata or management server that is away is listed: while another one answers, "
            + "no data is in danger.",
        "With --watch a terminal is repainted; elsewhere each answer follows the last, with --json one document a line.",
    ])

let syntax = CommandSyntax(
    program: "rawstor", summary: "makes, lists, copies and measures volumes. Sizes are in binary units: 4G is 4 GiB.",
    verbs: [
        createVerb, listVerb, infoVerb, resizeVerb, setVerb, removeVerb, importVerb, exportVerb, benchVerb,
        CommandSyntax.Verb(
            "ls", listSummary, positionals: [listURL], options: [timeout, json],
            examples: [.init("rawstor ls \(local)", "All volumes of an OST")], notes: ["'rawstor volume ls' is the same."]),
        recoverVerb, spaceVerb, mdtListVerb, ostListVerb, ostInfoVerb, ostDrainVerb, ostRemoveVerb, statusVerb,
    ],
    exitCodes: [
        .init(ExitStatus.well, "it went well"),
        .init(ExitStatus.failure, "it failed; the reason is on standard error"),
        .init(ExitStatus.usage, "the command line is wrong, or does not allow what would lose data"),
        .init(ExitStatus.damaged, "stored data is damaged"),
        .init(ExitStatus.notFound, "there is no such volume or file"),
        .init(ExitStatus.busy, "the volume is open elsewhere, or the daemon is at a limit; try again later"),
        .init(ExitStatus.noSpace, "no space is left, in the store or in the local file system"),
        .init(ExitStatus.unreachable, "the daemon cannot be reached, or did not answer in time"),
        .init(ExitStatus.degraded, "'status': something in the cluster is not as it should be"),
    ])
