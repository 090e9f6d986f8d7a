/* liburing under our own names: no header of the library or of the system is visible to Swift. */
#ifndef RAWSTOR_CURING_H
#define RAWSTOR_CURING_H

#include <stdbool.h>
#include <stdint.h>

struct rs_ring;

/* What an entry of the submission queue asks for; the values are the kernel's. */
enum rs_opcode {
    rs_opcode_nop = 0,
    rs_opcode_readv = 1,
    rs_opcode_writev = 2,
    rs_opcode_fsync = 3,
    rs_opcode_read_fixed = 4,
    rs_opcode_write_fixed = 5,
    rs_opcode_sendmsg = 9,
    rs_opcode_recvmsg = 10,
    rs_opcode_timeout = 11,
    rs_opcode_accept = 13,
    rs_opcode_async_cancel = 14,
    rs_opcode_connect = 16,
    rs_opcode_fallocate = 17,
    rs_opcode_read = 22,
    rs_opcode_write = 23,
    rs_opcode_send = 26,
    rs_opcode_recv = 27,
};

/* The fields of an entry that differ between operations. */
struct rs_entry {
    uint8_t opcode;
    uint16_t priority;  /* of sockets: hints such as rs_poll_first */
    uint16_t buffer;    /* of fixed reads and writes: which registered buffer */
    int32_t descriptor;
    uint32_t length;
    uint32_t flags;     /* those of the operation itself */
    uint64_t address;
    uint64_t offset;
    uint64_t data;      /* comes back in the completion */
};

/* Laid out like the kernel's, so that a batch is read in place. */
struct rs_completion {
    uint64_t data;
    int32_t result;
    uint32_t flags;
};

enum {
    rs_fsync_datasync = 1,
    rs_fallocate_punch = 3, /* PUNCH_HOLE | KEEP_SIZE */
    rs_cancel_all = 1,
    rs_cancel_any = 4,
    rs_poll_first = 1,
    rs_timeout_absolute = 1,
    rs_more_in_socket = 4,
};

/* A ring of `depth` entries. `owned`: it belongs to the calling thread for ever, which makes it faster. Negative errno on failure. */
int rs_ring_open(unsigned depth, bool owned, struct rs_ring **result);
/* Everything under way must have ended. */
void rs_ring_close(struct rs_ring *ring);

/* False when the submission queue is full. */
bool rs_ring_queue(struct rs_ring *ring, const struct rs_entry *entry);
/* Entries queued and not yet taken by the kernel. */
unsigned rs_ring_queued(const struct rs_ring *ring);
/* Hands over what is queued. Negative errno when not everything was taken. */
int rs_ring_submit(struct rs_ring *ring);
/* The same, and collects what has completed without waiting. */
int rs_ring_submit_and_collect(struct rs_ring *ring);
/* The same, and waits until there are `minimum` completions or `nanoseconds` (negative: no limit) have passed. */
int rs_ring_submit_and_wait(struct rs_ring *ring, unsigned minimum, int64_t nanoseconds);

/* Completions that lie contiguously in the queue, and where; to be handed back with `rs_ring_advance`. */
unsigned rs_ring_completions(struct rs_ring *ring, const struct rs_completion **first);
void rs_ring_advance(struct rs_ring *ring, unsigned count);
/* Whether completions are waiting in the kernel for room in the queue, or for a call to collect them. */
bool rs_ring_needs_collecting(const struct rs_ring *ring);

bool rs_ring_has_completions(const struct rs_ring *ring);

/* Looks for completions, or for what becomes one when collected, without sleeping; false after `nanoseconds` without any. Lets other
 * threads of this core run meanwhile. */
bool rs_ring_spin(const struct rs_ring *ring, int64_t nanoseconds);

/* A non-blocking close-on-exec eventfd which becomes readable with every completion. */
int rs_ring_register_eventfd(struct rs_ring *ring);
/* Whether it does so. After switching it on, look once for completions that came before. */
void rs_ring_notify(struct rs_ring *ring, bool enabled);
/* Makes room for `count` buffers, to be filled in with `rs_ring_register_buffer`. */
int rs_ring_reserve_buffers(struct rs_ring *ring, unsigned count);
int rs_ring_register_buffer(struct rs_ring *ring, unsigned index, void *base, uint64_t bytes);

#endif
