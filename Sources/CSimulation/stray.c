#define _GNU_SOURCE 1
#include "CSimulation.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The runtime's own seam for whoever replaces the global executor; declared as in swift/Runtime/Concurrency.h. */
#define SWIFTCC __attribute__((swiftcall))

typedef void (*enqueue_original)(void *job) SWIFTCC;
typedef void (*enqueue_delay_original)(unsigned long long delay, void *job) SWIFTCC;
typedef void (*enqueue_deadline_original)(long long sec, long long nsec, long long tsec, long long tnsec, int clock, void *job) SWIFTCC;

extern void (*swift_task_enqueueGlobal_hook)(void *job, enqueue_original original) SWIFTCC;
extern void (*swift_task_enqueueMainExecutor_hook)(void *job, enqueue_original original) SWIFTCC;
extern void (*swift_task_enqueueGlobalWithDelay_hook)(unsigned long long delay, void *job, enqueue_delay_original original) SWIFTCC;
extern void (*swift_task_enqueueGlobalWithDeadline_hook)(
    long long sec, long long nsec, long long tsec, long long tnsec, int clock, void *job, enqueue_deadline_original original) SWIFTCC;

/* Per thread, since a test runner's own tasks are on the global executor while simulated worlds run beside them. */
static __thread int inside;

static void say(const char *text) {
    ssize_t ignored = write(2, text, strlen(text));
    (void)ignored;
}

static void check(const char *where) {
    if (!inside) return;
    say("rawstor simulation: a task left the simulated world for the ");
    say(where);
    say("; use what the world offers (spawn, wake)\n");
    abort();
}

SWIFTCC static void on_global(void *job, enqueue_original original) {
    check("global executor");
    original(job);
}

SWIFTCC static void on_main(void *job, enqueue_original original) {
    check("main executor");
    original(job);
}

SWIFTCC static void on_delay(unsigned long long delay, void *job, enqueue_delay_original original) {
    check("global executor with a delay");
    original(delay, job);
}

SWIFTCC static void on_deadline(
    long long sec, long long nsec, long long tsec, long long tnsec, int clock, void *job, enqueue_deadline_original original) {
    check("global executor with a deadline");
    original(sec, nsec, tsec, tnsec, clock, job);
}

/* Task.sleep and a hop to the main actor pass the hooks by: the runtime of Swift 6.3 hands them to libdispatch itself. So these two
   functions of libdispatch are put in front of the library's; weak, so that a static libdispatch keeps its own. */
__attribute__((weak)) void dispatch_async_f(void *queue, void *context, void (*work)(void *)) {
    check("main executor or a dispatch queue");
    static void (*next)(void *, void *, void (*)(void *));
    if (!next) next = (void (*)(void *, void *, void (*)(void *)))dlsym(RTLD_NEXT, "dispatch_async_f");
    next(queue, context, work);
}

__attribute__((weak)) void dispatch_after_f(uint64_t when, void *queue, void *context, void (*work)(void *)) {
    check("real clock");
    static void (*next)(uint64_t, void *, void *, void (*)(void *));
    if (!next) next = (void (*)(uint64_t, void *, void *, void (*)(void *)))dlsym(RTLD_NEXT, "dispatch_after_f");
    next(when, queue, context, work);
}

void rs_stray_install(void) {
    __atomic_store_n(&swift_task_enqueueGlobal_hook, on_global, __ATOMIC_RELAXED);
    __atomic_store_n(&swift_task_enqueueMainExecutor_hook, on_main, __ATOMIC_RELAXED);
    __atomic_store_n(&swift_task_enqueueGlobalWithDelay_hook, on_delay, __ATOMIC_RELAXED);
    __atomic_store_n(&swift_task_enqueueGlobalWithDeadline_hook, on_deadline, __ATOMIC_RELAXED);
}

void rs_stray_enter(void) { inside += 1; }
void rs_stray_leave(void) { inside -= 1; }

void *rs_sim_map(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void rs_sim_unmap(void *memory, size_t bytes) { munmap(memory, bytes); }
void rs_sim_forget(void *memory, size_t bytes) { madvise(memory, bytes, MADV_DONTNEED); }
