#define _GNU_SOURCE 1
#include "csystem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum rs_file_kind rs_file_kind(const char *path) {
    struct stat status;
    if (stat(path, &status) < 0)
        return rs_file_none;
    if (S_ISREG(status.st_mode))
        return rs_file_regular;
    if (S_ISBLK(status.st_mode))
        return rs_file_block_device;
    return S_ISSOCK(status.st_mode) ? rs_file_socket : rs_file_other;
}

int rs_disk_open(const char *path, bool writable, bool create, bool exclusive) {
    int flags = O_DIRECT | O_CLOEXEC | (writable ? O_RDWR : O_RDONLY) | (create ? O_CREAT : 0) | (exclusive ? O_EXCL : 0);
    int descriptor = open(path, flags, 0600);
    return descriptor < 0 ? -errno : descriptor;
}

int rs_disk_lock(int descriptor) { return flock(descriptor, LOCK_EX | LOCK_NB) < 0 ? -errno : 0; }

void rs_disk_unlock(int descriptor) { flock(descriptor, LOCK_UN); }

int rs_disk_reserve(int descriptor, uint64_t bytes) {
    int result;
    do {
        result = fallocate(descriptor, 0, 0, (off_t)bytes);
    } while (result < 0 && errno == EINTR);
    if (result < 0) {
        int error = -errno;
        /* What was reserved before the file system was full. */
        if (ftruncate(descriptor, 0) < 0)
            return -errno;
        return error;
    }
    return fsync(descriptor) < 0 ? -errno : 0;
}

int rs_disk_sync_parent(const char *path) {
    char *parent = strdup(path);
    if (parent == NULL)
        return -ENOMEM;
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        strcpy(parent, ".");
    else
        slash[slash == parent ? 1 : 0] = 0;
    int descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(parent);
    if (descriptor < 0)
        return -errno;
    int result = fsync(descriptor) < 0 ? -errno : 0;
    close(descriptor);
    return result;
}

int rs_unlink(const char *path) { return unlink(path) < 0 ? -errno : 0; }

static int block_device_traits(int descriptor, const struct stat *status, struct rs_disk_traits *traits) {
    int sector = 0;
    if (ioctl(descriptor, BLKGETSIZE64, &traits->bytes) < 0 || ioctl(descriptor, BLKSSZGET, &sector) < 0)
        return -errno;
    traits->sector_bytes = (uint32_t)sector;
    traits->is_block_device = true;
    traits->is_volatile = true;
    /* A partition has no queue of its own: its disk is the directory above. */
    static const char *const places[] = {"queue", "../queue"};
    for (int index = 0; index < 2; index++) {
        char path[128], text[32] = "";
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s/write_cache", major(status->st_rdev), minor(status->st_rdev), places[index]);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue;
        ssize_t count = read(file, text, sizeof text - 1);
        close(file);
        if (count > 0)
            traits->is_volatile = strncmp(text, "write through", 13) != 0;
        break;
    }
    return 0;
}

/* What direct I/O of a file must be a multiple of, found by trying. */
static uint32_t probed_sector(int descriptor) {
    void *memory;
    if (posix_memalign(&memory, 4096, 4096) != 0)
        return 4096;
    uint32_t sector = 512;
    while (sector <= 4096 && pread(descriptor, memory, sector, sector) < 0)
        sector *= 8;
    free(memory);
    return sector <= 4096 ? sector : 0;
}

int rs_disk_traits(int descriptor, struct rs_disk_traits *traits) {
    memset(traits, 0, sizeof *traits);
    struct stat status;
    if (fstat(descriptor, &status) < 0)
        return -errno;
    if (S_ISBLK(status.st_mode))
        return block_device_traits(descriptor, &status, traits);
    if (!S_ISREG(status.st_mode))
        return -ENOTBLK;
    traits->bytes = (uint64_t)status.st_size;
    /* The cache of the device below cannot be known through a file system. */
    traits->is_volatile = true;
    struct statx extended = {0};
    if (statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &extended) == 0 && extended.stx_mask & STATX_DIOALIGN) {
        uint32_t align = extended.stx_dio_offset_align;
        traits->sector_bytes = align == 0 || align > 4096 ? 0 : align <= 512 ? 512 : 4096;
    } else {
        traits->sector_bytes = probed_sector(descriptor);
    }
    return 0;
}
