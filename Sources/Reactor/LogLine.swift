import Environment

/// One line of the log, as logfmt: time, level, program, message, then `name=value`.
enum LogLine {
    static func text(
        _ level: LogLevel, _ message: String, _ fields: [LogField], program: String, wallClockMilliseconds: UInt64
    ) -> String {
        var line = "\(time(wallClockMilliseconds)) \(level) \(program) \(escaped(message))"
        for field in fields { line += " \(field.name)=\(value(field.value))" }
        return line + "\n"
    }

    /// RFC 3339 in UTC, with milliseconds.
    static func time(_ milliseconds: UInt64) -> String {
        let (year, month, day) = date(daysSince1970: Int(milliseconds / 86_400_000))
        let rest = Int(milliseconds % 86_400_000)
        let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60)
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))"
            + "T\(padded(hour, 2)):\(padded(minute, 2)):\(padded(second, 2)).\(padded(rest % 1000, 3))Z"
    }

    /// The Gregorian calendar, counted in eras of 400 years that begin in March, so that the leap day is a year's last.
    private static func date(daysSince1970 days: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        return (era * 400 + yearOfEra + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
    }

    private static func padded(_ number: Int, _ digits: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }

    /// Quoted when it is empty or would not read back as one word.
    private static func value(_ text: String) -> String {
        let isPlain = !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f && $0 != 0x22 && $0 != 0x3d && $0 != 0x5c }
        return isPlain ? text : "\"\(escaped(text, quoted: true))\""
    }

    /// One line stays one line, whatever the text brings along.
    private static func escaped(_ text: String, quoted: Bool = false) -> String {
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f && !(quoted && ($0 == 0x22 || $0 == 0x5c)) }) { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\"" where quoted, "\\" where quoted: result += "\\\(scalar)"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f:
                result += "\\x\(scalar.value < 16 ? "0" : "")\(String(scalar.value, radix: 16))"
            case _: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
