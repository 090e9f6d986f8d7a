import Base
import CSystem

/// What this process is called, for people on the other side of its connections.
public enum ProcessName {
    /// `PROGRAM on HOST, process N`.
    public static var text: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Limits.nameBytesMax) { buffer in
            guard let base = buffer.baseAddress else { return "" }
            rs_process_name(base, buffer.count)
            // What is no UTF-8 is replaced, which takes more room: it is rare, and cut.
            return String(decoding: String(cString: base).utf8.prefix(Limits.nameBytesMax - 8), as: UTF8.self)
        }
    }
}
