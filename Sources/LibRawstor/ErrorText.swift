import CRawstor

/// One sentence for each result that the header names. Several statuses share an errno, so these say less than an error message.
@c @implementation
public func rawstor_strerror(_ result: Int32) -> UnsafePointer<CChar>! { cString(text(result)) }

private func text(_ result: Int32) -> StaticString {
    switch result {
    case 0...: "no error"
    case -2: "there is no such volume"
    case -5: "the disk failed or a block is damaged"
    case -9: "the volume is closed, or its context is being destroyed"
    case -11: "too many operations are under way; try again after a callback"
    case -12: "out of memory"
    case -13: "permission denied"
    case -16: "the volume is open elsewhere; close it there first"
    case -17: "a volume of this name exists already"
    case -18: "the store belongs to another cluster"
    case -22: "an argument is not valid"
    case -28: "the store is full; remove or shrink a volume, or add a disk"
    case -30: "the volume is open for reading only"
    case -35: "called from inside a callback"
    case -71: "the other side speaks another protocol or nonsense"
    case -95: "this is not supported"
    case -110: "the deadline has passed"
    case -111: "the daemon cannot be reached"
    case -116: "another writer has opened the volume; close this handle"
    case -125: "the volume was closed, or its context destroyed, before the operation had ended"
    default: "unknown error"
    }
}
