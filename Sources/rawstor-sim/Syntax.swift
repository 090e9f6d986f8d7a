import Arguments
import Base

/// What `rawstor-sim` takes.
extension ExitStatus {
    static let violated = failure
}

let syntax = CommandSyntax(
    program: "rawstor-sim", summary: "runs daemons and clients in a simulated world, with faults, and checks every promise.",
    verbs: [
        CommandSyntax.Verb(
            "", "Runs the shipping daemons and client on a virtual clock under faults drawn from a seed, and checks every promise.",
            options: [
                .value("seed", "N", "Replays one seed exactly, and prints what came of it."),
                .value("seeds", "N", "Runs so many seeds; 100 if nothing is said."),
                .value("from", "M", "The first of them; 1 if nothing is said."),
                .flag("single", "Only the world of one OST and its clients."),
                .flag("replicated", "Only the world of a metadata server, OSTs, and a volume with replicas."),
                .value("jobs", "N", "So many processes at once; as many as there are processors if nothing is said."),
                .value("json", "FILE", "Writes the result there."),
                .flag("verbose", "Prints every line that a process logs, with virtual time."),
                .value("watch", "SECTOR", "Prints also what happens to this sector of the volume."),
            ],
            examples: [
                .init("rawstor-sim --seeds 1000", "A thousand seeds"),
                .init("rawstor-sim --seed 7 --replicated --verbose", "What happened to the replicated volume of seed 7"),
                .init("rawstor-sim --seeds 1000 --from 5001 --json sim.json", "Other thousand, with the result as JSON"),
            ],
            notes: [
                "Each seed is run in both worlds, unless one is named.", "The trace hash of a seed is the same in every process and build.",
                "Marks are rare branches of the engines; those that no seed has reached are named.",
            ])
    ],
    exitCodes: [
        .init(ExitStatus.well, "every promise was kept"),
        .init(ExitStatus.violated, "a promise was broken; the seeds are named"),
        .init(ExitStatus.usage, "the command line is wrong"),
    ])
