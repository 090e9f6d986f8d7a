import Base
import Testing
import Wire

/// A header in which every field has a value of its own, so that a swapped pair cannot hide.
private func fullHeader() -> FrameHeader {
    var header = FrameHeader(.write)
    header.flags = .durable
    header.requestID = 0x0102_0304_0506_0708
    header.generation = 0x1112_1314_1516_1718
    header.map = 0x2122_2324_2526_2728
    header.session = 0x3132_3334_3536_3738
    header.sequence = 0x4142_4344_4546_4748
    header.mark = 0x5152_5354_5556_5758
    header.deadlineOrStatus = 0x6162_6364
    header.handle = 0x7172_7374
    header.part = PartAddress(chunk: 0x8182_8384, member: 0x9192, incarnation: 0xb1b2_b3b4_b5b6_b7b8)
    header.snapshot = 0xa1a2
    header.firstBlock = 0xc1c2_c3c4
    header.blockCount = 2
    header.metaBytes = 8
    header.payloadBytes = 8192
    header.touched = 0xd1d2_d3d4_d5d6_d7d8
    header.argument = 0xe1e2_e3e4_e5e6_e7e8
    header.metaCheck = 0xf1f2_f3f4
    return header
}

private func bytes(of header: FrameHeader) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xee, count: FrameHeader.bytes)
    bytes.withUnsafeMutableBytes { header.encode(to: $0.baseAddress!) }
    return bytes
}

private func decode(_ bytes: [UInt8]) throws(Failure) -> FrameHeader {
    let result: Result<FrameHeader, Failure> = bytes.withUnsafeBytes { raw in
        do throws(Failure) { return .success(try FrameHeader.decode(raw.baseAddress!)) } catch { return .failure(error) }
    }
    return try result.get()
}

/// Recomputes the header's own check after a field was forged.
private func sealed(_ bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    let check = bytes.withUnsafeBytes { Checksum.of(UnsafeRawBufferPointer(rebasing: $0[..<124])) }
    bytes.withUnsafeMutableBytes { $0.baseAddress!.store(check, at: 124) }
    return bytes
}

@Suite struct FrameHeaderTests {
    @Test func goldenBytesOfTheHeader() {
        let golden = """
            525357310100110208070605040302011817161514131211282726252423222138373635343332314847464544434241585756555453525164636261\
            74737271\
            8483828192 91a2a1c4c3c2c1020000000800000000200000b8b7b6b5b4b3b2b1d8d7d6d5d4d3d2d1e8e7e6e5e4e3e2e1f4f3f2f10000000000000000
            """.filter { $0 != " " }
        let hex = bytes(of: fullHeader())[..<124].map { hexadecimal(UInt64($0), digits: 2) }.joined()
        #expect(hex == golden)
    }

    @Test func flagsHaveTheirBits() throws {
        for (flags, raw) in [(FrameHeader.Flags.reply, UInt8(1)), (.durable, 2), (.fill, 4), (.inDoubt, 8), (.lost, 16), (.rewrite, 32)] {
            var header = FrameHeader(.flush)
            header.flags = flags
            #expect(bytes(of: header)[7] == raw)
            #expect(try decode(bytes(of: header)).flags == flags)
        }
        for bit in 6..<UInt8(8) {
            var bad = bytes(of: fullHeader())
            bad[7] |= 1 << bit
            #expect(throws: Failure.self) { try decode(sealed(bad)) }
        }
    }

    @Test func headerReadsBack() throws {
        #expect(try decode(bytes(of: fullHeader())) == fullHeader())
    }

    @Test func everyFlippedBitIsNoticed() {
        let good = bytes(of: fullHeader())
        for bit in 0..<(FrameHeader.bytes * 8) {
            var bad = good
            bad[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: Failure.self) { try decode(bad) }
        }
    }

    @Test func forgedLengthsAreRefusedThoughTheCheckIsRight() {
        for (offset, value) in [(80, UInt32.max), (84, UInt32.max), (84, 8193), (80, 7), (76, 0), (76, 257), (76, UInt32.max)] {
            var bad = bytes(of: fullHeader())
            bad.withUnsafeMutableBytes { $0.baseAddress!.store(value, at: offset) }
            #expect(throws: Failure.self, "value \(value) at \(offset)") { try decode(sealed(bad)) }
        }
    }

    @Test func anotherProtocolVersionIsNamed() {
        var bad = bytes(of: fullHeader())
        bad[4] = 9
        #expect {
            try decode(sealed(bad))
        } throws: { error in
            (error as? Failure)?.status == .wrongVersion && "\(error)".contains("version 9")
        }
    }
}

@Suite struct MessageTests {
    private func roundTrip<M: Message>(_ message: M) throws {
        let encoded = message.encoded
        #expect(try encoded.withUnsafeBytes { try M(decoding: $0) } == message)
        for length in 0..<encoded.count {
            #expect(throws: Failure.self, "\(M.self) cut to \(length)") {
                try encoded[..<length].withUnsafeBytes { try M(decoding: $0) }
            }
        }
    }

    private var object: ObjectRecord {
        ObjectRecord(
            id: Identifier(high: 1, low: 2), name: "vm1", bytes: 1 << 30, layout: Layout(dataMembers: 3), generation: 4, map: 5,
            createdMilliseconds: 6)
    }

    @Test func bodiesReadBackAndTruncatedOnesAreRefused() throws {
        try roundTrip(Hello(role: .ost, cluster: Identifier(high: 1, low: 2), mountCounter: 7, software: "rawstor 0.1"))
        try roundTrip(OpenRequest(name: "vm1", flags: [.write, .settle], nonce: Identifier(high: 3, low: 4)))
        try roundTrip(OpenReply(object: object, highest: Version(generation: 7, sequence: 8), doubts: 9))
        try roundTrip(NameRequest(name: "a/b"))
        let range = DoubtRange(
            part: PartAddress(chunk: 1, member: 2, incarnation: 3), firstBlock: 4, blockCount: 5,
            version: Version(generation: 6, sequence: 7))
        try roundTrip(DoubtsReply(ranges: [range, range]))
        #expect(range.encoded.count == DoubtRange.encodedBytes)
        try roundTrip(ChangedRequest(above: Version(generation: 1, sequence: 2)))
        let page = ChangedPage(
            part: PartAddress(chunk: 1, member: 2, incarnation: 3), page: 4, highest: Version(generation: 5, sequence: 6))
        try roundTrip(ChangedReply(pages: [page, page]))
        #expect(page.encoded.count == ChangedPage.encodedBytes)
        try roundTrip(FillReply(base: Version(generation: 1, sequence: 2)))
        let doubtful = BlockCheck(.zero, check: 3, doubt: Version(generation: 4, sequence: 5))
        try roundTrip(
            ChecksReply(
                highest: Version(generation: 1, sequence: 2), mark: Version(generation: 1, sequence: 1),
                blocks: [doubtful, BlockCheck(.data, check: 9), BlockCheck(.lost, check: 0), BlockCheck(.absent, check: 1)]))
        try roundTrip(StatReply(object: object, mappedBlocks: 10, hasWriter: true))
        try roundTrip(ListReply(objects: [StatReply(object: object, mappedBlocks: 1, hasWriter: false)]))
        try roundTrip(
            StatisticsReply(
                capacityBytes: 1, freeBytes: 2, usedBytes: 3, objects: 4, diskReads: 5, diskWrites: 6, diskWrittenBytes: 7, diskFlushes: 8,
                damagedReads: 9, damagedBlocks: 10))
    }

    @Test func goldenBytesOfAnOpen() {
        let nonce = Identifier(high: 0x0102_0304_0506_0708, low: 0x1112_1314_1516_1718)
        let message = OpenRequest(name: "vm1", flags: .write, nonce: nonce, record: [0xa1, 0xa2])
        #expect(hex(message) == "0300766d31" + "01" + "01020304050607081112131415161718" + "02000000" + "a1a2")
        let all = OpenRequest(name: "v", flags: [.write, .force, .settle, .fence])
        #expect(all.encoded[3] == 15)
        #expect(OpenRequest(name: "v", flags: [.write, .fence]).encoded[3] == 9)
    }

    private func hex(_ message: some Message) -> String { message.encoded.map { hexadecimal(UInt64($0), digits: 2) }.joined() }

    @Test func goldenBytesOfVolumeRecords() throws {
        #expect(hex(StampRequest(record: [1, 2, 3])) == "03000000" + "010203")
        #expect(hex(ResizeRequest(name: "v", record: [7])) == "010076" + "01000000" + "07")
        #expect(hex(VolumeRecordReply(resizes: 5, record: [8])) == "0500000000000000" + "01000000" + "08")
        let object = ObjectRecord(id: Identifier(high: 1, low: 2), name: "v", bytes: 512)
        #expect(hex(CreateRequest(object, record: [9])) == hex(object) + "01000000" + "09")
        #expect(hex(Hello(role: .client, incarnation: 6)).hasSuffix("0000" + "0000" + "0600000000000000"))
        let nearby = Nearby(place: Identifier(high: 1, low: 2), name: Identifier(high: 3, low: 4))
        let identifiers = "0000000000000001" + "0000000000000002" + "0000000000000003" + "0000000000000004"
        #expect(hex(Hello(role: .ost, nearby: nearby)) == hex(Hello(role: .ost)) + identifiers)
        #expect(try Hello(decoding: Hello(role: .ost, nearby: nearby).encoded).nearby == nearby)
        // Half of it is none.
        #expect(throws: Failure.self) { try Hello(decoding: Hello(role: .ost, nearby: nearby).encoded.dropLast()) }
        #expect(Opcode.volumeRecord.rawValue == 11 && Opcode.adopt.rawValue == 12)
        let tooLarge = StampRequest(record: [UInt8](repeating: 0, count: Limits.volumeRecordBytesMax + 1)).encoded
        #expect(throws: Failure.self) { try tooLarge.withUnsafeBytes { try StampRequest(decoding: $0) } }
    }

    @Test func goldenBytesOfDoubts() {
        let range = DoubtRange(
            part: PartAddress(chunk: 0x0102_0304, member: 0x1112, incarnation: 0x2122_2324_2526_2728), firstBlock: 0x3132_3334,
            blockCount: 0x4142_4344, version: Version(generation: 0x5152_5354_5556_5758, sequence: 0x6162_6364_6566_6768))
        let hex = DoubtsReply(ranges: [range]).encoded.map { hexadecimal(UInt64($0), digits: 2) }.joined()
        #expect(
            hex == "0100" + "04030201" + "1211" + "2827262524232221" + "34333231" + "44434241" + "5857565554535251" + "6867666564636261")
        #expect(Opcode.doubts.rawValue == 22 && Opcode.stamp.rawValue == 23)
    }

    @Test func goldenBytesOfWhatARecoveryAsks() {
        func hex(_ bytes: [UInt8]) -> String { bytes.map { hexadecimal(UInt64($0), digits: 2) }.joined() }
        let version = Version(generation: 0x0102_0304_0506_0708, sequence: 0x1112_1314_1516_1718)
        #expect(hex(ChangedRequest(above: version).encoded) == "0807060504030201" + "1817161514131211")
        let page = ChangedPage(
            part: PartAddress(chunk: 0x2122_2324, member: 0x3132, incarnation: 0x4142_4344_4546_4748), page: 0x5152_5354, highest: version)
        #expect(
            hex(ChangedReply(pages: [page]).encoded) == "0100" + "24232221" + "3231" + "4847464544434241" + "54535251" + "0807060504030201"
                + "1817161514131211")
        let reply = ChecksReply(
            highest: version, mark: Version(generation: 6, sequence: 7),
            blocks: [BlockCheck(.data, check: 0x6162_6364), BlockCheck(.lost, check: 0, doubt: Version(generation: 8, sequence: 9))])
        #expect(
            hex(reply.encoded) == "0807060504030201" + "1817161514131211" + "0600000000000000" + "0700000000000000" + "0200"
                + "02" + "64636261" + "83" + "00000000" + "0800000000000000" + "0900000000000000")
        #expect(hex(FillReply(base: version).encoded) == "0807060504030201" + "1817161514131211")
        #expect([Opcode.changed, .checks, .fillBegin, .fillEnd, .fillPage].map(\.rawValue) == [24, 25, 26, 27, 28])
        #expect(OpenRequest(name: "v", flags: .recover).encoded[3] == 16)
    }
}
