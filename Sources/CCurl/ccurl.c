#include "ccurl.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct rs_http {
    CURL *curl;
    struct curl_slist *headers;
    const uint8_t *request;
    size_t request_bytes;
    size_t request_done;
    uint8_t *body;
    size_t body_bytes;
    size_t body_room;
    size_t body_max;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global;
static void begin(void) { global = curl_global_init(CURL_GLOBAL_DEFAULT); }

/* There is no function to seek beside it, on purpose: the library cannot send again by itself what it has begun to send. */
static size_t give(char *memory, size_t size, size_t count, void *context) {
    struct rs_http *http = context;
    size_t room = size * count;
    size_t left = http->request_bytes - http->request_done;
    size_t done = room < left ? room : left;
    memcpy(memory, http->request + http->request_done, done);
    http->request_done += done;
    return done;
}

static size_t take(char *bytes, size_t size, size_t count, void *context) {
    struct rs_http *http = context;
    size_t more = size * count;
    if (more > http->body_max - http->body_bytes)
        return 0;
    if (more > http->body_room - http->body_bytes) {
        size_t room = http->body_room * 2 > http->body_bytes + more ? http->body_room * 2 : http->body_bytes + more;
        uint8_t *body = realloc(http->body, room);
        if (body == NULL)
            return 0;
        http->body = body;
        http->body_room = room;
    }
    memcpy(http->body + http->body_bytes, bytes, more);
    http->body_bytes += more;
    return more;
}

struct rs_http *rs_http_make(void) {
    pthread_once(&once, begin);
    struct rs_http *http = global == CURLE_OK ? calloc(1, sizeof *http) : NULL;
    if (http == NULL)
        return NULL;
    CURL *curl = http->curl = curl_easy_init();
    http->headers = curl_slist_append(NULL, "Content-Type: application/json");
    /* Otherwise a large request waits a second for a word that nobody says. */
    struct curl_slist *headers = http->headers != NULL ? curl_slist_append(http->headers, "Expect:") : NULL;
    bool is_good = curl != NULL && headers != NULL && curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK && curl_easy_setopt(curl, CURLOPT_NOPROXY, "*") == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_POST, 1L) == CURLE_OK && curl_easy_setopt(curl, CURLOPT_READFUNCTION, give) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_READDATA, http) == CURLE_OK && curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take) == CURLE_OK &&
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, http) == CURLE_OK;
    if (is_good)
        return http;
    rs_http_free(http);
    return NULL;
}

void rs_http_free(struct rs_http *http) {
    curl_easy_cleanup(http->curl);
    curl_slist_free_all(http->headers);
    free(http->body);
    free(http);
}

bool rs_http_trust(struct rs_http *http, const char *authorities, const char *certificate, const char *key) {
    return (authorities == NULL || curl_easy_setopt(http->curl, CURLOPT_CAINFO, authorities) == CURLE_OK) &&
        (certificate == NULL || curl_easy_setopt(http->curl, CURLOPT_SSLCERT, certificate) == CURLE_OK) &&
        (key == NULL || curl_easy_setopt(http->curl, CURLOPT_SSLKEY, key) == CURLE_OK);
}

void rs_http_post(struct rs_http *http, const char *url, const void *bytes, size_t count, size_t answer_max, uint32_t connect_milliseconds,
    uint32_t milliseconds, struct rs_http_answer *answer) {
    CURL *curl = http->curl;
    memset(answer, 0, sizeof *answer);
    http->request = bytes;
    http->request_bytes = count;
    http->request_done = 0;
    http->body_bytes = 0;
    http->body_max = answer_max;
    char why[CURL_ERROR_SIZE] = "";
    CURLcode code = curl_easy_setopt(curl, CURLOPT_URL, url);
    if (code == CURLE_OK)
        code = curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    if (code == CURLE_OK)
        code = curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)count);
    if (code == CURLE_OK)
        code = curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_milliseconds);
    if (code == CURLE_OK)
        code = curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)milliseconds);
    if (code == CURLE_OK)
        code = curl_easy_perform(curl);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    /* Of what was not given to the library whole the server can have read no whole request. */
    answer->was_sent = http->request_done == count;
    http->request = NULL;
    if (code == CURLE_OK) {
        long status = 0;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        answer->status = (int)status;
        answer->body = http->body;
        answer->body_bytes = http->body_bytes;
    } else if (code == CURLE_WRITE_ERROR) {
        strcpy(answer->why, "the answer is too large");
    } else {
        strncpy(answer->why, why[0] != 0 ? why : curl_easy_strerror(code), sizeof answer->why - 1);
    }
}
