import Base
import CRawstor

/// Of the library that is running; the header's macros are those of the one compiled against.
let libraryVersion: StaticString = "0.1.0"

@c @implementation
public func rawstor_version() -> UnsafePointer<CChar>! { cString(libraryVersion) }

func cString(_ text: StaticString) -> UnsafePointer<CChar> {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}
