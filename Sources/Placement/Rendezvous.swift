import Base

/// The chance in a choice: for each placement and store a number that nobody can bend and everybody finds again.
///
/// Rendezvous hashing: every store draws the time after which it arrives, exponentially distributed, and the first to arrive are chosen. A
/// store of twice the weight arrives twice as fast. The minimum of several exponential draws is one too, of the sum of their rates: so the
/// first OST of a host arrives as a host of the combined weight would, without anybody having to choose the host first.
///
/// Floating point with nothing but the four operations, which IEEE 754 rounds the same everywhere; the logarithm is our own for that
/// reason. A choice is the same on every machine, and a test can pin it.
struct Rendezvous {
    /// Draws for different ends must not know of each other.
    enum End: UInt64 {
        case member = 1
        case position = 2
        case spare = 3
    }

    private let seed: UInt64

    init(volume: Identifier, placement: Int, end: End) {
        seed = [volume.high, volume.low, UInt64(placement), end.rawValue].reduce(0, mixed)
    }

    func hash(of store: Identifier) -> UInt64 { mixed(mixed(seed, store.high), store.low) }

    /// When the store arrives if its rate is 1: -ln u.
    func arrival(of store: Identifier) -> Double {
        // The middle of one of 2^53 steps: never 0 and never 1.
        -logarithm((Double(hash(of: store) >> 11) + 0.5) * 0x1p-53)
    }
}

/// The finalizer of splitmix64: each bit of the input changes each bit of the output in half of all cases.
private func mixed(_ state: UInt64, _ word: UInt64) -> UInt64 {
    var value = (state ^ word) &+ 0x9e37_79b9_7f4a_7c15
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
    return value ^ value >> 31
}

/// The natural logarithm of a positive number, to about 15 digits: the series of artanh, which converges quickly near 1.
func logarithm(_ value: Double) -> Double {
    var fraction = value.significand
    var exponent = Double(value.exponent)
    if fraction > 1.5 {
        fraction /= 2
        exponent += 1
    }
    let step = (fraction - 1) / (fraction + 1)
    var sum = 0.0
    for index in (0..<14).reversed() { sum = sum * step * step + 1 / Double(2 * index + 1) }
    return exponent * 0.693147180559945309 + 2 * step * sum
}
