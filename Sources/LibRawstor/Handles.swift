import Base
import CRawstor

/// Handles are retained references; `nil` for NULL. A caller that goes on with a freed one is beyond help.
extension Context {
    var handle: OpaquePointer { OpaquePointer(Unmanaged.passUnretained(self).toOpaque()) }

    @inline(__always)
    static func of(_ handle: OpaquePointer?) -> Context? {
        guard let handle else { return nil }
        return Unmanaged<Context>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
    }
}

extension VolumeHandle {
    var handle: OpaquePointer { OpaquePointer(Unmanaged.passUnretained(self).toOpaque()) }

    @inline(__always)
    static func of(_ handle: OpaquePointer?) -> VolumeHandle? {
        guard let handle else { return nil }
        return Unmanaged<VolumeHandle>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
    }
}

/// Runs what a call on a context does before anything is under way, and turns its failure into a result and a message.
func with(_ handle: OpaquePointer?, _ body: (Context) throws(Failure) -> Void) -> Int32 {
    guard let context = Context.of(handle) else { return noHandle("context") }
    do {
        try body(context)
        return 0
    } catch {
        context.message.set(error.detail)
        return -error.status.errno
    }
}

func noHandle(_ what: StaticString) -> Int32 {
    Message.setForThread("the \(what) is NULL")
    return -Status.invalidArgument.errno
}

func required<Value>(_ value: Value?, _ what: StaticString) throws(Failure) -> Value {
    guard let value else { throw Failure(.invalidArgument, "the \(what) is NULL") }
    return value
}

func text(_ pointer: UnsafePointer<CChar>?, _ what: StaticString) throws(Failure) -> String {
    guard let text = String(validatingCString: try required(pointer, what)) else {
        throw Failure(.invalidArgument, "the \(what) is not UTF-8")
    }
    return text
}
