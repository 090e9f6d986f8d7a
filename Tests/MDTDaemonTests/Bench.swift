import Base
import Client
import Environment
import MDTDaemon
import MGSDaemon
import MetaStore
import Metadata
import OSTDaemon
import OSTEngine
import PartStore
import Registrar
import Simulation
import Testing
import Wire

/// A metadata server, or several of one catalogue, OSTs, and if they are wanted management servers, each on a host of its own in one
/// universe, and clients that speak to them through the simulated network.
final class MDTBench {
    static let cluster = Identifier(high: 1, low: 1)
    static let address = Endpoint.tcp(host: "mds", port: 7700)

    let universe: Universe
    let mds: SimHost
    let client: SimWorld
    private(set) var contents: MemoryMetaContents
    /// The first one is where clients go that do not say otherwise.
    private(set) var addresses: [Endpoint]
    private let hosts: [SimHost]
    /// Of the management servers; where there are any, OSTs are told of nobody else.
    let managementAddresses: [Endpoint]
    private let managementHosts: [SimHost]
    private(set) var managers: [MGSServer?]
    private var managerProcesses: [SimWorld?]
    private(set) var registrars: [Registrar?]
    private var processes: [SimWorld?]
    private(set) var servers: [MDTServer?]
    private var isMade = false
    var mdt: SimWorld? { processes[0] }
    var server: MDTServer? { servers[0] }
    func server(_ index: Int) -> MDTServer? { servers[index] }
    func hostOfMDT(_ index: Int) -> SimHost { hosts[index] }
    func hostOfMGS(_ index: Int) -> SimHost { managementHosts[index] }
    private(set) var osts: [OST] = []
    private(set) var logs: [String] = []

    private let spareAfter: Interval

    init(
        seed: UInt64 = 1, osts count: Int = 3, servers serverCount: Int = 1, managers managerCount: Int = 0,
        spareAfter: Interval = Limits.spareAfterDefault
    ) throws {
        self.spareAfter = spareAfter
        let universe = Universe(seed: seed)
        self.universe = universe
        contents = MemoryMetaContents(isShared: serverCount > 1)
        addresses = (0..<serverCount).map { $0 == 0 ? MDTBench.address : .tcp(host: "mds\($0)", port: 7700) }
        hosts = (0..<serverCount).map { universe.addHost($0 == 0 ? "mds" : "mds\($0)") }
        processes = hosts.map { _ in nil }
        servers = hosts.map { _ in nil }
        mds = hosts[0]
        managementAddresses = (0..<managerCount).map { .tcp(host: "mgs\($0)", port: 7700) }
        managementHosts = (0..<managerCount).map { universe.addHost("mgs\($0)") }
        managers = managementHosts.map { _ in nil }
        managerProcesses = managementHosts.map { _ in nil }
        registrars = hosts.map { _ in nil }
        client = universe.addHost("client").start("client")
        universe.onLog = { [unowned self] _, level, text, fields in
            logs.append("\(level) \(text) " + fields.map { "\($0.name)=\($0.value)" }.joined(separator: " "))
        }
        for index in managers.indices { try startMGS(index) }
        for index in addresses.indices { try startMDT(index) }
        for number in 0..<count {
            let ost = try OST(self, number)
            osts.append(ost)
            try ost.start()
        }
        try waitUntil("all OSTs have registered") { osts.allSatisfy(\.isRegistered) }
    }

    deinit { universe.end() }

    func startMDT(_ index: Int = 0) throws {
        let isFirst = !isMade
        isMade = true
        let (world, address) = (hosts[index].start("mdt"), addresses[index])
        processes[index] = world
        var options = MDTServer.Options()
        options.spareAfter = spareAfter
        servers[index] = try run(world) { [contents, options] () throws(Failure) in
            let catalogue: ClusterCatalogue
            if isFirst {
                let store = try await MemoryMetaStore.create(contents, in: world)
                catalogue = try await ClusterCatalogue.create(in: store, world, cluster: MDTBench.cluster)
            } else {
                catalogue = try await ClusterCatalogue.open(try await MemoryMetaStore.open(contents, in: world), world)
            }
            let server = MDTServer(world: world, catalogue: catalogue, options: options)
            try server.listen(on: address)
            return server
        }
        registrars[index] = nil
        guard !managers.isEmpty, let server = servers[index] else { return }
        let request = MDTRegisterRequest(
            server: server.identity, endpoints: ["\(address)"], host: hosts[index].name, incarnation: server.catalogue.incarnation)
        let registrar = Registrar(world, .mdt(of: MDTBench.cluster), servers: managementAddresses) { request.encoded }
        registrars[index] = registrar
        registrar.start()
    }

    /// It comes back at another address.
    func moveMDT(_ index: Int = 0, to address: Endpoint) throws {
        killMDT(index)
        addresses[index] = address
        try startMDT(index)
    }

    func startMGS(_ index: Int = 0, cluster: Identifier = .zero) throws {
        let world = managementHosts[index].start("mgs")
        managerProcesses[index] = world
        let address = managementAddresses[index]
        managers[index] = try run(world) { () throws(Failure) in
            var options = MGSServer.Options()
            options.cluster = cluster
            let server = MGSServer(world: world, options: options)
            try server.listen(on: address)
            return server
        }
    }

    /// `silent`: its machine is gone, and nobody is told.
    func killMGS(_ index: Int = 0, silent: Bool = false) {
        if silent { managementHosts[index].losePower() } else { managerProcesses[index]?.kill() }
        managers[index] = nil
    }

    func killMDT(_ index: Int = 0) {
        processes[index]?.kill()
        contents.processEnded()
        servers[index] = nil
    }

    /// It does not run for a while, and does not know.
    func stallMDT(_ index: Int, for interval: Interval) { processes[index]?.stall(for: interval) }

    /// As SIGTERM does.
    func stopMDT(_ index: Int) throws {
        guard let server = servers[index] else { return }
        try run(processes[index]) { await server.stop() }
        killMDT(index)
    }

    /// Makes a new catalogue of what the OSTs keep, as an operator does; the next start of the server serves it. `meanwhile` is called
    /// between the first questions and the raise.
    @discardableResult
    func rebuild(
        asking asked: [OST]? = nil, without: [String] = [], lost: Set<Identifier> = [], meanwhile: () throws -> Void = {}
    ) throws -> CatalogueRebuild {
        let fresh = MemoryMetaContents()
        let world = mds.start("rebuild")
        defer { world.kill() }
        let scan = CatalogueScan(world, (asked ?? osts.filter(\.isRunning)).map(\.address), cluster: MDTBench.cluster)
        let plan = { (scans: [CatalogueRebuild.Scan]) in
            CatalogueRebuild(scans, without: without, lost: lost, wallClockMilliseconds: world.wallClockMilliseconds)
        }
        let found = try run(world) { await scan.ask() }
        if let problem = (found.failures + plan(found.scans).refusals).first { throw Failure(.unavailable, problem) }
        try meanwhile()
        let made = try run(world) { () throws(Failure) in
            let store = try await MemoryMetaStore.create(fresh, in: world)
            let made = try await scan.rebuild(found.scans, in: store, plan)
            await store.close()
            return made
        }
        rebuilt = fresh
        return made
    }

    private var rebuilt: MemoryMetaContents?

    /// The old catalogue is gone; the server comes back with the one that was rebuilt.
    func serveRebuilt() throws {
        if server != nil { killMDT() }
        guard let rebuilt else { throw Failure(.notFound, "no catalogue was rebuilt") }
        contents = rebuilt
        try startMDT()
        try waitUntil("the OSTs have registered") { osts.allSatisfy { !$0.isRunning || $0.isRegistered } }
    }

    /// Runs code in a process until it ends.
    @discardableResult
    func run<Value>(_ world: SimWorld? = nil, _ body: @escaping () async throws(Failure) -> Value) throws -> Value {
        var outcome: Result<Value, Failure>?
        (world ?? client).spawn {
            do throws(Failure) { outcome = .success(try await body()) } catch { outcome = .failure(error) }
        }
        universe.run(while: { outcome == nil }, limit: .seconds(120))
        guard let outcome else { throw Failure(.deadlineExceeded, "the bench's code does not end") }
        return try outcome.get()
    }

    func waitUntil(_ what: String, seconds: UInt64 = 60, _ condition: () -> Bool) throws {
        universe.run(while: { !condition() }, limit: .seconds(seconds))
        if !condition() { throw Failure(.deadlineExceeded, "it does not become true that \(what)") }
    }

    /// A connection of a client that stays.
    func connect(from world: SimWorld? = nil, to index: Int = 0) throws -> Peer {
        let (world, address) = (world ?? client, addresses[index])
        return Peer(
            self, world,
            try run(world) { () throws(Failure) in
                try await ControlConnection.open(
                    world, address, cluster: MDTBench.cluster, expecting: .mdt, deadline: world.now + .seconds(10))
            })
    }

    func create(_ name: String, bytes: UInt64 = 64 << 20, replicas: UInt16 = 2, level: SpreadLevel = .host) throws -> VolumeMap {
        let request = VolumeCreateRequest(name: name, bytes: bytes, layout: Layout(dataMembers: replicas), level: level)
        return try connect().ask(.volumeCreate, request, VolumeMap.self)
    }

    func names() throws -> [String] {
        try connect().ask(.volumeList, NameRequest(name: ""), VolumeListReply.self).volumes.map(\.object.name)
    }

    /// A host with an OST of its own, which is not waited for.
    func addOST(cluster: Identifier = MDTBench.cluster, media: Media? = nil, bytes: UInt64 = OST.bytes) throws -> OST {
        let ost = try OST(self, osts.count, cluster: cluster, media: media, bytes: bytes)
        osts.append(ost)
        try ost.start()
        return ost
    }

    /// The objects on each OST that runs.
    func objects() throws -> [[ObjectRecord]] {
        try osts.filter(\.isRunning).map { ost in
            try run { [client] () throws(Failure) in
                let catalogue = OSTCatalogue(client, ost.address)
                defer { catalogue.close() }
                return try await catalogue.list().map(\.object)
            }
        }
    }
}

/// A connection, and what is asked on it.
final class Peer {
    let bench: MDTBench
    let world: SimWorld
    let connection: ControlConnection

    init(_ bench: MDTBench, _ world: SimWorld, _ connection: ControlConnection) {
        self.bench = bench
        self.world = world
        self.connection = connection
    }

    func close() { connection.close() }

    @discardableResult
    func exchange(_ header: FrameHeader, _ body: [UInt8] = []) throws -> (FrameHeader, [UInt8]) {
        try bench.run(world) { [self] () throws(Failure) in
            try await connection.exchange(header, body, deadline: world.now + .seconds(30))
        }
    }

    @discardableResult
    func ask(_ opcode: Opcode, _ body: some Message) throws -> FrameHeader { try exchange(FrameHeader(opcode), body.encoded).0 }

    func ask<Reply: Message>(_ opcode: Opcode, _ body: some Message, _ type: Reply.Type) throws -> Reply {
        try connection.decode(type, try exchange(FrameHeader(opcode), body.encoded).1)
    }

    func open(_ name: String, _ flags: VolumeOpenRequest.Flags = .write, nonce: UInt64, generation: UInt64 = 0) throws -> VolumeMap {
        var header = FrameHeader(.volumeOpen)
        header.generation = generation
        let request = VolumeOpenRequest(name: name, flags: flags, nonce: Identifier(high: 99, low: nonce))
        return try connection.decode(VolumeMap.self, try exchange(header, request.encoded).1)
    }

    func resize(_ name: String, _ bytes: UInt64, by generation: UInt64 = 0) throws -> VolumeMap {
        var header = FrameHeader(.volumeResize)
        header.generation = generation
        header.argument = bytes
        return try connection.decode(VolumeMap.self, try exchange(header, NameRequest(name: name).encoded).1)
    }
}

/// An OST as it ships, with heartbeats of the test.
final class OST {
    unowned let bench: MDTBench
    let number: Int
    let host: SimHost
    private(set) var world: SimWorld
    private(set) var server: OSTServer?
    private(set) var membership: OSTMembership?
    private(set) var store = Identifier.zero
    private var isMade: Bool
    private(set) var isRunning = false
    private var path = "/d"
    var address: Endpoint { .tcp(host: host.name, port: 7710) }

    let cluster: Identifier

    static let bytes: UInt64 = 256 << 20

    init(
        _ bench: MDTBench, _ number: Int, cluster: Identifier = MDTBench.cluster, media: Media? = nil, bytes: UInt64 = OST.bytes
    ) throws {
        self.bench = bench
        self.cluster = cluster
        self.number = number
        host = bench.universe.addHost("oss\(number)")
        if let media { host.addDisk("/d", media: media) } else { host.addDisk("/d", bytes: bytes) }
        isMade = media != nil
        world = host.start("ost")
    }

    func start() throws {
        let isFirst = !isMade
        if store != .zero { world = host.start("ost") }
        isMade = true
        let world = world
        server = try bench.run(world) { [self] () throws(Failure) in
            let operations = Operations(world)
            let disk = try world.openDisk(path, .readWrite)
            if isFirst { try await StoreFile.initialize(operations, disk: disk, path: path, cluster: cluster) }
            let store = try await StoreFile.load(operations, disk: disk, path: path)
            self.store = store.store
            let server = try OSTServer(world: world, disk: disk, store: store, configuration: .small) { [path] () throws(Failure) in
                try await StoreFile.load(operations, disk: disk, path: path, afterFailure: true)
            }
            try server.listen(on: address)
            return server
        }
        isRunning = true
        let membership = OSTMembership(
            world, mdts: bench.managers.isEmpty ? bench.addresses : [], mgss: bench.managementAddresses, cluster: cluster
        ) { [weak self] in self?.registration }
        self.membership = membership
        membership.start()
    }

    /// At all metadata servers.
    var isRegistered: Bool {
        guard let standings = membership?.metadata.standings else { return false }
        return standings.count == bench.addresses.count && standings.allSatisfy { $0 == .registered }
    }

    /// Why it was refused, if it was.
    var refusal: Failure? {
        guard case .failed(let failure) = membership?.metadata.standings.first else { return nil }
        return failure
    }

    /// What it says of itself.
    var registration: OSTRegisterRequest? {
        guard let server, let identity = server.engine.identity else { return nil }
        let statistics = server.engine.storeStatistics
        return OSTRegisterRequest(
            store: identity.store, mountCounter: identity.mountCounter, boot: identity.boot, endpoints: ["\(address)"], host: host.name,
            domain: host.name, capacityBytes: statistics.capacityBytes, freeBytes: statistics.freeBytes,
            incarnation: identity.incarnation)
    }

    /// Damages the block on its disk that holds this value throughout; whether there is one.
    func damage(value: UInt32) -> Bool {
        guard let disk = host.disk("/d") else { return false }
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Block.bytes, alignment: 8)
        defer { block.deallocate() }
        guard let base = block.baseAddress else { return false }
        for offset in stride(from: UInt64(0), to: disk.media.bytes, by: Block.bytes) {
            disk.media.read(offset, into: base, Block.bytes)
            guard block.load(as: UInt32.self) == value, block.load(fromByteOffset: 2048, as: UInt32.self) == value else { continue }
            disk.media.flip(offset + 77, bit: 3)
            return true
        }
        return false
    }

    /// Puts an earlier copy in the place of its disk; for while it does not run.
    func putBack(_ copy: Media) {
        path = "/old"
        host.addDisk(path, media: copy)
    }

    /// `silent`: with the power of its machine.
    func kill(silent: Bool = false) {
        if silent { host.losePower() } else { world.kill() }
        server = nil
        membership = nil
        isRunning = false
    }
}
