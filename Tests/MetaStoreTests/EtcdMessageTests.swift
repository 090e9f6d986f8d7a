import Base
import MetaStore
import Simulation
import Testing

@testable import EtcdStore

/// Addresses, base64, JSON and the messages: pure, and fed with what nobody should say.
@Suite struct EtcdMessageTests {
    @Test func addressesAreReadAsTheyAreWritten() throws {
        let plain = try EtcdAddress("etcd://h1:2379,h2,[::1]:99/prod-1")
        #expect(plain.endpoints == ["h1:2379", "h2:2379", "[::1]:99"] && plain.name == "prod-1" && !plain.isEncrypted)
        #expect(plain.description == "etcd://h1:2379,h2:2379,[::1]:99/prod-1")
        #expect(try EtcdAddress("etcd+tls://h1").description == "etcd+tls://h1:2379/rawstor")
        for text in [
            "etcd://", "etcd://h1,", "etcd://h1:0", "etcd://h1:x", "etcd://h1:99999", "etcd://h1/", "etcd://h1/a/b", "etcd://h 1",
            "etcd://::1",
            "etcd://h1,h1:2379", "etcd://u:p@h1", "etcd://h1/" + String(repeating: "x", count: 65), "http://h1", "etcd://h1?x",
            "etcd://" + (0...16).map { "h\($0)" }.joined(separator: ","), "etcd://[h1]x",
        ] {
            do {
                let read = try EtcdAddress(text)
                Issue.record("\(text) was read as \(read)")
            } catch {
                #expect(error.status == .invalidArgument && error.detail.contains("'"))
            }
        }
    }

    @Test func base64IsThatOfEverybody() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")] {
            var written: [UInt8] = []
            Base64.append(Array(bytes.utf8), to: &written)
            #expect(String(decoding: written, as: UTF8.self) == text)
            #expect(Base64.decode(Array(text.utf8)) == Array(bytes.utf8))
        }
        for text in ["Z", "Zg", "Zg=", "Zg===", "Z===", "====", "Zh==", "Zm9=", "Zg==Zg==", "Z g=", "Zm8_", "\u{e9}==", "=g=="] {
            #expect(Base64.decode(Array(text.utf8)) == nil, "\(text)")
        }
        var random = Random(seed: 5)
        for count in 0..<300 {
            let bytes = (0..<count).map { _ in UInt8(random.below(256)) }
            var text: [UInt8] = []
            Base64.append(bytes, to: &text)
            #expect(Base64.decode(text) == bytes)
        }
    }

    @Test func jsonIsReadWhole() throws {
        let json = try JSON(Array(" {\"a\" : [1, -2.5e3,\"x\\n\\u00e9\\\"\", true,false,null,{},[]] , \"a\":2, \"b\":\"\"}\n".utf8))
        #expect(
            json["a"]
                == .array([
                    .number("1"), .number("-2.5e3"), .string(Array("x\n\u{e9}\"".utf8)), .bool(true), .bool(false), .null, .object([]),
                    .array([]),
                ]))
        #expect(json["b"] == .string([]) && json["c"] == nil && JSON.null["a"] == nil)
        let deep = String(repeating: "[", count: 100_000)
        for text in [
            "", " ", "{", "}", "{\"a\"}", "{\"a\":}", "{a:1}", "[1,]", "[1 2]", "tru", "\"", "\"\\", "\"\\u12", "\"\\x\"", "1 2", "{}x",
            deep,
        ] {
            #expect(throws: Failure.self) { try JSON(Array(text.utf8)) }
        }
    }

    private let messages = EtcdMessages(name: "test")
    private let keys: [MetaKey] = ["a", "b"]
    private let range = MetaKeyRange(prefix: "", after: nil)

    /// "test/a" with the value "1" and its check, at revision 5 of 7.
    private var pair: String {
        var (key, value): ([UInt8], [UInt8]) = ([], [])
        Base64.append(Array("test/a".utf8), to: &key)
        let check = Array("a1".utf8).withUnsafeBytes { Checksum.of($0) }
        Base64.append([49] + (0..<4).map { UInt8(truncatingIfNeeded: check >> ($0 * 8)) }, to: &value)
        let texts = (String(decoding: key, as: UTF8.self), String(decoding: value, as: UTF8.self))
        return "{\"key\":\"\(texts.0)\",\"mod_revision\":\"5\",\"value\":\"\(texts.1)\"}"
    }
    private var answer: String {
        "{\"header\":{\"cluster_id\":\"17\",\"revision\":\"7\"},\"succeeded\":true,\"responses\":["
            + "{\"response_range\":{\"kvs\":[\(pair)],\"count\":\"1\"}},"
            + "{\"response_range\":{}}],\"kvs\":[\(pair)],\"more\":true}"
    }
    private var transaction: MetaTransaction { MetaTransaction(if: [.absent("a"), .absent("b")], [.delete("a")]) }

    @Test func answersAreUnderstood() throws {
        let json = try JSON(Array(answer.utf8))
        let value = MetaValue([49], MetaRevision(5))
        #expect(try messages.snapshot(json, of: keys) == MetaSnapshot(MetaRevision(7), [value, nil]))
        let page = try messages.entries(json, of: range)
        #expect(page.entries == [MetaEntry("a", value)] && page.hasMore)
        #expect(try messages.outcome(json, of: transaction) == .committed(MetaRevision(7)))
        let refused = try JSON(Array(answer.replacing("\"succeeded\":true,", with: "").utf8))
        #expect(try messages.outcome(refused, of: transaction) == .conflict("a"))
    }

    /// Whatever byte is changed, cut or put in: a value or an error, and never another value of the key.
    @Test func whateverIsAnsweredIsAValueOrAnError() {
        let whole = Array(answer.utf8)
        var random = Random(seed: 9)
        var (values, errors) = (0, 0)
        for round in 0..<20_000 {
            var bytes = whole
            if round < whole.count { bytes.removeLast(whole.count - round) }
            for _ in 0...random.below(3) where !bytes.isEmpty && round >= whole.count {
                let place = random.below(bytes.count)
                switch random.below(4) {
                case 0: bytes[place] ^= 1 << UInt8(random.below(8))
                case 1: bytes.remove(at: place)
                case 2: bytes.insert(UInt8(random.below(256)), at: place)
                case _: bytes.insert(contentsOf: bytes[place..<min(place + random.below(40), bytes.count)], at: random.below(bytes.count))
                }
            }
            do throws(Failure) {
                let json = try JSON(bytes)
                _ = try messages.outcome(json, of: transaction)
                _ = try messages.entries(json, of: range)
                if let value = try messages.snapshot(json, of: keys).values[0] {
                    #expect(value.bytes == [49])
                    values += 1
                }
            } catch {
                #expect([.malformed, .damaged].contains(error.status))
                errors += 1
            }
            _ = EtcdClient.error(in: bytes)
        }
        #expect(values > 100 && errors > 1000, "\(values) values, \(errors) errors")
    }
}
