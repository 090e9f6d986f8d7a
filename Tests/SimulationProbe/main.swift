import Base
import Simulation

// What the simulator's tests run in a process of its own.
//
//   stray | stray-main | stray-sleep   a task leaves the simulated world: must die
//   kept                               the same world with its task where it belongs: must print "ok"
//   trace SEED                         prints the trace hash of a run with faults
//   bench SEEDS                        prints events, to be timed from outside

let arguments = CommandLine.arguments
switch arguments.count > 1 ? arguments[1] : "" {
case "stray": Mode.strayGlobal()
case "stray-main": Mode.strayMain()
case "stray-sleep": Mode.straySleep()
case "kept": Mode.kept()
case "trace":
    let scenario = Mode.trace(UInt64(arguments[2]) ?? 0)
    print(hexadecimal(scenario.universe.trace.hash, digits: 16), scenario.universe.events, scenario.acknowledged)
case "bench":
    var events = 0
    for seed in 0..<(UInt64(arguments[2]) ?? 0) {
        let universe = Mode.trace(seed).universe
        events += universe.events
        universe.end()
    }
    print(events)
default: print("usage: SimulationProbe stray | stray-main | stray-sleep | kept | trace SEED | bench SEEDS")
}
