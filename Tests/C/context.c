/* Contexts by themselves: the descriptor, waiting, callbacks, threads. */
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

TEST(waiting_for_nothing_returns_at_once)
{
    rawstor_context *context = context_or_exit();
    double begin = seconds();
    CHECK_EQUAL(rawstor_context_process(context), 0);
    CHECK_EQUAL(rawstor_context_wait(context, 1, -1), 0);
    CHECK_EQUAL(rawstor_context_wait(context, 5, 60000), 0);
    CHECK(seconds() - begin < 5);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

/* Nobody listens on port 1 of the loopback. */
static const char unreachable[] = "ost://127.0.0.1:1/v";

TEST(the_descriptor_wakes_a_poll_when_something_happens)
{
    rawstor_context *context = context_or_exit();
    struct rawstor_volume_options options = {.size = sizeof options, .open_timeout_ms = 300};
    struct count count = {0, 0};
    rawstor_volume *volume;
    double begin = seconds();

    CHECK(rawstor_context_fd(context) >= 0);
    CHECK_EQUAL(rawstor_volume_open(context, unreachable, &options, &volume, count_callback, &count), 0);
    CHECK_EQUAL(count.calls, 0);
    while (count.calls == 0) {
        struct pollfd pollfd = {.fd = rawstor_context_fd(context), .events = POLLIN, .revents = 0};
        CHECK(rawstor_context_process(context) >= 0);
        if (count.calls == 0)
            CHECK(poll(&pollfd, 1, 10000) == 1);
    }
    CHECK_EQUAL(count.calls, 1);
    CHECK_EQUAL(count.result, -ECONNREFUSED);
    CHECK(seconds() - begin < 5);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_wait_ends_at_its_timeout_and_destroy_cancels_what_is_left)
{
    rawstor_context *context = context_or_exit();
    struct rawstor_volume_options options = {.size = sizeof options, .open_timeout_ms = 60000};
    struct count count = {0, 0};
    rawstor_volume *volume;
    char where[64];
    int mute = mute_ost(where);
    double begin = seconds();

    CHECK_EQUAL(rawstor_volume_open(context, where, &options, &volume, count_callback, &count), 0);
    CHECK_EQUAL(rawstor_context_wait(context, 1, 100), 0);
    CHECK(seconds() - begin >= 0.1);
    CHECK(seconds() - begin < 5);
    CHECK_EQUAL(count.calls, 0);
    begin = seconds();
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    CHECK(seconds() - begin < 5);
    CHECK_EQUAL(count.calls, 1);
    CHECK_EQUAL(count.result, -ECANCELED);
    close(mute);
}

struct again {
    rawstor_context *context;
    const char *where;
    rawstor_volume *volume;
    int calls, result, second;
};

static void opens_again(void *argument, int result)
{
    struct again *again = argument;

    again->calls++;
    again->result = result;
    again->second = rawstor_volume_open(again->context, again->where, NULL, &again->volume, opens_again, again);
}

TEST(nothing_is_started_any_more_in_a_context_that_is_destroyed)
{
    char where[64];
    int mute = mute_ost(where);
    struct again again = {context_or_exit(), where, NULL, 0, 0, 0};

    CHECK_EQUAL(rawstor_volume_open(again.context, where, NULL, &again.volume, opens_again, &again), 0);
    CHECK_EQUAL(rawstor_context_destroy(again.context), 0);
    CHECK_EQUAL(again.calls, 1);
    CHECK_EQUAL(again.result, -ECANCELED);
    CHECK_EQUAL(again.second, -EBADF);
    close(mute);
}

TEST(a_deadline_wakes_the_descriptor)
{
    rawstor_context *context = context_or_exit();
    struct rawstor_volume_options options = {.size = sizeof options, .open_timeout_ms = 200};
    struct count count = {0, 0};
    rawstor_volume *volume;
    char where[64];
    int mute = mute_ost(where);
    double begin = seconds();

    CHECK_EQUAL(rawstor_volume_open(context, where, &options, &volume, count_callback, &count), 0);
    while (count.calls == 0) {
        struct pollfd pollfd = {.fd = rawstor_context_fd(context), .events = POLLIN, .revents = 0};
        CHECK(rawstor_context_process(context) >= 0);
        if (count.calls == 0)
            CHECK(poll(&pollfd, 1, 10000) == 1);
    }
    CHECK_EQUAL(count.result, -ETIMEDOUT);
    CHECK(seconds() - begin < 5);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    close(mute);
}

struct inner {
    rawstor_context *context;
    int process, wait, sync, destroy;
    struct count second;
    rawstor_volume *volume;
};

static void calls_back_into_the_library(void *argument, int result)
{
    struct inner *inner = argument;
    struct rawstor_volume_options options = {.size = sizeof options, .open_timeout_ms = 100};
    (void)result;
    inner->process = rawstor_context_process(inner->context);
    inner->wait = rawstor_context_wait(inner->context, 1, 0);
    inner->sync = rawstor_volume_open_sync(inner->context, unreachable, NULL, &inner->volume);
    inner->destroy = rawstor_context_destroy(inner->context);
    rawstor_volume_open(inner->context, unreachable, &options, &inner->volume, count_callback, &inner->second);
}

TEST(inside_a_callback_waiting_is_refused_and_starting_is_allowed)
{
    struct inner inner = {context_or_exit(), 0, 0, 0, 0, {0, 0}, NULL};
    struct rawstor_volume_options options = {.size = sizeof options, .open_timeout_ms = 100};
    rawstor_volume *volume;

    CHECK_EQUAL(rawstor_volume_open(inner.context, unreachable, &options, &volume, calls_back_into_the_library, &inner), 0);
    CHECK_EQUAL(rawstor_context_wait(inner.context, 1, 10000), 1);
    CHECK_EQUAL(inner.process, -EDEADLK);
    CHECK_EQUAL(inner.wait, -EDEADLK);
    CHECK_EQUAL(inner.sync, -EDEADLK);
    CHECK_EQUAL(inner.destroy, -EDEADLK);
    CHECK_EQUAL(rawstor_context_wait(inner.context, 1, 10000), 1);
    CHECK_EQUAL(inner.second.calls, 1);
    CHECK_EQUAL(rawstor_context_destroy(inner.context), 0);
}

static void *opens_in_vain(void *argument)
{
    struct rawstor_volume_options options = {.size = sizeof options, .open_timeout_ms = 100};
    rawstor_volume *volume;
    return (void *)(intptr_t)rawstor_volume_open_sync(argument, unreachable, &options, &volume);
}

TEST(a_context_moves_between_threads)
{
    rawstor_context *context = context_or_exit();
    for (int turn = 0; turn < 4; turn++) {
        pthread_t thread;
        void *result;
        CHECK_EQUAL(pthread_create(&thread, NULL, opens_in_vain, context), 0);
        CHECK_EQUAL(pthread_join(thread, &result), 0);
        CHECK_EQUAL((intptr_t)result, -ECONNREFUSED);
        CHECK_EQUAL((intptr_t)opens_in_vain(context), -ECONNREFUSED);
    }
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

static void *opens_in_a_context_of_its_own(void *argument)
{
    rawstor_context *context;
    void *result = (void *)(intptr_t)-1;
    (void)argument;
    if (rawstor_context_create(NULL, &context) == 0) {
        result = opens_in_vain(context);
        rawstor_context_destroy(context);
    }
    return result;
}

TEST(contexts_work_at_the_same_moment)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, opens_in_a_context_of_its_own, NULL), 0);
    for (int i = 0; i < 4; i++) {
        void *result;
        CHECK_EQUAL(pthread_join(threads[i], &result), 0);
        CHECK_EQUAL((intptr_t)result, -ECONNREFUSED);
    }
}

TEST(a_context_can_be_made_and_destroyed_many_times)
{
    for (int i = 0; i < 200; i++) {
        rawstor_context *context;
        CHECK_EQUAL(rawstor_context_create(NULL, &context), 0);
        CHECK_EQUAL(rawstor_context_destroy(context), 0);
    }
}
