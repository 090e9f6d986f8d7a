import Base
import CSystem

/// The few JSON texts that this program writes.
enum Json {
    /// Names of volumes have only characters that stand for themselves (`ObjectRecord.check`), but a damaged store may say anything.
    static func string(_ text: String) -> String {
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
}

func writeFile(_ path: String, _ text: String) throws(Failure) {
    var text = text
    let result = text.withUTF8 { rs_file_write(path, $0.baseAddress, $0.count) }
    if result < 0 { throw Failure(.invalidArgument, "\(path) cannot be written: errno \(-result)") }
}
