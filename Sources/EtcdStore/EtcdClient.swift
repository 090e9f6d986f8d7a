import Base
import CCurl
import CSystem
import MetaStore

/// The servers of one etcd, asked one after the other over HTTP. All of it runs on the store's thread and waits there, each request for a
/// bounded time.
///
/// - The server that answered last is asked first. When it fails, the others are, each once.
/// - A read may be asked anywhere again. A change is sent to the next server only if this one cannot have read it; else its outcome is not
///   known, and the caller is told so (`Failure.leavesCommitOpen`).
/// - Answers of another etcd, or of a revision before one that was seen, are not believed: an etcd that was restored from a backup, or a
///   server of something else. If one comes for a change, nothing is asked any more until the store is opened anew.
final class EtcdClient: @unchecked Sendable {
    struct Answer {
        var json: JSON
        /// Why another server than before has answered.
        var moved: String?
    }

    private let address: EtcdAddress
    private let messages: EtcdMessages
    private let http: OpaquePointer
    private var current = 0
    /// Servers known to be of this etcd.
    private var known: Set<Int> = []
    private var cluster: UInt64?
    private var highest = MetaRevision.none
    private var failed: Failure?

    init(_ address: EtcdAddress, _ messages: EtcdMessages, _ trust: EtcdTrust) throws(Failure) {
        self.address = address
        self.messages = messages
        guard let made = rs_http_make() else { throw Failure(.outOfMemory, "libcurl finds no memory") }
        http = made
        guard rs_http_trust(http, trust.authorities, trust.certificate, trust.key) else {
            throw Failure(.unsupported, "this libcurl cannot encrypt connections; use etcd:// without TLS, or another libcurl")
        }
    }

    deinit { rs_http_free(http) }

    /// What became of one request to one server.
    private enum Attempt {
        case answered(JSON)
        /// Nothing has happened, and the next server may be asked.
        case passed(String)
        /// It may have happened.
        case open(String)
        /// All servers would say the same.
        case refused(Failure)
    }

    func read(_ path: String, _ body: [UInt8], endsBy end: UInt64) throws(Failure) -> Answer {
        try call(path, body, end, mayRepeat: true)
    }

    func change(_ body: [UInt8], endsBy end: UInt64) throws(Failure) -> Answer { try call("txn", body, end, mayRepeat: false) }

    private func call(_ path: String, _ body: [UInt8], _ end: UInt64, mayRepeat: Bool) throws(Failure) -> Answer {
        if let failed { throw failed }
        var troubles: [String] = []
        while troubles.count < address.endpoints.count {
            let index = current
            switch attempt(index, path, body, end, mayRepeat: mayRepeat) {
            case .answered(let json): return Answer(json: json, moved: troubles.isEmpty ? nil : troubles.joined(separator: "; "))
            case .refused(let failure): throw failure
            case .passed(let trouble): troubles.append("\(address.endpoints[index]): \(trouble)")
            case .open(let trouble):
                troubles.append("\(address.endpoints[index]): \(trouble)")
                if !mayRepeat {
                    moveOn()
                    throw Failure(
                        .unreachable,
                        "etcd has not answered, and whether the change was made is not known (\(troubles.joined(separator: "; ")))")
                }
            }
            moveOn()
        }
        let why = troubles.joined(separator: "; ")
        throw Failure(
            .unreachable, "etcd cannot be reached, or has no majority (\(why)); see to its servers, it goes on when they are back")
    }

    private func moveOn() { current = (current + 1) % address.endpoints.count }

    private func attempt(_ index: Int, _ path: String, _ body: [UInt8], _ end: UInt64, mayRepeat: Bool) -> Attempt {
        if !mayRepeat, !known.contains(index) {
            // Nothing is changed at a server that was not looked at.
            let look = attempt(index, "txn", messages.read([]), end, mayRepeat: true)
            switch look {
            case .answered: break
            case .open(let trouble): return .passed(trouble)
            case .passed, .refused: return look
            }
        }
        let now = rs_monotonic_nanoseconds()
        guard now < end else { return .passed("there was no time left for it") }
        let time = min(Limits.etcdRequestTimeout.milliseconds, (end - now) / 1_000_000 + 1)
        let url = "\(address.isEncrypted ? "https" : "http")://\(address.endpoints[index])/v3/kv/\(path)"
        var answer = rs_http_answer()
        body.withUnsafeBytes {
            rs_http_post(
                http, url, $0.baseAddress, $0.count, Limits.etcdAnswerBytesMax, UInt32(min(Limits.etcdConnectTimeout.milliseconds, time)),
                UInt32(time), &answer)
        }
        guard answer.status != 0 else {
            let why = withUnsafeBytes(of: answer.why) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            return answer.was_sent ? .open(why) : .passed(why)
        }
        let bytes = Array(UnsafeRawBufferPointer(start: answer.body, count: answer.body_bytes))
        return answer.status == 200 ? take(index, bytes, mayRepeat: mayRepeat) : refusal(Int(answer.status), bytes, mayRepeat: mayRepeat)
    }

    private func take(_ index: Int, _ bytes: [UInt8], mayRepeat: Bool) -> Attempt {
        let json: JSON
        let header: EtcdMessages.Header
        do throws(Failure) {
            json = try JSON(bytes)
            header = try messages.header(of: json)
        } catch {
            return .open("its answer cannot be read: \(error.detail)")
        }
        if let strange = check(header) {
            known.remove(index)
            if mayRepeat { return .passed(strange) }
            let failure = Failure(.diskFailed, "\(address.endpoints[index]): \(strange)")
            failed = failure
            return .refused(failure)
        }
        cluster = header.cluster
        highest = header.revision
        known.insert(index)
        return .answered(json)
    }

    private func check(_ header: EtcdMessages.Header) -> String? {
        if let cluster, header.cluster != cluster {
            return
                "it belongs to another etcd (cluster id \(header.cluster)) than was asked before (\(cluster)); name the servers of "
                + "one, and start all metadata servers anew if etcd was restored from a backup"
        }
        if header.revision < highest {
            return "it is at revision \(header.revision), and etcd was at \(highest) before; if it was restored from a backup, start all "
                + "metadata servers anew"
        }
        return nil
    }

    /// What etcd says of a request that it does not carry out, by the codes of gRPC.
    private func refusal(_ status: Int, _ bytes: [UInt8], mayRepeat: Bool) -> Attempt {
        let (code, message) = EtcdClient.error(in: bytes)
        let text = "etcd refuses with '\(message.isEmpty ? "HTTP \(status)" : message)'"
        switch code {
        // Of a revision that is not kept any more: the whole list is read anew.
        case 11: return .open(text)
        case 3: return .refused(Failure(.invalidArgument, "\(text); does it have its limits of requests lowered?"))
        case 7, 16:
            return .refused(
                Failure(.permissionDenied, "\(text): it wants users to log in, which is not supported; let it know this one by certificate")
            )
        case 8 where message.contains("space"):
            return .refused(Failure(.noSpace, "\(text): compact and defragment it, disarm its alarm, and see to its quota"))
        case 8: return mayRepeat ? .passed(text) : .refused(Failure(.overloaded, "\(text); try again later"))
        case 12: return .refused(Failure(.unsupported, "\(text): etcd 3.4 or newer is needed"))
        case 15: return .refused(Failure(.damaged, "\(text): stop all metadata servers and restore etcd from its newest backup"))
        case _ where status == 404 && code == nil: return .passed("there is no etcd 3.4 or newer, or its gateway is switched off (\(text))")
        case _: return .open(text)
        }
    }

    /// Code and sentence, as far as there are any; what follows an error is not always JSON.
    static func error(in bytes: [UInt8]) -> (code: UInt64?, message: String) {
        let end = bytes.lastIndex(of: UInt8(ascii: "}")).map { $0 + 1 } ?? bytes.count
        do throws(Failure) {
            let json = try JSON(Array(bytes[..<end]))
            var code: UInt64?
            if case .number(let text)? = json["code"] { code = UInt64(text) }
            guard case .string(let message)? = json["error"] else { return (code, "") }
            return (code, String(decoding: message.prefix(300), as: UTF8.self))
        } catch {
            return (nil, "")
        }
    }
}
