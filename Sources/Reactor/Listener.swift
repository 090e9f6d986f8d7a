import Base
import CSystem
import Environment

/// A socket that listens, and the file of a Unix one.
struct Listener {
    let descriptor: Int32
    let endpoint: Endpoint
    /// The operation of the accept under way.
    var accept: UInt32?
    var isClosing = false
    private let file: rs_file_identity?

    static func open(_ endpoint: Endpoint) throws(Failure) -> Listener {
        switch endpoint {
        case .tcp(let host, let port): try openTCP(host, port)
        case .unix(let path): try openUnix(path)
        }
    }

    private static func openTCP(_ host: String, _ port: UInt16) throws(Failure) -> Listener {
        var address = rs_address()
        let wanted = Endpoint.tcp(host: host, port: port)
        guard rs_address_resolve(host, port, false, &address, 1) >= 1 else {
            throw Failure(.invalidArgument, "cannot listen on \(wanted): no address of that name; use an address of this machine")
        }
        let descriptor = rs_listen(&address, backlog)
        if descriptor < 0 { throw failure(wanted, -descriptor) }
        var chosen: UInt16 = 0
        let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer -> String? in
            guard let base = buffer.baseAddress, rs_address_of(descriptor, base, buffer.count, &chosen) == 0 else { return nil }
            return String(cString: base)
        }
        return Listener(descriptor: descriptor, endpoint: .tcp(host: text ?? host, port: chosen), file: nil)
    }

    private static func openUnix(_ path: String) throws(Failure) -> Listener {
        var address = rs_address()
        if rs_address_unix(path, &address) < 0 {
            throw Failure(.invalidArgument, "cannot listen on '\(path)': the path of a Unix socket has 1 to 107 bytes")
        }
        let isFile = !path.hasPrefix("@")
        switch isFile ? rs_file_kind(path) : rs_file_none {
        case rs_file_none: break
        case rs_file_socket:
            let isLive = rs_socket_is_live(&address)
            if isLive == 1 { throw Failure(.busy, "another process listens on \(path); stop it, or use another path") }
            if isLive < 0 { throw failure(.unix(path: path), -isLive) }
            // Left behind by a process that was killed.
            rs_unlink(path)
        case _:
            throw Failure(
                .alreadyExists, "cannot listen on \(path): a file of that name exists and is not a socket; remove it, or use another path")
        }
        let descriptor = rs_listen(&address, backlog)
        if descriptor < 0 { throw failure(.unix(path: path), -descriptor) }
        var file = rs_file_identity()
        let hasFile = isFile && rs_file_identity(path, &file) == 0
        return Listener(descriptor: descriptor, endpoint: .unix(path: path), file: hasFile ? file : nil)
    }

    private init(descriptor: Int32, endpoint: Endpoint, file: rs_file_identity?) {
        self.descriptor = descriptor
        self.endpoint = endpoint
        self.file = file
    }

    /// No new connections; the socket's file goes, unless it is a successor's by now.
    func stop() {
        rs_shutdown(descriptor)
        guard case .unix(let path) = endpoint, let file else { return }
        var found = rs_file_identity()
        if rs_file_identity(path, &found) == 0, found.device == file.device, found.inode == file.inode { rs_unlink(path) }
    }

    func close() {
        if !isClosing { stop() }
        rs_close(descriptor)
    }

    private static func failure(_ endpoint: Endpoint, _ code: Int32) -> Failure {
        switch code {
        case ErrorCode.addressInUse: Failure(.busy, "cannot listen on \(endpoint): another process does; stop it, or use another port")
        case ErrorCode.accessDenied, ErrorCode.notPermitted:
            Failure(
                .permissionDenied, "cannot listen on \(endpoint): permission denied; use a port above 1023 or a directory that is yours")
        case _: Failure(.invalidArgument, "cannot listen on \(endpoint): \(ErrorCode.text(code))")
        }
    }
}

private let backlog: Int32 = 1024
