/* A test is a function named after a behaviour. CHECK ends it where it fails; what it opened is then leaked, which nothing minds. */
#ifndef TEST_H
#define TEST_H

#include <errno.h>
#include <rawstor.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};

extern struct test *tests;
extern int test_failed;
extern const char *test_skipped;

#define TEST(behaviour)                                                              \
    static void behaviour(void);                                                     \
    static struct test test_##behaviour = {#behaviour, behaviour, NULL};             \
    __attribute__((constructor)) static void register_##behaviour(void)              \
    {                                                                                \
        struct test **end = &tests;                                                  \
        while (*end)                                                                 \
            end = &(*end)->next;                                                     \
        *end = &test_##behaviour;                                                    \
    }                                                                                \
    static void behaviour(void)

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition);                 \
            test_failed = 1;                                                         \
            return;                                                                  \
        }                                                                            \
    } while (0)

/* Prints both sides: most results are an errno. */
#define CHECK_EQUAL(have, want)                                                      \
    do {                                                                             \
        long long have_ = (long long)(have), want_ = (long long)(want);              \
        if (have_ != want_) {                                                        \
            printf("# %s:%d: %s is %lld, expected %s = %lld\n", __FILE__, __LINE__, #have, have_, #want, want_); \
            test_failed = 1;                                                         \
            return;                                                                  \
        }                                                                            \
    } while (0)

#define SKIP(reason)                                                                 \
    do {                                                                             \
        test_skipped = reason;                                                       \
        return;                                                                      \
    } while (0)

/* Most tests with an OST begin with this. */
#define NEEDS_OST()                                                                  \
    do {                                                                             \
        if (!getenv("RAWSTOR_TEST_OST"))                                             \
            SKIP("RAWSTOR_TEST_OST names no OST, such as 127.0.0.1:7710 or /path/of/socket"); \
    } while (0)

/* URL of a volume on the OST of RAWSTOR_TEST_OST; a static buffer, four in turn. */
const char *url(const char *name);
/* A name that no other test process has taken. */
const char *unique(const char *what);

rawstor_context *context_or_exit(void);
/* A new volume of this size, open for writing. */
rawstor_volume *volume_or_exit(rawstor_context *context, const char *name, uint64_t bytes);

/* Somebody who accepts connections and says nothing: the listening socket, and the URL of a volume there. */
int mute_ost(char where[64]);

/* Counts callbacks and keeps the last result: pass its address and `count_callback`. */
struct count {
    int calls;
    int result;
};
void count_callback(void *argument, int result);

double seconds(void);
void fill(void *memory, size_t bytes, unsigned seed);

#endif
