import Base
import CRawstor
import Environment

// Contexts and the catalogue, as the header says. Arguments are checked here; what they mean is the handles' business.

@c @implementation
public func rawstor_context_create(
    _ options: UnsafePointer<rawstor_context_options>!, _ context: UnsafeMutablePointer<OpaquePointer?>!
) -> Int32 {
    withThreadMessage { () throws(Failure) in
        let pointer = try required(context, "pointer to the context")
        let options = try SizedStruct.read(options, empty: rawstor_context_options())
        let made = try Context(options)
        pointer.pointee = OpaquePointer(Unmanaged.passRetained(made).toOpaque())
    }
}

@c @implementation
public func rawstor_context_destroy(_ context: OpaquePointer!) -> Int32 {
    guard let made = Context.of(context) else { return 0 }
    if made.isCalling { return insideCallback(made) }
    made.destroy()
    Unmanaged.passUnretained(made).release()
    return 0
}

@c @implementation
public func rawstor_context_fd(_ context: OpaquePointer!) -> Int32 {
    guard let made = Context.of(context) else { return noHandle("context") }
    var descriptor: Int32 = -1
    let result = with(context) { _ throws(Failure) in descriptor = try made.descriptor() }
    return result < 0 ? result : descriptor
}

@c @implementation
public func rawstor_context_process(_ context: OpaquePointer!) -> Int32 {
    guard let made = Context.of(context) else { return noHandle("context") }
    if made.isCalling { return insideCallback(made) }
    return Int32(clamping: made.run(minimum: 0, until: nil))
}

@c @implementation
public func rawstor_context_wait(_ context: OpaquePointer!, _ minimum: UInt32, _ timeoutMilliseconds: Int32) -> Int32 {
    guard let made = Context.of(context) else { return noHandle("context") }
    if made.isCalling { return insideCallback(made) }
    let deadline =
        timeoutMilliseconds < 0 ? Instant.never : made.reactor.now + .milliseconds(UInt64(timeoutMilliseconds))
    return Int32(clamping: made.run(minimum: Int(minimum), until: deadline))
}

@c @implementation
public func rawstor_error_message(_ context: OpaquePointer!) -> UnsafePointer<CChar>! {
    Context.of(context)?.message.cString ?? UnsafePointer(rs_thread_message())
}

private func insideCallback(_ context: Context) -> Int32 {
    context.message.set("called from inside a callback; start operations there, and wait outside")
    return -wouldDeadlock
}

/// Starts an operation and turns until it has ended.
func wait(for context: OpaquePointer?, _ start: (rawstor_callback, UnsafeMutableRawPointer) -> Int32) -> Int32 {
    guard let made = Context.of(context) else { return noHandle("context") }
    if made.isCalling { return insideCallback(made) }
    var waiter = Waiter()
    return withUnsafeMutablePointer(to: &waiter) { waiter in
        let result = start(
            { argument, result in
                guard let waiter = argument?.assumingMemoryBound(to: Waiter.self) else { return }
                waiter.pointee = Waiter(result: result, hasEnded: true)
            }, waiter)
        if result < 0 { return result }
        while !waiter.pointee.hasEnded { _ = made.run(minimum: 1, until: .never) }
        return waiter.pointee.result
    }
}

private struct Waiter {
    var result: Int32 = 0
    var hasEnded = false
}
