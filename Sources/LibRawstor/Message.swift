import Base
import CRawstor

/// The text behind an error message function: a C string that stays where it is until the next one is set.
struct Message: ~Copyable {
    private let bytes: UnsafeMutablePointer<CChar>
    private static let capacity = 1024

    init() {
        bytes = .allocate(capacity: Message.capacity)
        set("no error")
    }

    deinit { bytes.deallocate() }

    var cString: UnsafePointer<CChar> { UnsafePointer(bytes) }
    func set(_ text: String) { Message.copy(text, to: bytes, capacity: Message.capacity) }

    /// Cut where it does not fit, between characters.
    static func copy(_ text: String, to bytes: UnsafeMutablePointer<CChar>, capacity: Int) {
        var count = 0
        for scalar in text.unicodeScalars {
            let encoded = UTF8.encode(scalar == "\0" ? " " : scalar) ?? UTF8.encodedReplacementCharacter
            if count + encoded.count >= capacity { break }
            for byte in encoded {
                bytes[count] = CChar(bitPattern: byte)
                count += 1
            }
        }
        bytes[count] = 0
    }

    /// What `rawstor_error_message(NULL)` tells on this thread.
    static func setForThread(_ text: String) { copy(text, to: rs_thread_message(), capacity: rs_message_bytes()) }
}

/// Runs what a call does that has no context, and turns its failure into a result.
func withThreadMessage(_ body: () throws(Failure) -> Void) -> Int32 {
    do {
        try body()
        return 0
    } catch {
        Message.setForThread(error.detail)
        return -error.status.errno
    }
}
