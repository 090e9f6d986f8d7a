#define _GNU_SOURCE 1
#include "csystem.h"

#include <stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

uint64_t rs_monotonic_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t rs_wall_clock_milliseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (uint64_t)time.tv_sec * 1000u + (uint64_t)time.tv_nsec / 1000000u;
}

void rs_random_bytes(void *bytes, size_t count) {
    while (count > 0) {
        ssize_t got = getrandom(bytes, count, 0);
        if (got <= 0)
            continue;
        bytes = (char *)bytes + got;
        count -= (size_t)got;
    }
}

int rs_host_name(char *name, size_t bytes) {
    if (gethostname(name, bytes) < 0)
        return -errno;
    /* Too long a name may come without its end. */
    return memchr(name, 0, bytes) ? 0 : -ENAMETOOLONG;
}

void rs_process_name(char *text, size_t bytes) {
    char host[65];
    if (rs_host_name(host, sizeof host) < 0)
        strcpy(host, "?");
    snprintf(text, bytes, "%.32s on %s, process %d", program_invocation_short_name, host, (int)getpid());
}

uintptr_t rs_thread(void) {
    static _Thread_local char place;
    return (uintptr_t)&place;
}

struct start {
    void (*body)(void *);
    void *context;
};

static void *run(void *argument) {
    struct start start = *(struct start *)argument;
    __builtin_free(argument);
    start.body(start.context);
    return NULL;
}

int rs_thread_start(void (*body)(void *), void *context) {
    struct start *start = __builtin_malloc(sizeof *start);
    if (start == NULL)
        return -ENOMEM;
    start->body = body;
    start->context = context;
    /* Signals are for the threads of the program, and for its signalfd. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int error = pthread_create(&thread, &attributes, run, start);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        __builtin_free(start);
    return -error;
}

void *rs_map(size_t bytes) {
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    /* Fewer translations for the processor, fewer pieces for the kernel to map for the device. */
    if (bytes >= 2u << 20)
        madvise(base, bytes, MADV_HUGEPAGE);
    return base;
}

void rs_unmap(void *base, size_t bytes) { munmap(base, bytes); }

static void raise_to_most(int resource) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) == 0 && limit.rlim_cur != limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(resource, &limit);
    }
}

void rs_raise_locked_memory_limit(void) { raise_to_most(RLIMIT_MEMLOCK); }
void rs_raise_open_files_limit(void) { raise_to_most(RLIMIT_NOFILE); }

int rs_close(int descriptor) { return close(descriptor) < 0 ? -errno : 0; }

int rs_write_all(int descriptor, const void *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(descriptor, bytes, count);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? -errno : -EIO;
        bytes = (const char *)bytes + written;
        count -= (size_t)written;
    }
    return 0;
}

int rs_eventfd(void) {
    int descriptor = eventfd(0, EFD_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

void rs_eventfd_signal(int descriptor) {
    uint64_t one = 1;
    while (write(descriptor, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

void rs_eventfd_clear(int descriptor) {
    uint64_t count;
    while (read(descriptor, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

void rs_ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }

int rs_signalfd(int descriptor, const int *signals, int count) {
    _Static_assert(sizeof(struct signalfd_siginfo) == rs_signal_record_bytes, "a signal is read into a record");
    sigset_t set;
    sigemptyset(&set);
    for (int index = 0; index < count; index++)
        sigaddset(&set, signals[index]);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error != 0)
        return -error;
    int result = signalfd(descriptor, &set, SFD_CLOEXEC);
    return result < 0 ? -errno : result;
}

const char *rs_error_text(int code, char *buffer, size_t bytes) { return strerror_r(code, buffer, bytes); }

void rs_boot_id(char text[40]) {
    memset(text, 0, 40);
    int descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return;
    ssize_t count = read(descriptor, text, 36);
    if (count != 36) text[0] = 0;
    close(descriptor);
}

uint64_t rs_network_namespace(void) {
    struct stat status;
    return stat("/proc/thread-self/ns/net", &status) < 0 ? 0 : status.st_ino;
}

/* The number behind `key` in a file of "key: number kB" lines, or the number that the file begins with when `key` is empty; -1 if there is
 * none. */
static int64_t number_in(const char *path, const char *key) {
    char text[16384];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    ssize_t count = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    if (count <= 0) return -1;
    text[count] = 0;
    const char *place = strstr(text, key);
    if (place == NULL) return -1;
    place += strlen(key);
    place += strspn(place, " :\t");
    return *place >= '0' && *place <= '9' ? strtoll(place, NULL, 10) : -1;
}

/* What one control group leaves, or -1 where it has no limit. Pages of files can be taken back, so they count as free. */
static int64_t memory_left_in(const char *folder, const char *limit_name, const char *used_name) {
    static const char *const files[] = {"\ninactive_file", "\nactive_file", "\nslab_reclaimable"};
    char path[1400];
    snprintf(path, sizeof path, "%s/%s", folder, limit_name);
    int64_t limit = number_in(path, "");
    snprintf(path, sizeof path, "%s/%s", folder, used_name);
    int64_t used = number_in(path, "");
    if (limit < 0 || used < 0) return -1;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    for (unsigned kind = 0; kind < sizeof files / sizeof *files; kind++) {
        int64_t bytes = number_in(path, files[kind]);
        if (bytes > 0) used -= bytes < used ? bytes : used;
    }
    return limit > used ? limit - used : 0;
}

/* The least that the control groups of this process leave it, at any level; -1 where none has a limit. */
static int64_t memory_left_in_groups(void) {
    static const struct {
        const char *line, *root, *limit, *used;
    } versions[] = {
        {"0::/", "/sys/fs/cgroup", "memory.max", "memory.current"},
        {":memory:/", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"},
    };
    char text[4096], folder[1200];
    int descriptor = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    ssize_t count = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    if (count <= 0) return -1;
    text[count] = 0;
    int64_t least = -1;
    for (unsigned version = 0; version < sizeof versions / sizeof *versions; version++) {
        const char *line = strstr(text, versions[version].line);
        if (line == NULL) continue;
        const char *group = line + strlen(versions[version].line) - 1;
        int root = snprintf(folder, sizeof folder, "%s", versions[version].root);
        snprintf(folder + root, sizeof folder - root, "%.*s", (int)strcspn(group, "\n"), group);
        for (;;) {
            int64_t left = memory_left_in(folder, versions[version].limit, versions[version].used);
            if (left >= 0 && (least < 0 || left < least)) least = left;
            char *slash = strrchr(folder, '/');
            if (slash == NULL || slash < folder + root) break;
            *slash = 0;
        }
    }
    return least;
}

int64_t rs_memory_available(void) {
    int64_t kilobytes = number_in("/proc/meminfo", "MemAvailable");
    if (kilobytes < 0) return -1;
    int64_t machine = kilobytes * 1024, group = memory_left_in_groups();
    return group >= 0 && group < machine ? group : machine;
}

int rs_flush_output(void) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
    return errno != 0 ? -errno : -EIO;
}

void rs_exit(int code) { exit(code); }

int rs_file_write(const char *path, const void *bytes, size_t count) {
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor < 0) return -errno;
    const char *next = bytes;
    int result = 0;
    while (count > 0 && result == 0) {
        ssize_t written = write(descriptor, next, count);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            result = written < 0 ? -errno : -EIO;
            break;
        }
        next += written;
        count -= (size_t)written;
    }
    if (close(descriptor) < 0 && result == 0) result = -errno;
    return result;
}
