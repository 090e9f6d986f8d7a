import Arguments
import Base
import Environment
import PartStore
import Reactor

/// `info` and `dump`: what a store that is not being served says about itself. Both change nothing.
func info(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let path = command.positionals[0]
    let wantsJson = command.has("json")
    return try Reactor.run { reactor throws(Failure) in
        let disk = try reactor.openDisk(path, .readOnly)
        let info = try await StoreInspector.info(Operations(reactor), disk: disk, path: path)
        reactor.closeDisk(disk)
        print(wantsJson ? json(info) : text(info))
        return ExitStatus.well
    }
}

func dump(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let path = command.positionals[0]
    return try Reactor.run { reactor throws(Failure) in
        let disk = try reactor.openDisk(path, .readOnly)
        try await StoreInspector.describeLog(Operations(reactor), disk: disk, path: path) { print($0) }
        reactor.closeDisk(disk)
        return ExitStatus.well
    }
}

private func text(_ info: StoreInspector.Info) -> String {
    var lines = [
        "store     \(info.superblock.store)", "cluster   \(info.superblock.cluster)", "mounted   \(info.superblock.mountCounter) times",
        "capacity  \(ByteSize.text(info.dataBlocks * UInt64(Block.bytes)))",
        "used      \(ByteSize.text(info.mappedBlocks * UInt64(Block.bytes)))", "in doubt  \(info.doubts) blocks",
        "memory    \(ByteSize.text(info.memoryBytes)) to serve it", "volumes   \(info.objects.count)",
    ]
    for (record, mappedBlocks) in info.objects {
        lines.append(
            "  \(record.name)  size \(ByteSize.text(record.bytes))  used \(ByteSize.text(mappedBlocks * UInt64(Block.bytes)))"
                + "  generation \(record.generation)  id \(record.id)")
    }
    return lines.joined(separator: "\n")
}

private func json(_ info: StoreInspector.Info) -> String {
    let volumes = info.objects.map { record, mappedBlocks in
        "{\"name\":\(Json.string(record.name)),\"id\":\"\(record.id)\",\"bytes\":\(record.bytes),"
            + "\"used_bytes\":\(mappedBlocks * UInt64(Block.bytes)),\"generation\":\(record.generation)}"
    }
    return "{\"store\":\"\(info.superblock.store)\",\"cluster\":\"\(info.superblock.cluster)\","
        + "\"mounts\":\(info.superblock.mountCounter),\"capacity_bytes\":\(info.dataBlocks * UInt64(Block.bytes)),"
        + "\"used_bytes\":\(info.mappedBlocks * UInt64(Block.bytes)),\"doubts\":\(info.doubts),"
        + "\"memory_bytes\":\(info.memoryBytes),\"volumes\":[\(volumes.joined(separator: ","))]}"
}
