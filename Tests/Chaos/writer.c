/* The client of the chaos test.
 *
 *     writer run URL HISTORY JOURNAL WRITER [OPTION…]    works until SIGTERM, and checks every read at once
 *     writer verify URL HISTORY                          opens the volume and reads all of it against the history
 *     writer spoil URL HISTORY BLOCK                     writes what belongs to another block: for the test of the checks
 *
 * Options of run: --rate N (operations in a second, 0 without limit), --blocks N (works on the first N), --fill N (before that writes the
 * first N once), --flush N (one operation of N is a flush), --writes N (of 100 others; 50), --force (takes the
 * volume from another writer).
 *
 * HISTORY is a file that all writers of a volume map, so it outlives any of them: of each block which write was acknowledged last, and
 * which one was seen last by a read. Writes are numbered in the order in which they are submitted, WRITER above the rest of the number,
 * and each sector tells the number of its write. So a block may hold what was acknowledged or seen last, or anything with a higher
 * number, which is a write that was never acknowledged; never anything older. JOURNAL gets a record for each write submitted and
 * each acknowledged, for what depends on time. Ends with 0; with 1 when the verification finds something; with 3 when it was fenced. */
#include "../PowerLoss/history.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rawstor.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { depth = 16, blocks_max = 16, number_shift = 40, told_max = 8 };
static const uint64_t seed = 1;

/* Read by lab.py. */
struct history_file {
    _Atomic uint64_t blocks, acknowledged, reads, errors, no_space, lost, stale, wrong, stall_ns_max, operation_ns_max;
    _Atomic uint64_t unused[502];
    /* acknowledged[blocks], then seen[blocks] */
    _Atomic uint64_t numbers[];
};

struct journal_record {
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t number;
    uint32_t block, count;
    uint64_t is_acknowledged;
};

static rawstor_context *context;
static rawstor_volume *volume;
static struct history_file *history;
static _Atomic uint64_t *acknowledged, *seen;
static volatile sig_atomic_t is_asked_to_stop;
static int is_fenced;
static unsigned long told;

static void stop(int signal)
{
    (void)signal;
    is_asked_to_stop = 1;
}

static uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void raise_to(_Atomic uint64_t *value, uint64_t number)
{
    uint64_t have = atomic_load(value);

    while (have < number && !atomic_compare_exchange_weak(value, &have, number))
        ;
}

static void die(const char *what)
{
    printf("%s: %s\n", what, volume ? rawstor_volume_error_message(volume) : rawstor_error_message(context));
    exit(2);
}

static void log_line(void *argument, int level, const char *message)
{
    (void)argument;
    printf("log %d %s\n", level, message);
}

static void event(void *argument, rawstor_volume *of, const struct rawstor_event *event)
{
    (void)argument;
    (void)of;
    printf("event %d\n", (int)event->kind);
    if (event->kind == RAWSTOR_EVENT_FENCED || event->kind == RAWSTOR_EVENT_CLOSED)
        is_fenced = 1;
}

/* ---- What a block may hold ---- */

static uint64_t floor_of(uint64_t block)
{
    uint64_t a = atomic_load(&acknowledged[block]), s = atomic_load(&seen[block]);

    return a > s ? a : s;
}

static void make_block(unsigned char *memory, uint64_t number, uint64_t block)
{
    for (int sector = 0; sector < block_sectors; sector++)
        content_make(memory + sector * sector_bytes, seed, number, block * block_sectors + (uint64_t)sector);
}

static uint64_t block_number(const unsigned char *memory, uint64_t block)
{
    uint64_t number = content_number(memory, seed, block * block_sectors);

    for (int sector = 1; sector < block_sectors; sector++)
        if (content_number(memory + sector * sector_bytes, seed, block * block_sectors + (uint64_t)sector) != number)
            return NEVER;
    return number;
}

/* `least` is what the block had for certain when the read was submitted. */
static void check_block(const unsigned char *memory, uint64_t block, uint64_t least, _Atomic uint64_t *older)
{
    uint64_t number = block_number(memory, block);
    const char *problem = NULL;

    if (number == NEVER) {
        problem = "WRONG";
        atomic_fetch_add(&history->wrong, block_bytes);
    } else if (number < least) {
        problem = number < atomic_load(&acknowledged[block]) ? "LOST" : "STALE";
        atomic_fetch_add(older ? older : strcmp(problem, "LOST") ? &history->stale : &history->lost, 1);
    } else {
        raise_to(&seen[block], number);
    }
    if (problem && told++ < told_max)
        printf("%s block %llu has %llx, at least %llx is due (acknowledged %llx, seen %llx)\n", problem, (unsigned long long)block,
               (unsigned long long)number, (unsigned long long)least, (unsigned long long)atomic_load(&acknowledged[block]),
               (unsigned long long)atomic_load(&seen[block]));
}

/* ---- Working ---- */

enum what { what_read, what_write, what_flush };

struct slot {
    enum what what;
    int is_busy;
    uint64_t block, count, number, started;
    uint64_t least[blocks_max];
    unsigned char *memory;
};

static struct slot slots[depth];
static unsigned busy;
static int journal = -1;
static uint64_t random_state, last_number, working_blocks, last_progress, write_percent = 50;

static uint64_t below(uint64_t bound) { return next_random(&random_state) % bound; }

static void note(const struct slot *slot, uint64_t is_acknowledged)
{
    struct journal_record record = {now_ns(), slot->number, (uint32_t)slot->block, (uint32_t)slot->count, is_acknowledged};

    if (write(journal, &record, sizeof record) != sizeof record) {
        perror("the journal");
        exit(2);
    }
}

static void ended(void *argument, int result)
{
    struct slot *slot = argument;
    uint64_t now = now_ns();

    slot->is_busy = 0;
    busy--;
    last_progress = now;
    raise_to(&history->operation_ns_max, now - slot->started);
    if (result < 0) {
        if (result == -ESTALE)
            is_fenced = 1;
        else
            atomic_fetch_add(result == -ENOSPC ? &history->no_space : &history->errors, 1);
        if (told++ < told_max)
            printf("error %d %s\n", -result, rawstor_volume_error_message(volume));
        return;
    }
    if (slot->what == what_write) {
        for (uint64_t index = 0; index < slot->count; index++)
            raise_to(&acknowledged[slot->block + index], slot->number);
        atomic_fetch_add(&history->acknowledged, 1);
        note(slot, 1);
    } else if (slot->what == what_read) {
        for (uint64_t index = 0; index < slot->count; index++)
            check_block(slot->memory + index * block_bytes, slot->block + index, slot->least[index], &history->stale);
        atomic_fetch_add(&history->reads, 1);
    }
}

static void start(struct slot *slot)
{
    struct iovec vector = {slot->memory, slot->count * block_bytes};
    uint64_t offset = slot->block * block_bytes;
    int result;

    slot->started = now_ns();
    if (busy == 0)
        last_progress = slot->started;
    slot->is_busy = 1;
    busy++;
    if (slot->what == what_flush) {
        result = rawstor_flush(volume, ended, slot);
    } else if (slot->what == what_write) {
        slot->number = ++last_number;
        for (uint64_t index = 0; index < slot->count; index++)
            make_block(slot->memory + index * block_bytes, slot->number, slot->block + index);
        note(slot, 0);
        result = rawstor_write(volume, &vector, 1, offset, 0, ended, slot);
    } else {
        for (uint64_t index = 0; index < slot->count; index++)
            slot->least[index] = floor_of(slot->block + index);
        result = rawstor_read(volume, &vector, 1, offset, 0, ended, slot);
    }
    if (result < 0)
        ended(slot, result);
}

static void choose(struct slot *slot, uint64_t flush_one_in)
{
    slot->what = flush_one_in && below(flush_one_in) == 0 ? what_flush : below(100) < write_percent ? what_write : what_read;
    slot->count = 1 + below(blocks_max);
    slot->block = below(working_blocks - slot->count + 1);
}

static struct slot *free_slot(void)
{
    for (int index = 0; index < depth; index++)
        if (!slots[index].is_busy)
            return &slots[index];
    return NULL;
}

/* Lets the library run for some milliseconds, or until an operation has ended. */
static void turn(void)
{
    struct pollfd descriptor = {.fd = rawstor_context_fd(context), .events = POLLIN};

    if (busy > 0) {
        if (rawstor_context_wait(context, 1, 2) < 0)
            die("waiting");
        raise_to(&history->stall_ns_max, busy > 0 ? now_ns() - last_progress : 0);
    } else {
        poll(&descriptor, 1, 2);
        rawstor_context_process(context);
    }
}

static void fill(uint64_t blocks)
{
    for (uint64_t block = 0; block < blocks || busy > 0;) {
        struct slot *slot = block < blocks ? free_slot() : NULL;
        if (!slot) {
            turn();
            continue;
        }
        slot->what = what_write;
        slot->block = block;
        slot->count = blocks - block < blocks_max ? blocks - block : blocks_max;
        block += slot->count;
        start(slot);
    }
    if (rawstor_flush_sync(volume) < 0)
        die("the flush after filling");
    atomic_store(&history->stall_ns_max, 0);
    atomic_store(&history->operation_ns_max, 0);
}

/* What could not be issued in time is not made up for. */
static void work(uint64_t rate, uint64_t flush_one_in)
{
    uint64_t began = now_ns(), issued = 0;
    struct slot *slot;

    while (!is_asked_to_stop && !is_fenced) {
        uint64_t due = rate ? (now_ns() - began) * rate / 1000000000 : issued + depth;
        if (due > issued + depth)
            issued = due - depth;
        /* In bursts, so that the depth is reached at any rate. */
        if (due >= issued + depth)
            for (; issued < due && !is_fenced && (slot = free_slot()); issued++) {
                choose(slot, flush_one_in);
                start(slot);
            }
        turn();
    }
    while (busy > 0)
        turn();
}

static void open_volume(const char *url, uint64_t flags)
{
    struct rawstor_volume_options options = {.size = sizeof options, .flags = flags, .event = event, .open_timeout_ms = 20000};
    uint64_t began = now_ns();
    int result;

    /* A writer that was killed or is silent gives way after a while. */
    do
        result = rawstor_volume_open_sync(context, url, &options, &volume);
    while (result == -EBUSY && now_ns() - began < UINT64_C(20000000000) && usleep(100000) == 0);
    if (result < 0)
        die("open");
    printf("opened after %llu ms\n", (unsigned long long)((now_ns() - began) / 1000000));
}

static int run(const char *url, char **arguments)
{
    uint64_t rate = 0, flush_one_in = 0, flags = 0, fills = 0;

    journal = open(*arguments++, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    last_number = strtoull(*arguments++, NULL, 10) << number_shift;
    random_state = last_number;
    working_blocks = atomic_load(&history->blocks);
    for (; *arguments; arguments++) {
        if (strcmp(*arguments, "--fill") == 0)
            fills = strtoull(*++arguments, NULL, 10);
        else if (strcmp(*arguments, "--force") == 0)
            flags = RAWSTOR_OPEN_FORCE;
        else if (strcmp(*arguments, "--rate") == 0)
            rate = strtoull(*++arguments, NULL, 10);
        else if (strcmp(*arguments, "--flush") == 0)
            flush_one_in = strtoull(*++arguments, NULL, 10);
        else if (strcmp(*arguments, "--writes") == 0)
            write_percent = strtoull(*++arguments, NULL, 10);
        else if (strcmp(*arguments, "--blocks") == 0)
            working_blocks = strtoull(*++arguments, NULL, 10);
        else
            return 2;
    }
    for (int index = 0; index < depth; index++)
        if (!(slots[index].memory = aligned_alloc(block_bytes, blocks_max * block_bytes)))
            return 2;
    if (journal < 0) {
        perror("the journal");
        return 2;
    }
    open_volume(url, flags);
    if (fills)
        fill(fills);
    printf("works\n");
    work(rate, flush_one_in);
    printf("ends\n");
    if (rawstor_volume_close_sync(volume) < 0)
        die("close");
    printf(is_fenced ? "fenced\n" : "closed\n");
    return is_fenced ? 3 : 0;
}

static int verify(const char *url)
{
    enum { transfer_blocks = 256 };
    unsigned char *memory = aligned_alloc(block_bytes, transfer_blocks * block_bytes);
    uint64_t blocks = atomic_load(&history->blocks);
    uint64_t before = atomic_load(&history->lost) + atomic_load(&history->stale) + atomic_load(&history->wrong);

    open_volume(url, 0);
    for (uint64_t first = 0; memory && first < blocks; first += transfer_blocks) {
        uint64_t count = blocks - first < transfer_blocks ? blocks - first : transfer_blocks;
        if (rawstor_read_sync(volume, memory, count * block_bytes, first * block_bytes) < 0)
            die("reading to verify");
        for (uint64_t index = 0; index < count; index++)
            check_block(memory + index * block_bytes, first + index, floor_of(first + index), NULL);
    }
    if (rawstor_volume_close_sync(volume) < 0)
        die("close");
    return atomic_load(&history->lost) + atomic_load(&history->stale) + atomic_load(&history->wrong) != before;
}

static int spoil(const char *url, uint64_t block)
{
    unsigned char memory[block_bytes];

    open_volume(url, 0);
    make_block(memory, atomic_load(&acknowledged[block]), block + 1);
    if (rawstor_write_sync(volume, memory, sizeof memory, block * block_bytes, 0) < 0 || rawstor_volume_close_sync(volume) < 0)
        die("spoiling");
    return 0;
}

int main(int argc, char **argv)
{
    struct rawstor_context_options options = {.size = sizeof options, .log = log_line, .log_level = RAWSTOR_LOG_INFO};
    struct sigaction action = {.sa_handler = stop};
    int file = argc > 3 ? open(argv[3], O_RDWR | O_CLOEXEC) : -1;
    off_t bytes = file < 0 ? 0 : lseek(file, 0, SEEK_END);

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (bytes <= 0 || (history = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)) == MAP_FAILED) {
        perror(argc > 3 ? argv[3] : "usage: see writer.c");
        return 2;
    }
    acknowledged = history->numbers;
    seen = acknowledged + atomic_load(&history->blocks);
    sigaction(SIGTERM, &action, NULL);
    if (rawstor_context_create(&options, &context) < 0)
        die("context");
    int result = 2;
    if (strcmp(argv[1], "run") == 0 && argc > 5)
        result = run(argv[2], argv + 4);
    else if (strcmp(argv[1], "verify") == 0)
        result = verify(argv[2]);
    else if (strcmp(argv[1], "spoil") == 0 && argc == 5)
        result = spoil(argv[2], strtoull(argv[4], NULL, 10));
    rawstor_context_destroy(context);
    return result;
}
