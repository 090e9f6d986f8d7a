import Base
import Environment
import Simulation

/// The memory of one operation, cut into pieces at places that no block cares for.
final class Memory {
    let bytes: UnsafeMutableRawBufferPointer
    private(set) var vectors: [IOVector] = []

    init(bytes count: Int) {
        bytes = .allocate(byteCount: max(count, 1), alignment: Block.bytes)
        vectors = [IOVector(base, count)]
    }

    deinit { bytes.deallocate() }

    var base: UnsafeMutableRawPointer {
        guard let base = bytes.baseAddress else { unreachable("memory of an operation is never empty") }
        return base
    }

    func cut(pieces: Int, _ random: inout Random) {
        vectors.removeAll()
        var position = 0
        while position < bytes.count {
            let rest = bytes.count - position
            let length = vectors.count + 1 >= pieces ? rest : 1 + random.below(rest)
            vectors.append(IOVector(base + position, length))
            position += length
        }
    }
}
