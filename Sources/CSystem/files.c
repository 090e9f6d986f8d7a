#define _GNU_SOURCE 1
#include "csystem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int rs_file_open(const char *path, enum rs_file_use use) {
    static const int flags[] = {
        [rs_file_to_read] = O_RDONLY, [rs_file_to_write] = O_WRONLY, [rs_file_to_make] = O_RDWR | O_CREAT};
    int descriptor;
    do {
        descriptor = open(path, flags[use] | O_CLOEXEC, 0600);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0)
        return -errno;
    if (use == rs_file_to_read)
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
    return descriptor;
}

int64_t rs_file_bytes(int descriptor) {
    struct stat status;
    if (fstat(descriptor, &status) < 0)
        return -errno;
    if (S_ISREG(status.st_mode))
        return status.st_size;
    uint64_t bytes = 0;
    if (!S_ISBLK(status.st_mode))
        return S_ISDIR(status.st_mode) ? -EISDIR : -ESPIPE;
    return ioctl(descriptor, BLKGETSIZE64, &bytes) < 0 ? -errno : (int64_t)bytes;
}

int64_t rs_file_next_data(int descriptor, uint64_t offset) {
    off_t next = lseek(descriptor, (off_t)offset, SEEK_DATA);
    if (next >= 0)
        return next;
    /* A file system that knows no holes has data everywhere. */
    return errno == ENXIO ? -ENXIO : (int64_t)offset;
}

int64_t rs_file_get(int descriptor, void *bytes, size_t count, int64_t offset) {
    size_t done = 0;
    while (done < count) {
        ssize_t got = offset < 0 ? read(descriptor, (char *)bytes + done, count - done)
                                 : pread(descriptor, (char *)bytes + done, count - done, (off_t)offset + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (int64_t)done;
}

int64_t rs_file_put(int descriptor, const void *bytes, size_t count, int64_t offset) {
    size_t done = 0;
    while (done < count) {
        ssize_t put = offset < 0 ? write(descriptor, (const char *)bytes + done, count - done)
                                 : pwrite(descriptor, (const char *)bytes + done, count - done, (off_t)offset + (off_t)done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        done += (size_t)put;
    }
    return (int64_t)done;
}

int64_t rs_file_put_sparse(int descriptor, const void *bytes, size_t count, int64_t offset) {
    enum { block = 4096 };
    int64_t written = 0;
    size_t start = 0;
    while (start < count) {
        size_t end = start;
        while (end < count && !rs_is_zero((const char *)bytes + end, count - end < block ? count - end : block))
            end += count - end < block ? count - end : block;
        if (end > start) {
            int64_t result = rs_file_put(descriptor, (const char *)bytes + start, end - start, offset + (int64_t)start);
            if (result < 0)
                return result;
            written += result;
        }
        /* The block at `end` is zero, or there is none. */
        start = end + block;
    }
    return written;
}

int rs_file_resize(int descriptor, uint64_t bytes) { return ftruncate(descriptor, (off_t)bytes) < 0 ? -errno : 0; }

int rs_file_sync(int descriptor) {
    /* A pipe or a terminal has nothing to make durable. */
    return fsync(descriptor) < 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS ? -errno : 0;
}

int rs_file_rename(const char *from, const char *to, bool replaces) {
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, replaces ? 0 : RENAME_NOREPLACE) == 0)
        return 0;
    /* Not every file system can refuse by itself. */
    if (errno != EINVAL || replaces)
        return -errno;
    if (access(to, F_OK) == 0)
        return -EEXIST;
    return rename(from, to) < 0 ? -errno : 0;
}

bool rs_file_is_terminal(int descriptor) { return isatty(descriptor) == 1; }

bool rs_is_zero(const void *bytes, size_t count) {
    const char *start = bytes;
    /* What equals itself moved by one byte, and begins with zero, is zero. */
    return count == 0 || (start[0] == 0 && memcmp(start, start + 1, count - 1) == 0);
}

uint64_t rs_processor_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
