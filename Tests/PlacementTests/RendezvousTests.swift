import Base
import Testing

@testable import Placement

@Suite struct RendezvousTests {
    @Test(arguments: [
        (1, 0), (0.5, -0.6931471805599453), (2.718281828459045, 1), (10, 2.302585092994046), (0.1, -2.302585092994046),
        (0x1p-54, -37.42994775023705), (0.999, -0.0010005003335835344), (1.4999, 0.40539843921917673),
    ])
    func logarithmIsThatOfTheTables(value: Double, expected: Double) {
        #expect(abs(logarithm(value) - expected) <= 1e-15 * max(1, abs(expected)) * 4)
    }

    /// The mean of -ln u is 1, and so is its variance.
    @Test func arrivalsAreExponential() {
        let arrivals = (0..<20_000).map {
            Rendezvous(volume: Identifier(high: 1, low: 2), placement: $0 / 100, end: .member)
                .arrival(of: Identifier(high: 3, low: UInt64($0 % 100)))
        }
        let mean = arrivals.reduce(0, +) / Double(arrivals.count)
        let variance = arrivals.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(arrivals.count)
        #expect(abs(mean - 1) < 0.03 && abs(variance - 1) < 0.06, "\(mean) \(variance)")
    }

    @Test func sharesAreCutAtOne() {
        let cases: [(weights: [Double], members: Int, shares: [Double])] = [
            ([1, 1, 1, 1], 2, [0.5, 0.5, 0.5, 0.5]), ([8, 2, 2, 4], 2, [1, 0.25, 0.25, 0.5]), ([9, 5, 1, 1], 3, [1, 1, 0.5, 0.5]),
            ([1, 2, 3], 3, [1, 1, 1]),
        ]
        for (weights, members, expected) in cases { #expect(shares(of: weights, members: members) == expected) }
    }
}
