import Base
import Wire

/// Bytes of an untrusted peer: cut into frames as they come, in pieces of any size, with bodies read as every kind of message.
///
/// Half of the inputs get the right magic, version and checks, or nothing behind them would ever be reached.
@_cdecl("rs_fuzz_frames")
public func fuzzFrames(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    let input = UnsafeRawBufferPointer(start: bytes, count: count)
    guard let mode = input.first, count > 2 else { return 0 }
    let stream = UnsafeMutableRawBufferPointer.allocate(byteCount: count - 2, alignment: 8)
    defer { stream.deallocate() }
    stream.copyMemory(from: UnsafeRawBufferPointer(rebasing: input[2...]))
    if mode & 1 != 0 { sealFrames(stream) }
    receive(UnsafeRawBufferPointer(stream), pieces: Int(input[1]) * 7 + 1)
    readBodies(UnsafeRawBufferPointer(stream))
    return 0
}

/// Puts right what a sender of well-formed frames would have: magic, version, lengths that exist, checks.
private func sealFrames(_ stream: UnsafeMutableRawBufferPointer) {
    guard let base = stream.baseAddress else { return }
    var position = 0
    while position + FrameHeader.bytes <= stream.count {
        let head = base + position
        head.store(FrameHeader.magic, at: 0)
        head.store(FrameHeader.protocolVersion, at: 4)
        head.store(UInt64(0), at: 116)
        let left = stream.count - position - FrameHeader.bytes
        let meta = min(Int(head.load(UInt32.self, at: 80)), left)
        head.store(Checksum.of(UnsafeRawBufferPointer(start: head + FrameHeader.bytes, count: meta)), at: 112)
        head.store(Checksum.of(UnsafeRawBufferPointer(start: head, count: 124)), at: 124)
        position += FrameHeader.bytes + meta + min(Int(head.load(UInt32.self, at: 84)), left - meta)
    }
}

private func receive(_ stream: UnsafeRawBufferPointer, pieces: Int) {
    var receiver = FrameReceiver()
    let lists = UnsafeMutablePointer<IOVector>.allocate(capacity: 12)
    let target = lists + 8
    var payload: UnsafeMutableRawPointer?
    defer {
        lists.deallocate()
        payload?.deallocate()
    }
    var position = 0
    do throws(Failure) {
        while true {
            switch try receiver.next() {
            case .needsMore:
                let count = receiver.vectors(into: lists, capacity: 8)
                var room = 0
                for index in 0..<count { room += lists[index].count }
                let length = min(room, pieces, stream.count - position)
                if length == 0 { return }
                var done = 0
                for index in 0..<count where done < length {
                    let piece = min(lists[index].count, length - done)
                    for offset in 0..<piece {
                        lists[index].base.storeBytes(of: stream[position + done + offset], toByteOffset: offset, as: UInt8.self)
                    }
                    done += piece
                }
                position += length
                receiver.received(length)
            case .frame(_, let meta): readBodies(meta)
            case .payloadFollows(let header, let meta):
                readBodies(meta)
                if header.requestID & 1 == 0 {
                    receiver.skipPayload()
                    continue
                }
                payload?.deallocate()
                // Exactly as large as it must be, so that AddressSanitizer sees a byte too many.
                let bytes = Int(header.payloadBytes)
                let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 8)
                payload = memory
                let cut = bytes / 3
                target[0] = IOVector(memory, cut)
                target[1] = IOVector(memory + cut, 0)
                target[2] = IOVector(memory + cut, bytes - cut)
                receiver.takePayload(into: UnsafePointer(target))
            case .payloadComplete: break
            }
        }
    } catch { _ = receiver.refusedRequestID }
}

private func readBodies(_ body: UnsafeRawBufferPointer) {
    read(Hello.self, body)
    read(OpenRequest.self, body)
    read(OpenReply.self, body)
    read(ObjectRecord.self, body)
    read(NameRequest.self, body)
    read(StatReply.self, body)
    read(ListReply.self, body)
    read(StatisticsReply.self, body)
    read(VolumeMap.self, body)
    read(VolumeCreateRequest.self, body)
    read(VolumeOpenRequest.self, body)
    read(VolumeMembersRequest.self, body)
    read(VolumeMapRequest.self, body)
    read(VolumeCloseRequest.self, body)
    read(VolumeListReply.self, body)
    read(VolumeSetRequest.self, body)
    read(VolumeHealthReply.self, body)
    read(WriterReport.self, body)
    read(OSTRegisterRequest.self, body)
    read(RegisterReply.self, body)
    read(OSTListRequest.self, body)
    read(OSTListReply.self, body)
    read(OSTRemoveRequest.self, body)
    read(MDTRegisterRequest.self, body)
    read(MDTListReply.self, body)
    read(DoubtsReply.self, body)
    read(ChangedRequest.self, body)
    read(ChangedReply.self, body)
    read(ChecksReply.self, body)
    read(FillReply.self, body)
    read(CreateRequest.self, body)
    read(ResizeRequest.self, body)
    read(StampRequest.self, body)
    read(VolumeRecordReply.self, body)
}

/// What can be read reads the same after it was written again.
private func read<Body: Message>(_ type: Body.Type, _ bytes: UnsafeRawBufferPointer) {
    do throws(Failure) {
        let message = try Body(decoding: bytes)
        let again = message.encoded
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: again.count, alignment: 8)
        defer { memory.deallocate() }
        memory.copyBytes(from: again)
        let copy = try Body(decoding: UnsafeRawBufferPointer(memory))
        invariant(copy == message, "\(message) reads as \(copy)")
    } catch {}
}
