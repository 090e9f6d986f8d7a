/* What the writer did and when, and what follows from it: which contents each block may have after power was lost at some position.
 *
 * A position is a number of entries of the write log below the store. The writer notes it at the start and at the end of each operation.
 * An operation that had not started by the entry at which power was lost has no effect; one that a flush had made durable by then has
 * its effect, or a later one. The block is the unit: it holds what it held after one of its operations, never a mixture. */
#ifndef HISTORY_H
#define HISTORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    sector_bytes = 512,
    block_bytes = 4096,
    block_sectors = block_bytes / sector_bytes
};

enum kind { kind_write, kind_durable_write, kind_zeroes, kind_durable_zeroes, kind_discard, kind_flush, kind_resize, kind_create };

/* Numbers count from 1, in the order in which operations were started: the order in which overlapping ones take effect. */
struct event {
    uint32_t kind;
    uint32_t is_end;
    uint64_t number;
    uint64_t offset;
    uint64_t bytes; /* of a resize: the new size */
    uint64_t position;
};

#define NEVER UINT64_MAX

struct operation {
    enum kind kind;
    uint64_t offset, bytes;
    uint64_t started; /* position */
    uint64_t durable; /* position from which on it is guaranteed, or NEVER */
};

struct history {
    uint64_t seed;
    size_t count; /* operations[1...count] */
    struct operation *operations;
};

/* The journal is the seed and then events. One that makes no sense ends the process. */
void history_load(struct history *history, FILE *journal);

/* Which contents a sector has after operation `number` wrote it. They tell run, number and place, and are pseudo-random from there to
 * their last byte, so that any of them out of place shows. */
void content_make(void *sector, uint64_t seed, uint64_t number, uint64_t index);
/* The number of the operation that wrote this, 0 for zeros, NEVER for anything that was never written there. */
uint64_t content_number(const void *sector, uint64_t seed, uint64_t index);

/* NULL when the block may look like this after power was lost at `cut`, otherwise what is wrong, in a static buffer. */
const char *history_block(const struct history *history, uint64_t cut, uint64_t block, const void *contents);

uint64_t next_random(uint64_t *state);

#endif
