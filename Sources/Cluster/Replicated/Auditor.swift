import Base
import Client
import Environment
import Metadata
import Simulation
import Wire

/// Compares the members of the volume block by block, as each OST by itself sees them.
final class Auditor {
    private let world: SimWorld
    private let volume: VolumeRecord
    private let osts: [OSTProcess]
    private let mayBeLost: Bool
    private let incarnation: UInt64
    private var inquiries: [Identifier: (connection: ControlConnection, opened: FrameHeader)] = [:]

    init(_ world: SimWorld, _ volume: VolumeRecord, _ osts: [OSTProcess], mayBeLost: Bool, incarnation: UInt64) {
        self.incarnation = incarnation
        self.mayBeLost = mayBeLost
        self.world = world
        self.volume = volume
        self.osts = osts
    }

    /// OSTs with a map number of which they do not have the map, or another one than the metadata server (P7).
    func maps() async throws(Failure) -> [String] {
        var found: [String] = []
        for store in volume.stores {
            guard let ost = osts.first(where: { $0.store == store }) else { continue }
            let catalogue = OSTCatalogue(world, ost.endpoint, cluster: OSTProcess.cluster)
            defer { catalogue.close() }
            let number = try await catalogue.stat(volume.id.description).object.map
            let map = try await catalogue.volumeRecord(of: volume.id.description).map
            // It may have heard of another one in between.
            if map?.object.map ?? 0 < number {
                found.append("\(ost.endpoint) knows map \(number), and has map \(map?.object.map ?? 0)")
            } else if map?.object.map == volume.object.map, map?.entries != volume.entries || map?.moves != volume.moves {
                found.append("\(ost.endpoint) has another map \(number) than the metadata server")
            }
        }
        return found
    }

    /// Chunks in which members in sync differ.
    func differences() async throws(Failure) -> [String] {
        defer { for store in inquiries.keys.sorted() { inquiries[store]?.connection.close() } }
        let blocks = Block.count(covering: volume.object.bytes)
        let chunkBlocks = volume.object.layout.chunkBytes / UInt64(Block.bytes)
        var found: [String] = []
        var first: UInt64 = 0
        while first < blocks {
            let count = min(chunkBlocks - first % chunkBlocks, blocks - first, 1024)
            let chunk = first / chunkBlocks
            var contents: [[BlockCheck]] = []
            for member in 0..<volume.members {
                let entry = volume.entries[Int(chunk % UInt64(volume.placementCount)) * volume.members + member]
                guard entry.state == .inSync else { continue }
                let part = PartAddress(chunk: UInt32(chunk), member: UInt16(member), incarnation: entry.incarnation)
                contents.append(try await checks(volume.stores[entry.ost], part, first % chunkBlocks, count))
            }
            for other in contents.dropFirst() {
                // Of what is lost nothing can be read, whatever the other one thinks that it has.
                let differs = other.indices.first { index in
                    let (left, right) = (contents[0][index], other[index])
                    return left.check != right.check && !(mayBeLost && (left.state == .lost || right.state == .lost))
                }
                guard let at = differs else { continue }
                found.append("chunk \(chunk) block \(first % chunkBlocks + UInt64(at)): \(contents.map { $0[at] })")
            }
            first += count
        }
        return found
    }

    private func checks(_ store: Identifier, _ part: PartAddress, _ first: UInt64, _ count: UInt64) async throws(Failure) -> [BlockCheck] {
        let (connection, opened) = try await inquiry(store)
        var header = FrameHeader(.checks)
        header.session = 1
        header.handle = opened.handle
        header.generation = opened.generation
        header.map = .max
        header.part = part
        header.firstBlock = UInt32(first)
        header.blockCount = UInt32(count)
        let (_, reply) = try await connection.exchange(header, [], deadline: world.now + .seconds(10))
        let blocks = try connection.decode(ChecksReply.self, reply).blocks
        guard blocks.count == Int(count) else { throw Failure(.malformed, "\(blocks.count) checks of \(count) blocks") }
        return blocks
    }

    private func inquiry(_ store: Identifier) async throws(Failure) -> (ControlConnection, FrameHeader) {
        if let known = inquiries[store] { return known }
        guard let ost = osts.first(where: { $0.store == store }) else { throw Failure(.notFound, "store \(store) is served by nobody") }
        let connection = try await ControlConnection.open(
            world, ost.endpoint, cluster: OSTProcess.cluster, incarnation: incarnation, deadline: world.now + .seconds(10))
        var open = FrameHeader(.open)
        open.session = 1
        open.generation = volume.object.generation
        open.map = volume.object.map
        let body = OpenRequest(name: volume.id.description, flags: .recover)
        let (opened, _) = try await connection.exchange(open, body.encoded, deadline: world.now + .seconds(10))
        inquiries[store] = (connection, opened)
        return (connection, opened)
    }
}
