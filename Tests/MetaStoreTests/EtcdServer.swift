import Base
import Environment
import Foundation
import MetaStore

@testable import EtcdStore

/// A real etcd of one server, made anew for this process of tests; each test has a catalogue of its own there. It ends with the process.
final class EtcdServer: Sendable {
    static let shared = Result { try EtcdServer() }

    let port: UInt16
    var endpoint: String { "127.0.0.1:\(port)" }

    private init() throws {
        var trouble = ""
        // Somebody else may take a port between the look for it and the start.
        for _ in 0..<5 {
            let ports = (EtcdServer.freePort(), EtcdServer.freePort())
            let directory = temporaryDirectory()
            let (client, peer) = ("http://127.0.0.1:\(ports.0)", "http://127.0.0.1:\(ports.1)")
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            // The end of its input, whatever is the reason, is the end of etcd.
            process.arguments = [
                "-c", "etcd \"$@\" >\"$0/log\" 2>&1 <&- & pid=$!; read -r line; kill -9 $pid; rm -rf \"$0\"", directory,
                "--data-dir", directory + "/data", "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
            ]
            let input = Pipe()
            process.standardInput = input
            try process.run()
            EtcdServer.hold(input)
            for _ in 0..<300 {
                if EtcdServer.listens(ports.0) {
                    port = ports.0
                    return
                }
                EtcdServer.pause()
            }
            do {
                trouble = try String(contentsOfFile: directory + "/log", encoding: .utf8)
            } catch {
                trouble = "\(error)"
            }
        }
        throw Failure(.unreachable, "etcd does not start; is the package etcd-server installed? \(trouble.suffix(500))")
    }

    func address(_ name: String = "test-\(UUID().uuidString)") throws(Failure) -> EtcdAddress {
        try EtcdAddress("etcd://\(endpoint)/\(name)")
    }

    /// Open until the process ends.
    private static func hold(_ pipe: Pipe) { _ = Unmanaged.passRetained(pipe) }

    private static func pause() { _ = poll(nil, 0, 50) }

    private static func freePort() -> UInt16 {
        withSocket { descriptor, address in
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            guard bind(descriptor, address, length) == 0 else { return 0 }
            getsockname(descriptor, address, &length)
            return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
        }
    }

    private static func listens(_ port: UInt16) -> Bool {
        withSocket(port) { descriptor, address in connect(descriptor, address, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
    }

    private static func withSocket<Value>(_ port: UInt16 = 0, _ body: (Int32, UnsafeMutablePointer<sockaddr>) -> Value) -> Value {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        return withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body(descriptor, $0) }
        }
    }
}

/// A catalogue in etcd. Each opening has a thread and connections of its own, as processes have.
final class EtcdPlace: Place, @unchecked Sendable {
    let world: any World
    let operations: Operations
    let address: EtcdAddress

    init(_ world: any World, _ operations: Operations, _ address: EtcdAddress) {
        self.world = world
        self.operations = operations
        self.address = address
    }

    func create() async throws(Failure) -> any MetaStore { hold(try await EtcdMetaStore.create(address, in: world)) }
    func open() async throws(Failure) -> any MetaStore { hold(try await EtcdMetaStore.open(address, in: world)) }

    private weak var last: EtcdMetaStore?

    private func hold(_ store: EtcdMetaStore) -> EtcdMetaStore {
        last = store
        return store
    }

    /// Tasks that have it still go on to their end, as with a file.
    func reopenAfterKill() async throws -> any MetaStore {
        let deadline = world.now + .seconds(10)
        while last != nil, world.now < deadline { await operations.sleep(.milliseconds(1)) }
        return try await open()
    }
}

func withEtcd(_ body: @escaping @Sendable (EtcdPlace) async throws -> Void) async throws {
    let address = try EtcdServer.shared.get().address()
    try await withReactor { reactor, operations in try await body(EtcdPlace(reactor, operations, address)) }
}
