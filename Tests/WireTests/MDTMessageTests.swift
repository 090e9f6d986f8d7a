import Base
import Testing
import Wire

private let store = Identifier(high: 0x0102_0304_0506_0708, low: 0x1112_1314_1516_1718)
private let otherStore = Identifier(high: 0x2122_2324_2526_2728, low: 0x3132_3334_3536_3738)

private func hex(_ message: some Message) -> String { message.encoded.map { hexadecimal(UInt64($0), digits: 2) }.joined() }

private func decode<M: Message>(_ type: M.Type, _ bytes: some Sequence<UInt8>) throws -> M {
    try Array(bytes).withUnsafeBytes { try M(decoding: $0) }
}

private let object = ObjectRecord(
    id: Identifier(high: 1, low: 2), name: "vm1", bytes: 1 << 30, layout: Layout(dataMembers: 2), generation: 4, map: 5,
    createdMilliseconds: 6)

private let registration = OSTRegisterRequest(
    store: store, mountCounter: 7, boot: otherStore, endpoints: ["10.0.0.1:7710", "[::1]:7710"], host: "h1", domain: "r1/h1",
    capacityBytes: 1 << 40, freeBytes: 1 << 39, incarnation: 4)

private let mdtRegistration = MDTRegisterRequest(
    server: store, endpoints: ["10.0.0.1:7700", "[::1]:7700"], host: "h1", incarnation: 4)

/// Two placements on two OSTs, each member in a state of its own.
private func map() -> VolumeMap {
    VolumeMap(
        object: object, floor: 1, belowFloor: .fail(after: .milliseconds(258)),
        osts: [
            OSTEntry(store: store, mountCounter: 7, host: "h1", endpoints: ["10.0.0.1:7710"]),
            OSTEntry(store: otherStore, mountCounter: 8, host: "", endpoints: []),
            OSTEntry(store: Identifier(high: 1, low: 3), mountCounter: 9, host: "", endpoints: []),
        ],
        membersPerPlacement: 2,
        entries: [
            MemberEntry(ost: 0, changed: 1, incarnation: 1), MemberEntry(ost: 1, state: .stale, changed: 5, incarnation: 1),
            MemberEntry(ost: 1, state: .filling, changed: 4, incarnation: 3), MemberEntry(ost: 0, changed: 2, incarnation: 2),
        ],
        incarnation: 9, level: .rack, objectBytes: 1 << 31, resizes: 6, unresized: [VolumeMap.Unresized(ost: 1, cut: 512)],
        bases: [VolumeMap.FillBase(ost: 1, version: Version(generation: 3, sequence: 8))],
        moves: [MemberMove(placement: 1, member: 0, entry: MemberEntry(ost: 2, state: .filling, changed: 5, incarnation: 4))])
}

@Suite struct MDTMessageTests {
    private func roundTrip<M: Message>(_ message: M) throws {
        let encoded = message.encoded
        #expect(try decode(M.self, encoded) == message)
        for length in 0..<encoded.count {
            #expect(throws: Failure.self, "\(M.self) cut to \(length)") { try decode(M.self, encoded[..<length]) }
        }
    }

    @Test func bodiesReadBackAndTruncatedOnesAreRefused() throws {
        try roundTrip(map())
        try roundTrip(
            VolumeCreateRequest(
                name: "a/b", bytes: 512, layout: Layout(dataMembers: 3), level: .rack, floor: 2, placements: 1024,
                belowFloor: .fail(after: .seconds(5))))
        try roundTrip(VolumeSetRequest(name: "vm1", floor: 2))
        try roundTrip(VolumeSetRequest(name: "vm1", belowFloor: .wait))
        try roundTrip(report)
        try roundTrip(health)
        try roundTrip(VolumeOpenRequest(name: "vm1", flags: [.write, .force], nonce: store))
        try roundTrip(VolumeMembersRequest(id: store, generation: 9, stores: [store, otherStore]))
        try roundTrip(VolumeMapRequest(id: store))
        try roundTrip(VolumeMapRequest(name: "vm1"))
        try roundTrip(VolumeCloseRequest(id: store, generation: 3))
        let summary = VolumeSummary(
            object: object, level: .host, floor: 1, placements: 32, state: .removing, hasWriter: true, stale: 5, filling: 6, inSyncMin: 1,
            unresized: 2)
        try roundTrip(summary)
        try roundTrip(VolumeListReply(volumes: [summary, summary]))
        try roundTrip(registration)
        try roundTrip(RegisterReply(cluster: store, interval: .seconds(5)))
        try roundTrip(OSTListRequest(after: store))
        try roundTrip(OSTRemoveRequest(store: store))
        try roundTrip(mdtRegistration)
        try roundTrip(
            MDTListReply(
                cluster: store, uptime: .seconds(9),
                servers: [MDTStatus(registration: mdtRegistration, isAlive: true, silence: .seconds(3))]))
        try roundTrip(MDTListReply(cluster: .zero, uptime: .seconds(0), servers: []))
        try roundTrip(
            OSTListReply(osts: [
                OSTStatus(registration: registration, isDrained: true, isAlive: false, silence: .seconds(3), isConnected: true)
            ]))
    }

    @Test func goldenBytesOfAMap() {
        let record =
            "00000000000000010000000000000002" + "0300766d31" + "0000004000000000" + "01" + "0000400000000000" + "0200" + "0000"
            + "0400000000000000" + "0500000000000000" + "0600000000000000"
        let osts =
            "0300" + "01020304050607081112131415161718" + "0700000000000000" + "02006831" + "01" + "0d0031302e302e302e313a37373130"
            + "21222324252627283132333435363738" + "0800000000000000" + "0000" + "00" + "00000000000000010000000000000003"
            + "0900000000000000"
            + "0000" + "00"
        let members =
            "0200" + "0200" + "0000" + "01" + "0100000000000000" + "0100000000000000" + "0100" + "02" + "0500000000000000"
            + "0100000000000000" + "0100" + "03" + "0400000000000000" + "0300000000000000" + "0000" + "01" + "0200000000000000"
            + "0200000000000000"
        let rest =
            "0900000000000000" + "03" + "0000008000000000" + "0600000000000000" + "0100" + "0100" + "0002000000000000" + "0100" + "0100"
            + "0300000000000000" + "0800000000000000" + "0100" + "0100" + "0000" + "0200" + "03" + "0500000000000000"
            + "0400000000000000"
        #expect(hex(map()) == record + "0100" + "02010000" + osts + members + rest)
    }

    @Test func goldenBytesOfRequests() {
        let id = "01020304050607081112131415161718"
        let other = "21222324252627283132333435363738"
        #expect(
            hex(VolumeCreateRequest(name: "vm1", bytes: 1 << 30, layout: Layout(dataMembers: 2), level: .rack, floor: 1, placements: 258))
                == "0300766d31" + "0000004000000000" + "01" + "0000400000000000" + "0200" + "0000" + "03" + "0100" + "0201" + "00000000")
        #expect(
            hex(VolumeSetRequest(name: "vm1", floor: 3, belowFloor: .fail(after: .milliseconds(258)))) == "0300766d31" + "0300" + "01"
                + "02010000")
        #expect(hex(VolumeSetRequest(name: "vm1", floor: 3)) == "0300766d31" + "0300" + "00" + "00000000")
        #expect(hex(VolumeOpenRequest(name: "vm1", flags: [.write, .force], nonce: store)) == "0300766d31" + "03" + id)
        #expect(
            hex(VolumeMembersRequest(id: store, generation: 9, stores: [otherStore], base: Version(generation: 2, sequence: 3)))
                == id + "0900000000000000" + "0100" + other + "0200000000000000" + "0300000000000000")
        #expect(hex(VolumeMapRequest(name: "vm1")) == "00000000000000000000000000000000" + "0300766d31")
        #expect(hex(VolumeCloseRequest(id: store, generation: 3)) == id + "0300000000000000")
        #expect(
            hex(registration) == id + "0700000000000000" + other + "02" + "0d0031302e302e302e313a37373130" + "0a005b3a3a315d3a37373130"
                + "02006831" + "050072312f6831" + "0000000000010000" + "0000000080000000" + "0400000000000000")
        #expect(hex(RegisterReply(cluster: store, interval: .seconds(5))) == id + "88130000")
        let status = OSTStatus(
            registration: registration, isDrained: true, isAlive: false, silence: .milliseconds(1), isConnected: true)
        #expect(hex(status) == hex(registration) + "01" + "00" + "40420f0000000000" + "01")
    }

    private let resync = ResyncProgress(
        store: store, state: .copying, totalBytes: 258, doneBytes: 257, copiedBytes: 3, elapsed: .milliseconds(1), trouble: "ab")

    private var report: WriterReport { WriterReport(id: otherStore, generation: 9, stalled: 2, resyncs: [resync]) }

    private var health: VolumeHealthReply {
        VolumeHealthReply(
            summary: summary, writer: .here, client: "fio", silence: .milliseconds(1), nowMilliseconds: 258,
            members: [
                VolumeHealthReply.Member(store: store, inSync: 1, stale: 2, filling: 3, last: 4, sinceMilliseconds: 5, resync: resync),
                VolumeHealthReply.Member(store: otherStore, inSync: 6, stale: 0, filling: 0, last: 0, sinceMilliseconds: 0),
            ])
    }

    private var summary: VolumeSummary {
        VolumeSummary(
            object: object, level: .host, floor: 1, placements: 32, state: .creating, hasWriter: true, stale: 5, filling: 6, inSyncMin: 1,
            unresized: 2, belowFloor: .fail(after: .milliseconds(258)), away: 3, reachableMin: 0, stalled: 4)
    }

    @Test func goldenBytesOfHealth() {
        let (id, other) = ("01020304050607081112131415161718", "21222324252627283132333435363738")
        let progress =
            id + "03" + "0201000000000000" + "0101000000000000" + "0300000000000000" + "40420f0000000000" + "02006162"
        #expect(hex(report) == other + "0900000000000000" + "02000000" + "0100" + progress)
        let members =
            "0200" + id + "0100" + "0200" + "0300" + "0400" + "0500000000000000" + "01" + progress + other + "0600" + "0000" + "0000"
            + "0000" + "0000000000000000" + "00"
        #expect(hex(health) == hex(summary) + "01" + "030066696f" + "40420f0000000000" + "0201000000000000" + members)
    }

    /// What a writer says of its trouble is for people: it is cut at the end of a character rather than refused.
    @Test func aLongStoryIsCut() {
        let long = ResyncProgress(store: store, state: .waiting, elapsed: .seconds(1), trouble: String(repeating: "ä", count: 100))
        #expect(long.trouble.utf8.count <= ResyncProgress.troubleBytesMax && long.trouble.hasSuffix("ä…"))
        let exact = String(repeating: "x", count: ResyncProgress.troubleBytesMax)
        #expect(ResyncProgress(store: store, state: .waiting, elapsed: .seconds(1), trouble: exact).trouble == exact)
    }

    @Test func goldenBytesOfTheDirectory() {
        let id = "01020304050607081112131415161718"
        let registration =
            id + "02" + "0d0031302e302e302e313a37373030" + "0a005b3a3a315d3a37373030" + "02006831" + "0400000000000000"
        #expect(hex(mdtRegistration) == registration)
        let listed = MDTStatus(registration: mdtRegistration, isAlive: true, silence: .milliseconds(1))
        #expect(
            hex(MDTListReply(cluster: store, uptime: .milliseconds(2), servers: [listed]))
                == id + "80841e0000000000" + "0100" + registration + "01" + "40420f0000000000")
    }

    @Test func goldenBytesOfASummary() {
        #expect(
            hex(summary) == hex(object) + "02" + "0100" + "2000" + "02" + "01" + "05000000" + "06000000" + "0100" + "0200" + "02010000"
                + "03000000" + "0000" + "04000000")
    }

    @Test func notesOfAMapAreBits() throws {
        let notes = VolumeMapNotes(hasWriter: true, level: .rack, unresized: 258)
        #expect(notes.argument == 0x0102_0301)
        #expect(VolumeMapNotes(hasWriter: false, level: .rack, unresized: 258, isMoveDue: true).argument == 0x0102_0302)
        #expect(VolumeMapNotes(hasWriter: false, level: .rack, unresized: 258, isUnsettled: true).argument == 0x0102_0304)
        #expect(try VolumeMapNotes(argument: notes.argument) == notes)
        #expect { try VolumeMapNotes(argument: 0x0900) } throws: { "\($0)".contains("level 9") }
    }

    @Test func opcodesAreWhereTheyWere() {
        let values = Opcode.allCases.filter(\.isOfMetadata).map { "\($0) \($0.rawValue)" }
        #expect(
            values == [
                "volumeCreate 64", "volumeOpen 65", "volumeExclude 66", "volumeMap 67", "volumeList 68", "volumeRemove 69",
                "volumeResize 70", "volumeClose 71", "volumeFill 72", "volumeInSync 73", "volumeSet 74", "volumeHealth 75",
                "volumeReplace 76", "volumeSettle 77",
                "ostRegister 80", "ostList 81", "ostRemove 82", "ostDrain 83",
            ])
        let management = Opcode.allCases.filter(\.isOfManagement).map { "\($0) \($0.rawValue)" }
        #expect(management == ["mdtRegister 96", "mdtList 97"])
        #expect(Status.unavailable.rawValue == 25 && Status.wrongStore.rawValue == 26)
    }

    @Test func aMapThatContradictsItselfIsRefused() {
        refuses("on OST number 0") { $0.entries[1].ost = 0 }
        refuses("on OST number 3 of 3") { $0.entries[1].ost = 3 }
        refuses("floor of 0") { $0.floor = 0 }
        refuses("floor of 3") { $0.floor = 3 }
        refuses("its layout 3") { $0.object.layout.dataMembers = 3 }
        refuses("an OST twice") { $0.osts[1].store = store }
        refuses("keeps nothing") { $0.osts.append(OSTEntry(store: .zero, mountCounter: 0, host: "", endpoints: [])) }
        refuses("0 of them") { $0.entries = [] }
        refuses("does not list") { $0.unresized[0].ost = 3 }
        refuses("is moving to OST number 0") { $0.moves[0].entry.ost = 0 }
        refuses("is moving to") { $0.moves[0].entry.state = .inSync }
        refuses("is moving to") { $0.moves.append($0.moves[0]) }
        refuses("is moving to") { $0.moves[0].placement = 2 }
        refuses("is moving to") { $0.moves[0].member = 2 }
        refuses("said of it before") { $0.bases.append($0.bases[0]) }
    }

    private func refuses(_ text: String, _ change: (inout VolumeMap) -> Void) {
        var bad = map()
        change(&bad)
        #expect { try decode(VolumeMap.self, bad.encoded) } throws: { "\($0)".contains(text) }
    }

    @Test func whatIsUnknownIsNamed() {
        var plain = map()
        (plain.unresized, plain.bases, plain.moves) = ([], [], [])
        var bytes = plain.encoded
        bytes[bytes.count - 31 - 17] = 9
        #expect { try decode(VolumeMap.self, bytes) } throws: { "\($0)".contains("member state 9") }
        var open = VolumeOpenRequest(name: "a", flags: .write).encoded
        open[3] = 4
        #expect { try decode(VolumeOpenRequest.self, open) } throws: { ($0 as? Failure)?.status == .unsupported }
        var create = VolumeCreateRequest(name: "a", bytes: 512, layout: Layout()).encoded
        create[create.count - 9] = 7
        #expect { try decode(VolumeCreateRequest.self, create) } throws: { "\($0)".contains("level 7") }
    }

    @Test func aMapNeverTakesMoreThanItsBound() {
        var large = map()
        large.object.name = String(repeating: "n", count: Limits.nameBytesMax)
        let part = String(repeating: "e", count: Limits.endpointsBytesMax / Limits.endpointsPerOSTMax)
        for index in large.osts.indices {
            large.osts[index].host = String(repeating: "h", count: Limits.hostNameBytesMax)
            large.osts[index].endpoints = Array(repeating: part, count: Limits.endpointsPerOSTMax)
        }
        for ost in [0, 2] {
            large.unresized.append(VolumeMap.Unresized(ost: ost, cut: 1))
            large.bases.append(VolumeMap.FillBase(ost: ost, version: .zero))
        }
        #expect(large.encoded.count == VolumeMap.bytesMax(osts: 3, entries: 4, moves: 1))
    }

    @Test func listsFitABody() {
        let name = String(repeating: "n", count: Limits.nameBytesMax)
        var large = object
        large.name = name
        let summary = VolumeSummary(
            object: large, level: .host, floor: 1, placements: 32, state: .ready, hasWriter: true, stale: 5, filling: 6, inSyncMin: 1,
            unresized: 2)
        #expect(
            VolumeListReply(volumes: Array(repeating: summary, count: VolumeListReply.countMax)).encoded.count <= Limits.metaBytesMax)
        var longest = registration
        longest.host = String(repeating: "h", count: Limits.hostNameBytesMax)
        longest.domain = String(repeating: "d", count: 3 * Limits.domainNameBytesMax + 2)
        let part = String(repeating: "e", count: Limits.endpointsBytesMax / Limits.endpointsPerOSTMax)
        longest.endpoints = Array(repeating: part, count: Limits.endpointsPerOSTMax)
        let status = OSTStatus(registration: longest, isDrained: true, isAlive: true, silence: .seconds(1), isConnected: true)
        let server = MDTStatus(
            registration: MDTRegisterRequest(
                server: store, endpoints: longest.endpoints, host: longest.host, incarnation: 1), isAlive: true, silence: .seconds(1))
        #expect(
            MDTListReply(cluster: store, uptime: .seconds(1), servers: Array(repeating: server, count: Limits.metadataServersMax))
                .encoded.count <= Limits.metaBytesMax)
        #expect(OSTListReply(osts: Array(repeating: status, count: OSTListReply.countMax)).encoded.count <= Limits.metaBytesMax)
        var sick = health
        let trouble = String(repeating: "x", count: ResyncProgress.troubleBytesMax)
        sick.summary = summary
        sick.client = String(repeating: "x", count: VolumeHealthReply.clientBytesMax)
        sick.members[0].resync = ResyncProgress(store: store, state: .waiting, elapsed: .seconds(1), trouble: trouble)
        sick.members = Array(repeating: sick.members[0], count: Limits.peersPerVolumeMax)
        #expect(sick.encoded.count <= Limits.metaBytesMax)
        let all = WriterReport(id: store, generation: 1, resyncs: sick.members.compactMap(\.resync))
        #expect(all.encoded.count <= Limits.metaBytesMax)
    }

    @Test func aMapFindsItsWay() {
        let map = map()
        #expect(map.placementCount == 2 && map.placement(ofChunk: 7) == 1)
        #expect(map[1, 0].state == .filling && map.ost(1, 0).store == otherStore)
        #expect(map.count(.inSync, in: 0) == 1 && map.count(.stale, in: 0) == 1 && map.count(.filling, in: 0) == 0)
        #expect(map.index(of: otherStore) == 1 && map.index(of: .zero) == nil)
    }
}
