/* Nothing waits for ever: what cannot be reached ends at its deadline, with a sentence that names it. */
#include "test.h"

#include <unistd.h>

static void open_must_end(const char *where, int result, double seconds_max)
{
    rawstor_context *context = context_or_exit();
    struct rawstor_volume_options options = {.size = sizeof options, .open_timeout_ms = 500};
    rawstor_volume *volume;
    double begin = seconds();

    CHECK_EQUAL(rawstor_volume_open_sync(context, where, &options, &volume), result);
    CHECK(seconds() - begin < seconds_max);
    CHECK(strlen(rawstor_error_message(context)) > 10);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(where_nobody_listens_an_open_is_refused) { open_must_end("ost://127.0.0.1:1/v", -ECONNREFUSED, 3); }

TEST(a_socket_that_is_not_there_refuses_an_open) { open_must_end("ost+unix:///v?socket=/nonexistent/socket", -ECONNREFUSED, 3); }

TEST(a_host_without_an_address_refuses_an_open) { open_must_end("ost://no-such-host.invalid:7710/v", -ECONNREFUSED, 10); }

TEST(the_message_names_the_address)
{
    rawstor_context *context = context_or_exit();
    struct rawstor_volume_options options = {.size = sizeof options, .open_timeout_ms = 200};
    rawstor_volume *volume;
    CHECK_EQUAL(rawstor_volume_open_sync(context, "ost://127.0.0.1:1/v", &options, &volume), -ECONNREFUSED);
    if (!strstr(rawstor_error_message(context), "127.0.0.1:1"))
        printf("# %s\n", rawstor_error_message(context));
    CHECK(strstr(rawstor_error_message(context), "127.0.0.1:1"));
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(an_ost_that_accepts_and_says_nothing_times_out)
{
    char where[64];
    int mute = mute_ost(where);

    open_must_end(where, -ETIMEDOUT, 3);
    close(mute);
}
