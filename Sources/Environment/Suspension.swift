/// Suspends the task until the continuation that `store` keeps is resumed; not at all when `condition` does not hold.
///
/// The condition is looked at in the stretch in which the continuation is stored. Looked at before, it may be out of date: an `await` can
/// let other tasks of the same executor run before its closure does, and whoever was to resume finds nobody waiting.
public func suspend(while condition: () -> Bool, _ store: (UnsafeContinuation<Void, Never>) -> Void) async {
    await withUnsafeContinuation { continuation in
        if condition() { store(continuation) } else { continuation.resume() }
    }
}
