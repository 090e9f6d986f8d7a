import Base

/// Text for people: tables, dates, sizes with their bytes.

/// Columns as wide as their widest cell; the columns named in `right` hold numbers and end at the same place.
func table(_ rows: [[String]], right: Set<Int> = []) -> String {
    var widths: [Int] = []
    for row in rows {
        for (column, cell) in row.enumerated() {
            if column == widths.count { widths.append(0) }
            widths[column] = max(widths[column], cell.count)
        }
    }
    var text = ""
    for row in rows {
        var line = ""
        for (column, cell) in row.enumerated() {
            let padding = String(repeating: " ", count: widths[column] - cell.count)
            line += (column == 0 ? "" : "  ") + (right.contains(column) ? padding + cell : cell + padding)
        }
        while line.last == " " { line.removeLast() }
        text += line + "\n"
    }
    return text
}

/// Of milliseconds since 1970: `2026-03-01T12:00:00Z`.
func dateText(_ milliseconds: UInt64) -> String {
    let seconds = milliseconds / 1000
    let (year, month, day) = civilDate(days: Int(seconds / 86400))
    let time = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60].map(twoDigits).joined(separator: ":")
    return "\(year)-\(twoDigits(UInt64(month)))-\(twoDigits(UInt64(day)))T\(time)Z"
}

private func twoDigits(_ number: UInt64) -> String { (number < 10 ? "0" : "") + "\(number)" }

/// Howard Hinnant's `civil_from_days`, for days from 1970 on: years begin in March, so that the leap day is the last of its year.
private func civilDate(days: Int) -> (year: Int, month: Int, day: Int) {
    let shifted = days + 719_468
    let era = shifted / 146_097
    let dayOfEra = shifted % 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
}

/// `minutes:seconds`, with hours where there are any.
func durationText(_ seconds: UInt64) -> String {
    let tail = "\(seconds / 60 % 60):\(twoDigits(seconds % 60))"
    return seconds < 3600 ? tail : "\(seconds / 3600):\(seconds / 60 % 60 < 10 ? "0" : "")\(tail)"
}
