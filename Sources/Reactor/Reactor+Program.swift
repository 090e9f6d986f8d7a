import Base
import Environment

// A program's main task, for those that have no other use for a reactor.

extension Reactor {
    /// Makes a reactor, runs asynchronous code in it to the end, and closes it.
    public static func run<Value>(
        _ options: ReactorOptions = ReactorOptions(), _ body: @escaping (Reactor) async throws(Failure) -> Value
    ) throws(Failure) -> Value {
        let reactor = try Reactor(options)
        var outcome: Result<Value, Failure>?
        reactor.spawn {
            do throws(Failure) { outcome = .success(try await body(reactor)) } catch { outcome = .failure(error) }
            reactor.stop()
        }
        reactor.run()
        reactor.close()
        guard let outcome else { unreachable("a reactor stops before its program") }
        return try outcome.get()
    }
}
