/* 4 KiB ping-pong over loopback TCP: what the network alone costs a request. Prints mean, median and 99th percentile in microseconds,
   and how many there were. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { request_bytes = 4096, reply_bytes = 128 };

static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static int transfer(int fd, char *buffer, size_t count, int sends) {
    while (count > 0) {
        ssize_t n = sends ? send(fd, buffer, count, 0) : recv(fd, buffer, count, 0);
        if (n <= 0) return -1;
        buffer += n;
        count -= (size_t)n;
    }
    return 0;
}

static void no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void *serve(void *argument) {
    static char buffer[request_bytes];
    pin(0);
    int fd = accept(*(int *)argument, NULL, NULL);
    no_delay(fd);
    while (transfer(fd, buffer, request_bytes, 0) == 0 && transfer(fd, buffer, reply_bytes, 1) == 0) {}
    close(fd);
    return NULL;
}

static uint64_t nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int ascending(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

int main(int count, char **arguments) {
    double seconds = count > 1 ? atof(arguments[1]) : 2;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &length)) {
        perror("loopback");
        return 1;
    }
    pthread_t thread;
    pthread_create(&thread, NULL, serve, &listener);
    pin(1);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, length)) {
        perror("loopback");
        return 1;
    }
    no_delay(fd);
    enum { most = 2000000 };
    uint64_t *times = malloc(most * sizeof *times);
    static char buffer[request_bytes];
    uint64_t n = 0, sum = 0, end = nanoseconds() + (uint64_t)(seconds * 1e9), now = nanoseconds();
    while (now < end && n < most) {
        if (transfer(fd, buffer, request_bytes, 1) || transfer(fd, buffer, reply_bytes, 0)) break;
        uint64_t then = now;
        now = nanoseconds();
        sum += times[n++] = now - then;
    }
    shutdown(fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    if (n == 0) return 1;
    qsort(times, n, sizeof *times, ascending);
    printf("%.2f %.2f %.2f %llu\n", sum / 1e3 / n, times[n / 2] / 1e3, times[n * 99 / 100] / 1e3, (unsigned long long)n);
    return 0;
}
