/// The errno values that the operating system answers with, by name. Results carry them negated.
enum Code {
    static let inputOutput: Int32 = 5
    static let badDescriptor: Int32 = 9
    static let noSpace: Int32 = 28
    static let brokenPipe: Int32 = 32
    static let reset: Int32 = 104
    static let timedOut: Int32 = 110
    static let refused: Int32 = 111
    static let noHost: Int32 = 113
    static let cancelled: Int32 = 125
}
