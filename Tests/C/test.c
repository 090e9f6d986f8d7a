/* Runs the tests of one program; see test.h. */
#include "test.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct test *tests;
int test_failed;
const char *test_skipped;

const char *url(const char *name)
{
    static char buffers[4][512];
    static unsigned turn;
    char *buffer = buffers[turn++ % 4];
    const char *ost = getenv("RAWSTOR_TEST_OST");

    if (ost[0] == '/')
        snprintf(buffer, sizeof buffers[0], "ost+unix:///%s?socket=%s", name, ost);
    else
        snprintf(buffer, sizeof buffers[0], "ost://%s/%s", ost, name);
    return buffer;
}

const char *unique(const char *what)
{
    static char buffers[4][64];
    static unsigned turn;
    char *buffer = buffers[turn % 4];

    snprintf(buffer, sizeof buffers[0], "%s-%d-%u", what, (int)getpid(), turn++);
    return buffer;
}

rawstor_context *context_or_exit(void)
{
    rawstor_context *context;

    if (rawstor_context_create(NULL, &context) < 0) {
        printf("# no context: %s\n", rawstor_error_message(NULL));
        exit(1);
    }
    return context;
}

rawstor_volume *volume_or_exit(rawstor_context *context, const char *name, uint64_t bytes)
{
    rawstor_volume *volume;
    const char *where = url(name);

    if (rawstor_create_sync(context, where, bytes, NULL) < 0 || rawstor_volume_open_sync(context, where, NULL, &volume) < 0) {
        printf("# no volume %s: %s\n", where, rawstor_error_message(context));
        exit(1);
    }
    return volume;
}

int mute_ost(char where[64])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int mute = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(mute, (struct sockaddr *)&address, sizeof address) < 0 || listen(mute, 64) < 0
        || getsockname(mute, (struct sockaddr *)&address, &length) < 0)
        exit(1);
    snprintf(where, 64, "ost://127.0.0.1:%d/v", ntohs(address.sin_port));
    return mute;
}

void count_callback(void *argument, int result)
{
    struct count *count = argument;

    count->calls++;
    count->result = result;
}

double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void fill(void *memory, size_t bytes, unsigned seed)
{
    unsigned char *byte = memory;

    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 1103515245u + 12345u;
        byte[i] = (unsigned char)(seed >> 16);
    }
}

int main(void)
{
    int failures = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (struct test *test = tests; test; test = test->next) {
        test_failed = 0;
        test_skipped = NULL;
        test->run();
        if (test_failed)
            printf("not ok - %s\n", test->name);
        else if (test_skipped)
            printf("ok - %s # SKIP %s\n", test->name, test_skipped);
        else
            printf("ok - %s\n", test->name);
        failures += test_failed;
    }
    return failures > 0;
}
