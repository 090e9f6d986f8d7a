#include "history.h"

#include <stdlib.h>
#include <string.h>

uint64_t next_random(uint64_t *state)
{
    uint64_t value = *state += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

enum { sector_words = sector_bytes / 8 };
static const uint64_t magic = UINT64_C(0x72616b7773746f72);

void content_make(void *sector, uint64_t seed, uint64_t number, uint64_t index)
{
    uint64_t words[sector_words] = {magic, seed, number, index};
    uint64_t state = seed ^ number * UINT64_C(0x9fb21c651e98df25) ^ index * UINT64_C(0xd6e8feb86659fd93);

    for (int word = 4; word < sector_words; word++)
        words[word] = next_random(&state);
    memcpy(sector, words, sizeof words);
}

uint64_t content_number(const void *sector, uint64_t seed, uint64_t index)
{
    static const char zeros[sector_bytes];
    uint64_t words[sector_words], wanted[sector_words];

    if (memcmp(sector, zeros, sector_bytes) == 0)
        return 0;
    memcpy(words, sector, sizeof words);
    content_make(wanted, seed, words[2], index);
    return words[2] != 0 && memcmp(words, wanted, sizeof words) == 0 ? words[2] : NEVER;
}

static int is_data(enum kind kind) { return kind <= kind_discard; }

static int is_durable_by_itself(enum kind kind)
{
    return kind == kind_durable_write || kind == kind_durable_zeroes || kind == kind_resize || kind == kind_create;
}

static void die(const char *what)
{
    fprintf(stderr, "the journal: %s\n", what);
    exit(2);
}

void history_load(struct history *history, FILE *journal)
{
    struct event event;
    size_t capacity = 0, ended = 0;
    /* Numbers of operations in the order of their ends, and how many had ended when operation `number` started. */
    uint64_t *ends = NULL, *ended_before = NULL;

    if (fread(&history->seed, sizeof history->seed, 1, journal) != 1)
        die("cannot be read");
    history->count = 0;
    history->operations = NULL;
    while (fread(&event, sizeof event, 1, journal) == 1) {
        if (history->count + 2 > capacity) {
            capacity = capacity ? 2 * capacity : 4096;
            history->operations = realloc(history->operations, capacity * sizeof *history->operations);
            ends = realloc(ends, capacity * sizeof *ends);
            ended_before = realloc(ended_before, capacity * sizeof *ended_before);
            if (!history->operations || !ends || !ended_before)
                die("out of memory");
        }
        if (!event.is_end) {
            if (event.number != ++history->count)
                die("numbers are not in order");
            history->operations[event.number] =
                (struct operation){(enum kind)event.kind, event.offset, event.bytes, event.position, NEVER};
            ended_before[event.number] = ended;
            continue;
        }
        if (event.number == 0 || event.number > history->count)
            die("an operation ends that never started");
        struct operation *operation = &history->operations[event.number];
        ends[ended++] = event.number;
        if (is_durable_by_itself(operation->kind))
            operation->durable = event.position;
        if (operation->kind != kind_flush)
            continue;
        for (size_t index = 0; index < ended_before[event.number]; index++) {
            struct operation *covered = &history->operations[ends[index]];
            if (covered->durable == NEVER)
                covered->durable = event.position;
        }
    }
    free(ends);
    free(ended_before);
}

/* Sets the sectors of the block that the operation has touched. */
static int touch(const struct operation *operation, uint64_t number, uint64_t block, uint64_t sectors[block_sectors])
{
    uint64_t begin = operation->offset / sector_bytes, end = begin + operation->bytes / sector_bytes, first = block * block_sectors;
    int touched = 0;

    if (!is_data(operation->kind) || end <= first || begin >= first + block_sectors)
        return 0;
    for (uint64_t index = 0; index < block_sectors; index++) {
        if (first + index < begin || first + index >= end)
            continue;
        sectors[index] = operation->kind <= kind_durable_write ? number : 0;
        touched = 1;
    }
    return touched;
}

const char *history_block(const struct history *history, uint64_t cut, uint64_t block, const void *contents)
{
    static char text[512];
    uint64_t have[block_sectors], state[block_sectors] = {0};
    uint64_t guaranteed = 0, matching = NEVER, later = NEVER;

    for (uint64_t index = 0; index < block_sectors; index++) {
        uint64_t sector = block * block_sectors + index;
        have[index] = content_number((const char *)contents + index * sector_bytes, history->seed, sector);
        if (have[index] == NEVER) {
            snprintf(text, sizeof text, "garbage in sector %llu of it", (unsigned long long)index);
            return text;
        }
    }
    if (memcmp(have, state, sizeof have) == 0)
        matching = 0;
    for (uint64_t number = 1; number <= history->count; number++) {
        const struct operation *operation = &history->operations[number];
        if (!touch(operation, number, block, state))
            continue;
        if (operation->durable <= cut)
            guaranteed = number;
        if (memcmp(have, state, sizeof have) != 0)
            continue;
        /* Numbers do not tell zeros from zeros: the latest state that looks like this counts. */
        if (operation->started < cut)
            matching = number;
        else if (later == NEVER)
            later = number;
    }
    if (matching != NEVER && matching >= guaranteed)
        return NULL;
    int length;
    if (matching != NEVER)
        length = snprintf(text, sizeof text, "as after operation %llu, though %llu is durable", (unsigned long long)matching,
                          (unsigned long long)guaranteed);
    else if (later != NEVER)
        length = snprintf(text, sizeof text, "as after operation %llu, which had not started", (unsigned long long)later);
    else
        length = snprintf(text, sizeof text, "a mixture that it never held, with %llu durable:", (unsigned long long)guaranteed);
    for (int index = 0; index < block_sectors; index++)
        length += snprintf(text + length, sizeof text - (size_t)length, " %llu", (unsigned long long)have[index]);
    return text;
}
