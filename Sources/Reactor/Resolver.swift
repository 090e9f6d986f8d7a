import CSystem

/// Finds the addresses of a host name. The system's resolver blocks, so it gets a thread of its own for each name; names are rare.
enum Resolver {
    /// The addresses of a host that is written as one; `nil` for a name.
    static func numeric(_ host: String, _ port: UInt16) -> [rs_address]? {
        let found = addresses(host, port, numericOnly: true)
        return found.isEmpty ? nil : found
    }

    /// Hands the addresses, none on failure, to `completion` through the inbox. A negative errno when no thread can be had.
    static func resolve(
        _ host: String, _ port: UInt16, _ inbox: Inbox?, completion: @escaping @Sendable ([rs_address]) -> Void
    ) -> Int32 {
        guard let inbox else { return -ErrorCode.cancelled }
        let question = Unmanaged.passRetained(Question(host, port, inbox, completion))
        let result = rs_thread_start(answer, question.toOpaque())
        if result < 0 { question.release() }
        return result
    }

    /// Runs on the helper thread.
    private static let answer: @convention(c) (UnsafeMutableRawPointer?) -> Void = { context in
        guard let context else { return }
        let question = Unmanaged<Question>.fromOpaque(context).takeRetainedValue()
        let found = Resolver.addresses(question.host, question.port, numericOnly: false)
        let completion = question.completion
        question.inbox.post(.work { completion(found) })
    }

    private static func addresses(_ host: String, _ port: UInt16, numericOnly: Bool) -> [rs_address] {
        [rs_address](unsafeUninitializedCapacity: Int(rs_addresses_max)) { buffer, count in
            count = max(0, Int(rs_address_resolve(host, port, numericOnly, buffer.baseAddress, Int32(rs_addresses_max))))
        }
    }

    private final class Question {
        let host: String
        let port: UInt16
        let inbox: Inbox
        let completion: @Sendable ([rs_address]) -> Void

        init(_ host: String, _ port: UInt16, _ inbox: Inbox, _ completion: @escaping @Sendable ([rs_address]) -> Void) {
            self.host = host
            self.port = port
            self.inbox = inbox
            self.completion = completion
        }
    }
}
