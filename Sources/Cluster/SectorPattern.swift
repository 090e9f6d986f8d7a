import Base

/// What a write puts into a sector: its number and the sector's, and words that follow from both, so that a sector tells which write it is
/// from, and bytes that were never written so are no write's.
enum SectorPattern {
    enum Content: Equatable {
        case zero
        case write(UInt32)
        case garbage
    }

    private static let words = Block.sectorBytes / 8

    static func fill(_ memory: UnsafeMutableRawPointer, firstSector: Int, sectors: Int, write: UInt32) {
        for sector in 0..<sectors {
            let place = memory + sector * Block.sectorBytes
            let head = UInt64(write) << 32 | UInt64(firstSector + sector)
            place.storeBytes(of: head, as: UInt64.self)
            var word = mixed(head)
            for index in 1..<words {
                place.storeBytes(of: word, toByteOffset: index * 8, as: UInt64.self)
                word = next(word)
            }
        }
    }

    static func content(_ memory: UnsafeRawPointer, sector: Int) -> Content {
        let head = memory.loadUnaligned(as: UInt64.self)
        var difference: UInt64 = 0
        if head == 0 {
            for index in 1..<words { difference |= memory.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self) }
            return difference == 0 ? .zero : .garbage
        }
        var word = mixed(head)
        for index in 1..<words {
            difference |= memory.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self) ^ word
            word = next(word)
        }
        return difference == 0 && head & 0xffff_ffff == UInt64(sector) ? .write(UInt32(head >> 32)) : .garbage
    }

    @inline(__always)
    private static func mixed(_ word: UInt64) -> UInt64 { (word ^ word >> 29) &* 0xbf58_476d_1ce4_e5b9 }

    @inline(__always)
    private static func next(_ word: UInt64) -> UInt64 { word &+ 0x9e37_79b9_7f4a_7c15 }
}
