/* A bad argument is -EINVAL and a sentence, never a crash. */
#include "test.h"

#include <limits.h>

TEST(null_handles_are_refused_everywhere)
{
    struct rawstor_volume_limits limits = {.size = sizeof limits};
    struct rawstor_volume_info info = {.size = sizeof info};
    struct rawstor_space space = {.size = sizeof space};
    struct count count = {0, 0};
    struct iovec iov = {NULL, 0};
    rawstor_volume *volume;
    char buffer[512];

    CHECK_EQUAL(rawstor_context_create(NULL, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_context_destroy(NULL), 0);
    CHECK_EQUAL(rawstor_context_fd(NULL), -EINVAL);
    CHECK_EQUAL(rawstor_context_process(NULL), -EINVAL);
    CHECK_EQUAL(rawstor_context_wait(NULL, 1, 0), -EINVAL);
    CHECK(rawstor_error_message(NULL) != NULL);

    CHECK_EQUAL(rawstor_volume_open(NULL, "ost://h:1/v", NULL, &volume, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_volume_open_sync(NULL, "ost://h:1/v", NULL, &volume), -EINVAL);
    CHECK_EQUAL(rawstor_volume_close(NULL, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_volume_close_sync(NULL), -EINVAL);
    CHECK_EQUAL(rawstor_volume_size(NULL), 0);
    CHECK_EQUAL(rawstor_volume_limits(NULL, &limits), -EINVAL);
    CHECK(rawstor_volume_context(NULL) == NULL);
    CHECK(rawstor_volume_error_message(NULL) != NULL);

    CHECK_EQUAL(rawstor_read(NULL, &iov, 1, 0, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_write(NULL, &iov, 1, 0, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_flush(NULL, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_discard(NULL, 0, 512, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_write_zeroes(NULL, 0, 512, 0, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_resize(NULL, 512, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_read_sync(NULL, buffer, 512, 0), -EINVAL);
    CHECK_EQUAL(rawstor_write_sync(NULL, buffer, 512, 0, 0), -EINVAL);
    CHECK_EQUAL(rawstor_flush_sync(NULL), -EINVAL);
    CHECK_EQUAL(rawstor_discard_sync(NULL, 0, 512, 0), -EINVAL);
    CHECK_EQUAL(rawstor_write_zeroes_sync(NULL, 0, 512, 0), -EINVAL);
    CHECK_EQUAL(rawstor_resize_sync(NULL, 512), -EINVAL);

    CHECK_EQUAL(rawstor_create(NULL, "ost://h:1/v", 512, NULL, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_stat(NULL, "ost://h:1/v", &info, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_remove(NULL, "ost://h:1/v", count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_list(NULL, "ost://h:1", NULL, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_df(NULL, "ost://h:1", &space, count_callback, &count), -EINVAL);
    CHECK_EQUAL(rawstor_create_sync(NULL, "ost://h:1/v", 512, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_stat_sync(NULL, "ost://h:1/v", &info), -EINVAL);
    CHECK_EQUAL(rawstor_remove_sync(NULL, "ost://h:1/v"), -EINVAL);
    CHECK_EQUAL(rawstor_list_sync(NULL, "ost://h:1", NULL, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_df_sync(NULL, "ost://h:1", &space), -EINVAL);
    CHECK_EQUAL(count.calls, 0);
}

TEST(null_pointers_beside_a_context_are_refused)
{
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume;

    CHECK_EQUAL(rawstor_volume_open_sync(context, NULL, NULL, &volume), -EINVAL);
    CHECK_EQUAL(rawstor_volume_open_sync(context, "ost://127.0.0.1:1/v", NULL, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_volume_open(context, "ost://127.0.0.1:1/v", NULL, &volume, NULL, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_stat_sync(context, "ost://127.0.0.1:1/v", NULL), -EINVAL);
    CHECK_EQUAL(rawstor_df_sync(context, "ost://127.0.0.1:1", NULL), -EINVAL);
    CHECK_EQUAL(rawstor_list_sync(context, "ost://127.0.0.1:1", NULL, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_create_sync(context, NULL, 512, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_context_options_parse(NULL, "log_level=1"), -EINVAL);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_url_that_is_none_is_refused_with_a_sentence)
{
    static const char *const urls[] = {
        "", "vm1", "http://127.0.0.1/vm1", "ost://", "ost:///vm1", "ost://127.0.0.1", "ost://127.0.0.1:0/vm1",
        "ost://127.0.0.1:99999/vm1", "ost://127.0.0.1:7710", "ost://127.0.0.1:7710/", "ost://127.0.0.1:7710/.hidden",
        "ost://127.0.0.1:7710/a b", "ost+unix:///vm1", "ost+unix:///vm1?socket=", "ost://127.0.0.1:7710/v\xff",
    };
    rawstor_context *context = context_or_exit();

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        rawstor_volume *volume;
        int result = rawstor_volume_open_sync(context, urls[i], NULL, &volume);
        if (result != -EINVAL)
            printf("# '%s' gave %d: %s\n", urls[i], result, rawstor_error_message(context));
        CHECK_EQUAL(result, -EINVAL);
        CHECK(strlen(rawstor_error_message(context)) > 10);
    }
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(bad_options_of_a_volume_are_refused)
{
    rawstor_context *context = context_or_exit();
    struct rawstor_volume_options options = {.size = sizeof options, .operations_max = 1000000};
    rawstor_volume *volume;

    CHECK_EQUAL(rawstor_volume_open_sync(context, "ost://127.0.0.1:1/v", &options, &volume), -EINVAL);
    options.operations_max = 0;
    options.flags = UINT64_C(1) << 40;
    CHECK_EQUAL(rawstor_volume_open_sync(context, "ost://127.0.0.1:1/v", &options, &volume), -EINVAL);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}
