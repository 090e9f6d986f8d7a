/* SPDX-License-Identifier: MIT
 *
 * rawstor.h - block volumes kept by rawstor OSTs, for C and C++.
 *
 * A context is one thread's connection to the outside: an event loop without a thread of its own. A volume is an open object in a
 * context. Nothing here blocks, except the calls that say so in their name (_wait, _sync) and rawstor_context_destroy().
 *
 *     struct rawstor_context_options options = {.size = sizeof options};
 *     rawstor_context *context;
 *     rawstor_volume *volume;
 *     int result = rawstor_context_create(&options, &context);
 *     if (result == 0)
 *         result = rawstor_volume_open_sync(context, "ost://127.0.0.1:7710/vm1", NULL, &volume);
 *     if (result < 0) { fprintf(stderr, "%s\n", rawstor_error_message(context)); exit(1); }
 *     rawstor_write(volume, iov, 1, 4096, RAWSTOR_DURABLE, written, argument);      // starts it
 *     rawstor_context_wait(context, 1, -1);                                         // sends it; calls written(argument, result)
 *
 * THREADS. All calls on a context and on its volumes are made by one thread at a time; the caller sees to that. Between two calls a
 * context may move to another thread. Different contexts know nothing of each other and may be used at the same moment.
 *
 * CALLBACKS come only from inside rawstor_context_process(), rawstor_context_wait(), a _sync call on the same context, and
 * rawstor_context_destroy(); never from the call that starts an operation. A callback may start operations and close volumes. Inside
 * one, the calls listed in the previous sentence but one answer -EDEADLK. Each operation that was started (the call returned 0) has
 * exactly one callback, in no promised order.
 *
 * WHEN REQUESTS LEAVE. Starting an operation only queues it, so that many travel together. The next rawstor_context_process() or
 * rawstor_context_wait() sends what is queued: make one of these calls before sleeping on the descriptor.
 *
 * MEMORY. Buffers of an operation belong to the library from its start until its callback begins: do not write to them, free them or
 * unmap them, and do not read a read's. The iovec array, strings and option structs are copied by the call. Structs that an operation
 * fills (rawstor_volume_info, rawstor_space, the volume pointer of an open) belong to it until its callback as well.
 *
 * ORDER. An operation sees the effect of all that overlap it and were called back before it started. Overlapping operations that are under
 * way at the same time take effect one after the other, in the order of their start. A flush covers the writes, discards and
 * write-zeroes called back before it started. A read or write is whole or an error: nothing is transferred in part. After an error the
 * contents of a written range are the old or the new ones, block by block, until it is written again.
 *
 * SIZES. Offsets and sizes are multiples of 512 bytes; multiples of 4096 are faster, since the rest is a read-modify-write.
 *
 * FORK. A context does not survive fork(): close everything before, or create contexts after it, in the child. In a child of a
 * process with contexts do not touch the inherited ones, not even to destroy them.
 *
 * RESULTS are 0, or a count, or a negative errno. One that is returned by the call that starts an operation means: not started, no
 * callback. rawstor_strerror() has a sentence for each, rawstor_error_message() and rawstor_volume_error_message() one that names
 * the thing. After a timeout an operation may or may not have happened.
 *
 *     -EINVAL        an argument that can never be right: NULL, a bad URL, not a multiple of 512, beyond the end of the volume
 *     -EAGAIN        too many operations under way (limits.operations_max), or a limit of the daemon is reached: try again after a
 *                    callback
 *     -ENOENT        no such volume                      -EEXIST         a volume of this name exists
 *     -EBUSY         another writer has the volume open, or a volume to be removed is open
 *     -ESTALE        another writer has opened the volume with RAWSTOR_OPEN_FORCE: this handle is fenced and only good for closing
 *     -EROFS         the volume was opened with RAWSTOR_OPEN_READ_ONLY
 *     -ENOSPC        the store is full                   -EIO            the disk failed or a block is damaged; never wrong data
 *     -ETIMEDOUT     the deadline has passed             -ECONNREFUSED   the daemon could not be reached within the deadline
 *     -ECANCELED     the volume was closed, or the context destroyed, before the operation had ended
 *     -EBADF         the volume or context is closing    -EPROTO         the other side speaks another protocol, or nonsense
 *     -EDEADLK       called from inside a callback       -EOPNOTSUPP     known but not supported
 *     -ENOMEM        out of memory                       -EACCES         not allowed
 *
 * STRUCTS begin with their size, set by the caller: {.size = sizeof options}. So a program runs with an older and a newer library
 * than it was compiled for: fields the program does not know have their defaults, and a field the library does not know must be zero
 * (otherwise -EINVAL). 0 always means the default. Structs that the library fills are written as far as both sides know them; `size`
 * then tells how far. NULL in place of an option struct means all defaults.
 */
#ifndef RAWSTOR_H
#define RAWSTOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RAWSTOR_VERSION_MAJOR 0
#define RAWSTOR_VERSION_MINOR 1
#define RAWSTOR_VERSION_PATCH 0

typedef struct rawstor_context rawstor_context;
typedef struct rawstor_volume rawstor_volume;

/* Ends an operation: `result` is 0 or a negative errno. */
typedef void (*rawstor_callback)(void *argument, int result);

/* "0.1.0": the library that is running, where RAWSTOR_VERSION_* are those of the header compiled against. Lives for ever. */
const char *rawstor_version(void);

/* A sentence for a result of this library. Lives for ever. */
const char *rawstor_strerror(int result);

/* ---- Contexts ---- */

enum rawstor_log_level {
    RAWSTOR_LOG_DEBUG = 1,
    RAWSTOR_LOG_INFO = 2,
    RAWSTOR_LOG_WARNING = 3,
    RAWSTOR_LOG_ERROR = 4
};

/* `message` is one line without its end and lives until the callback returns. No call of the library is allowed inside. */
typedef void (*rawstor_log_callback)(void *argument, int level, const char *message);

/* With few operations under way rawstor_context_wait() and the _sync calls look for their end a fifth of a millisecond before they sleep,
 * as long as that has paid of late. With this flag they never do. */
#define RAWSTOR_CONTEXT_NO_SPIN UINT64_C(1)

struct rawstor_context_options {
    size_t size;
    rawstor_log_callback log; /* NULL: the library is silent */
    void *log_argument;
    uint64_t log_level; /* the least that is told; default RAWSTOR_LOG_WARNING */
    uint64_t flags;     /* RAWSTOR_CONTEXT_…; as text: no_spin=1 */
};

/* Sets the fields named in `text`, "log_level=2" and so on, separated by commas or blanks; callbacks have no text form. */
int rawstor_context_options_parse(struct rawstor_context_options *options, const char *text);

int rawstor_context_create(const struct rawstor_context_options *options, rawstor_context **context);

/* Closes the volumes that are open (see rawstor_volume_close) and frees the context; other operations are called back with -ECANCELED, and
 * an open among them leaves nothing open. Callbacks can start nothing any more (-EBADF). Blocks for a few seconds at most. -EDEADLK inside
 * a callback: then nothing has happened. NULL is allowed. */
int rawstor_context_destroy(rawstor_context *context);

/* A descriptor that becomes readable when rawstor_context_process() has something to do; for poll, select or epoll, level-triggered.
 * Never read it, and do not close it. It stays the same for the life of the context. */
int rawstor_context_fd(const rawstor_context *context);

/* Sends what is queued, receives what is there, makes the callbacks that are due. Never waits. The number of callbacks made. */
int rawstor_context_process(rawstor_context *context);

/* The same, again and again, until at least `min_completions` callbacks of operations were made or `timeout_ms` milliseconds have passed
 * (-1: no limit; requests have deadlines of their own). Returns at once when nothing is under way. The number of callbacks made. */
int rawstor_context_wait(rawstor_context *context, unsigned min_completions, int timeout_ms);

/* What the last call or operation of this context that failed had to say; "no error" when none did. With NULL: the last call on this
 * thread that had no context, such as a failed rawstor_context_create(). Lives until the next call on the context. */
const char *rawstor_error_message(const rawstor_context *context);

/* ---- Volumes ----
 *
 * A URL is rawstor://HOST[:PORT][,HOST[:PORT]...]/NAME, with the metadata or management servers of a cluster (port 7700), or of one OST
 * alone ost://HOST[:PORT]/NAME (port 7710) or ost+unix:///NAME?socket=PATH. A NAME has 1 to 128 letters, digits, '.', '_', '/'
 * and '-' and begins with a letter or digit. HOST is a name, an IPv4 address, or an IPv6 address in brackets. */

/* Without these two a volume is opened for writing, which one handle at a time may do (-EBUSY). */
#define RAWSTOR_OPEN_READ_ONLY UINT64_C(1)
/* Takes the volume from another writer that is connected; that one gets RAWSTOR_EVENT_FENCED, and its later writes fail. */
#define RAWSTOR_OPEN_FORCE UINT64_C(2)

enum rawstor_event_kind {
    RAWSTOR_EVENT_SIZE_CHANGED = 1, /* rawstor_volume_size() tells the new size */
    RAWSTOR_EVENT_DEGRADED = 2,     /* an OST is out of reach, and operations that only it can do wait; or a copy is not up to date */
    RAWSTOR_EVENT_RESTORED = 3,     /* no longer degraded: every OST is there, and every copy is up to date */
    RAWSTOR_EVENT_FENCED = 4,       /* another writer has taken the volume: close it */
    RAWSTOR_EVENT_CLOSED = 5        /* the volume is gone for good, removed or lost: close it */
};

struct rawstor_event {
    size_t size;
    uint64_t kind;
    uint64_t volume_bytes;
};

/* The event lives until the callback returns. None comes before the open's callback or after the start of the close. A volume that is
 * degraded when it is opened says so at once. */
typedef void (*rawstor_event_callback)(void *argument, rawstor_volume *volume, const struct rawstor_event *event);

struct rawstor_volume_options {
    size_t size;
    uint64_t flags;              /* RAWSTOR_OPEN_…; as text: read_only=1, force=1 */
    uint64_t open_timeout_ms;    /* default 10000 */
    uint64_t request_timeout_ms; /* of each operation, reconnecting included; default 30000 */
    uint64_t operations_max;     /* under way at the same time, from 1 to 1024; default 256 */
    rawstor_event_callback event;
    void *event_argument;
};

int rawstor_volume_options_parse(struct rawstor_volume_options *options, const char *text);

/* *volume is set before the callback gets 0. */
int rawstor_volume_open(rawstor_context *context, const char *url, const struct rawstor_volume_options *options,
                        rawstor_volume **volume, rawstor_callback callback, void *argument);

/* Takes no more operations. Those under way end first, with their own results, or with -ECANCELED after five seconds, and a resize at its
 * own deadline; then comes the callback. Does not flush. No other call on the volume is allowed from here on. `callback` may be NULL. */
int rawstor_volume_close(rawstor_volume *volume, rawstor_callback callback, void *argument);

struct rawstor_volume_limits {
    size_t size;
    uint64_t sector_bytes;         /* offsets and sizes are multiples of this: 512 */
    uint64_t physical_block_bytes; /* the unit of storage, written without reading first: 4096 */
    uint64_t optimal_bytes;        /* and this one is best: 4096 */
    uint64_t memory_alignment;     /* of buffers, for speed only: 4096 */
    uint64_t transfer_bytes_max;   /* of one read or write */
    uint64_t zero_bytes_max;       /* of one discard or write-zeroes */
    uint64_t segments_max;         /* of one iovec array */
    uint64_t operations_max;       /* under way at the same time; beyond, -EAGAIN */
};

/* 0 when `volume` is NULL. */
uint64_t rawstor_volume_size(const rawstor_volume *volume);
int rawstor_volume_limits(const rawstor_volume *volume, struct rawstor_volume_limits *limits);
rawstor_context *rawstor_volume_context(const rawstor_volume *volume);

/* As rawstor_error_message(), of this volume. Inside a callback with an error it is the sentence for that error. */
const char *rawstor_volume_error_message(const rawstor_volume *volume);

/* ---- Operations ---- */

/* Of write, discard and write-zeroes: on stable media before the callback. Covers this operation only. */
#define RAWSTOR_DURABLE UINT32_C(1)

int rawstor_read(rawstor_volume *volume, const struct iovec *iov, unsigned iov_count, uint64_t offset, uint32_t flags,
                 rawstor_callback callback, void *argument);
int rawstor_write(rawstor_volume *volume, const struct iovec *iov, unsigned iov_count, uint64_t offset, uint32_t flags,
                  rawstor_callback callback, void *argument);
/* What was called back before is on stable media. */
int rawstor_flush(rawstor_volume *volume, rawstor_callback callback, void *argument);
/* The range reads as zeros and its space is given back. */
int rawstor_discard(rawstor_volume *volume, uint64_t offset, uint64_t bytes, uint32_t flags, rawstor_callback callback, void *argument);
/* The range reads as zeros. */
int rawstor_write_zeroes(rawstor_volume *volume, uint64_t offset, uint64_t bytes, uint32_t flags, rawstor_callback callback,
                         void *argument);
/* Durable. New space reads as zeros; what is cut off is lost. A smaller size is a multiple of 4096 bytes (-EINVAL). Ends when
 * rawstor_volume_size() tells the new size, or that of another resize that came after it. */
int rawstor_resize(rawstor_volume *volume, uint64_t bytes, rawstor_callback callback, void *argument);

/* ---- The catalogue: volumes by name ---- */

struct rawstor_create_options {
    size_t size;
    uint64_t chunk_bytes; /* a power of two from 64 KiB to 1 GiB; default 4 MiB */
    uint64_t timeout_ms;  /* default 10000, here and wherever a call of the catalogue has no options */
};

int rawstor_create_options_parse(struct rawstor_create_options *options, const char *text);

#define RAWSTOR_INFO_HAS_WRITER UINT64_C(1)

struct rawstor_volume_info {
    size_t size;
    uint64_t flags; /* RAWSTOR_INFO_… */
    uint64_t volume_bytes;
    uint64_t used_bytes; /* what its blocks take of the store */
    uint64_t chunk_bytes;
    uint64_t generation;           /* how often it was opened for writing */
    uint64_t created_milliseconds; /* since 1970 */
    char id[40];
    char name[136];
};

/* Once per volume, in the order of names. `info` lives until it returns. Anything but 0 ends the list. */
typedef int (*rawstor_list_callback)(void *argument, const struct rawstor_volume_info *info);

struct rawstor_space {
    size_t size;
    uint64_t capacity_bytes;
    uint64_t used_bytes;
    uint64_t free_bytes;
    uint64_t volumes;
};

int rawstor_create(rawstor_context *context, const char *url, uint64_t volume_bytes, const struct rawstor_create_options *options,
                   rawstor_callback callback, void *argument);
int rawstor_stat(rawstor_context *context, const char *url, struct rawstor_volume_info *info, rawstor_callback callback,
                 void *argument);
/* -EBUSY while the volume is open. */
int rawstor_remove(rawstor_context *context, const char *url, rawstor_callback callback, void *argument);
/* The URL of these two needs no NAME. `argument` goes to both callbacks. */
int rawstor_list(rawstor_context *context, const char *url, rawstor_list_callback entry, rawstor_callback callback, void *argument);
int rawstor_df(rawstor_context *context, const char *url, struct rawstor_space *space, rawstor_callback callback, void *argument);

/* ---- The same, waiting for the end ----
 *
 * For tools and for starting up. Other callbacks of the context are made meanwhile. */

int rawstor_volume_open_sync(rawstor_context *context, const char *url, const struct rawstor_volume_options *options,
                             rawstor_volume **volume);
int rawstor_volume_close_sync(rawstor_volume *volume);
int rawstor_read_sync(rawstor_volume *volume, void *buffer, size_t bytes, uint64_t offset);
int rawstor_write_sync(rawstor_volume *volume, const void *buffer, size_t bytes, uint64_t offset, uint32_t flags);
int rawstor_flush_sync(rawstor_volume *volume);
int rawstor_discard_sync(rawstor_volume *volume, uint64_t offset, uint64_t bytes, uint32_t flags);
int rawstor_write_zeroes_sync(rawstor_volume *volume, uint64_t offset, uint64_t bytes, uint32_t flags);
int rawstor_resize_sync(rawstor_volume *volume, uint64_t bytes);
int rawstor_create_sync(rawstor_context *context, const char *url, uint64_t volume_bytes,
                        const struct rawstor_create_options *options);
int rawstor_stat_sync(rawstor_context *context, const char *url, struct rawstor_volume_info *info);
int rawstor_remove_sync(rawstor_context *context, const char *url);
int rawstor_list_sync(rawstor_context *context, const char *url, rawstor_list_callback entry, void *argument);
int rawstor_df_sync(rawstor_context *context, const char *url, struct rawstor_space *space);

#ifdef __cplusplus
}
#endif

#endif
