#define _GNU_SOURCE 1
#include "csystem.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(rs_accept_flags == SOCK_CLOEXEC && rs_send_flags == MSG_NOSIGNAL, "flags are the system's");
_Static_assert(sizeof(struct msghdr) <= rs_message_bytes, "a message header has room");

int rs_address_resolve(const char *host, uint16_t port, bool numeric_only, struct rs_address *addresses, int max) {
    struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV | (numeric_only ? AI_NUMERICHOST : 0),
    };
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo *found = NULL;
    int error = getaddrinfo(host, service, &hints, &found);
    if (error != 0)
        return numeric_only && error == EAI_NONAME ? rs_resolve_not_numeric : rs_resolve_failed;
    int count = 0;
    for (struct addrinfo *each = found; each != NULL && count < max; each = each->ai_next) {
        if (each->ai_addrlen > sizeof addresses->bytes)
            continue;
        memcpy(addresses[count].bytes, each->ai_addr, each->ai_addrlen);
        addresses[count].length = each->ai_addrlen;
        addresses[count].family = (uint16_t)each->ai_family;
        count++;
    }
    freeaddrinfo(found);
    return count > 0 ? count : rs_resolve_failed;
}

int rs_address_unix(const char *path, struct rs_address *address) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof name.sun_path)
        return -ENAMETOOLONG;
    memcpy(name.sun_path, path, length);
    address->length = sizeof name;
    if (path[0] == '@') {
        /* The length counts: an abstract name has no end of its own. */
        name.sun_path[0] = '\0';
        address->length = (uint32_t)(offsetof(struct sockaddr_un, sun_path) + length);
    }
    memcpy(address->bytes, &name, sizeof name);
    address->family = AF_UNIX;
    return 0;
}

int rs_address_of(int descriptor, char *host, size_t host_bytes, uint16_t *port) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    char service[8];
    if (getsockname(descriptor, (struct sockaddr *)&name, &length) < 0)
        return -errno;
    int flags = NI_NUMERICHOST | NI_NUMERICSERV;
    if (getnameinfo((struct sockaddr *)&name, length, host, (socklen_t)host_bytes, service, sizeof service, flags) != 0)
        return -EINVAL;
    *port = ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port : ((struct sockaddr_in *)&name)->sin_port);
    return 0;
}

int rs_socket(const struct rs_address *address) {
    int descriptor = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return descriptor < 0 ? -errno : descriptor;
}

void rs_stream_prepare(int descriptor) {
    /* A Unix socket knows neither, which does no harm. */
    int yes = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
}

int rs_listen(const struct rs_address *address, int backlog) {
    int descriptor = rs_socket(address);
    if (descriptor < 0)
        return descriptor;
    if (address->family != AF_UNIX) {
        int yes = 1;
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        /* Accepted streams inherit these. */
        rs_stream_prepare(descriptor);
    }
    if (bind(descriptor, (const struct sockaddr *)address->bytes, address->length) < 0 || listen(descriptor, backlog) < 0) {
        int error = -errno;
        close(descriptor);
        return error;
    }
    return descriptor;
}

int rs_socket_is_live(const struct rs_address *address) {
    int descriptor = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return -errno;
    int result = connect(descriptor, (const struct sockaddr *)address->bytes, address->length) < 0 ? -errno : 0;
    close(descriptor);
    if (result == 0 || result == -EAGAIN)
        return 1;
    return result == -ECONNREFUSED ? 0 : result;
}

int rs_file_identity(const char *path, struct rs_file_identity *identity) {
    struct stat status;
    if (lstat(path, &status) < 0)
        return -errno;
    identity->device = status.st_dev;
    identity->inode = status.st_ino;
    return 0;
}

void rs_shutdown(int descriptor) { shutdown(descriptor, SHUT_RDWR); }

void rs_message_fill(void *message, void *vectors, size_t count) {
    struct msghdr header = {.msg_iov = vectors, .msg_iovlen = count};
    memcpy(message, &header, sizeof header);
}
