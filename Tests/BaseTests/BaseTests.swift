import Base
import Testing

@Suite struct BaseTests {
    @Test func limitsAgreeWithEachOther() { Limits.check() }

    @Test func checksumHasTheKnownValue() {
        let bytes = Array("123456789".utf8)
        #expect(bytes.withUnsafeBytes { Checksum.of($0) } == 0xe306_9283)
    }

    @Test func checksumContinues() {
        let bytes = (0..<9000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        bytes.withUnsafeBytes { all in
            let first = Checksum.of(UnsafeRawBufferPointer(rebasing: all[..<4097]))
            #expect(Checksum.of(UnsafeRawBufferPointer(rebasing: all[4097...]), continuing: first) == Checksum.of(all))
        }
    }

    @Test func identifierReadsBackFromItsText() throws {
        let id = Identifier(wallClockMilliseconds: 0x0123_4567_89ab, random: (0xfedc, 0x1111_2222_3333_4444))
        #expect(id.description == "01234567-89ab-7edc-9111-222233334444")
        #expect(Identifier(text: id.description) == id)
        #expect(Identifier(text: "01234567-89ab-7edc-9111-22223333444") == nil)
        #expect(Identifier(text: "01234567x89ab-7edc-9111-222233334444") == nil)
    }

    @Test func versionsOrderByGenerationFirst() {
        #expect(Version(generation: 1, sequence: 9) < Version(generation: 2, sequence: 1))
        #expect(Version(generation: 2, sequence: 1) < Version(generation: 2, sequence: 2))
    }

    @Test func everyErrorHasAnErrnoAndASentence() {
        for status in Status.allCases where status != .ok {
            #expect(status.errno != 0)
            #expect(!status.sentence.isEmpty)
        }
    }

    @Test func instantsSaturate() {
        #expect(Instant.never + .seconds(1) == .never)
        #expect(Instant.zero - Instant(nanoseconds: 5) == .seconds(0))
    }
}
