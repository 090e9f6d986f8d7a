/// Little-endian loads and stores on raw memory, for codecs. Bounds are the caller's: a codec checks a length once and then reads fields.
extension UnsafeRawPointer {
    @inlinable @inline(__always)
    public func load<T: FixedWidthInteger>(_ type: T.Type, at offset: Int) -> T {
        T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    public func loadIdentifier(at offset: Int) -> Identifier {
        Identifier(high: load(UInt64.self, at: offset).byteSwapped, low: load(UInt64.self, at: offset + 8).byteSwapped)
    }
}

extension UnsafeMutableRawPointer {
    @inlinable @inline(__always)
    public func store<T: FixedWidthInteger>(_ value: T, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    }

    @inlinable @inline(__always)
    public func load<T: FixedWidthInteger>(_ type: T.Type, at offset: Int) -> T {
        UnsafeRawPointer(self).load(type, at: offset)
    }

    /// Most significant byte first, as an identifier is written.
    public func storeIdentifier(_ value: Identifier, at offset: Int) {
        store(value.high.byteSwapped, at: offset)
        store(value.low.byteSwapped, at: offset + 8)
    }

    public func loadIdentifier(at offset: Int) -> Identifier { UnsafeRawPointer(self).loadIdentifier(at: offset) }
}

/// `value` rounded up to a multiple of `unit`, a power of two.
@inlinable @inline(__always)
public func roundUp(_ value: Int, to unit: Int) -> Int { (value + unit - 1) & ~(unit - 1) }
