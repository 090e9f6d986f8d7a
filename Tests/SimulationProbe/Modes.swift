import Environment
import Simulation

/// What the probe can be told to do.
enum Mode {
    @MainActor private static func onMain() {}

    static func strayGlobal() { run { Task.detached {} } }
    static func strayMain() { run { await onMain() } }
    static func straySleep() { run { do { try await Task.sleep(nanoseconds: 1000) } catch { print(error) } } }
    static func kept() { run {} }

    private static func run(_ body: @escaping () async -> Void) {
        let universe = Universe(seed: 1)
        let world = universe.addHost("a").start("a")
        world.spawn(body)
        universe.run(for: .seconds(1))
        print("ok")
    }

    static func trace(_ seed: UInt64) -> Scenario {
        var random = Random(seed: seed)
        let scenario = Scenario(seed: seed, faults: .swarm(&random))
        scenario.run()
        return scenario
    }
}
