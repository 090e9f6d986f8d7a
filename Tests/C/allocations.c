/* After warm-up a request costs no allocation, and what ends gives all memory back. Counts by standing in front of the C library's malloc,
 * so it runs without a sanitizer. */
#include "test.h"

#include <malloc.h>
#include <unistd.h>

static unsigned long allocations;

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    allocations++;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    allocations++;
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    allocations++;
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    allocations++;
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    allocations++;
    *memory = __libc_memalign(alignment, bytes);
    return *memory ? 0 : ENOMEM;
}

enum { depth = 16, blocks = 256 };

static int turn(rawstor_context *context, rawstor_volume *volume, char *memory, int writes, unsigned requests)
{
    struct count count = {0, 0};

    for (unsigned started = 0; started < requests;) {
        for (int i = 0; i < depth; i++, started++) {
            struct iovec iov = {memory + i * 4096, 4096};
            uint64_t offset = started % blocks * 4096;
            int result = writes ? rawstor_write(volume, &iov, 1, offset, 0, count_callback, &count)
                                : rawstor_read(volume, &iov, 1, offset, 0, count_callback, &count);
            if (result < 0)
                return result;
        }
        while ((unsigned)count.calls < started)
            rawstor_context_wait(context, 1, -1);
        if (count.result < 0)
            return count.result;
    }
    return 0;
}

static void no_allocations(int writes)
{
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, unique("allocations"), blocks * 4096);
    static char memory[depth * 4096];
    unsigned long before, during;

    CHECK_EQUAL(turn(context, volume, memory, 1, 1024), 0);
    CHECK_EQUAL(turn(context, volume, memory, writes, 1024), 0);
    before = allocations;
    CHECK(before > 0);
    CHECK_EQUAL(turn(context, volume, memory, writes, 4096), 0);
    during = allocations - before;
    printf("# %lu allocations in 4096 %s\n", during, writes ? "writes" : "reads");
    /* A timer that wakes up in between may cost a few; a request, none. */
    CHECK(during < 64);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_write_allocates_nothing)
{
    NEEDS_OST();
    no_allocations(1);
}

TEST(a_read_allocates_nothing)
{
    NEEDS_OST();
    no_allocations(0);
}

/* Bytes that are not given back by contexts which are destroyed with an open under way. */
static size_t kept(const char *where, int contexts)
{
    size_t before = mallinfo2().uordblks;

    for (int i = 0; i < contexts; i++) {
        rawstor_context *context = context_or_exit();
        rawstor_volume *volume;
        struct count count = {0, 0};
        if (rawstor_volume_open(context, where, NULL, &volume, count_callback, &count) < 0)
            exit(1);
        rawstor_context_wait(context, 1, 1);
        rawstor_context_destroy(context);
        if (count.result != -ECANCELED)
            exit(1);
    }
    return mallinfo2().uordblks - before;
}

TEST(a_context_destroyed_with_an_open_under_way_keeps_no_memory)
{
    char where[64], cluster[80];
    int mute = mute_ost(where);
    const char *const urls[] = {where, cluster};
    size_t bytes;

    snprintf(cluster, sizeof cluster, "rawstor%s", strchr(where, ':'));
    for (int i = 0; i < 2; i++) {
        kept(urls[i], 8);
        bytes = kept(urls[i], 32);
        printf("# %zu bytes kept by 32 contexts\n", bytes);
        CHECK(bytes < 4096);
    }
    close(mute);
}
