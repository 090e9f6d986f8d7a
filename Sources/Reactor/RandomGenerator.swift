import CSystem

/// xoshiro256++, seeded by the kernel: fast, and not for secrets.
struct RandomGenerator {
    private var state: (UInt64, UInt64, UInt64, UInt64)

    init() {
        state = (0, 0, 0, 0)
        withUnsafeMutableBytes(of: &state) { rs_random_bytes($0.baseAddress, $0.count) }
        // The one state it would never leave.
        if state == (0, 0, 0, 0) { state.0 = 1 }
    }

    mutating func next() -> UInt64 {
        let result = rotate(state.0 &+ state.3, 23) &+ state.0
        let shifted = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= shifted
        state.3 = rotate(state.3, 45)
        return result
    }
}

private func rotate(_ value: UInt64, _ count: UInt64) -> UInt64 { value << count | value >> (64 - count) }
