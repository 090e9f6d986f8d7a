import Base
import Environment
import Simulation
import Wire

/// Bytes of a peer that keeps no rules, and what comes back.

/// What a server sends back for these bytes until it closes, or for some time.
func send(
    _ bytes: [UInt8], to bench: MDTBench, at address: Endpoint = MDTBench.address, for time: Interval = .seconds(2)
) throws -> [UInt8] {
    let world = bench.client
    return try bench.run { () throws(Failure) in
        let operations = Operations(world)
        guard case .success(let stream) = await operations.connect(to: address, deadline: world.now + .seconds(5)) else {
            throw Failure(.unreachable)
        }
        let watchdog = Watchdog(world, stream)
        watchdog.arm(world.now + time)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 4096), alignment: 64)
        memory.copyBytes(from: bytes)
        _ = await operations.send(stream, UnsafeMutableRawBufferPointer(rebasing: memory[..<bytes.count]))
        var answer: [UInt8] = []
        while true {
            let count = await operations.receive(stream, into: memory)
            if count <= 0 { break }
            answer += memory[..<count]
        }
        memory.deallocate()
        watchdog.close()
        world.close(stream)
        operations.close()
        return answer
    }
}

func frame(_ header: FrameHeader, _ body: [UInt8] = []) -> [UInt8] {
    var header = header
    header.metaBytes = UInt32(body.count)
    header.metaCheck = body.withUnsafeBytes { Checksum.of($0) }
    var bytes = [UInt8](repeating: 0, count: FrameHeader.bytes)
    bytes.withUnsafeMutableBytes { raw in if let base = raw.baseAddress { header.encode(to: base) } }
    return bytes + body
}

func header(_ bytes: [UInt8]) throws -> FrameHeader {
    guard bytes.count >= FrameHeader.bytes else { throw Failure(.malformed, "\(bytes.count) bytes") }
    return try bytes.withUnsafeBytes { raw in try FrameHeader.decode(raw.baseAddress ?? UnsafeRawPointer(bitPattern: 1)!) }
}

/// What every connection of a client begins with.
let hello = frame(FrameHeader(.hello), Hello(role: .client).encoded)
