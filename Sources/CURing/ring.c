#define _GNU_SOURCE 1
#include "curing.h"

#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct rs_ring {
    struct io_uring ring;
    bool deferred; /* completions appear only when the kernel is entered to collect them */
};

_Static_assert(sizeof(struct rs_completion) == sizeof(struct io_uring_cqe), "completions are read in place");
_Static_assert((int)rs_opcode_recv == (int)IORING_OP_RECV &&
    (int)rs_opcode_connect == (int)IORING_OP_CONNECT && (int)rs_opcode_timeout == (int)IORING_OP_TIMEOUT &&
    (int)rs_opcode_read == (int)IORING_OP_READ &&
    (int)rs_opcode_fallocate == (int)IORING_OP_FALLOCATE && (int)rs_opcode_accept == (int)IORING_OP_ACCEPT &&
    (int)rs_opcode_async_cancel == (int)IORING_OP_ASYNC_CANCEL && (int)rs_opcode_read_fixed == (int)IORING_OP_READ_FIXED &&
    (int)rs_opcode_sendmsg == (int)IORING_OP_SENDMSG && (int)rs_opcode_fsync == (int)IORING_OP_FSYNC, "opcodes are the kernel's");
_Static_assert(rs_poll_first == IORING_RECVSEND_POLL_FIRST && rs_more_in_socket == IORING_CQE_F_SOCK_NONEMPTY &&
    rs_cancel_all == IORING_ASYNC_CANCEL_ALL && rs_cancel_any == IORING_ASYNC_CANCEL_ANY &&
    rs_fsync_datasync == IORING_FSYNC_DATASYNC && rs_timeout_absolute == IORING_TIMEOUT_ABS, "flags are the kernel's");

int rs_ring_open(unsigned depth, bool owned, struct rs_ring **result) {
    /* The fastest the kernel takes. All of the first are in 6.1; a kernel or a sandbox that refuses a flag gets the next. */
    static const unsigned owned_flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    struct rs_ring *made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    int error = -EINVAL;
    for (unsigned attempt = owned ? 0 : 1; attempt < 3 && error == -EINVAL; attempt++) {
        struct io_uring_params parameters = {
            .flags = owned_flags[attempt] | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP,
            .cq_entries = depth * 4,
        };
        error = io_uring_queue_init_params(depth, &made->ring, &parameters);
        if (error == 0)
            made->deferred = owned_flags[attempt] & IORING_SETUP_DEFER_TASKRUN;
    }
    if (error != 0) {
        free(made);
        return error;
    }
    const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
    if ((made->ring.features & needed) != needed) {
        rs_ring_close(made);
        return -ENOSYS;
    }
    /* Spares a look-up at each call, but the registration is the thread's. */
    if (owned)
        io_uring_register_ring_fd(&made->ring);
    *result = made;
    return 0;
}

void rs_ring_close(struct rs_ring *ring) {
    io_uring_queue_exit(&ring->ring);
    free(ring);
}

bool rs_ring_queue(struct rs_ring *ring, const struct rs_entry *entry) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    if (sqe == NULL)
        return false;
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = entry->opcode;
    sqe->ioprio = entry->priority;
    sqe->fd = entry->descriptor;
    sqe->off = entry->offset;
    sqe->addr = entry->address;
    sqe->len = entry->length;
    sqe->rw_flags = (int)entry->flags;
    sqe->user_data = entry->data;
    sqe->buf_index = entry->buffer;
    return true;
}

unsigned rs_ring_queued(const struct rs_ring *ring) { return io_uring_sq_ready(&ring->ring); }

static int outcome(const struct rs_ring *ring, int result) {
    if (result < 0)
        return result;
    return io_uring_sq_ready(&ring->ring) == 0 ? 0 : -EAGAIN;
}

int rs_ring_submit(struct rs_ring *ring) { return outcome(ring, io_uring_submit(&ring->ring)); }

int rs_ring_submit_and_collect(struct rs_ring *ring) { return outcome(ring, io_uring_submit_and_get_events(&ring->ring)); }

int rs_ring_submit_and_wait(struct rs_ring *ring, unsigned minimum, int64_t nanoseconds) {
    struct io_uring_cqe *first;
    struct __kernel_timespec limit = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    return outcome(ring, io_uring_submit_and_wait_timeout(&ring->ring, &first, minimum, nanoseconds < 0 ? NULL : &limit, NULL));
}

unsigned rs_ring_completions(struct rs_ring *ring, const struct rs_completion **first) {
    struct io_uring_cq *queue = &ring->ring.cq;
    unsigned ready = io_uring_cq_ready(&ring->ring);
    unsigned head = *queue->khead & *queue->kring_mask;
    unsigned contiguous = *queue->kring_entries - head;
    *first = (const struct rs_completion *)&queue->cqes[head];
    return ready < contiguous ? ready : contiguous;
}

void rs_ring_advance(struct rs_ring *ring, unsigned count) { io_uring_cq_advance(&ring->ring, count); }

bool rs_ring_needs_collecting(const struct rs_ring *ring) {
    return IO_URING_READ_ONCE(*ring->ring.sq.kflags) & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

bool rs_ring_has_completions(const struct rs_ring *ring) { return io_uring_cq_ready(&ring->ring) > 0; }

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static inline void rest(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

bool rs_ring_spin(const struct rs_ring *ring, int64_t nanoseconds) {
    enum { looks_per_yield = 64 };
    const int64_t end = now() + nanoseconds;
    do {
        for (int look = 0; look < looks_per_yield; look++) {
            if (rs_ring_has_completions(ring) || rs_ring_needs_collecting(ring))
                return true;
            rest();
        }
        sched_yield();
    } while (now() < end);
    return false;
}

int rs_ring_register_eventfd(struct rs_ring *ring) {
    int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (descriptor < 0)
        return -errno;
    int error = io_uring_register_eventfd(&ring->ring, descriptor);
    if (error < 0) {
        close(descriptor);
        return error;
    }
    return descriptor;
}

void rs_ring_notify(struct rs_ring *ring, bool enabled) {
    io_uring_cq_eventfd_toggle(&ring->ring, enabled);
    /* The flag is visible to the kernel before the caller looks for what came meanwhile. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

int rs_ring_reserve_buffers(struct rs_ring *ring, unsigned count) { return io_uring_register_buffers_sparse(&ring->ring, count); }

int rs_ring_register_buffer(struct rs_ring *ring, unsigned index, void *base, uint64_t bytes) {
    struct iovec vector = {.iov_base = base, .iov_len = bytes};
    __u64 tag = 0;
    int result = io_uring_register_buffers_update_tag(&ring->ring, index, &vector, &tag, 1);
    return result < 0 ? result : 0;
}
