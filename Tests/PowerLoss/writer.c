/* The client of the power-loss test.
 *
 *     writer write URL LOG JOURNAL SEED COUNT     works on a new volume, and notes what is guaranteed from which entry of the log on
 *     writer check URL JOURNAL CUT                what the volume holds is allowed after power was lost at that entry; goes on writing
 *
 * Ends with 0, with 1 when a promise is broken, and with 2 when it could not find out. */
#include "history.h"

#include <fcntl.h>
#include <rawstor.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { depth_max = 24, transfer_max = 256 << 10, hot_bytes = 1 << 20, grow_bytes = 1 << 20, grows = 4 };
static const uint64_t first_bytes = 12 << 20;

static rawstor_context *context;
static rawstor_volume *volume;
static const char *url;

static void fail(const char *what)
{
    printf("%s: %s\n", what, volume ? rawstor_volume_error_message(volume) : rawstor_error_message(context));
    exit(2);
}

static void broken(const char *what)
{
    printf("BROKEN %s\n", what);
    exit(1);
}

/* The volume of which operation `number` is the creation. */
static const char *extra_url(uint64_t number)
{
    static char text[512];
    const char *query = strchr(url, '?');
    int length = query ? (int)(query - url) : (int)strlen(url);

    snprintf(text, sizeof text, "%.*s-%llu%s", length, url, (unsigned long long)number, query ? query : "");
    return text;
}

/* ---- Writing ---- */

struct slot {
    struct event event;
    int is_busy;
    unsigned char *memory;
};

static struct slot slots[depth_max];
static unsigned busy;
static FILE *journal;
static int write_log = -1;
static uint64_t seed, random_state, last_number, volume_bytes;
static unsigned long flushes, grown;

static uint64_t below(uint64_t bound) { return next_random(&random_state) % bound; }

/* Entries in the log: its superblock is magic, version, entries. */
static uint64_t position(void)
{
    uint64_t words[3] = {0};

    if (write_log >= 0 && pread(write_log, words, sizeof words, 0) != sizeof words) {
        perror("the write log");
        exit(2);
    }
    return words[2];
}

static void note(struct event *event, int is_end)
{
    event->is_end = (uint32_t)is_end;
    event->position = position();
    if (journal && fwrite(event, sizeof *event, 1, journal) != 1) {
        perror("the journal");
        exit(2);
    }
}

static void ended(void *argument, int result)
{
    struct slot *slot = argument;

    if (result < 0)
        fail("an operation failed");
    if (slot->event.kind == kind_resize)
        volume_bytes = slot->event.bytes;
    note(&slot->event, 1);
    slot->is_busy = 0;
    busy--;
}

/* Whole blocks from 4 to 256 KiB, each size class as often; now and then a few sectors. */
static void choose_range(struct event *event)
{
    int is_small = below(8) == 0;
    uint64_t unit = is_small ? sector_bytes : block_bytes;
    uint64_t bytes = is_small ? (1 + below(24)) * unit : (1 + below(UINT64_C(1) << below(7))) * unit;
    uint64_t area = below(2) ? hot_bytes : volume_bytes;

    event->bytes = bytes < transfer_max ? bytes : transfer_max;
    event->offset = below((area - event->bytes) / unit + 1) * unit;
}

static enum kind choose_kind(void)
{
    /* Phases: from a flush after every third operation to a stretch with none, where durable operations would be flushes too. */
    static const unsigned flush_one_in[] = {3, 12, 40, 400};
    unsigned phase = last_number / 150 % 4;
    uint64_t dice = below(100);

    if (below(flush_one_in[phase]) == 0)
        return kind_flush;
    if (last_number % 1000 == 999)
        return kind_create;
    if (grown < grows && last_number >= 2000 * (grown + 1))
        return kind_resize;
    if (dice < 90 || (dice < 95 && phase >= 2))
        return kind_write;
    return dice < 94 ? kind_durable_write : dice < 95 ? kind_durable_zeroes : dice < 98 ? kind_zeroes : kind_discard;
}

static void start(struct slot *slot)
{
    struct event *event = &slot->event;
    struct iovec vector;
    int result;

    memset(event, 0, sizeof *event);
    event->kind = choose_kind();
    event->number = ++last_number;
    if (event->kind <= kind_discard)
        choose_range(event);
    if (event->kind <= kind_durable_write)
        for (uint64_t at = 0; at < event->bytes; at += sector_bytes)
            content_make(slot->memory + at, seed, event->number, (event->offset + at) / sector_bytes);
    if (event->kind == kind_resize)
        event->bytes = first_bytes + ++grown * grow_bytes;
    if (event->kind == kind_flush)
        flushes++;
    note(event, 0);
    slot->is_busy = 1;
    busy++;
    uint32_t flags = event->kind == kind_durable_write || event->kind == kind_durable_zeroes ? RAWSTOR_DURABLE : 0;
    vector = (struct iovec){slot->memory, event->bytes};
    switch ((enum kind)event->kind) {
    case kind_write:
    case kind_durable_write: result = rawstor_write(volume, &vector, 1, event->offset, flags, ended, slot); break;
    case kind_zeroes:
    case kind_durable_zeroes: result = rawstor_write_zeroes(volume, event->offset, event->bytes, flags, ended, slot); break;
    case kind_discard: result = rawstor_discard(volume, event->offset, event->bytes, flags, ended, slot); break;
    case kind_flush: result = rawstor_flush(volume, ended, slot); break;
    case kind_resize: result = rawstor_resize(volume, event->bytes, ended, slot); break;
    case kind_create: result = rawstor_create(context, extra_url(event->number), 1 << 20, NULL, ended, slot); break;
    default: abort();
    }
    if (result < 0)
        fail("an operation does not start");
}

/* Every operation of a few hundred has another number of companions. */
static void work(uint64_t count)
{
    uint64_t end = last_number + count;

    while (last_number < end || busy) {
        unsigned depth = 1 + (unsigned)(last_number / 37 * 7 % depth_max);
        for (int index = 0; index < depth_max && busy < depth && last_number < end; index++)
            if (!slots[index].is_busy)
                start(&slots[index]);
        if (rawstor_context_wait(context, 1, -1) < 0)
            fail("waiting");
    }
    if (rawstor_flush_sync(volume) < 0)
        fail("the last flush");
}

static void make_slots(void)
{
    for (int index = 0; index < depth_max; index++)
        if (!(slots[index].memory = aligned_alloc(block_bytes, transfer_max)))
            exit(2);
}

static int write_volume(char **arguments)
{
    struct rawstor_create_options options = {.size = sizeof options, .chunk_bytes = 1 << 20};

    write_log = open(arguments[0], O_RDONLY);
    journal = fopen(arguments[1], "wb");
    random_state = seed = strtoull(arguments[2], NULL, 10);
    if (!journal || fwrite(&seed, sizeof seed, 1, journal) != 1) {
        perror(arguments[1]);
        return 2;
    }
    volume_bytes = first_bytes;
    if (rawstor_create_sync(context, url, volume_bytes, &options) < 0)
        fail("create");
    if (rawstor_volume_open_sync(context, url, NULL, &volume) < 0)
        fail("open");
    uint64_t first = position();
    work(strtoull(arguments[3], NULL, 10));
    /* From where to where power may be lost, for the script. */
    printf("%llu %llu %llu operations, %lu flushes\n", (unsigned long long)first, (unsigned long long)position(),
           (unsigned long long)last_number, flushes);
    return fclose(journal) == 0 ? 0 : 2;
}

/* ---- Checking ---- */

static void check_sizes(const struct history *history, uint64_t cut)
{
    uint64_t least = first_bytes, most = first_bytes;

    volume_bytes = rawstor_volume_size(volume);
    for (uint64_t number = 1; number <= history->count; number++) {
        const struct operation *operation = &history->operations[number];
        if (operation->kind == kind_resize && operation->started < cut)
            most = operation->bytes;
        if (operation->kind == kind_resize && operation->durable <= cut)
            least = operation->bytes;
        struct rawstor_volume_info info = {.size = sizeof info};
        if (operation->kind == kind_create && operation->durable <= cut && rawstor_stat_sync(context, extra_url(number), &info) < 0)
            broken(rawstor_error_message(context));
    }
    if (volume_bytes < least || volume_bytes > most)
        broken("the volume has a size that it cannot have");
}

/* Beyond the end there are zeros, and what is guaranteed must allow them as well. */
static unsigned long check_blocks(const struct history *history, uint64_t cut)
{
    unsigned long bad = 0;

    for (uint64_t offset = 0; offset < first_bytes + grows * grow_bytes; offset += transfer_max) {
        unsigned char *memory = slots[0].memory;
        memset(memory, 0, transfer_max);
        int is_within = offset < volume_bytes;
        int is_whole = is_within && rawstor_read_sync(volume, memory, transfer_max, offset) == 0;
        for (uint64_t at = 0; at < transfer_max; at += block_bytes) {
            const char *problem;
            if (is_within && !is_whole && rawstor_read_sync(volume, memory + at, block_bytes, offset + at) < 0)
                problem = rawstor_volume_error_message(volume);
            else
                problem = history_block(history, cut, (offset + at) / block_bytes, memory + at);
            if (problem && ++bad <= 8)
                printf("BROKEN block %llu: %s\n", (unsigned long long)((offset + at) / block_bytes), problem);
        }
    }
    return bad;
}

/* A store that came back takes writes, keeps them apart from all that it had, and reads them back. */
static void go_on(uint64_t cut)
{
    struct history more = {.seed = seed = ~cut};

    if (!(journal = tmpfile()) || fwrite(&seed, sizeof seed, 1, journal) != 1)
        exit(2);
    random_state = seed;
    last_number = 0;
    grown = grows;
    work(60);
    rewind(journal);
    history_load(&more, journal);
    for (uint64_t number = 1; number <= more.count; number++) {
        const struct operation *operation = &more.operations[number];
        if (operation->kind > kind_durable_write)
            continue;
        if (rawstor_read_sync(volume, slots[0].memory, operation->bytes, operation->offset) < 0)
            broken(rawstor_volume_error_message(volume));
        for (uint64_t at = 0; at < operation->bytes; at += sector_bytes) {
            uint64_t have = content_number(slots[0].memory + at, seed, (operation->offset + at) / sector_bytes);
            /* Zeros may be those of a later discard. */
            if (have == NEVER || (have != 0 && have < number))
                broken("what was written after the loss of power does not read back");
        }
    }
}

static int check_volume(char **arguments)
{
    struct history history;
    uint64_t cut = strtoull(arguments[1], NULL, 10);

    if (!(journal = fopen(arguments[0], "rb"))) {
        perror(arguments[0]);
        return 2;
    }
    history_load(&history, journal);
    fclose(journal);
    if (rawstor_volume_open_sync(context, url, NULL, &volume) < 0)
        broken(rawstor_error_message(context));
    check_sizes(&history, cut);
    unsigned long bad = check_blocks(&history, cut);
    if (bad) {
        printf("BROKEN %lu blocks\n", bad);
        return 1;
    }
    go_on(cut);
    return 0;
}

int main(int argc, char **argv)
{
    int is_write = argc == 7 && strcmp(argv[1], "write") == 0;

    if (!is_write && !(argc == 5 && strcmp(argv[1], "check") == 0))
        return 2;
    if (rawstor_context_create(NULL, &context) < 0)
        fail("context");
    url = argv[2];
    make_slots();
    int result = is_write ? write_volume(argv + 3) : check_volume(argv + 3);
    rawstor_context_destroy(context);
    return result;
}
