import Base
import CSystem

// What the real world calls the machine. A simulated one has the names of its hosts.

extension Reactor {
    /// Empty where it has no name.
    public static var hostName: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Limits.hostNameBytesMax + 1) { buffer in
            guard let base = buffer.baseAddress, rs_host_name(base, buffer.count) == 0 else { return "" }
            return String(cString: base)
        }
    }
}
