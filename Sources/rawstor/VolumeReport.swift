import Arguments
import Base
import Client
import Wire

/// What is told about a volume: the same keys wherever one appears.
struct VolumeReport {
    var address: Address
    var object: ObjectRecord
    var usedBytes: UInt64
    var isOpenForWriting: Bool

    init(_ daemon: Address, _ stat: StatReply) {
        address = daemon.with(name: stat.object.name)
        object = stat.object
        usedBytes = stat.mappedBlocks * UInt64(Block.bytes)
        isOpenForWriting = stat.hasWriter
    }

    var json: JSON {
        .object([
            ("name", .string(object.name)), ("url", .string("\(address)")), ("id", .string("\(object.id)")),
            ("size_bytes", .integer(object.bytes)), ("used_bytes", .integer(usedBytes)),
            ("chunk_bytes", .integer(object.layout.chunkBytes)), ("generation", .integer(object.generation)),
            ("open_for_writing", .bool(isOpenForWriting)), ("created", .string(dateText(object.createdMilliseconds))),
        ])
    }

    var text: String {
        table([
            ["name", object.name], ["url", "\(address)"], ["id", "\(object.id)"],
            ["size", "\(ByteSize.text(object.bytes)) (\(object.bytes) bytes)"],
            ["used", "\(ByteSize.text(usedBytes)) (\(usedBytes) bytes)"],
            ["chunk", ByteSize.text(object.layout.chunkBytes)], ["generation", "\(object.generation)"],
            ["open for writing", isOpenForWriting ? "yes" : "no"], ["created", dateText(object.createdMilliseconds)],
        ])
    }

    static let columns = ["NAME", "SIZE", "USED", "WRITER", "CREATED"]

    var row: [String] {
        [
            object.name, ByteSize.text(object.bytes), ByteSize.text(usedBytes), isOpenForWriting ? "open" : "-",
            dateText(object.createdMilliseconds),
        ]
    }
}
