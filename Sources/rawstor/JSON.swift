import Base

/// A JSON document, written by hand: the keys keep the order in which they are given, so that outputs can be compared.
enum JSON {
    case string(String)
    case integer(UInt64)
    /// With this many digits behind the point.
    case decimal(Double, Int)
    case bool(Bool)
    case null
    case array([JSON])
    case object([(String, JSON)])

    var text: String {
        switch self {
        case .string(let text): JSON.quoted(text)
        case .integer(let number): "\(number)"
        case .decimal(let number, let digits): decimalText(number, digits: digits)
        case .bool(let value): value ? "true" : "false"
        case .null: "null"
        case .array(let elements): "[" + elements.map(\.text).joined(separator: ", ") + "]"
        case .object(let members): "{" + members.map { JSON.quoted($0) + ": " + $1.text }.joined(separator: ", ") + "}"
        }
    }

    private static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\t": quoted += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                quoted += "\\u" + hexadecimal(UInt64(scalar.value), digits: 4)
            case _: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}

/// Rounded to `digits` behind the point; 0 for what is no number.
func decimalText(_ number: Double, digits: Int) -> String {
    var unit = 1.0
    for _ in 0..<digits { unit *= 10 }
    let scaled = (number * unit).rounded()
    guard scaled.isFinite, scaled.magnitude < 1e18 else { return "0" }
    let whole = Int64(scaled)
    let divisor = Int64(unit)
    let sign = whole < 0 ? "-" : ""
    if digits == 0 { return "\(whole)" }
    let fraction = String(whole.magnitude % divisor.magnitude)
    return sign + "\(whole.magnitude / divisor.magnitude)." + String(repeating: "0", count: digits - fraction.count) + fraction
}
