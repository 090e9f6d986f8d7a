import Base

/// The few JSON texts that the daemons' programs write.
public enum Json {
    /// Names of volumes have only characters that stand for themselves (`ObjectRecord.check`), but a damaged store may say anything.
    public static func string(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case _ where scalar.value < 32: result += "\\u" + hexadecimal(UInt64(scalar.value), digits: 4)
            case _: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    public static func array(_ texts: [String]) -> String { "[" + texts.joined(separator: ",") + "]" }
}
