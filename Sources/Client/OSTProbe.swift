import Base
import Environment
import Wire

/// Whether OSTs serve what a metadata server believes of them, asked of themselves: that server knows it late, and from where it is.
extension MDTCatalogue {
    /// One answer for each, in their order; `deadline` is for each of them.
    public func probe(_ osts: [OSTStatus], deadline: Interval) async -> [Result<StatisticsReply, Failure>] {
        var answers = [Result<StatisticsReply, Failure>](repeating: .failure(Failure(.unreachable)), count: osts.count)
        await world.together(osts.count, atOnce: MDTCatalogue.probesAtOnce) { [self] index in
            answers[index] = await probe(osts[index].registration, deadline)
        }
        return answers
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
