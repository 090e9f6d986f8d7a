import Arguments
import Base
import EtcdStore
import MetaStore
import Reactor
import SQLiteStore

/// Where the catalogue is, as the command line says: a file of this machine, or etcd.
enum Store: CustomStringConvertible {
    case file(String)
    case etcd(EtcdAddress, EtcdTrust)

    init(_ command: ParsedCommand) throws(Failure) {
        let text = command.positionals[0]
        let trust = EtcdTrust(
            authorities: command.value("store-ca"), certificate: command.value("store-cert"), key: command.value("store-key"))
        guard EtcdAddress.isOne(text) else {
            // Most likely a slip, and never a good name for a file.
            guard !text.contains("://") else {
                throw Failure(.invalidArgument, "'\(text)' is no catalogue; write a path, or etcd://HOST:PORT[,HOST:PORT…][/NAME]")
            }
            guard trust == EtcdTrust() else {
                throw Failure(.invalidArgument, "--store-ca, --store-cert and --store-key are for a catalogue in etcd, not for '\(text)'")
            }
            self = .file(text)
            return
        }
        let address = try EtcdAddress(text)
        guard address.isEncrypted || trust == EtcdTrust() else {
            throw Failure(
                .invalidArgument, "'\(text)' is not encrypted; write etcd+tls:// for --store-ca, --store-cert and --store-key to have a use"
            )
        }
        guard (trust.certificate == nil) == (trust.key == nil) else {
            throw Failure(.invalidArgument, "--store-cert and --store-key go together; name both, or neither")
        }
        self = .etcd(address, trust)
    }

    var description: String {
        switch self {
        case .file(let path): path
        case .etcd(let address, _): "\(address)"
        }
    }

    func create(in reactor: Reactor) async throws(Failure) -> any MetaStore {
        switch self {
        case .file(let path): try await SQLiteMetaStore.create(path, in: reactor)
        case .etcd(let address, let trust): try await EtcdMetaStore.create(address, trust, in: reactor)
        }
    }

    func open(in reactor: Reactor) async throws(Failure) -> any MetaStore {
        switch self {
        case .file(let path): try await SQLiteMetaStore.open(path, in: reactor)
        case .etcd(let address, let trust): try await EtcdMetaStore.open(address, trust, in: reactor)
        }
    }
}
