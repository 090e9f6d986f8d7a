import Base
import PartStore

// Programs to be measured from outside. Tests/Cost/run and the scripts in bench/ start them.
//
//   requests read|write COUNT DEPTH          a simulated cluster: warms up, then COUNT operations of 4 KiB; for callgrind
//   amplify COUNT DEPTH                      bytes to disk of COUNT random 4 KiB writes through the part store, as one JSON row
//   generate PATH STORE_GIB MAPPED_GIB       makes a store (a sparse file without the data) with that much mapped, in random order
//   open PATH                                opens it with the real reactor and tells how long that took, as one JSON row

/// Every block of the volume is written, and all that grows has grown.
let warmUp = 20_000

/// Callgrind counts within this function only: start, warm-up and end are not in the figures.
@inline(never)
func measured(_ cluster: Cluster) {
    cluster.run(arguments[1] == "read" ? .read : .write, count: numbers[2], depth: numbers[3])
}

func usage() -> Never {
    unreachable("usage: CostProbe requests read|write COUNT DEPTH | amplify COUNT DEPTH | generate PATH STORE_GIB MAPPED_GIB | open PATH")
}

let arguments = Array(CommandLine.arguments.dropFirst())
let numbers = arguments.map { Int($0) ?? 0 }
Limits.check()
switch arguments.first {
case "requests" where arguments.count == 4:
    let cluster = Cluster()
    cluster.run(.write, count: warmUp, depth: 32)
    cluster.run(.read, count: 1000, depth: 32)
    measured(cluster)
case "amplify" where arguments.count == 3: print(try measureAmplification(writes: numbers[1], depth: numbers[2]))
case "generate" where arguments.count == 4: try generate(arguments[1], storeGiB: numbers[2], mappedGiB: numbers[3])
case "open" where arguments.count == 2: print(try measureOpening(arguments[1]))
default: usage()
}
