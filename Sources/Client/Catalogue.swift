import Base
import Wire

/// Who knows which objects there are. Two implementations: an OST by itself, and the MDT.
public protocol Catalogue: AnyObject {
    func create(_ name: String, bytes: UInt64, layout: Layout) async throws(Failure) -> ObjectRecord
    /// All objects in the order of their names.
    func list() async throws(Failure) -> [StatReply]
    func stat(_ name: String) async throws(Failure) -> StatReply
    /// How many blocks of one copy are in use; 0 means that nothing was written. Unlike with `stat`, who must be asked for that and does
    /// not answer is an error.
    func usedBlocks(of name: String) async throws(Failure) -> UInt64
    /// Refused while the object is open.
    func remove(_ name: String) async throws(Failure)
    /// Who has it open hears of it.
    /// `generation`: of the writer who asks for it, so that one who has been replaced is refused; 0 of nobody in particular.
    func resize(_ name: String, bytes: UInt64, by generation: UInt64) async throws(Failure)
    func statistics() async throws(Failure) -> StatisticsReply
    func close()
}

extension Catalogue {
    public func usedBlocks(of name: String) async throws(Failure) -> UInt64 { try await stat(name).mappedBlocks }
    public func resize(_ name: String, bytes: UInt64) async throws(Failure) { try await resize(name, bytes: bytes, by: 0) }
}
