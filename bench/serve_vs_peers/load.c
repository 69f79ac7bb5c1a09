/* The one load generator: load PORT CONNECTIONS SECONDS REQUESTS FILE

   Sends the bytes of FILE over CONNECTIONS kept connections to 127.0.0.1:PORT, each again as soon as it was answered,
   for SECONDS or until REQUESTS were answered (0: no limit). Writes the time of every answered request to standard
   output (nanoseconds, 64 bits each), then prints to standard error: answered, of these not 200, seconds, own CPU
   seconds. A lost connection is an error that ends it. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REPLY_BYTES (1 << 20)

struct connection {
    int socket;
    size_t sent, received;
    uint64_t began;
    char reply[REPLY_BYTES];
};

static char *request;
static size_t request_bytes;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail(path);
    request_bytes = (size_t)ftell(file);
    rewind(file);
    request = malloc(request_bytes);
    if (!request || fread(request, 1, request_bytes, file) != request_bytes) fail(path);
    fclose(file);
}

static int connected(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return s;
}

static void ask(struct connection *c) {
    c->received = 0;
    c->began = now(CLOCK_MONOTONIC);
    for (c->sent = 0; c->sent < request_bytes;) {
        ssize_t n = send(c->socket, request + c->sent, request_bytes - c->sent, MSG_NOSIGNAL);
        if (n < 0) fail("send");
        c->sent += (size_t)n;
    }
}

/* Whether the reply is whole; then its status. */
static int status_of(struct connection *c) {
    char *end, *line;
    c->reply[c->received] = 0;
    end = strstr(c->reply, "\r\n\r\n");
    if (!end) return 0;
    for (line = c->reply; line < end; line = strstr(line, "\r\n") + 2)
        if (!strncasecmp(line, "content-length:", 15)) break;
    if (line >= end) {
        errno = EPROTO;
        fail("a reply without Content-Length");
    }
    if (c->received < (size_t)(end + 4 - c->reply) + strtoul(line + 15, NULL, 10)) return 0;
    return atoi(c->reply + 9);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "load PORT CONNECTIONS SECONDS REQUESTS FILE\n");
        return 2;
    }
    int port = atoi(argv[1]), count = atoi(argv[2]), waiting = epoll_create1(0);
    double seconds = atof(argv[3]);
    uint64_t most = strtoull(argv[4], NULL, 10), answered = 0, wrong = 0;
    struct connection *all = malloc((size_t)count * sizeof *all);
    if (!all || waiting < 0) fail("start");
    read_request(argv[5]);
    for (int i = 0; i < count; i++) {
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = &all[i]};
        all[i].socket = connected(port);
        if (epoll_ctl(waiting, EPOLL_CTL_ADD, all[i].socket, &wanted)) fail("epoll");
    }
    uint64_t began = now(CLOCK_MONOTONIC), end = began + (uint64_t)(seconds * 1e9), at = began;
    for (int i = 0; i < count; i++) ask(&all[i]);
    while (at < end && (!most || answered < most)) {
        struct epoll_event events[64];
        int ready = epoll_wait(waiting, events, 64, 1000);
        at = now(CLOCK_MONOTONIC);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            ssize_t n = recv(c->socket, c->reply + c->received, REPLY_BYTES - 1 - c->received, 0);
            if (n <= 0) fail("the server closed a connection");
            c->received += (size_t)n;
            int status = status_of(c);
            if (!status) continue;
            uint64_t taken = now(CLOCK_MONOTONIC) - c->began;
            fwrite(&taken, sizeof taken, 1, stdout);
            answered++;
            wrong += status != 200;
            ask(c);
        }
    }
    fprintf(stderr, "%llu %llu %.6f %.6f\n", (unsigned long long)answered, (unsigned long long)wrong,
            (double)(at - began) / 1e9, (double)now(CLOCK_PROCESS_CPUTIME_ID) / 1e9);
    return 0;
}
