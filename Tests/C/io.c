/* Reading and writing a volume of a real OST. */
#include "test.h"

#define MIB (1024 * 1024)

TEST(what_was_written_is_read)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, unique("io"), 16 * MIB);
    /* Sector-sized, block-sized, one that is neither, a whole frame, more than a frame across chunks. */
    static const struct {
        uint64_t offset;
        size_t bytes;
    } ranges[] = {{0, 512}, {512, 512}, {4096, 4096}, {3584, 9216}, {2 * MIB, MIB}, {3 * MIB + 512, 3 * MIB + 1024}};
    char *written = malloc(4 * MIB), *read = malloc(4 * MIB);

    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        fill(written, ranges[i].bytes, (unsigned)i + 1);
        memset(read, 0xee, ranges[i].bytes);
        CHECK_EQUAL(rawstor_write_sync(volume, written, ranges[i].bytes, ranges[i].offset, i % 2 ? RAWSTOR_DURABLE : 0), 0);
        CHECK_EQUAL(rawstor_read_sync(volume, read, ranges[i].bytes, ranges[i].offset), 0);
        CHECK(memcmp(written, read, ranges[i].bytes) == 0);
    }
    CHECK_EQUAL(rawstor_flush_sync(volume), 0);
    free(written);
    free(read);
    CHECK_EQUAL(rawstor_volume_close_sync(volume), 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(what_was_never_written_reads_as_zeros)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, unique("io"), MIB);
    static char buffer[8192], zeros[8192];

    memset(buffer, 1, sizeof buffer);
    CHECK_EQUAL(rawstor_read_sync(volume, buffer, sizeof buffer, 512), 0);
    CHECK(memcmp(buffer, zeros, sizeof buffer) == 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(segments_of_any_length_are_gathered_and_scattered)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, unique("io"), MIB);
    static char written[8192], read[8192];
    struct iovec out[3] = {{written, 1}, {written + 1, 5000}, {written + 5001, 8192 - 5001}};
    struct iovec in[2] = {{read, 4097}, {read + 4097, 8192 - 4097}};
    struct count count = {0, 0};

    fill(written, sizeof written, 7);
    CHECK_EQUAL(rawstor_write(volume, out, 3, 1024, 0, count_callback, &count), 0);
    /* Waits for the write, which overlaps it. */
    CHECK_EQUAL(rawstor_read(volume, in, 2, 1024, 0, count_callback, &count), 0);
    CHECK_EQUAL(count.calls, 0);
    CHECK_EQUAL(rawstor_context_wait(context, 2, -1), 2);
    CHECK_EQUAL(count.calls, 2);
    CHECK_EQUAL(count.result, 0);
    CHECK(memcmp(written, read, sizeof written) == 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(discarded_and_zeroed_ranges_read_as_zeros)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, unique("io"), 8 * MIB);
    static char buffer[64 * 1024], expected[64 * 1024];

    fill(buffer, sizeof buffer, 3);
    memcpy(expected, buffer, sizeof buffer);
    CHECK_EQUAL(rawstor_write_sync(volume, buffer, sizeof buffer, 0, 0), 0);
    CHECK_EQUAL(rawstor_discard_sync(volume, 4096, 8192, 0), 0);
    CHECK_EQUAL(rawstor_write_zeroes_sync(volume, 20480 + 512, 1024, RAWSTOR_DURABLE), 0);
    memset(expected + 4096, 0, 8192);
    memset(expected + 20480 + 512, 0, 1024);
    CHECK_EQUAL(rawstor_read_sync(volume, buffer, sizeof buffer, 0), 0);
    CHECK(memcmp(buffer, expected, sizeof buffer) == 0);
    /* And as much as there is. */
    CHECK_EQUAL(rawstor_discard_sync(volume, 0, 8 * MIB, 0), 0);
    memset(expected, 0, sizeof expected);
    CHECK_EQUAL(rawstor_read_sync(volume, buffer, sizeof buffer, 0), 0);
    CHECK(memcmp(buffer, expected, sizeof buffer) == 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_bad_range_is_refused_at_the_start_with_its_numbers)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, unique("io"), MIB);
    static char buffer[8192];
    struct iovec iov[2] = {{buffer, 512}, {NULL, 512}};
    struct count count = {0, 0};

    CHECK_EQUAL(rawstor_read(volume, iov, 1, 100, 0, count_callback, &count), -EINVAL);
    CHECK(strstr(rawstor_volume_error_message(volume), "512"));
    CHECK_EQUAL(rawstor_read(volume, iov, 1, MIB, 0, count_callback, &count), -EINVAL);
    CHECK(strstr(rawstor_volume_error_message(volume), "1048576"));
    CHECK_EQUAL(rawstor_read(volume, iov, 1, UINT64_MAX - 511, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_read(volume, iov, 2, 0, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_read(volume, iov, 0, 0, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_read(volume, NULL, 1, 0, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_read(volume, iov, 100000, 0, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_read(volume, iov, 1, 0, RAWSTOR_DURABLE, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_write(volume, iov, 1, 0, 0x100, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_write(volume, iov, 1, 0, 0, NULL, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_discard(volume, 0, 0, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_discard(volume, 0, UINT64_MAX, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_write_zeroes(volume, 0, 1000, 0, count_callback, &count), -EINVAL);
    iov[0].iov_len = (size_t)-512;
    CHECK_EQUAL(rawstor_read(volume, iov, 1, 0, 0, count_callback, &count), -EINVAL);
    iov[0].iov_len = 100;
    CHECK_EQUAL(rawstor_read(volume, iov, 1, 0, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_context_wait(context, 1, -1), 0);
    CHECK_EQUAL(count.calls, 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(more_operations_than_allowed_are_refused_until_one_ends)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    const char *name = unique("io");
    struct rawstor_volume_options options = {.size = sizeof options, .operations_max = 4};
    struct rawstor_volume_limits limits = {.size = sizeof limits};
    static char buffer[5][4096];
    struct count count = {0, 0};
    rawstor_volume *volume;
    struct iovec iov;

    CHECK_EQUAL(rawstor_create_sync(context, url(name), MIB, NULL), 0);
    CHECK_EQUAL(rawstor_volume_open_sync(context, url(name), &options, &volume), 0);
    CHECK_EQUAL(rawstor_volume_limits(volume, &limits), 0);
    CHECK_EQUAL(limits.operations_max, 4);
    CHECK_EQUAL(limits.sector_bytes, 512);
    CHECK_EQUAL(limits.physical_block_bytes, 4096);
    for (int i = 0; i < 4; i++) {
        iov = (struct iovec){buffer[i], 4096};
        CHECK_EQUAL(rawstor_write(volume, &iov, 1, 4096 * (uint64_t)i, 0, count_callback, &count), 0);
    }
    iov = (struct iovec){buffer[4], 4096};
    CHECK_EQUAL(rawstor_write(volume, &iov, 1, 65536, 0, count_callback, &count), -EAGAIN);
    CHECK(rawstor_context_wait(context, 1, -1) >= 1);
    CHECK_EQUAL(rawstor_write(volume, &iov, 1, 65536, 0, count_callback, &count), 0);
    while (count.calls < 5)
        CHECK(rawstor_context_wait(context, 1, -1) >= 0);
    CHECK_EQUAL(count.result, 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_short_limits_struct_is_filled_as_far_as_it_goes)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, unique("io"), MIB);
    struct rawstor_volume_limits limits;

    memset(&limits, 0xab, sizeof limits);
    limits.size = offsetof(struct rawstor_volume_limits, physical_block_bytes);
    CHECK_EQUAL(rawstor_volume_limits(volume, &limits), 0);
    CHECK_EQUAL(limits.sector_bytes, 512);
    CHECK_EQUAL(limits.physical_block_bytes, (int64_t)0xababababababababull);
    CHECK_EQUAL(limits.size, offsetof(struct rawstor_volume_limits, physical_block_bytes));
    CHECK_EQUAL(rawstor_volume_limits(volume, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

struct chain {
    rawstor_volume *volume;
    char buffer[4096];
    int left;
    int failed;
};

static void writes_the_next(void *argument, int result)
{
    struct chain *chain = argument;
    struct iovec iov = {chain->buffer, sizeof chain->buffer};

    chain->failed |= result;
    if (--chain->left > 0)
        chain->failed |= rawstor_write(chain->volume, &iov, 1, 4096 * (uint64_t)chain->left, 0, writes_the_next, chain);
}

TEST(a_callback_that_starts_the_next_operation_keeps_going)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    struct chain chain = {volume_or_exit(context, unique("io"), MIB), {0}, 200, 0};

    writes_the_next(&chain, 0);
    while (chain.left > 0)
        CHECK(rawstor_context_wait(context, 1, 10000) > 0);
    CHECK_EQUAL(chain.failed, 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(many_operations_at_once_over_several_volumes_all_end_well)
{
    NEEDS_OST();
    enum { volumes = 3, depth = 64, rounds = 8 };
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume[volumes];
    char *memory = malloc((size_t)volumes * depth * 4096), *read = malloc((size_t)depth * 4096);
    struct count count = {0, 0};

    for (int v = 0; v < volumes; v++)
        volume[v] = volume_or_exit(context, unique("io"), depth * 4096);
    for (int round = 0; round < rounds; round++) {
        fill(memory, (size_t)volumes * depth * 4096, (unsigned)round);
        for (int i = 0; i < depth; i++)
            for (int v = 0; v < volumes; v++) {
                struct iovec iov = {memory + (size_t)(v * depth + i) * 4096, 4096};
                CHECK_EQUAL(rawstor_write(volume[v], &iov, 1, 4096 * (uint64_t)i, 0, count_callback, &count), 0);
            }
        while (count.calls < (round + 1) * volumes * depth) {
            CHECK(rawstor_context_wait(context, 1, 10000) > 0);
            CHECK_EQUAL(count.result, 0);
        }
    }
    for (int v = 0; v < volumes; v++) {
        CHECK_EQUAL(rawstor_read_sync(volume[v], read, (size_t)depth * 4096, 0), 0);
        CHECK(memcmp(read, memory + (size_t)v * depth * 4096, (size_t)depth * 4096) == 0);
    }
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    free(memory);
    free(read);
}
