import Base

/// Sizes as people write them: `4G`, `512M`, `1T`, `4096`. Units are powers of 1024; `KiB` and `KB` are the same as `K`.
public enum ByteSize {
    private static let units: [Character] = ["K", "M", "G", "T", "P"]

    public static func parse(_ text: String) throws(Failure) -> UInt64 {
        let problem = Failure(.invalidArgument, "'\(text)' is no size; write a number of bytes, or one with a unit: 512M, 4G, 1T")
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = UInt64(digits) else { throw problem }
        let suffix = text.dropFirst(digits.count).uppercased()
        guard let unit = suffix.first, suffix != "B" else { return number }
        guard let power = units.firstIndex(of: unit), ["", "B", "IB"].contains(String(suffix.dropFirst())) else { throw problem }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << UInt64(10 * (power + 1)))
        guard !overflow else { throw Failure(.invalidArgument, "'\(text)' is larger than any disk") }
        return bytes
    }

    /// Three digits at least, and the unit: `20.0 GiB`.
    public static func text(_ bytes: UInt64) -> String {
        guard bytes >= 1024 else { return "\(bytes) B" }
        var power = 0
        while power + 1 < units.count, bytes >> UInt64(10 * (power + 2)) > 0 { power += 1 }
        let unit = UInt64(1) << UInt64(10 * (power + 1))
        let tenths = bytes / unit * 10 + (bytes % unit) * 10 / unit
        return "\(tenths / 10).\(tenths % 10) \(units[power])iB"
    }
}
