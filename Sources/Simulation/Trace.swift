/// A running hash of everything that happened. Two runs of one seed must agree on it, whatever the process or the build; if they do not, an
/// order that is not drawn from the seed shows somewhere (a Set, an address, a real clock).
public struct Trace: Hashable, Sendable {
    public private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    /// How many words were folded in: where two runs part, seen from both sides.
    public private(set) var count: UInt64 = 0
    /// Keeps every word from now on: to find where two runs part.
    public var isRecorded = false
    public private(set) var words: [UInt64] = []

    @inline(__always)
    mutating func fold(_ word: UInt64) {
        // FNV by words, with a rotation since a plain multiplication never moves a high bit down.
        let mixed = (hash ^ word) &* 0x0000_0100_0000_01b3
        hash = mixed << 23 | mixed >> 41
        count &+= 1
        if _slowPath(isRecorded) { words.append(word) }
    }

    mutating func fold(_ text: String) {
        var word: UInt64 = 0
        var bytes: UInt64 = 0
        for byte in text.utf8 {
            word = word << 8 | UInt64(byte)
            bytes += 1
            if bytes & 7 == 0 { fold(word) }
        }
        fold(word)
        fold(bytes)
    }
}
