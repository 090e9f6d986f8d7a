import Base

/// Options as text: `name=value`, separated by commas or blanks. Every value is a number, decimal or 0x…, or yes/no.
struct OptionText {
    /// Calls `set` for each option; that returns false for a name it does not know.
    static func parse(
        _ text: UnsafePointer<CChar>?, names: [String], _ set: (String, UInt64) throws(Failure) -> Void
    ) throws(Failure) {
        guard let text else { throw Failure(.invalidArgument, "the text of the options is NULL") }
        for option in String(cString: text).split(whereSeparator: { (character: Character) in ", \t\n".contains(character) }) {
            let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { throw Failure(.invalidArgument, "'\(option)' is no option; one is name=value") }
            let name = String(parts[0])
            guard names.contains(name) else {
                throw Failure(.invalidArgument, "there is no option '\(name)'; known are \(names.joined(separator: ", "))")
            }
            guard let value = number(parts[1]) else {
                throw Failure(.invalidArgument, "'\(parts[1])' is no value for \(name); a number is expected")
            }
            try set(name, value)
        }
    }

    private static func number(_ text: Substring) -> UInt64? {
        switch text {
        case "yes", "on", "true": 1
        case "no", "off", "false": 0
        default: text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
        }
    }
}
