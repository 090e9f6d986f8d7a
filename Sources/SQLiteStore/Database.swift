import Base
import Blocking
import CSQLite

/// One connection to one database file, and what its errors mean. Knows nothing of tables.
///
/// After a failed disk nothing is tried again: what the kernel has dropped it would report as written the next time. Such a connection
/// answers everything with that failure until the file is opened anew.
final class Database {
    let path: String
    private var handle: OpaquePointer?
    private var statements: [Statement] = []
    private var failed: Failure?

    init(_ path: String, create: Bool) throws(Failure) {
        self.path = path
        // In front of a name, so that none of them is special to SQLite, as ":memory:" is.
        let file = path.hasPrefix("/") ? path : "./" + path
        try check(rs_database_open(file, create, &handle))
    }

    deinit { close() }

    func close() {
        for statement in statements { statement.finalize() }
        statements = []
        if let handle { rs_database_close(handle) }
        handle = nil
    }

    /// To be asked before anything is begun.
    func checkUsable() throws(Failure) { if let failed { throw failed } }

    func run(_ text: String) throws(Failure) {
        try checkUsable()
        try check(rs_database_run(handle, text))
    }

    /// Lives as long as the connection.
    func prepare(_ text: String) throws(Failure) -> Statement {
        var made: OpaquePointer?
        try check(rs_statement_prepare(handle, text, &made))
        let statement = Statement(self, made)
        statements.append(statement)
        return statement
    }

    /// The first column of the first row, for statements that are run once.
    func text(_ query: String) throws(Failure) -> String {
        let statement = try prepare(query)
        defer { statement.reset() }
        return try statement.step() ? String(decoding: statement.bytes(0), as: UTF8.self) : ""
    }

    func integer(_ query: String) throws(Failure) -> Int64 {
        let statement = try prepare(query)
        defer { statement.reset() }
        return try statement.step() ? statement.integer(0) : 0
    }

    /// Ends the transaction; when that fails, `failed` tells whether it may have been applied nevertheless.
    func commit() throws(Failure) {
        try checkUsable()
        let result = rs_database_run(handle, "COMMIT")
        switch Int(result) {
        case rs_database_ok: return
        // The record that ends a transaction is the last one of its write, and was not written.
        case rs_database_full: throw failure(result)
        // SQLite can fail behind that write too, and then finds the transaction when the file is opened the next time.
        default: throw fail(why)
        }
    }

    /// Leaves no transaction open, whatever has happened.
    func rollBack() {
        guard let handle, rs_database_is_in_transaction(handle) else { return }
        if Int(rs_database_run(handle, "ROLLBACK")) != rs_database_ok, rs_database_is_in_transaction(handle) {
            _ = fail("a transaction cannot be taken back: \(message)")
        }
    }

    func check(_ result: Int32) throws(Failure) {
        let isGood = [rs_database_ok, rs_database_row, rs_database_done].contains(Int(result))
        if !isGood { throw failed ?? failure(result) }
    }

    func damaged(_ what: String) -> Failure {
        Failure(
            .damaged,
            "\(path) is damaged (\(what)); keep a copy of it and of \(path)-wal, then restore it from a backup, or rebuild the catalogue "
                + "from the OSTs")
    }

    private func failure(_ result: Int32) -> Failure {
        switch Int(result) {
        case rs_database_busy, rs_database_locked:
            return Failure(.busy, "\(path) is open in another process; end that one first, a catalogue has one server")
        // What was asked is always right, so an error in it means that the tables are not ours any more.
        case rs_database_corrupt, rs_database_no_database, rs_database_error: return damaged(message)
        case rs_database_full: return Failure(.noSpace, "\(path): there is no room left on its disk; make some and try again")
        case rs_database_no_memory: return Failure(.outOfMemory, "\(path): SQLite finds no memory")
        case rs_database_forbidden, rs_database_read_only:
            return Failure(.permissionDenied, "\(path) cannot be written (\(why)); let this user write it and its folder")
        case rs_database_cannot_open where systemError == ErrorCode.notFound:
            return Failure(.notFound, "there is no \(path), or no folder for it; make the catalogue first")
        case rs_database_cannot_open:
            return Failure(.permissionDenied, "\(path) cannot be opened (\(why)); see who may use it and its folder")
        default: return fail(why)
        }
    }

    private func fail(_ why: String) -> Failure {
        let failure = Failure(
            .diskFailed, "\(path): writing or reading failed (\(why)); see to the disk and start again, what was committed is kept")
        failed = failure
        return failure
    }

    private var systemError: Int32 { handle.map { rs_database_system_error($0) } ?? 0 }

    /// The system's reason where there is one, for SQLite's says less.
    private var why: String { systemError == 0 ? message : errorText(systemError) }

    private var message: String { handle.flatMap { rs_database_message($0) }.map { String(cString: $0) } ?? "no memory" }

    /// Linux's own numbers.
    private enum ErrorCode { static let notFound: Int32 = 2 }
}

/// A prepared statement. Whoever steps it resets it.
final class Statement {
    private unowned let database: Database
    private var handle: OpaquePointer?

    fileprivate init(_ database: Database, _ handle: OpaquePointer?) {
        self.database = database
        self.handle = handle
    }

    fileprivate func finalize() {
        rs_statement_finalize(handle)
        handle = nil
    }

    func bind(_ parameter: Int32, _ bytes: [UInt8]) throws(Failure) {
        try database.check(bytes.withUnsafeBytes { rs_statement_bind_bytes(handle, parameter, $0.baseAddress, $0.count) })
    }

    func bind(_ parameter: Int32, _ integer: Int64) throws(Failure) {
        try database.check(rs_statement_bind_integer(handle, parameter, integer))
    }

    /// Whether there is a row.
    func step() throws(Failure) -> Bool {
        let result = rs_statement_step(handle)
        try database.check(result)
        return Int(result) == rs_database_row
    }

    func reset() { rs_statement_reset(handle) }

    func bytes(_ column: Int32) -> [UInt8] {
        var count = 0
        guard let base = rs_statement_bytes(handle, column, &count) else { return [] }
        return Array(UnsafeRawBufferPointer(start: base, count: count))
    }

    func integer(_ column: Int32) -> Int64 { rs_statement_integer(handle, column) }
}
