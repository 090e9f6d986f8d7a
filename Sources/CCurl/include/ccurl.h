/* HTTP of libcurl under our own names: no header of the library is visible to Swift. A client belongs to one thread at a time, keeps its
   connections, follows no redirects and asks no proxy. */
#ifndef RAWSTOR_CCURL_H
#define RAWSTOR_CCURL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rs_http;

/* NULL when there is no memory. */
struct rs_http *rs_http_make(void);
void rs_http_free(struct rs_http *http);
/* Files in PEM for https; each may be NULL. Without `authorities` the system's are asked. */
bool rs_http_trust(struct rs_http *http, const char *authorities, const char *certificate, const char *key);

struct rs_http_answer {
    /* Of HTTP, or 0 when there was no whole answer: then `why` says why not. */
    int status;
    /* Whether the server can have read all of the request. */
    bool was_sent;
    /* The body; valid until the next request. */
    const uint8_t *body;
    size_t body_bytes;
    char why[256];
};
/* Sends at most once: a connection that breaks under a request that may have been read ends it. Returns at the latest after the time. */
void rs_http_post(struct rs_http *http, const char *url, const void *bytes, size_t count, size_t answer_max, uint32_t connect_milliseconds,
    uint32_t milliseconds, struct rs_http_answer *answer);

#endif
