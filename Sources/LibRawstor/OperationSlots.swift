import Base
import CRawstor

/// The callbacks of the operations that one volume has under way. The engine carries the slot's number as the tag.
///
/// A table, although callback and argument would fit into the tag: it bounds the operations of a volume, and an operation that ends twice
/// is noticed before the caller's code is run for it again.
struct OperationSlots: ~Copyable {
    private struct Slot {
        var callback: rawstor_callback?
        var argument: UnsafeMutableRawPointer?
        var next: UInt32
    }

    private let slots: UnsafeMutablePointer<Slot>
    private let capacity: Int
    private var free: UInt32
    private(set) var count = 0
    private static let none = UInt32.max

    init(capacity: Int) {
        slots = .allocate(capacity: capacity)
        self.capacity = capacity
        for index in 0..<capacity {
            let next = index + 1 < capacity ? UInt32(index + 1) : OperationSlots.none
            (slots + index).initialize(to: Slot(callback: nil, argument: nil, next: next))
        }
        free = 0
    }

    deinit { slots.deallocate() }

    /// `nil` when all are taken.
    mutating func take(_ callback: rawstor_callback, _ argument: UnsafeMutableRawPointer?) -> UInt? {
        guard free != OperationSlots.none else { return nil }
        let index = free
        free = slots[Int(index)].next
        slots[Int(index)].callback = callback
        slots[Int(index)].argument = argument
        count += 1
        return UInt(index)
    }

    mutating func release(_ index: UInt) -> (rawstor_callback, UnsafeMutableRawPointer?) {
        guard index < capacity, let callback = slots[Int(index)].callback else { unreachable("operation \(index) ended twice") }
        slots[Int(index)].callback = nil
        slots[Int(index)].next = free
        free = UInt32(index)
        count -= 1
        return (callback, slots[Int(index)].argument)
    }
}
