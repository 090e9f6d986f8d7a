import Base

/// Objects in the log and in snapshots.
///
///     body of a create record, at offset 40; the record's argument is the map number
///          0    16 id
///         16     8 size in bytes
///         24     8 chunk bytes
///         32     8 created, milliseconds since 1970
///         40     1 layout kind
///         41     1 bytes of the name
///         42     2 data members
///         44     2 parity members
///         46     2 zero
///         48     … name, padded to 8
///
///     object entry of a snapshot: bytes (4), object number (4), generation (8), map (8), mark (8), highest version (16), last fill (8),
///     1 if it has not ended well (8), complete up to (16), last resize (8), then the same body
///
///     volume record of a snapshot: bytes (4), object number (4), map number (8), bytes of the record (4), CRC32C of it (4), then the
///     record, padded to 8
enum ObjectCodec {
    private static let bodyHeadBytes = 48
    private static let entryHeadBytes = 88
    static let imageBytesMax = entryHeadBytes + bodyHeadBytes + roundUp(Limits.nameBytesMax, to: 8)
    static let creationBytesMax = LogRecord.headBytes + bodyHeadBytes + roundUp(Limits.nameBytesMax, to: 8)

    private static func bodyBytes(_ record: ObjectRecord) -> Int { bodyHeadBytes + roundUp(record.name.utf8.count, to: 8) }

    private static func encodeBody(_ record: ObjectRecord, to target: UnsafeMutableRawPointer) {
        target.storeIdentifier(record.id, at: 0)
        target.store(record.bytes, at: 16)
        target.store(record.layout.chunkBytes, at: 24)
        target.store(record.createdMilliseconds, at: 32)
        target.store(record.layout.kind.rawValue, at: 40)
        target.store(UInt8(record.name.utf8.count), at: 41)
        target.store(record.layout.dataMembers, at: 42)
        target.store(record.layout.parityMembers, at: 44)
        target.store(UInt16(0), at: 46)
        for index in 0..<roundUp(record.name.utf8.count, to: 8) { target.store(UInt8(0), at: bodyHeadBytes + index) }
        for (index, byte) in record.name.utf8.enumerated() { target.store(byte, at: bodyHeadBytes + index) }
    }

    private static func decodeBody(_ source: UnsafeRawPointer, available: Int) -> ObjectRecord? {
        guard available >= bodyHeadBytes, let kind = Layout.Kind(rawValue: source.load(UInt8.self, at: 40)) else { return nil }
        let nameBytes = Int(source.load(UInt8.self, at: 41))
        guard nameBytes <= Limits.nameBytesMax, available >= bodyHeadBytes + nameBytes,
            let name = String(validating: UnsafeRawBufferPointer(start: source + bodyHeadBytes, count: nameBytes), as: UTF8.self)
        else { return nil }
        let layout = Layout(
            kind: kind, chunkBytes: source.load(UInt64.self, at: 24), dataMembers: source.load(UInt16.self, at: 42),
            parityMembers: source.load(UInt16.self, at: 44))
        let record = ObjectRecord(
            id: source.loadIdentifier(at: 0), name: name, bytes: source.load(UInt64.self, at: 16), layout: layout,
            createdMilliseconds: source.load(UInt64.self, at: 32))
        do throws(Failure) {
            try ObjectRecord.check(name: name)
            try ObjectRecord.check(bytes: record.bytes)
            try layout.check()
        } catch { return nil }
        return record
    }

    /// A whole create record; returns its bytes.
    static func encodeCreation(_ number: ObjectNumber, _ record: ObjectRecord, to target: UnsafeMutableRawPointer) -> Int {
        let bytes = LogRecord.headBytes + bodyBytes(record)
        var head = LogRecord(.create, number)
        head.argument = record.map
        head.encode(to: target, bytes: bytes)
        encodeBody(record, to: target + LogRecord.headBytes)
        return bytes
    }

    static func decodeCreation(_ source: UnsafeRawPointer) -> ObjectRecord? {
        var record = decodeBody(source + LogRecord.headBytes, available: Int(source.load(UInt16.self, at: 2)) - LogRecord.headBytes)
        record?.map = source.load(UInt64.self, at: 32)
        return record
    }

    /// An entry of a snapshot; returns its bytes.
    static func encodeImage(_ number: ObjectNumber, _ state: ObjectTable.State, to target: UnsafeMutableRawPointer) -> Int {
        let bytes = entryHeadBytes + bodyBytes(state.record)
        target.store(UInt32(bytes), at: 0)
        target.store(number.raw, at: 4)
        target.store(state.record.generation, at: 8)
        target.store(state.record.map, at: 16)
        target.store(state.mark, at: 24)
        target.store(state.highest.generation, at: 32)
        target.store(state.highest.sequence, at: 40)
        target.store(state.fill.number, at: 48)
        target.store(UInt64(state.fill.isOpen ? 1 : 0), at: 56)
        target.store(state.fill.base.generation, at: 64)
        target.store(state.fill.base.sequence, at: 72)
        target.store(state.resizes, at: 80)
        encodeBody(state.record, to: target + entryHeadBytes)
        return bytes
    }

    static func decodeImage(_ source: UnsafeRawPointer, available: Int) -> (ObjectNumber, ObjectTable.State, bytes: Int)? {
        guard available >= entryHeadBytes else { return nil }
        let bytes = Int(source.load(UInt32.self, at: 0))
        guard bytes <= available, bytes % 8 == 0, bytes >= entryHeadBytes,
            var record = decodeBody(source + entryHeadBytes, available: bytes - entryHeadBytes)
        else { return nil }
        record.generation = source.load(UInt64.self, at: 8)
        record.map = source.load(UInt64.self, at: 16)
        var state = ObjectTable.State(record: record)
        state.mark = source.load(UInt64.self, at: 24)
        state.highest = Version(generation: source.load(UInt64.self, at: 32), sequence: source.load(UInt64.self, at: 40))
        state.fill.number = source.load(UInt64.self, at: 48)
        state.fill.isOpen = source.load(UInt64.self, at: 56) != 0
        state.fill.base = Version(generation: source.load(UInt64.self, at: 64), sequence: source.load(UInt64.self, at: 72))
        state.resizes = source.load(UInt64.self, at: 80)
        return (ObjectNumber(source.load(UInt32.self, at: 4)), state, bytes)
    }

    // Volume records

    private static let volumeHeadBytes = 24

    /// What a record of this size takes; nothing where there is none.
    static func volumeImageBytes(_ count: Int) -> Int { count == 0 ? 0 : volumeHeadBytes + roundUp(count, to: 8) }

    static let volumeImageBytesMax = volumeImageBytes(Limits.volumeRecordBytesMax)

    /// Returns its bytes.
    static func encodeVolume(_ number: ObjectNumber, _ state: borrowing ObjectTable.State, to target: UnsafeMutableRawPointer) -> Int {
        let bytes = volumeImageBytes(state.volume.count)
        target.store(UInt32(bytes), at: 0)
        target.store(number.raw, at: 4)
        target.store(state.volumeMap, at: 8)
        target.store(UInt32(state.volume.count), at: 16)
        target.store(state.volume.withUnsafeBytes { Checksum.of($0) }, at: 20)
        let body = UnsafeMutableRawBufferPointer(start: target + volumeHeadBytes, count: bytes - volumeHeadBytes)
        body.initializeMemory(as: UInt8.self, repeating: 0)
        body.copyBytes(from: state.volume)
        return bytes
    }

    static func decodeVolume(
        _ source: UnsafeRawPointer, available: Int
    ) -> (ObjectNumber, map: UInt64, volume: [UInt8], bytes: Int)? {
        guard available >= volumeHeadBytes else { return nil }
        let bytes = Int(source.load(UInt32.self, at: 0))
        let count = Int(source.load(UInt32.self, at: 16))
        guard bytes <= available, (1...Limits.volumeRecordBytesMax).contains(count), bytes == volumeImageBytes(count) else { return nil }
        let body = UnsafeRawBufferPointer(start: source + volumeHeadBytes, count: count)
        guard Checksum.of(body) == source.load(UInt32.self, at: 20) else { return nil }
        return (ObjectNumber(source.load(UInt32.self, at: 4)), source.load(UInt64.self, at: 8), Array(body), bytes)
    }
}
