/* SQLite under our own names: no header of the library is visible to Swift. A database and its statements belong to one thread at a time.
   Results are the library's primary codes; what they were in detail is in the message. */
#ifndef RAWSTOR_CSQLITE_H
#define RAWSTOR_CSQLITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rs_database;
struct rs_statement;

enum {
    rs_database_ok = 0,
    rs_database_error = 1,
    rs_database_forbidden = 3,
    rs_database_busy = 5,
    rs_database_locked = 6,
    rs_database_no_memory = 7,
    rs_database_read_only = 8,
    rs_database_input_output = 10,
    rs_database_corrupt = 11,
    rs_database_full = 13,
    rs_database_cannot_open = 14,
    rs_database_no_database = 26,
    rs_database_row = 100,
    rs_database_done = 101,
};

/* Whatever the result, what is stored in `result` is to be closed, unless it is NULL. Never waits for a lock. */
int rs_database_open(const char *path, bool create, struct rs_database **result);
/* All statements are finalized. */
void rs_database_close(struct rs_database *database);
/* Runs statements that return nothing of interest. */
int rs_database_run(struct rs_database *database, const char *text);
/* Of the last call. */
const char *rs_database_message(struct rs_database *database);
/* The errno behind the last failure, or 0. */
int rs_database_system_error(struct rs_database *database);
bool rs_database_is_in_transaction(struct rs_database *database);

int rs_statement_prepare(struct rs_database *database, const char *text, struct rs_statement **result);
void rs_statement_finalize(struct rs_statement *statement);
/* Parameters count from 1, columns from 0. The bytes are copied; none of them is an empty value, not an absent one. */
int rs_statement_bind_bytes(struct rs_statement *statement, int parameter, const void *bytes, size_t count);
int rs_statement_bind_integer(struct rs_statement *statement, int parameter, int64_t value);
/* rs_database_row, rs_database_done or a failure. */
int rs_statement_step(struct rs_statement *statement);
/* Makes it ready to be run again, without what was bound. */
void rs_statement_reset(struct rs_statement *statement);
/* Valid until the next step or reset; NULL when `count` is 0. */
const void *rs_statement_bytes(struct rs_statement *statement, int column, size_t *count);
int64_t rs_statement_integer(struct rs_statement *statement, int column);

#endif
