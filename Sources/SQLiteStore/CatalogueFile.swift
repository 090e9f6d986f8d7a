import Base
import MetaStore

/// A catalogue in a file of SQLite: the table, and each call as one transaction of it. All of it runs on the store's thread.
///
///     application_id   "rsMD": the file is one of ours
///     user_version     of the table below
///     entries          key (bytes, unique), value (bytes), revision, crc (CRC32C of key, value and revision)
///
/// - The row with the empty key is the store's own: its revision is that of the store. It is written with every transaction, so that
///   neither is ahead of the other.
/// - SQLite checks the shape of its pages, not their contents, therefore each row carries its check. All of them are compared when the file
///   is opened, which reads the whole of it: a catalogue that is damaged is not served.
/// - Write-ahead log with a flush for each transaction (`synchronous=FULL`); a kill or a loss of power leaves what was committed.
/// - The lock of the file is taken when it is opened and kept (`locking_mode=EXCLUSIVE`). Then there is no memory shared with other
///   processes either: the file and its log, PATH-wal, are all there is.
final class CatalogueFile: @unchecked Sendable {
    private let path: String
    private var database: Database?
    private var statements: Statements?
    private(set) var revision = MetaRevision.none
    private(set) var entryCount = 0

    private struct Statements {
        var find: Statement
        var list: Statement
        var put: Statement
        var delete: Statement
    }

    private static let applicationID: Int64 = 0x7273_4d44
    private static let tableVersion: Int64 = 1
    private static let own = MetaKey([])

    init(_ path: String) { self.path = path }

    // Opening and closing

    func open(create: Bool) throws(Failure) {
        let database = try Database(path, create: create)
        self.database = database
        try database.run("PRAGMA locking_mode=EXCLUSIVE; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON")
        // The first to touch the file: it takes the lock.
        let application = try database.integer("PRAGMA application_id")
        if application != CatalogueFile.applicationID {
            let tables = try database.integer("SELECT count(*) FROM sqlite_schema")
            let isEmpty = application == 0 && tables == 0
            if !isEmpty {
                throw Failure(create ? .alreadyExists : .invalidArgument, "\(path) is a database of something else; name another file")
            }
            if !create { throw Failure(.notFound, "\(path) is empty, no catalogue was made there; make one, or name another file") }
        }
        let mode = try database.text("PRAGMA journal_mode=WAL")
        guard mode == "wal" else {
            throw Failure(.unsupported, "\(path): its file system takes no write-ahead log of SQLite; name a file on another")
        }
        if application != CatalogueFile.applicationID { try makeTable(database) }
        let version = try database.integer("PRAGMA user_version")
        guard version <= CatalogueFile.tableVersion else {
            throw Failure(
                .wrongVersion,
                "\(path) has format version \(version) of its table, this program knows \(CatalogueFile.tableVersion); use a newer one")
        }
        try verify(database)
        statements = Statements(
            find: try database.prepare("SELECT value, revision, crc FROM entries WHERE key = ?1"),
            list: try database.prepare(
                "SELECT key, value, revision, crc FROM entries WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3"),
            put: try database.prepare(
                """
                INSERT INTO entries (key, value, revision, crc) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, crc = excluded.crc
                """),
            delete: try database.prepare("DELETE FROM entries WHERE key = ?1"))
    }

    func close() {
        statements = nil
        database?.close()
        database = nil
    }

    private func makeTable(_ database: Database) throws(Failure) {
        do throws(Failure) {
            try database.run(
                """
                BEGIN IMMEDIATE;
                PRAGMA application_id = \(CatalogueFile.applicationID);
                PRAGMA user_version = \(CatalogueFile.tableVersion);
                CREATE TABLE entries (
                    key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, revision INTEGER NOT NULL, crc INTEGER NOT NULL
                ) STRICT;
                INSERT INTO entries (key, value, revision, crc) VALUES (x'', x'', 0, \(CatalogueFile.check(CatalogueFile.own, [], 0)));
                """)
            try database.commit()
        } catch {
            database.rollBack()
            throw error
        }
    }

    /// Looks at everything once, and learns the store's revision.
    private func verify(_ database: Database) throws(Failure) {
        let verdict = try database.text("PRAGMA integrity_check(1)")
        if verdict != "ok" { throw database.damaged(verdict) }
        let all = try database.prepare("SELECT key, value, revision, crc FROM entries ORDER BY key")
        defer { all.reset() }
        var highest = MetaRevision.none
        var hasOwn = false
        entryCount = 0
        while try all.step() {
            let entry = try entry(database, all)
            if entry.key == CatalogueFile.own {
                hasOwn = true
                revision = entry.value.revision
            } else {
                entryCount += 1
                highest = max(highest, entry.value.revision)
            }
        }
        if !hasOwn { throw database.damaged("the revision of the store is missing") }
        if highest > revision { throw database.damaged("a key has revision \(highest), the store itself \(revision)") }
    }

    // The calls

    func read(_ keys: [MetaKey]) throws(Failure) -> MetaSnapshot {
        let (database, statements) = try opened()
        // Nobody else changes the file, and this thread does one thing at a time: all of it is of one revision.
        var values: [MetaValue?] = []
        for key in keys { values.append(try find(database, statements, key)) }
        return MetaSnapshot(revision, values)
    }

    func list(_ range: MetaKeyRange, limit: Int) throws(Failure) -> MetaPage {
        let (database, statements) = try opened()
        let list = statements.list
        defer { list.reset() }
        try list.bind(1, range.first.bytes)
        try list.bind(2, range.end.bytes)
        // One more tells whether there are more.
        try list.bind(3, Int64(limit) + 1)
        var page = MetaPage(revision)
        while try list.step(), page.append(try entry(database, list), limit: limit) {}
        return page
    }

    func commit(_ transaction: MetaTransaction) throws(Failure) -> MetaOutcome {
        let (database, statements) = try opened()
        try database.run("BEGIN IMMEDIATE")
        do throws(Failure) {
            for condition in transaction.conditions {
                let found = try find(database, statements, condition.key)?.revision ?? .none
                if found != condition.revision {
                    database.rollBack()
                    return .conflict(condition.key)
                }
            }
            if transaction.changes.isEmpty {
                database.rollBack()
                return .committed(revision)
            }
            let next = MetaRevision(revision.number + 1)
            for change in transaction.changes {
                switch change {
                case .put(let key, let value): try put(statements, key, value, next)
                case .delete(let key):
                    defer { statements.delete.reset() }
                    try statements.delete.bind(1, key.bytes)
                    _ = try statements.delete.step()
                }
            }
            try put(statements, CatalogueFile.own, [], next)
            try database.commit()
            revision = next
            return .committed(next)
        } catch {
            database.rollBack()
            throw error
        }
    }

    private func opened() throws(Failure) -> (Database, Statements) {
        guard let database, let statements else { throw Failure(.closed, "\(path) is closed") }
        try database.checkUsable()
        return (database, statements)
    }

    // Rows

    private func find(_ database: Database, _ statements: Statements, _ key: MetaKey) throws(Failure) -> MetaValue? {
        let find = statements.find
        defer { find.reset() }
        try find.bind(1, key.bytes)
        guard try find.step() else { return nil }
        return try value(database, of: key, find, firstColumn: 0)
    }

    private func put(_ statements: Statements, _ key: MetaKey, _ value: [UInt8], _ revision: MetaRevision) throws(Failure) {
        let put = statements.put
        defer { put.reset() }
        let number = Int64(bitPattern: revision.number)
        try put.bind(1, key.bytes)
        try put.bind(2, value)
        try put.bind(3, number)
        try put.bind(4, CatalogueFile.check(key, value, number))
        _ = try put.step()
    }

    private func entry(_ database: Database, _ row: Statement) throws(Failure) -> MetaEntry {
        let key = MetaKey(row.bytes(0))
        return MetaEntry(key, try value(database, of: key, row, firstColumn: 1))
    }

    /// Value, revision and check stand in this order.
    private func value(
        _ database: Database, of key: MetaKey, _ row: Statement, firstColumn column: Int32
    ) throws(Failure) -> MetaValue {
        let bytes = row.bytes(column)
        let number = row.integer(column + 1)
        guard row.integer(column + 2) == CatalogueFile.check(key, bytes, number) else {
            throw database.damaged("the entry of key '\(key)' does not match its check")
        }
        return MetaValue(bytes, MetaRevision(UInt64(bitPattern: number)))
    }

    private static func check(_ key: MetaKey, _ value: [UInt8], _ revision: Int64) -> Int64 {
        var sum = key.bytes.withUnsafeBytes { Checksum.of($0) }
        sum = value.withUnsafeBytes { Checksum.of($0, continuing: sum) }
        sum = withUnsafeBytes(of: revision.littleEndian) { Checksum.of($0, continuing: sum) }
        return Int64(sum)
    }
}
