import CSystem

/// The errno values that this module decides by; the numbers are Linux's own on every architecture it supports.
enum ErrorCode {
    static let notPermitted: Int32 = 1
    static let notFound: Int32 = 2
    static let interrupted: Int32 = 4
    static let inputOutput: Int32 = 5
    static let again: Int32 = 11
    static let noMemory: Int32 = 12
    static let accessDenied: Int32 = 13
    static let busy: Int32 = 16
    static let exists: Int32 = 17
    static let invalid: Int32 = 22
    static let tooManyFiles: Int32 = 24
    static let noSpace: Int32 = 28
    static let readOnlyFileSystem: Int32 = 30
    static let noSystemCall: Int32 = 38
    static let timerExpired: Int32 = 62
    static let notSupported: Int32 = 95
    static let addressInUse: Int32 = 98
    static let noBuffers: Int32 = 105
    static let timedOut: Int32 = 110
    static let connectionRefused: Int32 = 111
    static let hostUnreachable: Int32 = 113
    static let cancelled: Int32 = 125

    /// The system's words for a positive errno.
    static func text(_ code: Int32) -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            guard let base = buffer.baseAddress, let text = rs_error_text(code, base, buffer.count) else { return "errno \(code)" }
            return String(cString: text)
        }
    }
}
