/* Contexts in several threads, and one that moves between them, with I/O. */
#include "test.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1024 * 1024)

static int writes_and_reads(rawstor_volume *volume, unsigned seed)
{
    char written[4096], read[4096];

    for (unsigned i = 0; i < 50; i++) {
        fill(written, sizeof written, seed + i);
        if (rawstor_write_sync(volume, written, sizeof written, i * 4096, 0) < 0
            || rawstor_read_sync(volume, read, sizeof read, i * 4096) < 0 || memcmp(written, read, sizeof read) != 0)
            return 0;
    }
    return 1;
}

static void *with_a_context_of_its_own(void *argument)
{
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, argument, MIB);
    int good = writes_and_reads(volume, 11);

    good &= rawstor_context_destroy(context) == 0;
    return good ? argument : NULL;
}

TEST(each_thread_works_with_its_own_context)
{
    NEEDS_OST();
    pthread_t threads[4];
    char names[4][64];

    for (int i = 0; i < 4; i++) {
        strcpy(names[i], unique("thread"));
        CHECK_EQUAL(pthread_create(&threads[i], NULL, with_a_context_of_its_own, names[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *result;
        CHECK_EQUAL(pthread_join(threads[i], &result), 0);
        CHECK(result);
    }
}

static void *with_this_volume(void *argument)
{
    return writes_and_reads(argument, 23) ? argument : NULL;
}

TEST(a_volume_moves_with_its_context_from_thread_to_thread)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, unique("thread"), MIB);

    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        void *result;
        CHECK_EQUAL(pthread_create(&thread, NULL, with_this_volume, volume), 0);
        CHECK_EQUAL(pthread_join(thread, &result), 0);
        CHECK(result);
        CHECK(writes_and_reads(volume, 31));
    }
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_child_makes_contexts_of_its_own_after_the_parent_closed_all)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    rawstor_volume *volume = volume_or_exit(context, unique("fork"), MIB);
    char name[64];
    int status;
    pid_t child;

    CHECK(writes_and_reads(volume, 1));
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    strcpy(name, unique("fork"));
    child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(with_a_context_of_its_own(name) ? 0 : 1);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 0);
}
