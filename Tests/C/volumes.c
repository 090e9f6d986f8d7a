/* The catalogue, opening and closing, sizes and events. */
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MIB (1024 * 1024)

TEST(a_volume_is_created_found_and_removed)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    const char *name = unique("catalogue");
    const char *where = url(name);
    struct rawstor_create_options options = {.size = sizeof options, .chunk_bytes = MIB};
    struct rawstor_volume_info info = {.size = sizeof info};

    CHECK_EQUAL(rawstor_create_sync(context, where, 5 * MIB, &options), 0);
    CHECK_EQUAL(rawstor_create_sync(context, where, 5 * MIB, &options), -EEXIST);
    CHECK(strstr(rawstor_error_message(context), name));
    CHECK_EQUAL(rawstor_stat_sync(context, where, &info), 0);
    CHECK_EQUAL(info.volume_bytes, 5 * MIB);
    CHECK_EQUAL(info.chunk_bytes, MIB);
    CHECK_EQUAL(info.flags & RAWSTOR_INFO_HAS_WRITER, 0);
    CHECK(strcmp(info.name, name) == 0);
    CHECK_EQUAL(strlen(info.id), 36);
    CHECK_EQUAL(rawstor_remove_sync(context, where), 0);
    CHECK_EQUAL(rawstor_remove_sync(context, where), -ENOENT);
    CHECK_EQUAL(rawstor_stat_sync(context, where, &info), -ENOENT);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_size_or_layout_that_cannot_be_is_refused)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    const char *where = url(unique("catalogue"));
    struct rawstor_create_options options = {.size = sizeof options, .chunk_bytes = 3 * MIB};

    CHECK_EQUAL(rawstor_create_sync(context, where, 0, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_create_sync(context, where, 1000, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_create_sync(context, where, UINT64_MAX - 511, NULL), -EINVAL);
    CHECK_EQUAL(rawstor_create_sync(context, where, MIB, &options), -EINVAL);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

struct listed {
    const char *first, *second;
    int found, count, limit;
    char last[136];
    int ordered;
};

static int list_entry(void *argument, const struct rawstor_volume_info *info)
{
    struct listed *listed = argument;

    listed->ordered &= strcmp(listed->last, info->name) < 0;
    strcpy(listed->last, info->name);
    listed->found += strcmp(info->name, listed->first) == 0 || strcmp(info->name, listed->second) == 0;
    return ++listed->count == listed->limit;
}

TEST(a_list_has_every_volume_in_order_and_ends_when_told)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    struct listed listed = {unique("list"), unique("list"), 0, 0, -1, "", 1};

    CHECK_EQUAL(rawstor_create_sync(context, url(listed.first), MIB, NULL), 0);
    CHECK_EQUAL(rawstor_create_sync(context, url(listed.second), MIB, NULL), 0);
    CHECK_EQUAL(rawstor_list_sync(context, url(""), list_entry, &listed), 0);
    CHECK_EQUAL(listed.found, 2);
    CHECK(listed.ordered);
    listed.count = 0;
    listed.limit = 1;
    CHECK_EQUAL(rawstor_list_sync(context, url(""), list_entry, &listed), 0);
    CHECK_EQUAL(listed.count, 1);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(free_space_is_told)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    struct rawstor_space space = {.size = sizeof space};

    CHECK_EQUAL(rawstor_df_sync(context, url(""), &space), 0);
    CHECK(space.capacity_bytes > 0);
    CHECK(space.free_bytes <= space.capacity_bytes);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_volume_that_is_not_there_cannot_be_opened)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    const char *name = unique("nothing");
    rawstor_volume *volume;

    CHECK_EQUAL(rawstor_volume_open_sync(context, url(name), NULL, &volume), -ENOENT);
    CHECK(strstr(rawstor_error_message(context), name));
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(a_second_writer_is_refused_a_reader_is_not)
{
    NEEDS_OST();
    rawstor_context *one = context_or_exit(), *two = context_or_exit();
    const char *name = unique("writer");
    rawstor_volume *first = volume_or_exit(one, name, MIB), *second, *reader;
    struct rawstor_volume_options options = {.size = sizeof options, .flags = RAWSTOR_OPEN_READ_ONLY};
    struct rawstor_volume_info info = {.size = sizeof info};
    static char buffer[4096], read[4096];

    CHECK_EQUAL(rawstor_volume_open_sync(two, url(name), NULL, &second), -EBUSY);
    CHECK_EQUAL(rawstor_stat_sync(two, url(name), &info), 0);
    CHECK(info.flags & RAWSTOR_INFO_HAS_WRITER);
    CHECK_EQUAL(rawstor_remove_sync(two, url(name)), -EBUSY);

    CHECK_EQUAL(rawstor_volume_open_sync(two, url(name), &options, &reader), 0);
    fill(buffer, sizeof buffer, 9);
    CHECK_EQUAL(rawstor_write_sync(first, buffer, sizeof buffer, 0, 0), 0);
    CHECK_EQUAL(rawstor_flush_sync(first), 0);
    CHECK_EQUAL(rawstor_write_sync(reader, buffer, sizeof buffer, 0, 0), -EROFS);
    CHECK_EQUAL(rawstor_read_sync(reader, read, sizeof read, 0), 0);
    CHECK(memcmp(read, buffer, sizeof buffer) == 0);

    CHECK_EQUAL(rawstor_volume_close_sync(first), 0);
    CHECK_EQUAL(rawstor_volume_open_sync(two, url(name), NULL, &second), 0);
    CHECK_EQUAL(rawstor_context_destroy(one), 0);
    CHECK_EQUAL(rawstor_context_destroy(two), 0);
}

struct events {
    int kinds[8];
    int count;
    uint64_t bytes;
};

static void remember_event(void *argument, rawstor_volume *volume, const struct rawstor_event *event)
{
    struct events *events = argument;

    if (volume && event->size >= sizeof *event && events->count < 8)
        events->kinds[events->count++] = (int)event->kind;
    events->bytes = event->volume_bytes;
}

static rawstor_volume *open_with_events(rawstor_context *context, const char *name, uint64_t flags, struct events *events)
{
    struct rawstor_volume_options options = {.size = sizeof options, .flags = flags, .event = remember_event,
                                             .event_argument = events};
    rawstor_volume *volume;

    return rawstor_volume_open_sync(context, url(name), &options, &volume) == 0 ? volume : NULL;
}

/* Until an event has come, a limited time. */
static void await_event(rawstor_context *context, struct events *events, int count)
{
    double begin = seconds();
    while (events->count < count && seconds() - begin < 5)
        rawstor_context_process(context);
}

TEST(a_resize_shows_at_once_and_others_hear_of_it)
{
    NEEDS_OST();
    rawstor_context *one = context_or_exit(), *two = context_or_exit();
    const char *name = unique("size");
    struct events writer = {{0}, 0, 0}, reader = {{0}, 0, 0};
    static char buffer[4096], zeros[4096];
    rawstor_volume *volume, *other;

    CHECK_EQUAL(rawstor_create_sync(one, url(name), MIB, NULL), 0);
    CHECK((volume = open_with_events(one, name, 0, &writer)));
    CHECK((other = open_with_events(two, name, RAWSTOR_OPEN_READ_ONLY, &reader)));
    CHECK_EQUAL(rawstor_volume_size(volume), MIB);

    CHECK_EQUAL(rawstor_resize_sync(volume, 2 * MIB), 0);
    CHECK_EQUAL(rawstor_volume_size(volume), 2 * MIB);
    memset(buffer, 1, sizeof buffer);
    CHECK_EQUAL(rawstor_read_sync(volume, buffer, sizeof buffer, 2 * MIB - 4096), 0);
    CHECK(memcmp(buffer, zeros, sizeof zeros) == 0);
    CHECK_EQUAL(rawstor_write_sync(volume, buffer, sizeof buffer, 2 * MIB - 4096, 0), 0);
    await_event(two, &reader, 1);
    CHECK_EQUAL(reader.count, 1);
    CHECK_EQUAL(reader.kinds[0], RAWSTOR_EVENT_SIZE_CHANGED);
    CHECK_EQUAL(reader.bytes, 2 * MIB);
    CHECK_EQUAL(rawstor_volume_size(other), 2 * MIB);
    CHECK_EQUAL(rawstor_resize_sync(other, MIB), -EROFS);
    CHECK_EQUAL(rawstor_volume_size(volume), 2 * MIB);

    CHECK_EQUAL(rawstor_resize_sync(volume, MIB), 0);
    CHECK_EQUAL(rawstor_read_sync(volume, buffer, sizeof buffer, 2 * MIB - 4096), -EINVAL);
    CHECK_EQUAL(rawstor_resize_sync(volume, 1000), -EINVAL);
    CHECK_EQUAL(rawstor_resize_sync(volume, MIB - 512), -EINVAL);
    CHECK_EQUAL(rawstor_resize_sync(volume, MIB + 512), 0);
    CHECK_EQUAL(rawstor_resize_sync(volume, 0), -EINVAL);
    CHECK_EQUAL(rawstor_context_destroy(one), 0);
    CHECK_EQUAL(rawstor_context_destroy(two), 0);
}

TEST(a_writer_that_is_forced_out_hears_of_it_and_writes_no_more)
{
    NEEDS_OST();
    rawstor_context *one = context_or_exit(), *two = context_or_exit();
    const char *name = unique("force");
    struct events events = {{0}, 0, 0};
    static char buffer[4096];
    rawstor_volume *first, *second;

    CHECK_EQUAL(rawstor_create_sync(one, url(name), MIB, NULL), 0);
    CHECK((first = open_with_events(one, name, 0, &events)));
    CHECK((second = open_with_events(two, name, RAWSTOR_OPEN_FORCE, &events)));
    CHECK_EQUAL(rawstor_write_sync(second, buffer, sizeof buffer, 0, 0), 0);
    /* It does not know it yet. */
    CHECK_EQUAL(rawstor_resize_sync(first, 4096), -ESTALE);
    await_event(one, &events, 1);
    CHECK_EQUAL(events.count, 1);
    CHECK_EQUAL(events.kinds[0], RAWSTOR_EVENT_FENCED);
    CHECK_EQUAL(rawstor_write_sync(first, buffer, sizeof buffer, 0, 0), -ESTALE);
    CHECK_EQUAL(rawstor_resize_sync(first, 4096), -ESTALE);
    CHECK_EQUAL(rawstor_volume_size(second), MIB);
    CHECK_EQUAL(rawstor_volume_close_sync(first), 0);
    CHECK_EQUAL(rawstor_write_sync(second, buffer, sizeof buffer, 0, 0), 0);
    CHECK_EQUAL(rawstor_context_destroy(one), 0);
    CHECK_EQUAL(rawstor_context_destroy(two), 0);
}

/* Between clients and the OST. What the OST says on a connection can be held back, but for its first answer, the hello; and a connection
 * can be broken. */
struct relay {
    char path[80], where[256];
    const char *ost;
    int listener;
    volatile int count;
    struct connection {
        pthread_t thread;
        int client, server;
        volatile int is_held;
        /* Held back until this one has ended. */
        struct connection *follower;
    } connections[32];
    pthread_t thread;
};

static int unix_socket(const char *path, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    snprintf(address->sun_path, sizeof address->sun_path, "%s", path);
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int pass_on(int from, int to)
{
    char buffer[65536];
    ssize_t count = read(from, buffer, sizeof buffer);

    for (ssize_t done = 0, written; done < count; done += written)
        if ((written = send(to, buffer + done, count - done, MSG_NOSIGNAL)) <= 0)
            return 0;
    return count > 0;
}

static void *relay_connection(void *argument)
{
    struct connection *connection = argument;

    for (int answers = 0, live = 1; live;) {
        struct pollfd ends[2] = {{connection->client, POLLIN, 0}, {connection->server, POLLIN, 0}};
        poll(ends, connection->is_held && answers > 0 ? 1 : 2, 10);
        if (ends[0].revents)
            live = pass_on(connection->client, connection->server);
        /* Asked again: it may have been held back meanwhile. */
        if (live && ends[1].revents && !(connection->is_held && answers > 0)) {
            live = pass_on(connection->server, connection->client);
            answers++;
        }
    }
    close(connection->server);
    close(connection->client);
    if (connection->follower != NULL)
        connection->follower->is_held = 0;
    return NULL;
}

static void *relay_listener(void *argument)
{
    struct relay *relay = argument;
    struct sockaddr_un address;

    for (;;) {
        struct connection *connection = &relay->connections[relay->count];
        connection->client = accept(relay->listener, NULL, NULL);
        if (connection->client < 0)
            return NULL;
        connection->server = unix_socket(relay->ost, &address);
        if (connect(connection->server, (struct sockaddr *)&address, sizeof address) < 0
            || pthread_create(&connection->thread, NULL, relay_connection, connection) != 0)
            exit(1);
        relay->count++;
    }
}

/* A new one, and the URL of this volume through it. */
static struct relay *relay_to(const char *name)
{
    static int turn;
    struct relay *relay = calloc(1, sizeof *relay);
    struct sockaddr_un address;

    relay->ost = getenv("RAWSTOR_TEST_OST");
    snprintf(relay->path, sizeof relay->path, "/tmp/rawstor-relay-%d-%d", (int)getpid(), turn++);
    snprintf(relay->where, sizeof relay->where, "ost+unix:///%s?socket=%s", name, relay->path);
    relay->listener = unix_socket(relay->path, &address);
    if (bind(relay->listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(relay->listener, 8) < 0
        || pthread_create(&relay->thread, NULL, relay_listener, relay) != 0)
        exit(1);
    return relay;
}

/* When the clients have closed their connections. */
static void relay_end(struct relay *relay)
{
    shutdown(relay->listener, SHUT_RDWR);
    pthread_join(relay->thread, NULL);
    for (int i = 0; i < relay->count; i++)
        pthread_join(relay->connections[i].thread, NULL);
    unlink(relay->path);
    free(relay);
}

#define NEEDS_OST_ON_A_SOCKET()                                                      \
    do {                                                                             \
        NEEDS_OST();                                                                 \
        if (getenv("RAWSTOR_TEST_OST")[0] != '/')                                    \
            SKIP("RAWSTOR_TEST_OST is no socket");                                   \
    } while (0)

TEST(a_lost_connection_is_told_and_made_anew)
{
    NEEDS_OST_ON_A_SOCKET();
    rawstor_context *context = context_or_exit();
    const char *name = unique("lost");
    struct events events = {{0}, 0, 0};
    struct rawstor_volume_options options = {.size = sizeof options, .event = remember_event, .event_argument = &events};
    struct relay *between = relay_to(name);
    static char buffer[4096];
    rawstor_volume *volume;

    CHECK_EQUAL(rawstor_create_sync(context, url(name), MIB, NULL), 0);
    CHECK_EQUAL(rawstor_volume_open_sync(context, between->where, &options, &volume), 0);
    CHECK_EQUAL(rawstor_write_sync(volume, buffer, sizeof buffer, 0, 0), 0);
    CHECK_EQUAL(events.count, 0);
    shutdown(between->connections[0].client, SHUT_RDWR);
    await_event(context, &events, 2);
    CHECK_EQUAL(events.count, 2);
    CHECK_EQUAL(events.kinds[0], RAWSTOR_EVENT_DEGRADED);
    CHECK_EQUAL(events.kinds[1], RAWSTOR_EVENT_RESTORED);
    CHECK_EQUAL(rawstor_write_sync(volume, buffer, sizeof buffer, 0, 0), 0);
    CHECK_EQUAL(rawstor_volume_close_sync(volume), 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    relay_end(between);
}

TEST(a_close_lets_what_is_under_way_end_first)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    const char *name = unique("close");
    rawstor_volume *volume = volume_or_exit(context, name, MIB);
    static char written[32][4096], read[4096];
    struct count writes = {0, 0}, close = {0, 0};

    fill(written, sizeof written, 5);
    for (int i = 0; i < 32; i++) {
        struct iovec iov = {written[i], 4096};
        CHECK_EQUAL(rawstor_write(volume, &iov, 1, 4096 * (uint64_t)i, 0, count_callback, &writes), 0);
    }
    CHECK_EQUAL(rawstor_volume_close(volume, count_callback, &close), 0);
    CHECK_EQUAL(rawstor_flush(volume, count_callback, &writes), -EBADF);
    while (close.calls == 0)
        CHECK(rawstor_context_wait(context, 1, 10000) > 0);
    CHECK_EQUAL(writes.calls, 32);
    CHECK_EQUAL(writes.result, 0);
    CHECK_EQUAL(rawstor_volume_open_sync(context, url(name), NULL, &volume), 0);
    for (int i = 0; i < 32; i++) {
        CHECK_EQUAL(rawstor_read_sync(volume, read, sizeof read, 4096 * (uint64_t)i), 0);
        CHECK(memcmp(read, written[i], sizeof read) == 0);
    }
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

/* A volume of a MiB, opened through a relay as its first connection. */
static rawstor_volume *open_through(struct relay *between, rawstor_context *context, const char *name, uint64_t timeout)
{
    struct rawstor_volume_options options = {.size = sizeof options, .request_timeout_ms = timeout};
    rawstor_volume *volume;

    if (rawstor_create_sync(context, url(name), MIB, NULL) < 0
        || rawstor_volume_open_sync(context, between->where, &options, &volume) < 0)
        exit(1);
    return volume;
}

/* A limited time: until it is so large. */
static int has_size(rawstor_context *context, rawstor_volume *volume, uint64_t bytes)
{
    double begin = seconds();

    while (rawstor_volume_size(volume) != bytes && seconds() - begin < 5)
        rawstor_context_wait(context, 1, 10);
    return rawstor_volume_size(volume) == bytes;
}

static int is_called_back(rawstor_context *context, const struct count *count)
{
    double begin = seconds();

    while (count->calls == 0 && seconds() - begin < 5)
        rawstor_context_wait(context, 1, 10);
    return count->calls == 1;
}

TEST(a_close_calls_back_behind_a_resize)
{
    NEEDS_OST_ON_A_SOCKET();
    rawstor_context *context = context_or_exit();
    const char *name = unique("size");
    struct relay *between = relay_to(name);
    rawstor_volume *volume = open_through(between, context, name, 1000);
    struct count resize = {0, 0}, close = {0, 0};

    between->connections[1].is_held = 1;
    CHECK_EQUAL(rawstor_resize(volume, 2 * MIB, count_callback, &resize), 0);
    CHECK(has_size(context, volume, 2 * MIB));
    CHECK_EQUAL(rawstor_volume_close(volume, count_callback, &close), 0);
    CHECK(is_called_back(context, &close));
    CHECK_EQUAL(close.result, 0);
    CHECK_EQUAL(resize.calls, 1);
    CHECK_EQUAL(resize.result, -ETIMEDOUT);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    relay_end(between);
}

TEST(a_context_is_destroyed_with_a_resize_under_way)
{
    NEEDS_OST_ON_A_SOCKET();
    rawstor_context *context = context_or_exit();
    const char *name = unique("size");
    struct relay *between = relay_to(name);
    rawstor_volume *volume = open_through(between, context, name, 60000);
    struct count resize = {0, 0};
    double begin;

    between->connections[1].is_held = 1;
    CHECK_EQUAL(rawstor_resize(volume, 2 * MIB, count_callback, &resize), 0);
    CHECK(has_size(context, volume, 2 * MIB));
    begin = seconds();
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    CHECK(seconds() - begin < 10);
    CHECK_EQUAL(resize.calls, 1);
    CHECK_EQUAL(resize.result, -ECANCELED);
    relay_end(between);
}

TEST(a_resize_ends_although_another_one_came_before_its_answer)
{
    NEEDS_OST_ON_A_SOCKET();
    rawstor_context *context = context_or_exit();
    const char *name = unique("size");
    struct relay *between = relay_to(name);
    rawstor_volume *volume = open_through(between, context, name, 0);
    struct count first = {0, 0}, second = {0, 0};

    between->connections[1].is_held = 1;
    CHECK_EQUAL(rawstor_resize(volume, 2 * MIB, count_callback, &first), 0);
    CHECK(has_size(context, volume, 2 * MIB));
    CHECK_EQUAL(rawstor_resize(volume, 3 * MIB, count_callback, &second), 0);
    CHECK(is_called_back(context, &second));
    CHECK_EQUAL(second.result, 0);
    CHECK_EQUAL(rawstor_volume_size(volume), 3 * MIB);
    CHECK_EQUAL(first.calls, 0);
    between->connections[1].is_held = 0;
    CHECK(is_called_back(context, &first));
    CHECK_EQUAL(first.result, 0);
    CHECK_EQUAL(rawstor_volume_size(volume), 3 * MIB);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    relay_end(between);
}

TEST(a_resize_ends_when_its_size_is_known_here)
{
    NEEDS_OST_ON_A_SOCKET();
    rawstor_context *context = context_or_exit();
    const char *name = unique("size");
    struct relay *between = relay_to(name);
    rawstor_volume *volume = open_through(between, context, name, 0);
    struct count resize = {0, 0};

    between->connections[0].is_held = 1;
    CHECK_EQUAL(rawstor_resize(volume, 2 * MIB, count_callback, &resize), 0);
    CHECK_EQUAL(rawstor_context_wait(context, 1, 500), 0);
    CHECK_EQUAL(rawstor_volume_size(volume), MIB);
    /* The next connection tells it; that this one is gone says nothing. */
    shutdown(between->connections[0].client, SHUT_RDWR);
    CHECK(is_called_back(context, &resize));
    CHECK_EQUAL(resize.result, 0);
    CHECK_EQUAL(rawstor_volume_size(volume), 2 * MIB);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    relay_end(between);
}

TEST(a_resize_that_is_not_heard_of_here_ends_at_its_deadline)
{
    NEEDS_OST_ON_A_SOCKET();
    rawstor_context *context = context_or_exit();
    const char *name = unique("size");
    struct relay *between = relay_to(name);
    rawstor_volume *volume = open_through(between, context, name, 1000);
    struct count resize = {0, 0};
    double begin = seconds();

    between->connections[0].is_held = 1;
    CHECK_EQUAL(rawstor_resize(volume, 2 * MIB, count_callback, &resize), 0);
    CHECK(is_called_back(context, &resize));
    CHECK_EQUAL(resize.result, -ETIMEDOUT);
    CHECK(seconds() - begin >= 1);
    CHECK(seconds() - begin < 3);
    between->connections[0].is_held = 0;
    CHECK(has_size(context, volume, 2 * MIB));
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    relay_end(between);
}

TEST(destroying_a_context_ends_everything_in_it)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    const char *name = unique("close");
    rawstor_volume *volume = volume_or_exit(context, name, MIB);
    static char buffer[8][4096];
    struct count count = {0, 0};

    for (int i = 0; i < 8; i++) {
        struct iovec iov = {buffer[i], 4096};
        CHECK_EQUAL(rawstor_write(volume, &iov, 1, 4096 * (uint64_t)i, 0, count_callback, &count), 0);
    }
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    CHECK_EQUAL(count.calls, 8);
    CHECK(count.result == 0 || count.result == -ECANCELED);

    /* And the volume is free for the next writer. */
    context = context_or_exit();
    CHECK_EQUAL(rawstor_volume_open_sync(context, url(name), NULL, &volume), 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}

TEST(an_open_that_a_destroyed_context_had_under_way_leaves_nothing_open)
{
    NEEDS_OST_ON_A_SOCKET();
    rawstor_context *context = context_or_exit();
    const char *slow = unique("slow"), *late = unique("late");
    struct relay *between = relay_to(slow);
    static char memory[4096];
    struct iovec iov = {memory, sizeof memory};
    struct count write = {0, 0}, open = {0, 0};
    rawstor_volume *volume, *second;
    char where[256];
    double begin, processor;

    snprintf(where, sizeof where, "ost+unix:///%s?socket=%s", late, between->path);
    CHECK_EQUAL(rawstor_create_sync(context, url(slow), MIB, NULL), 0);
    CHECK_EQUAL(rawstor_create_sync(context, url(late), MIB, NULL), 0);
    CHECK_EQUAL(rawstor_volume_open_sync(context, between->where, NULL, &volume), 0);
    /* The open ends while the other volume waits for its write, which is answered when what was opened is closed again. */
    between->connections[0].is_held = 1;
    between->connections[1].follower = &between->connections[0];
    CHECK_EQUAL(rawstor_write(volume, &iov, 1, 0, 0, count_callback, &write), 0);
    CHECK_EQUAL(rawstor_volume_open(context, where, NULL, &second, count_callback, &open), 0);
    begin = seconds();
    processor = (double)clock() / CLOCKS_PER_SEC;
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    printf("# %.1f s, %.1f of them of the processor\n", seconds() - begin, (double)clock() / CLOCKS_PER_SEC - processor);
    CHECK(seconds() - begin < 4);
    CHECK_EQUAL(write.calls, 1);
    CHECK_EQUAL(write.result, 0);
    CHECK_EQUAL(open.calls, 1);
    CHECK_EQUAL(open.result, -ECANCELED);
    context = context_or_exit();
    CHECK_EQUAL(rawstor_volume_open_sync(context, url(late), NULL, &second), 0);
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
    relay_end(between);
}

TEST(a_volume_can_be_opened_and_closed_many_times)
{
    NEEDS_OST();
    rawstor_context *context = context_or_exit();
    const char *name = unique("again");

    CHECK_EQUAL(rawstor_create_sync(context, url(name), MIB, NULL), 0);
    for (int i = 0; i < 100; i++) {
        rawstor_volume *volume;
        CHECK_EQUAL(rawstor_volume_open_sync(context, url(name), NULL, &volume), 0);
        CHECK(rawstor_volume_context(volume) == context);
        CHECK_EQUAL(rawstor_volume_close_sync(volume), 0);
    }
    CHECK_EQUAL(rawstor_context_destroy(context), 0);
}
