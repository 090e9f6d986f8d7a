/* Stands in for the daemons: rawstor-ost and rawstor-mdt, of which `init` makes the file and `serve` listens where it is told until
   SIGTERM; rawstor-mgs, which has no file; and etcd, which does that too. Only what ./dev can see of them. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void stop(int signal) {
    (void)signal;
    _exit(0);
}

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int listen_at(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    address.sin_port = htons(port);
    return bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8);
}

/* A catalogue in etcd is a file beside the store of its first server. */
static char catalogue[4096];
static char *place(char *word) {
    if (strncmp(word, "etcd://", 7)) return word;
    snprintf(catalogue, sizeof catalogue, "%s/etcd1.store/catalogue", getenv("RAWSTOR_STATE"));
    return catalogue;
}

int main(int count, char **words) {
    if (count < 3) return 2;
    int is_etcd = strcmp(words[1], "--data-dir") == 0;
    if (is_etcd) mkdir(words[2], 0777);
    words[2] = place(words[2]);
    if (strcmp(words[1], "info") == 0) return access(words[2], F_OK) ? fail(words[2]) : 0;
    if (strcmp(words[1], "init") == 0) {
        FILE *file = fopen(words[2], "wx");
        return file && fclose(file) == 0 ? 0 : fail(words[2]);
    }
    int first = strncmp(words[2], "--", 2) ? 3 : 2;
    if (first == 3 && access(words[2], F_OK)) return fail(words[2]);
    if (getenv("STUB_OST_DIES")) {
        fprintf(stderr, "stub: told to die\n");
        return 1;
    }
    signal(SIGTERM, getenv("STUB_OST_STAYS") ? SIG_IGN : stop);
    for (int index = first; index + 1 < count; index += 2) {
        if (strcmp(words[index], "--listen-unix") == 0) {
            struct sockaddr_un address = {.sun_family = AF_UNIX};
            int listener = socket(AF_UNIX, SOCK_STREAM, 0);
            snprintf(address.sun_path, sizeof address.sun_path, "%s", words[index + 1]);
            if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) return fail(address.sun_path);
        } else if (strcmp(words[index], "--listen") == 0 || strcmp(words[index], "--metrics") == 0 ||
                   strcmp(words[index], "--listen-client-urls") == 0 || strcmp(words[index], "--listen-peer-urls") == 0) {
            if (listen_at(atoi(strrchr(words[index + 1], ':') + 1))) return fail(words[index + 1]);
        }
    }
    for (;;) pause();
}
