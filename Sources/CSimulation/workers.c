/* Processes that run seeds for the one that was called. */

#define _GNU_SOURCE
#include "CSimulation.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

int rs_processors(void) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}

int rs_pipe(int *read_end, int *write_end) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    *read_end = ends[0];
    *write_end = ends[1];
    return 0;
}

int rs_fork(void) {
    int id = fork();
    /* Nobody would hear what a worker finds once its parent is gone. */
    if (id == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    return id < 0 ? -errno : id;
}

long rs_read(int descriptor, void *bytes, size_t count) {
    ssize_t got;
    do got = read(descriptor, bytes, count);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

void rs_wait_for_all(void) {
    while (wait(NULL) > 0 || errno == EINTR) {}
}
