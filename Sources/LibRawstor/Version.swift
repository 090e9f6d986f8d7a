import Base
import CRawstor

// The version, and text that lives for ever.

@c @implementation
public func rawstor_version() -> UnsafePointer<CChar>! { cString(softwareVersion) }

func cString(_ text: StaticString) -> UnsafePointer<CChar> {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}
