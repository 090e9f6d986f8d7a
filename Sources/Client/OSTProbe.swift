import Base
import Environment
import Wire

/// Whether OSTs serve what a metadata server believes of them, asked of themselves: that server knows it late, and from where it is.
extension MDTCatalogue {
    /// One answer for each, in their order; `deadline` is for each of them.
    public func probe(_ osts: [OSTStatus], deadline: Interval) async -> [Result<StatisticsReply, Failure>] {
        let answers = ProbeAnswers(osts.count)
        let tasks = min(osts.count, MDTCatalogue.probesAtOnce)
        if tasks == 0 { return [] }
        let countdown = Countdown(tasks)
        for _ in 0..<tasks {
            world.spawn { [self] in
                while let index = answers.take() { answers.list[index] = await probe(osts[index].registration, deadline) }
                countdown.done()
            }
        }
        await countdown.wait()
        return answers.list
    }

    private static let probesAtOnce = 64

    /// By the first of its addresses under which the right disk is served.
    private func probe(_ ost: OSTRegisterRequest, _ deadline: Interval) async -> Result<StatisticsReply, Failure> {
        var first: Failure?
        for text in ost.endpoints {
            do throws(Failure) {
                let expected = OSTCatalogue.ExpectedStore(ost.store, mountCounter: ost.mountCounter)
                let catalogue = OSTCatalogue(
                    world, try Address("ost://" + text).endpoint, cluster: cluster, expecting: expected, deadline: deadline)
                defer { catalogue.close() }
                return .success(try await catalogue.statistics())
            } catch { if first == nil { first = error } }
        }
        return .failure(first ?? Failure(.unreachable, "nobody knows where store \(ost.store) is served"))
    }
}

/// Of several tasks of one world.
private final class ProbeAnswers {
    var list: [Result<StatisticsReply, Failure>]
    private var next = 0

    init(_ count: Int) { list = Array(repeating: .failure(Failure(.unreachable)), count: count) }

    func take() -> Int? {
        guard next < list.count else { return nil }
        next += 1
        return next - 1
    }
}
