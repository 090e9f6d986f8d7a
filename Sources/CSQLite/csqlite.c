#include "csqlite.h"

#include <sqlite3.h>

_Static_assert(rs_database_ok == SQLITE_OK && rs_database_error == SQLITE_ERROR && rs_database_forbidden == SQLITE_PERM &&
    rs_database_busy == SQLITE_BUSY && rs_database_locked == SQLITE_LOCKED && rs_database_no_memory == SQLITE_NOMEM &&
    rs_database_read_only == SQLITE_READONLY && rs_database_input_output == SQLITE_IOERR && rs_database_corrupt == SQLITE_CORRUPT &&
    rs_database_full == SQLITE_FULL && rs_database_cannot_open == SQLITE_CANTOPEN && rs_database_no_database == SQLITE_NOTADB &&
    rs_database_row == SQLITE_ROW && rs_database_done == SQLITE_DONE, "results are the library's");

static sqlite3 *db(struct rs_database *database) { return (sqlite3 *)database; }
static sqlite3_stmt *st(struct rs_statement *statement) { return (sqlite3_stmt *)statement; }

/* The detail of a compound code is in its upper bits. */
static int primary(int result) { return result & 0xff; }

int rs_database_open(const char *path, bool create, struct rs_database **result) {
    sqlite3 *made = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    int error = sqlite3_open_v2(path, &made, flags, NULL);
    *result = (struct rs_database *)made;
    if (error == SQLITE_OK)
        error = sqlite3_busy_timeout(made, 0);
    return primary(error);
}

void rs_database_close(struct rs_database *database) { sqlite3_close_v2(db(database)); }

int rs_database_run(struct rs_database *database, const char *text) {
    return primary(sqlite3_exec(db(database), text, NULL, NULL, NULL));
}

const char *rs_database_message(struct rs_database *database) { return sqlite3_errmsg(db(database)); }

int rs_database_system_error(struct rs_database *database) { return sqlite3_system_errno(db(database)); }

bool rs_database_is_in_transaction(struct rs_database *database) { return !sqlite3_get_autocommit(db(database)); }

int rs_statement_prepare(struct rs_database *database, const char *text, struct rs_statement **result) {
    sqlite3_stmt *made = NULL;
    int error = sqlite3_prepare_v3(db(database), text, -1, SQLITE_PREPARE_PERSISTENT, &made, NULL);
    *result = (struct rs_statement *)made;
    return primary(error);
}

void rs_statement_finalize(struct rs_statement *statement) { sqlite3_finalize(st(statement)); }

int rs_statement_bind_bytes(struct rs_statement *statement, int parameter, const void *bytes, size_t count) {
    if (count == 0)
        return primary(sqlite3_bind_zeroblob(st(statement), parameter, 0));
    return primary(sqlite3_bind_blob64(st(statement), parameter, bytes, count, SQLITE_TRANSIENT));
}

int rs_statement_bind_integer(struct rs_statement *statement, int parameter, int64_t value) {
    return primary(sqlite3_bind_int64(st(statement), parameter, value));
}

int rs_statement_step(struct rs_statement *statement) { return primary(sqlite3_step(st(statement))); }

void rs_statement_reset(struct rs_statement *statement) {
    sqlite3_reset(st(statement));
    sqlite3_clear_bindings(st(statement));
}

const void *rs_statement_bytes(struct rs_statement *statement, int column, size_t *count) {
    /* In this order: asking for the bytes may convert, and change how many there are. */
    const void *bytes = sqlite3_column_blob(st(statement), column);
    *count = (size_t)sqlite3_column_bytes(st(statement), column);
    return bytes;
}

int64_t rs_statement_integer(struct rs_statement *statement, int column) {
    return sqlite3_column_int64(st(statement), column);
}
