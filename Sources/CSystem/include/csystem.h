/* The system calls of the reactor under our own names: no header of the system is visible to Swift.
   Results are what the call returns, or a negative errno. Every descriptor made here is close-on-exec. */
#ifndef RAWSTOR_CSYSTEM_H
#define RAWSTOR_CSYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Clock, randomness, threads */
uint64_t rs_monotonic_nanoseconds(void);
uint64_t rs_wall_clock_milliseconds(void);
/* Processor time of this process, all threads. */
uint64_t rs_processor_nanoseconds(void);
void rs_random_bytes(void *bytes, size_t count);
/* The kernel's name for the time since this machine was started, in its text form; an empty string where it tells none. */
void rs_boot_id(char text[40]);
/* Of this thread, the same number for all in it while this machine runs; 0 if unknown. */
uint64_t rs_network_namespace(void);
/* What this machine calls itself; 0 or a negative errno, also when it does not fit. */
int rs_host_name(char *name, size_t bytes);
/* `PROGRAM on HOST, process N`, cut where it does not fit. */
void rs_process_name(char *text, size_t bytes);
/* Memory that this process can still take, by the machine and by the limits of its control groups; -1 where the system does not tell. */
int64_t rs_memory_available(void);
/* A number that differs between all threads alive, and is never 0. */
uintptr_t rs_thread(void);
/* A detached thread with all signals blocked. */
int rs_thread_start(void (*body)(void *), void *context);

/* Memory */
/* Zeroed pages, huge ones where that is possible; NULL when there are none. */
void *rs_map(size_t bytes);
void rs_unmap(void *base, size_t bytes);
/* Raise the soft limits of locked memory and of open files to the hard ones. */
void rs_raise_locked_memory_limit(void);
void rs_raise_open_files_limit(void);

/* Descriptors */
int rs_close(int descriptor);
/* Writes everything, or as far as that is possible: then a negative errno. */
int rs_write_all(int descriptor, const void *bytes, size_t count);
/* Writes what was printed to standard output; a negative errno if that, or any of it before, failed. */
int rs_flush_output(void);
int rs_eventfd(void);
void rs_eventfd_signal(int descriptor);
void rs_eventfd_clear(int descriptor);

/* Signals */
void rs_ignore_sigpipe(void);
/* Ends the process with this code. */
_Noreturn void rs_exit(int code);
/* Blocks the signals in this thread and lets them arrive at `descriptor` (-1: a new one). */
int rs_signalfd(int descriptor, const int *signals, int count);
enum { rs_signal_record_bytes = 128 };

/* Disks */
enum rs_file_kind { rs_file_none, rs_file_regular, rs_file_block_device, rs_file_socket, rs_file_other };
enum rs_file_kind rs_file_kind(const char *path);
/* With direct I/O. `exclusive`: a new file must not be there yet; a block device must not be in use. */
int rs_disk_open(const char *path, bool writable, bool create, bool exclusive);
/* An exclusive lock of the whole file, -EWOULDBLOCK if another has it. */
int rs_disk_lock(int descriptor);
void rs_disk_unlock(int descriptor);
int rs_disk_reserve(int descriptor, uint64_t bytes);
/* Makes the directory entry of a new file durable. */
int rs_disk_sync_parent(const char *path);
int rs_unlink(const char *path);
/* Makes or replaces a small file. 0 or a negative errno. */
int rs_file_write(const char *path, const void *bytes, size_t count);

struct rs_disk_traits {
    uint64_t bytes;
    uint32_t sector_bytes; /* 0: direct I/O is refused */
    bool is_volatile;
    bool is_block_device;
};
int rs_disk_traits(int descriptor, struct rs_disk_traits *traits);

/* Files of the user, through the page cache: for tools. Calls block. */
enum rs_file_use { rs_file_to_read, rs_file_to_write, rs_file_to_make };
int rs_file_open(const char *path, enum rs_file_use use);
/* The size of a file or block device; -ESPIPE for what has none. */
int64_t rs_file_bytes(int descriptor);
/* Where data begins at or behind `offset`; -ENXIO if there is none any more. */
int64_t rs_file_next_data(int descriptor, uint64_t offset);
/* All of it, less only at the end of the file. A negative offset: where the descriptor stands. */
int64_t rs_file_get(int descriptor, void *bytes, size_t count, int64_t offset);
int64_t rs_file_put(int descriptor, const void *bytes, size_t count, int64_t offset);
/* Leaves out blocks of zeros, and returns how many bytes it has written. For a file that is all holes there. */
int64_t rs_file_put_sparse(int descriptor, const void *bytes, size_t count, int64_t offset);
int rs_file_resize(int descriptor, uint64_t bytes);
int rs_file_sync(int descriptor);
/* -EEXIST if `to` is there and is not to be replaced. */
int rs_file_rename(const char *from, const char *to, bool replaces);
bool rs_file_is_terminal(int descriptor);
bool rs_is_zero(const void *bytes, size_t count);

/* Streams */
struct rs_address {
    unsigned char bytes[128];
    uint32_t length;
    uint16_t family;
};
/* What identifies the file of a Unix socket, so that a successor's is not removed. */
struct rs_file_identity {
    uint64_t device;
    uint64_t inode;
};
enum { rs_addresses_max = 16 };
/* The number of addresses, at least 1; or rs_resolve_failed, rs_resolve_again. */
enum { rs_resolve_failed = -1, rs_resolve_not_numeric = -2 };
int rs_address_resolve(const char *host, uint16_t port, bool numeric_only, struct rs_address *addresses, int max);
/* A path that begins with @ is a name in the abstract namespace. */
int rs_address_unix(const char *path, struct rs_address *address);
/* The host in numbers, and the port. */
int rs_address_of(int descriptor, char *host, size_t host_bytes, uint16_t *port);

int rs_socket(const struct rs_address *address);
/* Options of every connected stream. */
void rs_stream_prepare(int descriptor);
int rs_listen(const struct rs_address *address, int backlog);
/* Whether someone listens at a Unix socket: 1, 0 or a negative errno. */
int rs_socket_is_live(const struct rs_address *address);
int rs_file_identity(const char *path, struct rs_file_identity *identity);
void rs_shutdown(int descriptor);
enum { rs_accept_flags = 02000000 /* SOCK_CLOEXEC */, rs_send_flags = 0x4000 /* MSG_NOSIGNAL */ };

/* Room for a `struct msghdr`, before its vectors. */
enum { rs_message_bytes = 64 };
void rs_message_fill(void *message, void *vectors, size_t count);

/* The text of an errno. */
const char *rs_error_text(int code, char *buffer, size_t bytes);

#endif
