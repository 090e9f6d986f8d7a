import Arguments
import Base
import CSystem
import Environment
import PartStore
import Reactor

/// `verify`: reads every block of a store that is not being served, and names each damaged one by volume and offset.
func verify(_ command: ParsedCommand) throws(Failure) -> Int32 {
    let path = command.positionals[0]
    let target = command.value("json")
    let found: ((StoreVerifier.Held) -> Void)? = command.has("list") ? { print(text($0)) } : nil
    return try Reactor.run { reactor throws(Failure) in
        let disk = try reactor.openDisk(path, .readOnly)
        let report = try await StoreVerifier.verify(Operations(reactor), disk: disk, path: path, found: found)
        reactor.closeDisk(disk)
        if let target { try write(json(report), to: target) }
        if target != "-" {
            for damage in report.damaged { print("damaged: volume \(damage.volume) offset \(damage.offset) bytes \(damage.bytes)") }
            let bytes = report.damaged.reduce(UInt64(0)) { $0 + $1.bytes }
            print("\(report.blocks) blocks read, " + (bytes == 0 ? "none damaged" : "\(bytes) bytes damaged"))
        }
        return report.damaged.isEmpty ? ExitStatus.well : ExitStatus.damaged
    }
}

/// The incarnation tells apart what a map no longer means from what it does.
private func text(_ held: StoreVerifier.Held) -> String {
    "block \(held.volume) chunk \(held.part.chunk) member \(held.part.member) incarnation \(held.part.incarnation) at \(held.block) "
        + (held.isDamaged ? "damaged" : hexadecimal(UInt64(held.check), digits: 8))
}

private func json(_ report: StoreVerifier.Report) -> String {
    let damaged = report.damaged.map { "{\"volume\":\(Json.string($0.volume)),\"offset\":\($0.offset),\"bytes\":\($0.bytes)}" }
    return "{\"blocks\":\(report.blocks),\"damaged\":[\(damaged.joined(separator: ","))]}"
}

/// `-` is standard output.
private func write(_ text: String, to path: String) throws(Failure) {
    if path == "-" {
        print(text)
        return
    }
    try writeFile(path, text + "\n")
}

private func writeFile(_ path: String, _ text: String) throws(Failure) {
    var text = text
    let result = text.withUTF8 { rs_file_write(path, $0.baseAddress, $0.count) }
    if result < 0 { throw Failure(.invalidArgument, "\(path) cannot be written: errno \(-result)") }
}
