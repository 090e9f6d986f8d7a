import Base
import PartStore
import Wire

/// What the engine knows about an object beside its record: who has it open, and which change of it is under way.
struct OpenObject {
    /// Handles in state `open`, those that only read included.
    var handles = 0
    var writer: HandleReference?
    var recoverer: HandleReference?
    /// The newest session of the current generation's writer.
    var session: UInt64 = 0
    /// Of the raise that led to the current generation; zero when there was none, or it named no nonce.
    var nonce = Identifier.zero
    /// A fence, drain, resize or removal is in the store. The next one waits.
    var isChanging = false
}

/// A control request in the store.
enum Control {
    case create(name: String)
    case raise(OpenRequest, from: UInt64, to: UInt64)
    case takeOver(OpenRequest)
    case remove(name: String)
    case resize(bytes: UInt64)
    /// Keeps no other change of its object waiting.
    case stamp(map: UInt64)
    case fillBegin(number: UInt64, raises: Bool)
    /// Nor does this.
    case fillEnd(number: UInt64)
    /// Of the store.
    case adopt
}

/// A control request that is not yet in the store.
struct WaitingControl {
    enum Message {
        case open(OpenRequest)
        case remove(NameRequest)
        case resize(ResizeRequest)
        case fillBegin
    }

    var slot: UInt32
    var object: ObjectNumber
    var message: Message
}
