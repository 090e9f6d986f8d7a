import Base

/// Structs of the C interface that begin with their size.
///
/// Caller and library may know different lengths of one struct. A field that the caller's lacks has its default, which is always 0; one
/// that the library does not know must be 0, since ignoring a wish in silence is worse than an error.
enum SizedStruct {
    /// A size beyond this is no struct of ours but memory that nobody has initialised.
    static let bytesMax = 4096

    static func size(_ pointer: UnsafeRawPointer) throws(Failure) -> Int {
        let size = Int(bitPattern: pointer.loadUnaligned(as: UInt.self))
        guard (MemoryLayout<UInt>.size...bytesMax).contains(size) else {
            throw Failure(.invalidArgument, "the struct's field 'size' is \(size); set it to the sizeof of the struct")
        }
        return size
    }

    /// The caller's options in the library's length. `empty` is all zeros.
    static func read<Options>(_ pointer: UnsafePointer<Options>?, empty: Options) throws(Failure) -> Options {
        var options = empty
        guard let pointer else { return options }
        let size = try size(pointer)
        let known = MemoryLayout<Options>.size
        let bytes = UnsafeRawPointer(pointer)
        for offset in stride(from: known, to: size, by: 1) where bytes.load(fromByteOffset: offset, as: UInt8.self) != 0 {
            throw Failure(.invalidArgument, "an option at byte \(offset) of a struct is not known to librawstor \(softwareVersion)")
        }
        withUnsafeMutableBytes(of: &options) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: bytes, count: min(size, known)))
            $0.storeBytes(of: UInt(known), as: UInt.self)
        }
        return options
    }

    /// Writes `value` as far as the caller's struct goes, zeros where it goes further, and how far into its size.
    static func write<Value>(_ value: Value, to pointer: UnsafeMutablePointer<Value>, size: Int) {
        let known = MemoryLayout<Value>.size
        let bytes = UnsafeMutableRawPointer(pointer)
        withUnsafeBytes(of: value) { bytes.copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: min(size, known)) }
        if size > known { (bytes + known).initializeMemory(as: UInt8.self, repeating: 0, count: size - known) }
        bytes.storeBytes(of: UInt(min(size, known)), as: UInt.self)
    }
}
